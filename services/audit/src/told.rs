//! What the log is told of its own settings: how long entries are kept, where they go, and who watches over it.
//!
//! A start compares them with what was told last and appends a change where they differ, so that whoever shortens the
//! retention or takes a feed or a witness away is found out, at the latest by the next start. Addresses are not told,
//! because credentials may be in them; who has which role is told by [`crate::roles`].

use std::collections::BTreeMap;

use obscura_proto::audit::v1::{Change, Event, Person, event::Body};
use serde_json::{Value, json};

use crate::{config::Settings, error::Error, event_id::EventId, feed, log::Log};

/// What is told, by the names of the settings.
type Told = BTreeMap<String, Value>;

/// Appends a change where the settings are not those that were told last.
///
/// # Errors
/// As [`Log::append`]; it is told again at the next start then.
pub async fn tell(log: &Log, settings: &Settings) -> Result<(), Error> {
    let store = &log.parts.store;
    let (before, after) = (store.told().await?.unwrap_or_default(), told(settings));
    let text = json!(after).to_string();
    if text == before {
        return Ok(());
    }
    log.append(&log.parts.own_id, &changed(log, before, &after, text.clone())).await?;
    Ok(store.put_told(&text).await?)
}

fn told(settings: &Settings) -> Told {
    let feeds: BTreeMap<&String, &str> =
        settings.feeds.iter().map(|(name, feed)| (name, kind(feed))).collect();
    let witnesses: Vec<&String> = settings.witnesses.iter().map(|witness| &witness.key).collect();
    let of = [
        ("retention_days", json!(settings.retention_days)),
        ("feeds", json!(feeds)),
        ("witnesses", json!(witnesses)),
        ("witness_quorum", json!(settings.witness_quorum)),
        ("clock_confirmed", json!(settings.clock_confirmed)),
    ];
    of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const fn kind(feed: &feed::Settings) -> &'static str {
    match feed {
        feed::Settings::Nats(_) => "nats",
        feed::Settings::Webhook(_) => "webhook",
        feed::Settings::Syslog(_) => "syslog",
    }
}

/// Who changed a file nobody knows, so the service itself acts.
fn changed(log: &Log, before: String, after: &Told, after_json: String) -> Event {
    let known: Told = serde_json::from_str(&before).unwrap_or_default();
    let differs = |name: &&String| known.get(*name) != after.get(*name);
    let change = Change {
        object_kind: "settings".to_owned(),
        object_id: "audit".to_owned(),
        changed_fields: after.keys().filter(differs).cloned().collect(),
        before_json: before,
        after_json,
        ..Change::default()
    };
    let actor = Person { id: log.parts.own_id.clone(), ..Person::default() };
    Event { actor: Some(actor), ..log.own(EventId::generate(), Body::Change(change)) }
}

#[cfg(test)]
mod tests;
