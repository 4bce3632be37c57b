//! Configuration, custody of keys, holds, and destruction.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use obscura_proto::audit::v1::{Change, Destruction, Erasure, HoldAct, KeyAct, hold_act, key_act};

use super::{Mapping, Severity, operation::finding, values};
use crate::{class::ENTITY_MANAGEMENT, ground, json::Json, leaf::Source, named};

const CREATE: (u32, &str) = (1, "Create");
const READ: (u32, &str) = (2, "Read");
const UPDATE: (u32, &str) = (3, "Update");
const DELETE: (u32, &str) = (4, "Delete");

/// An act on a thing that OCSF has no number for.
pub fn entity<'a>(act: &'static str, activity: (u32, &'static str), kind: &'a str) -> Mapping<'a> {
    Mapping::new(ENTITY_MANAGEMENT, act, activity)
        .clear("/entity/type_id", 99_u32)
        .clear("/entity/type", kind)
}

pub fn change(body: &Change) -> Mapping<'_> {
    let (act, activity) = match (body.before_json.is_empty(), body.after_json.is_empty()) {
        (true, false) => ("created", CREATE),
        (false, true) => ("deleted", DELETE),
        (true, true) | (false, false) => ("updated", UPDATE),
    };
    entity(act, activity, &body.object_kind)
        .free("/entity/uid", &body.object_id)
        .clear("/unmapped/changed_fields", values::ids(&body.changed_fields))
        .personal("/unmapped/before", &body.before_json)
        .personal("/unmapped/after", &body.after_json)
        .others("/unmapped/named", named::mentions(body))
}

pub fn key<'a>(body: &'a KeyAct, source: &Source) -> Mapping<'a> {
    let mapping = match body.act() {
        key_act::Act::Rotated | key_act::Act::Unspecified => {
            key_entity("rotated", UPDATE, "key encryption key")
        }
        key_act::Act::Released => key_entity("released", READ, "layer keys"),
        key_act::Act::SharesMade => key_entity("shares_made", CREATE, "recovery shares"),
        key_act::Act::SharesRehearsed => {
            key_entity("shares_rehearsed", (99, "Rehearse"), "recovery shares").severity(Severity::Low)
        }
        key_act::Act::Recovered => {
            key_entity("recovered", (99, "Recover"), "zone root").severity(Severity::High)
        }
        key_act::Act::DestructionStopped => {
            finding("destruction_stopped", source, "destruction_stopped", true)
        }
        key_act::Act::DestructionResumed => key_entity("destruction_resumed", UPDATE, "destruction"),
    };
    mapping
        .grant(&body.grant_id)
        .clear("/unmapped/key_ids", values::ids(&body.key_ids))
        .clear("/unmapped/released", values::spans(&body.released))
        .clear("/unmapped/version", if body.version == 0 { Json::Nothing } else { body.version.into() })
        .free("/status_detail", &body.detail)
}

fn key_entity(act: &'static str, activity: (u32, &'static str), name: &'static str) -> Mapping<'static> {
    entity(act, activity, "key").clear("/entity/name", name)
}

pub fn hold(body: &HoldAct) -> Mapping<'_> {
    let (act, activity) = match body.act() {
        hold_act::Act::Placed | hold_act::Act::Unspecified => ("placed", CREATE),
        hold_act::Act::Released => ("released", DELETE),
    };
    entity(act, activity, "hold")
        .clear("/entity/uid", body.hold_id.as_str())
        .clear("/unmapped/cameras", [&body.camera_id])
        .clear("/unmapped/span", values::optional_span(body.span.as_ref()))
        .clear("/unmapped/review_on", body.review_on.as_str())
        .personal("/unmapped/basis", &body.basis)
}

pub fn destruction(body: &Destruction) -> Mapping<'_> {
    let (act, severity) =
        if body.early { ("early", Severity::Medium) } else { ("expired", Severity::Informational) };
    entity(act, DELETE, "footage")
        .severity(severity)
        .clear("/entity/name", "footage")
        .clear("/unmapped/receipt", STANDARD.encode(&body.receipt))
        .clear("/unmapped/receipt_number", numbered(body.receipt_number))
        .clear("/unmapped/effective", values::optional_moment(body.effective_unix_ns))
        .clear("/unmapped/cameras", values::ids(&body.camera_ids))
        .clear("/unmapped/span", values::optional_span(body.span.as_ref()))
        .clear("/unmapped/pack_ids", values::ids(&body.pack_ids))
        .clear("/unmapped/root", hex::encode(&body.root))
}

/// A number that counts from 1, or nothing.
fn numbered(number: u64) -> Json<'static> {
    if number == 0 { Json::Nothing } else { number.into() }
}

pub fn erasure(body: &Erasure) -> Mapping<'_> {
    let (act, severity) =
        if body.early { ("early", Severity::Medium) } else { ("expired", Severity::Informational) };
    let (code, meaning) = ground::described(body.ground());
    entity(act, DELETE, "person keys")
        .severity(severity)
        .clear("/entity/name", "keys of a person")
        .clear("/status_code", code)
        .clear("/status_detail", meaning)
        .clear("/unmapped/pseudonyms", values::ids(&body.pseudonyms))
        .clear("/unmapped/case_number", body.case_number.as_str())
}
