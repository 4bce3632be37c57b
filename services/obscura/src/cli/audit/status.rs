use obscura_proto::audit::v1::{GetAuditStatusRequest, GetAuditStatusResponse};
use serde_json::json;

use super::{Session, verify::own_key};
use crate::{problem::Result, services::PROMPT, words::count};

pub async fn run(session: &Session) -> Result<()> {
    let services = session.services()?;
    let mut audit = services.audit();
    let call = audit.get_audit_status(GetAuditStatusRequest {});
    let status = services.ask("audit", "ask for the state of the log", PROMPT, call).await?;
    let feeds: Vec<_> = status
        .feeds
        .iter()
        .map(|feed| json!({ "feed": feed.feed, "next_index": feed.next_index, "trouble": feed.trouble }))
        .collect();
    let key = own_key(services.installation())?.to_string();
    let value = json!({
        "origin": status.origin,
        "key": key,
        "size": status.size,
        "root": hex::encode(&status.root),
        "first_kept_index": status.first_kept_index,
        "published_size": status.published_size,
        "witnessed_size": status.witnessed_size,
        "dropped": status.dropped,
        "feeds": feeds,
    });
    session.out.result(&value, format!("{}\nkey {key}", words(&status)))
}

fn words(status: &GetAuditStatusResponse) -> String {
    let mut lines = vec![format!(
        "{}: {}, {} published, {}.",
        status.origin,
        count(status.size, "leaf").replace("leafs", "leaves"),
        status.published_size,
        witnessed(status)
    )];
    if status.first_kept_index > 0 {
        lines.push(format!("Entries before {} are pruned; their hashes are kept.", status.first_kept_index));
    }
    if status.dropped > 0 {
        lines.push(format!("Producers had to drop {}.", count(status.dropped, "event")));
    }
    for feed in &status.feeds {
        let trouble = if feed.trouble.is_empty() { String::new() } else { format!(": {}", feed.trouble) };
        lines.push(format!("feed {} has sent everything before {}{trouble}", feed.feed, feed.next_index));
    }
    lines.join("\n")
}

fn witnessed(status: &GetAuditStatusResponse) -> String {
    match status.witnessed_size {
        0 => "no witness".to_owned(),
        size => format!("{size} cosigned by witnesses"),
    }
}

#[cfg(test)]
mod tests {
    use obscura_proto::audit::v1::FeedStatus;

    use super::*;

    #[test]
    fn a_feed_in_trouble_says_so() {
        let feed = FeedStatus { feed: "soc".into(), next_index: 7, trouble: "refused".into() };
        let status = GetAuditStatusResponse {
            origin: "x/obscura/audit/eea".into(),
            size: 9,
            feeds: vec![feed],
            ..GetAuditStatusResponse::default()
        };
        let words = words(&status);
        assert!(words.contains("9 leaves") && words.contains("no witness"), "{words}");
        assert!(words.ends_with("feed soc has sent everything before 7: refused"), "{words}");
    }
}
