//! What the audit log hears about a change: who made it, what was before, what is after.

use obscura_clock::SharedClock;
use obscura_outbox::event;
use obscura_proto::{
    audit::v1::{Change, Event, Outcome, Person, event::Body},
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
            "attested_by": attestation.attested_by,
        });
        Self { kind: "site", id: site.site_id.clone(), fields }
    }

    /// A camera. Its source is sealed to the recorder and stays out, whatever it holds.
    #[must_use]
    pub fn camera(camera: &Camera, authority: &AuthorityKey) -> Self {
        let purpose = camera.purpose.clone().unwrap_or_default();
        let placement = camera.placement.as_ref().and_then(|signed| authority.verify_placement(signed).ok());
        let decided_by = camera.zone_decision.as_ref().map(|decision| &decision.decided_by);
        let fields = json!({
            "name": camera.name,
            "site_id": camera.site_id,
            "purpose": purpose.text,
            "legal_basis": purpose.legal_basis().as_str_name(),
            "retention_hours": purpose.retention_hours,
            "longer_retention_reason": purpose.longer_retention_reason,
            "owner": purpose.owner,
            "review_on": purpose.review_on,
            "priority": purpose.priority,
            "zone": placement.as_ref().map(|placement| placement.zone.to_string()),
            "country": placement.as_ref().map(|placement| placement.country.clone()),
            "bucket": placement.as_ref().map(|placement| placement.bucket.clone()),
            "zone_decided_by": decided_by,
            "permanently_masked": camera.permanently_masked,
            "plaintext_source": camera.plaintext_source,
            "removed": camera.removed,
        });
        Self { kind: "camera", id: camera.camera_id.clone(), fields }
    }
}

/// The event of a change that leaves `after` where `before` was. Values are told only where somebody is named
/// under whose key they can be sealed.
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
    };
    Event { actor, ..event(clock, Outcome::Success, Body::Change(change)) }
}

fn changed_fields(before: Option<&Thing>, after: &Thing) -> Vec<String> {
    let none = Map::new();
    let before = before.and_then(|thing| thing.fields.as_object()).unwrap_or(&none);
    let after = after.fields.as_object().unwrap_or(&none);
    after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;
    use obscura_proto::registry::v1::Purpose;
    use obscura_snapshot::Authority;

    use super::*;

    fn thing(hours: u32) -> Thing {
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let purpose = Purpose { text: "Theft".into(), retention_hours: hours, ..Purpose::default() };
        let camera = Camera { camera_id: "c".into(), purpose: Some(purpose), ..Camera::default() };
        Thing::camera(&camera, &AuthorityKey::from_bytes(authority.public_key()))
    }

    fn told(event: Event) -> Change {
        let Some(Body::Change(change)) = event.body else { panic!("not a change") };
        change
    }

    #[test]
    fn a_change_names_what_differs_and_tells_both_values() {
        let actor = Person { id: "unix:0".into(), ..Person::default() };
        let change = told(changed(&SystemClock::shared(), Some(actor), Some(&thing(72)), &thing(24)));
        assert_eq!(change.changed_fields, ["retention_hours"]);
        assert!(change.before_json.contains("72") && change.after_json.contains("24"));
    }

    #[test]
    fn without_somebody_under_whose_key_to_seal_it_no_value_is_told() {
        let change = told(changed(&SystemClock::shared(), None, None, &thing(24)));
        assert_eq!((change.before_json.as_str(), change.after_json.as_str()), ("", ""));
        assert!(change.changed_fields.len() > 10);
    }
}
