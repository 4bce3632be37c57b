//! The checks of each body.

use obscura_proto::{
    audit::v1::{
        CameraAct, Change, Destruction, Erasure, ErasureGround, Export, GrantDecision, HoldAct, KeyAct,
        Overflow, Search, ServiceAct, Session, StorageManifest, View, event::Body, hold_act, key_act,
        service_act, session, view,
    },
    footage::v1::{GapReason, Layer},
    keys::v1::{ShredReceipt, SignedShredReceipt},
};
use prost::Message as _;

use crate::ground;

use super::checks::{
    Checked, at_most, free_text, known, layers, moment, not_empty, number, optional_sha256, optional_span,
    optional_uuid, require, required_text, sha256, span, spans, spiffe, text, token, uuid, uuids,
};

/// As many as one grant may name.
const MAX_CAMERAS: usize = 1_000;
const MAX_DESTROYED_CAMERAS: usize = 500;
/// What fits a leaf beside the cameras and the receipt; storage sends several events.
const MAX_DESTROYED_PACKS: usize = 400;
/// What fits a leaf: each span is two moments in words.
const MAX_SPANS: usize = 400;
const MAX_KEYS: usize = 256;
/// What fits a leaf; a producer with more packs sends several manifests.
const MAX_PACKS: usize = 1_400;
const MAX_PURPOSE_BYTES: usize = 1_024;
const MAX_REASON_BYTES: usize = 4_096;
/// Sealed and in base64, two of these fit a leaf.
const MAX_JSON_BYTES: usize = 19_000;
const MAX_CHANGED_FIELDS: usize = 64;
const MAX_NAMED_FIELDS: usize = 4;
const MAX_NAME_BYTES: usize = 512;
const MAX_RECEIPT_BYTES: usize = 16_384;
/// Pseudonyms that one erasure names.
pub const MAX_PSEUDONYMS: usize = 256;
const MAX_PSEUDONYM_BYTES: usize = 128;

/// Checks one body. `acted` says whether the event names a person.
pub fn check(body: &Body, acted: bool) -> Checked {
    match body {
        Body::Session(body) => someone(acted).and_then(|()| session(body)),
        Body::Grant(body) => someone(acted).and_then(|()| grant(body)),
        Body::View(body) => someone(acted).and_then(|()| view(body)),
        Body::Export(body) => someone(acted).and_then(|()| export(body)),
        Body::Search(body) => someone(acted).and_then(|()| search(body)),
        Body::Hold(body) => someone(acted).and_then(|()| hold(body)),
        Body::Change(body) => change(body, acted),
        Body::Key(body) => key(body),
        Body::Camera(body) => camera(body),
        Body::Destruction(body) => destruction(body),
        Body::Manifest(body) => manifest(body),
        Body::Service(body) => service(body),
        Body::Overflow(body) => overflow(body),
        Body::Erasure(body) => erasure(body),
        Body::Test(body) => required_text("test.text", &body.text),
        Body::Heartbeat(body) => number("heartbeat.size", body.size),
    }
}

fn someone(acted: bool) -> Checked {
    require(acted, "actor", "is not set; this kind of event is always somebody's act")
}

fn session(body: &Session) -> Checked {
    known::<session::Act>("session.act", body.act)?;
    required_text("session.session_id", &body.session_id)
}

fn grant(body: &GrantDecision) -> Checked {
    optional_sha256("grant.claims_hash", &body.claims_hash)?;
    optional_uuid("grant.grant_id", &body.grant_id)?;
    uuids("grant.camera_ids", &body.camera_ids, MAX_CAMERAS)?;
    layers("grant.layers", &body.layers)?;
    optional_span("grant.span", body.span.as_ref())?;
    text("grant.purpose", &body.purpose, MAX_PURPOSE_BYTES)?;
    text("grant.reason", &body.reason, MAX_REASON_BYTES)?;
    if !body.holder.is_empty() {
        spiffe("grant.holder", &body.holder)?;
    }
    require(body.expires_unix_ns >= 0, "grant.expires_unix_ns", "is before 1970")?;
    free_text("grant.refusal", &body.refusal)
}

fn view(body: &View) -> Checked {
    uuid("view.grant_id", &body.grant_id)?;
    uuid("view.camera_id", &body.camera_id)?;
    known::<Layer>("view.layer", body.layer)?;
    known::<view::Phase>("view.phase", body.phase)?;
    spans("view.released", &body.released, MAX_SPANS)?;
    spiffe("view.released_by", &body.released_by)
}

fn export(body: &Export) -> Checked {
    uuid("export.grant_id", &body.grant_id)?;
    not_empty("export.camera_ids", &body.camera_ids)?;
    uuids("export.camera_ids", &body.camera_ids, MAX_CAMERAS)?;
    span("export.span", body.span.as_ref())?;
    optional_sha256("export.file_sha256", &body.file_sha256)?;
    number("export.bytes", body.bytes)
}

fn search(body: &Search) -> Checked {
    token("search.subject", &body.subject)?;
    uuids("search.camera_ids", &body.camera_ids, MAX_CAMERAS)?;
    optional_span("search.span", body.span.as_ref())?;
    text("search.query", &body.query, MAX_REASON_BYTES)?;
    number("search.end_index", body.end_index)?;
    require(body.first_index <= body.end_index, "search.first_index", "is behind the end")?;
    number("search.results", body.results)
}

fn change(body: &Change, acted: bool) -> Checked {
    token("change.object_kind", &body.object_kind)?;
    required_text("change.object_id", &body.object_id)?;
    for (field, json) in [("change.before_json", &body.before_json), ("change.after_json", &body.after_json)]
    {
        text(field, json, MAX_JSON_BYTES)?;
        let why = "may be about a person, but nobody acted under whose key it could be sealed";
        require(acted || json.is_empty(), field, why)?;
    }
    at_most("change.named", body.named.len(), MAX_NAMED_FIELDS)?;
    for named in &body.named {
        token("change.named", &named.field)?;
        text("change.named", &named.before, MAX_NAME_BYTES)?;
        text("change.named", &named.after, MAX_NAME_BYTES)?;
    }
    at_most("change.changed_fields", body.changed_fields.len(), MAX_CHANGED_FIELDS)?;
    body.changed_fields.iter().try_for_each(|name| token("change.changed_fields", name))
}

fn key(body: &KeyAct) -> Checked {
    known::<key_act::Act>("key.act", body.act)?;
    optional_uuid("key.grant_id", &body.grant_id)?;
    uuids("key.key_ids", &body.key_ids, MAX_KEYS)?;
    spans("key.released", &body.released, MAX_SPANS)?;
    free_text("key.detail", &body.detail)
}

fn camera(body: &CameraAct) -> Checked {
    uuid("camera.camera_id", &body.camera_id)?;
    if !body.recording {
        known::<GapReason>("camera.reason", body.reason)?;
    }
    moment("camera.since_unix_ns", body.since_unix_ns)
}

fn hold(body: &HoldAct) -> Checked {
    known::<hold_act::Act>("hold.act", body.act)?;
    uuid("hold.hold_id", &body.hold_id)?;
    uuid("hold.camera_id", &body.camera_id)?;
    span("hold.span", body.span.as_ref())?;
    text("hold.basis", &body.basis, MAX_REASON_BYTES)?;
    let is_day = body.review_on.is_empty() || body.review_on.parse::<jiff::civil::Date>().is_ok();
    require(is_day && body.review_on.len() <= 10, "hold.review_on", "is not a day like 2027-01-31")
}

fn destruction(body: &Destruction) -> Checked {
    // Empty where storage has forgotten the receipt by which it deletes: custody has told it in an event of its own.
    at_most("destruction.receipt", body.receipt.len(), MAX_RECEIPT_BYTES)?;
    let why =
        "gives a reason that is not a ground and the number of a case; words would stand in the log in clear";
    require(is_wordless(&body.receipt), "destruction.receipt", why)?;
    uuids("destruction.camera_ids", &body.camera_ids, MAX_DESTROYED_CAMERAS)?;
    optional_span("destruction.span", body.span.as_ref())?;
    uuids("destruction.pack_ids", &body.pack_ids, MAX_DESTROYED_PACKS)?;
    optional_sha256("destruction.root", &body.root)?;
    let has_both = body.root.is_empty() == body.pack_ids.is_empty();
    require(has_both, "destruction.root", "is not set, or set without `pack_ids`")?;
    number("destruction.receipt_number", body.receipt_number)?;
    require(body.effective_unix_ns >= 0, "destruction.effective_unix_ns", "is before 1970")
}

/// Whether a receipt has no words of anybody in it. What is not a receipt says nothing that could be read.
fn is_wordless(receipt: &[u8]) -> bool {
    let signed = SignedShredReceipt::decode(receipt);
    let receipt = signed.and_then(|signed| ShredReceipt::decode(signed.receipt));
    receipt.map_or(true, |receipt| receipt.reason.is_empty() || ground::is_reason(&receipt.reason))
}

fn manifest(body: &StorageManifest) -> Checked {
    sha256("manifest.root", &body.root)?;
    not_empty("manifest.pack_ids", &body.pack_ids)?;
    uuids("manifest.pack_ids", &body.pack_ids, MAX_PACKS)?;
    number("manifest.bytes", body.bytes)
}

fn service(body: &ServiceAct) -> Checked {
    known::<service_act::Act>("service.act", body.act)?;
    free_text("service.version", &body.version)?;
    let alarms = [service_act::Act::Alarm, service_act::Act::AlarmEnded].map(i32::from);
    if alarms.contains(&body.act) || !body.alarm.is_empty() {
        token("service.alarm", &body.alarm)?;
    }
    free_text("service.detail", &body.detail)
}

fn overflow(body: &Overflow) -> Checked {
    number("overflow.last_counter", body.last_counter)?;
    let runs = 1 <= body.first_counter && body.first_counter <= body.last_counter;
    require(runs, "overflow.first_counter", "is 0 or after the last one")
}

fn erasure(body: &Erasure) -> Checked {
    at_most("erasure.pseudonyms", body.pseudonyms.len(), MAX_PSEUDONYMS)?;
    for pseudonym in &body.pseudonyms {
        require(is_pseudonym(pseudonym), "erasure.pseudonyms", "holds something that is not a pseudonym")?;
    }
    known::<ErasureGround>("erasure.ground", body.ground)?;
    let is_case = body.case_number.is_empty() || ground::is_case_number(&body.case_number);
    require(
        is_case,
        "erasure.case_number",
        "is not at most 32 of 0 to 9, `-`, `/` and `.` that begin with a digit",
    )
}

/// Whether it has the shape of a pseudonym: 1 to 128 of `A` to `Z`, `a` to `z`, `0` to `9`, `:`,
/// `_` and `-`.
pub fn is_pseudonym(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-');
    (1..=MAX_PSEUDONYM_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}
