//! Whether the server syncs before it acknowledges: asked, not believed.

use std::time::Duration;

use async_nats::{Client, StatusCode};
use futures::StreamExt as _;
use serde::Deserialize;

use super::{TIMEOUT, again};
use crate::feed::sink::Trouble;

/// How long other servers of a cluster have to answer after the first.
const OTHERS: Duration = Duration::from_secs(1);
const MAX_ANSWERS: usize = 64;

/// Refuses a server that acknowledges before it syncs, or that does not say.
pub async fn demand(client: &Client, subject: &str) -> Result<(), Trouble> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(again("cannot ask NATS"))?;
    let question = r#"{"config":true}"#;
    client
        .publish_with_reply(subject.to_owned(), inbox, question.into())
        .await
        .map_err(again("cannot ask NATS"))?;
    let mut patience = TIMEOUT;
    let mut servers = 0;
    while servers < MAX_ANSWERS {
        let Ok(Some(answer)) = tokio::time::timeout(patience, answers.next()).await else { break };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        judge(&answer.payload)?;
        (servers, patience) = (servers + 1, OTHERS);
    }
    if servers == 0 {
        return Err(Trouble::Parked(format!(
            "NATS does not say whether it syncs before it acknowledges: import the service \
             $SYS.REQ.SERVER.PING.JSZ of the system account as `{subject}`, or read the configuration of every \
             server and set `sync_interval_always_was_checked`"
        )));
    }
    Ok(())
}

fn judge(payload: &[u8]) -> Result<(), Trouble> {
    let answer: Answer = serde_json::from_slice(payload)
        .map_err(|_| Trouble::Parked("the import does not answer like $SYS.REQ.SERVER.PING.JSZ".into()))?;
    if answer.data.config.sync_always {
        return Ok(());
    }
    Err(Trouble::Parked(format!(
        "NATS server `{}` acknowledges before it syncs: set `jetstream {{ sync_interval: always }}` there",
        answer.server.name.escape_debug()
    )))
}

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Data,
}

#[derive(Deserialize)]
struct Server {
    name: String,
}

#[derive(Deserialize)]
struct Data {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_says_so_syncs() {
        let said = |config: &str| {
            judge(format!(r#"{{"server":{{"name":"a"}},"data":{{"config":{config}}}}}"#).as_bytes())
        };
        assert_eq!(said(r#"{"sync_interval":120000000000,"sync_always":true}"#), Ok(()));
        for not in [r#"{"sync_interval":120000000000}"#, r#"{"sync_always":false}"#] {
            assert!(said(not).unwrap_err().text().contains("sync_interval: always"));
        }
        assert!(matches!(judge(b"{}"), Err(Trouble::Parked(_))));
    }
}
