//! Reading entries: the newest, or those that fit a question.

use clap::Args;
use obscura_proto::audit::v1::{ReadEntriesRequest, ReadEntriesResponse};
use serde_json::{Value, json};

use super::Session;
use crate::{
    output::line,
    problem::Result,
    services::{PATIENT, Services},
    when::{self, When},
};

/// Arguments of `audit tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// Start with so many of the newest entries
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 20)]
    lines: u64,
    /// Go on with new entries as they come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    what: What,
}

/// Arguments of `audit query`.
#[derive(Debug, Args)]
#[command(after_help = "\
The whole log is for auditors (`auditors` in the settings of the audit service); --own is for everybody.

Examples:
  obscura audit query --own --open-names --from -7d
  obscura audit query --kind grant --kind view --from -24h
  obscura audit query --camera door --from -7d --open-names
  obscura --json audit query --kind change")]
pub struct Query {
    /// Only entries of this kind, for example grant, view, change, destruction; may be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only entries that name this camera
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Only entries in which this person acted or is named, by the id that was logged, for example unix:1000
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// Only from this time on: RFC 3339, -2m (two minutes ago) or now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<When>,
    /// Only before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<When>,
    /// At most so many entries
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: u64,
    #[command(flatten)]
    what: What,
}

/// About whom, and whether what is sealed is opened. Reading is itself logged.
#[derive(Clone, Copy, Debug, Args)]
struct What {
    /// Only entries about yourself, for which you need not be an auditor
    #[arg(long)]
    own: bool,
    /// Open names and reasons, as far as their keys still exist and they are yours to see
    #[arg(long)]
    open_names: bool,
}

impl Tail {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let request = ReadEntriesRequest {
            newest: self.lines,
            follow: self.follow,
            own: self.what.own,
            open_names: self.what.open_names,
            ..ReadEntriesRequest::default()
        };
        show(session, &services, request).await
    }
}

impl Query {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let now = session.clock.wall();
        let nanos = |when: Option<When>| when.map_or(0, |when| when.resolve(now).unix_nanos());
        let camera_id = match &self.camera {
            Some(name) => services.camera(name, true).await?.camera_id,
            None => String::new(),
        };
        let request = ReadEntriesRequest {
            limit: self.limit,
            kinds: self.kinds,
            from_unix_ns: nanos(self.from),
            to_unix_ns: nanos(self.to),
            camera_id,
            person_id: self.person.unwrap_or_default(),
            own: self.what.own,
            open_names: self.what.open_names,
            ..ReadEntriesRequest::default()
        };
        show(session, &services, request).await
    }
}

/// One line an entry: for a program its JSON, for a person what matters of it.
async fn show(session: &Session, services: &Services, request: ReadEntriesRequest) -> Result<()> {
    let doing = "read the audit log";
    let mut audit = services.audit();
    let call = audit.read_entries(request);
    let mut entries = services.ask("audit", doing, PATIENT, call).await?;
    while let Some(entry) =
        entries.message().await.map_err(|status| services.refused("audit", doing, &status))?
    {
        line(if session.out.is_json() { as_json(&entry).to_string() } else { as_words(&entry) })?;
    }
    Ok(())
}

fn as_json(entry: &ReadEntriesResponse) -> Value {
    json!({
        "index": entry.index,
        "committed": obscura_clock::Timestamp::from_unix_nanos(entry.committed_unix_ns).to_string(),
        "event": event(entry),
        "opened": entry.opened,
    })
}

/// A leaf that is not JSON is shown as what it is: the log has it, whatever it says.
fn event(entry: &ReadEntriesResponse) -> Value {
    serde_json::from_slice(&entry.leaf)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&entry.leaf).into_owned()))
}

fn as_words(entry: &ReadEntriesResponse) -> String {
    let event = event(entry);
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = text("/type");
    let kind = kind.strip_prefix("eu.obscura.").unwrap_or(&kind);
    let kind = kind.strip_suffix(".v1").unwrap_or(kind);
    let opened: Vec<_> =
        entry.opened.iter().map(|(pointer, clear)| format!("{}={clear}", field(pointer))).collect();
    let parts = [
        format!("{:>6}", entry.index),
        when::local(obscura_clock::Timestamp::from_unix_nanos(entry.committed_unix_ns)),
        format!("{kind:<12}"),
        outcome(&event).to_owned(),
        text("/data/actor/user/uid"),
        text("/data/message"),
        opened.join(" "),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// Whether it was done (OCSF, `status_id`).
fn outcome(event: &Value) -> &'static str {
    match event.pointer("/data/status_id").and_then(Value::as_u64) {
        Some(1) => "done",
        Some(2) => "refused",
        _ => "",
    }
}

/// The last part of a JSON pointer names the field.
fn field(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or(pointer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_with_what_was_opened() {
        let leaf = json!({"type": "eu.obscura.grant.v1", "data": {"status_id": 2, "message": "Grant refused",
            "actor": {"user": {"uid": "p-abc"}}}});
        let entry = ReadEntriesResponse {
            index: 7,
            leaf: leaf.to_string().into_bytes().into(),
            committed_unix_ns: 0,
            opened: [("/unmapped/reason".to_owned(), "Case 17".to_owned())].into(),
        };
        let words = as_words(&entry);
        assert!(
            words.contains("grant")
                && words.contains("refused")
                && words.contains("p-abc")
                && words.ends_with("reason=Case 17"),
            "{words}"
        );
        assert_eq!(as_json(&entry)["event"]["data"]["status_id"], 2);
    }

    #[test]
    fn a_leaf_that_is_no_json_is_shown_all_the_same() {
        let entry = ReadEntriesResponse { leaf: b"\xff?".to_vec().into(), ..ReadEntriesResponse::default() };
        assert!(as_json(&entry)["event"].is_string());
        as_words(&entry);
    }
}
