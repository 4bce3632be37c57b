//! Persons whom an event names beside the one who acted.

use obscura_proto::audit::v1::{Change, Event, NamedField, event::Body};

/// What begins the id of a person who is known by name only.
const PREFIX: &str = "name:";

/// What a field says about somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mention<'a> {
    /// Name of the field.
    pub field: &'a str,
    /// `before` or `after`.
    pub when: &'static str,
    /// What is written there.
    pub name: &'a str,
}

impl Mention<'_> {
    /// Id of the person, under whose key the name is sealed and by which they are erased.
    pub fn person_id(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Where the name belongs once opened: a JSON pointer into the event.
    pub fn pointer(&self) -> String {
        pointer(self.field, self.when)
    }
}

/// Where a name belongs that was sealed.
pub fn pointer(field: &str, when: &str) -> String {
    format!("/unmapped/named/{field}/{when}")
}

/// All of a change, in its order.
pub fn mentions(change: &Change) -> impl Iterator<Item = Mention<'_>> {
    change.named.iter().flat_map(both).filter(|mention| !mention.name.is_empty())
}

fn both(NamedField { field, before, after }: &NamedField) -> [Mention<'_>; 2] {
    [Mention { field, when: "before", name: before }, Mention { field, when: "after", name: after }]
}

/// Ids of all persons whose keys the leaf of an event needs, the one who acted first.
#[must_use]
pub fn person_ids(event: &Event) -> Vec<String> {
    let mut ids: Vec<String> = event.actor.iter().map(|actor| actor.id.clone()).collect();
    if let Some(Body::Change(change)) = &event.body {
        ids.extend(mentions(change).map(|mention| mention.person_id()));
    }
    ids
}
