use clap::Args;
use obscura_proto::audit::v1::{ReplayFeedRequest, SendTestEventRequest};
use serde_json::json;

use super::Session;
use crate::{problem::Result, services::PROMPT};

/// Arguments of `audit test-event`.
#[derive(Debug, Args)]
pub struct TestEvent {
    /// Words to send, which are sealed under your key: receivers recognise the event by its id
    #[arg(default_value = "test event")]
    text: String,
}

/// Arguments of `audit replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Name of the feed; `obscura audit status` lists them
    feed: String,
    /// Index of the first entry to send again
    #[arg(long, value_name = "INDEX")]
    from: u64,
}

impl TestEvent {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let mut audit = services.audit();
        let call = audit.send_test_event(SendTestEventRequest { text: self.text });
        let answer = services.ask("audit", "send a test event", PROMPT, call).await?;
        let words = format!(
            "The test event {} is entry {}; `obscura audit status` shows which feeds have sent it.",
            answer.event_id, answer.index
        );
        session.out.result(&json!({ "index": answer.index, "event_id": answer.event_id }), words)
    }
}

impl Replay {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let mut audit = services.audit();
        let request = ReplayFeedRequest { feed: self.feed.clone(), from_index: self.from };
        let call = audit.replay_feed(request);
        services.ask("audit", "replay the feed", PROMPT, call).await?;
        let words = format!("Feed {} goes on from entry {}.", self.feed, self.from);
        session.out.result(&json!({ "feed": self.feed, "from": self.from }), words)
    }
}
