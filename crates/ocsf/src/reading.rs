//! From the bytes of a leaf to what it says in clear.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::named::pointer;

/// What a leaf says in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The producer's id of the event: `id` of the CloudEvent.
    pub event_id: String,
    /// One of [`crate::KINDS`], or a kind of a later version.
    pub kind: String,
    /// When it happened by the producer's clock, RFC 3339.
    pub time: String,
    /// SPIFFE id of the service that sent it.
    pub producer: String,
    /// `severity_id` of OCSF: 1 informational, 2 low, 3 medium, 4 high, 5 critical, 6 fatal.
    pub severity: u8,
    /// Who acted; `None` where no person did.
    pub pseudonym: Option<String>,
    /// Cameras it names.
    pub camera_ids: Vec<String>,
    /// What is about that person, in base64, by its JSON pointer into `data`.
    pub sealed: BTreeMap<String, String>,
    /// What is about others.
    pub others: Vec<Sealed>,
}

/// Something about somebody, sealed under their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Pseudonym of the person.
    pub person: String,
    /// JSON pointer into `data` to which it is bound.
    pub pointer: String,
    /// In base64.
    pub sealed: String,
}

/// The bytes are not a leaf of this log.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or not with the fields of a CloudEvent.
    // The cause of serde_json may quote what it read, but a leaf has nothing in clear about anyone.
    #[error("the leaf is not a CloudEvent with OCSF data: {0}")]
    Json(#[from] serde_json::Error),
    /// Another type of event.
    #[error("the leaf is a CloudEvent, but its type is not `eu.obscura.<kind>.v1`")]
    Type,
}

/// Reads a leaf.
///
/// # Errors
/// Where it is not one.
pub fn read(leaf: &[u8]) -> Result<Entry, Unreadable> {
    let envelope: Envelope = serde_json::from_slice(leaf)?;
    let kind = envelope.r#type.strip_prefix("eu.obscura.").and_then(|rest| rest.strip_suffix(".v1"));
    let kind = kind.ok_or(Unreadable::Type)?.to_owned();
    let data = envelope.data;
    Ok(Entry {
        event_id: envelope.id,
        kind,
        time: envelope.time,
        producer: envelope.source,
        severity: data.severity_id,
        pseudonym: data.actor.and_then(|actor| actor.user).map(|user| user.uid),
        camera_ids: data.unmapped.cameras,
        sealed: data.unmapped.sealed,
        others: data.unmapped.named.into_iter().map(Named::sealed).collect(),
    })
}

#[derive(Deserialize)]
struct Envelope {
    id: String,
    source: String,
    r#type: String,
    time: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    severity_id: u8,
    actor: Option<Actor>,
    #[serde(default)]
    unmapped: Unmapped,
}

#[derive(Deserialize)]
struct Actor {
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    uid: String,
}

#[derive(Default, Deserialize)]
struct Unmapped {
    #[serde(default)]
    cameras: Vec<String>,
    #[serde(default)]
    sealed: BTreeMap<String, String>,
    #[serde(default)]
    named: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    field: String,
    person: String,
    sealed: String,
    when: String,
}

impl Named {
    fn sealed(self) -> Sealed {
        let Self { field, person, sealed, when } = self;
        Sealed { person, pointer: pointer(&field, &when), sealed }
    }
}
