//! What the audit log hears about a change: who made it, what was before, what is after.

use obscura_clock::SharedClock;
use obscura_outbox::event;
use obscura_proto::{
    audit::v1::{Change, Event, NamedField, Outcome, Person, event::Body},
    registry::v1::{Camera, Site},
};
use obscura_snapshot::AuthorityKey;
use serde_json::{Map, Value, json};

/// A thing of the configuration, as the log shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Thing {
    kind: &'static str,
    id: String,
    fields: Value,
    /// Fields that name somebody.
    names: Vec<(&'static str, String)>,
}

impl Thing {
    /// A site.
    #[must_use]
    pub fn site(site: &Site) -> Self {
        let attestation = site.attestation.clone().unwrap_or_default();
        let at = attestation.coordinates.unwrap_or_default();
        let fields = json!({
            "name": site.name,
            "country": site.country,
            "latitude": at.latitude,
            "longitude": at.longitude,
        });
        let names = vec![("attested_by", attestation.attested_by)];
        Self { kind: "site", id: site.site_id.clone(), fields, names }
    }

    /// A camera. Its source is sealed to the recorder and stays out, whatever it holds.
    #[must_use]
    pub fn camera(camera: &Camera, authority: &AuthorityKey) -> Self {
        let purpose = camera.purpose.clone().unwrap_or_default();
        let placement = camera.placement.as_ref().and_then(|signed| authority.verify_placement(signed).ok());
        let decided_by = camera.zone_decision.clone().map(|decision| decision.decided_by).unwrap_or_default();
        let fields = json!({
            "name": camera.name,
            "site_id": camera.site_id,
            "purpose": purpose.text,
            "legal_basis": purpose.legal_basis().as_str_name(),
            "retention_hours": purpose.retention_hours,
            "longer_retention_reason": purpose.longer_retention_reason,
            "review_on": purpose.review_on,
            "priority": purpose.priority,
            "zone": placement.as_ref().map(|placement| placement.zone.to_string()),
            "country": placement.as_ref().map(|placement| placement.country.clone()),
            "bucket": placement.as_ref().map(|placement| placement.bucket.clone()),
            "permanently_masked": camera.permanently_masked,
            "plaintext_source": camera.plaintext_source,
            "removed": camera.removed,
        });
        let names = vec![("owner", purpose.owner), ("zone_decided_by", decided_by)];
        Self { kind: "camera", id: camera.camera_id.clone(), fields, names }
    }
}

/// The event of a change that leaves `after` where `before` was. Values are told only where somebody is named
/// under whose key they can be sealed; who is named in a field is sealed under their own.
#[must_use]
pub fn changed(clock: &SharedClock, actor: Option<Person>, before: Option<&Thing>, after: &Thing) -> Event {
    let told = actor.is_some();
    let text = |thing: Option<&Thing>| {
        thing.filter(|_| told).map(|thing| thing.fields.to_string()).unwrap_or_default()
    };
    let change = Change {
        object_kind: after.kind.to_owned(),
        object_id: after.id.clone(),
        before_json: text(before),
        after_json: text(Some(after)),
        changed_fields: changed_fields(before, after),
        named: named(before, after),
    };
    Event { actor, ..event(clock, Outcome::Success, Body::Change(change)) }
}

fn changed_fields(before: Option<&Thing>, after: &Thing) -> Vec<String> {
    let names = named(before, after).into_iter().filter(|named| named.before != named.after);
    let values = changed_values(before, after).into_iter();
    values.chain(names.map(|named| named.field)).collect()
}

fn changed_values(before: Option<&Thing>, after: &Thing) -> Vec<String> {
    let none = Map::new();
    let before = before.and_then(|thing| thing.fields.as_object()).unwrap_or(&none);
    let after = after.fields.as_object().unwrap_or(&none);
    let values = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    values.map(|(name, _)| name.clone()).collect()
}

/// Whom the thing names, before and after.
fn named(before: Option<&Thing>, after: &Thing) -> Vec<NamedField> {
    let name = |thing: Option<&Thing>, field: &str| {
        let names = thing.into_iter().flat_map(|thing| &thing.names);
        names.filter(|(known, _)| *known == field).map(|(_, name)| name.clone()).next().unwrap_or_default()
    };
    let field = |(field, after): &(&'static str, String)| NamedField {
        field: (*field).to_owned(),
        before: name(before, field),
        after: after.clone(),
    };
    let fields = after.names.iter().map(field);
    fields.filter(|named| !named.before.is_empty() || !named.after.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;
    use obscura_proto::registry::v1::{Attestation, Purpose, ZoneDecision};
    use obscura_snapshot::Authority;

    use super::*;

    const ID: &str = "01930000-0000-7000-8000-00000000000b";

    fn authority() -> AuthorityKey {
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        AuthorityKey::from_bytes(authority.public_key())
    }

    fn camera() -> Camera {
        Camera { camera_id: ID.into(), ..Camera::default() }
    }

    fn thing(hours: u32) -> Thing {
        let purpose = Purpose { text: "Theft".into(), retention_hours: hours, ..Purpose::default() };
        Thing::camera(&Camera { purpose: Some(purpose), ..camera() }, &authority())
    }

    fn told(event: Event) -> Change {
        let Some(Body::Change(change)) = event.body else { panic!("not a change") };
        change
    }

    #[test]
    fn a_change_names_what_differs_and_tells_both_values() {
        let actor = Person { id: "unix:0".into(), ..Person::default() };
        let event = changed(&SystemClock::shared(), Some(actor), Some(&thing(72)), &thing(24));
        obscura_ocsf::validate(&event).unwrap();
        let change = told(event);
        assert_eq!(change.changed_fields, ["retention_hours"]);
        assert!(change.before_json.contains("72") && change.after_json.contains("24"));
    }

    #[test]
    fn whom_a_change_names_stands_apart_to_be_sealed_under_their_own_key() {
        let site = |attested_by: &str| {
            let attestation = Attestation { attested_by: attested_by.into(), ..Attestation::default() };
            Thing::site(&Site { attestation: Some(attestation), site_id: ID.into(), ..Site::default() })
        };
        let purpose = Purpose { owner: "Erika Owner".into(), ..Purpose::default() };
        let decision = ZoneDecision { decided_by: "Erika Decider".into(), ..ZoneDecision::default() };
        let camera = Camera { purpose: Some(purpose), zone_decision: Some(decision), ..camera() };
        let camera = Thing::camera(&camera, &authority());
        let actor = Person { id: "unix:0".into(), ..Person::default() };
        let changes = [(Some(site("Erika Before")), site("Erika After")), (None, camera)];
        for (before, after) in changes {
            let event = changed(&SystemClock::shared(), Some(actor.clone()), before.as_ref(), &after);
            obscura_ocsf::validate(&event).unwrap();
            let change = told(event);
            let values = [change.before_json.clone(), change.after_json.clone()].concat();
            assert!(!values.contains("Erika"), "{values}");
            assert!(change.named.iter().all(|named| change.changed_fields.contains(&named.field)));
            assert!(change.named.iter().all(|named| named.after.contains("Erika")));
        }
        let change = told(changed(&SystemClock::shared(), None, Some(&site("Ada")), &site("Ada")));
        assert_eq!(change.changed_fields, Vec::<String>::new());
    }

    #[test]
    fn without_somebody_under_whose_key_to_seal_it_no_value_is_told() {
        let event = changed(&SystemClock::shared(), None, None, &thing(24));
        obscura_ocsf::validate(&event).unwrap();
        let change = told(event);
        assert_eq!((change.before_json.as_str(), change.after_json.as_str()), ("", ""));
        assert!(change.changed_fields.len() > 10);
    }
}
