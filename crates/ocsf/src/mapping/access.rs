//! Log-ons, grants, and what was seen under them.

use obscura_proto::audit::v1::{Export, GrantDecision, Search, Session, View, session, view};

use super::{Mapping, Severity, values};
use crate::{
    class::{AUTHENTICATION, AUTHORIZE_SESSION, DATASTORE_ACTIVITY, FILE_HOSTING},
    json::{Json, Object},
};

/// `type_id` of things that OCSF has no number for.
const OTHER: u32 = 99;

pub fn session(body: &Session) -> Mapping<'_> {
    let (act, activity) = match body.act() {
        session::Act::LogOff => ("log_off", (2, "Logoff")),
        session::Act::LogOn | session::Act::Unspecified => ("log_on", (1, "Logon")),
    };
    Mapping::new(AUTHENTICATION, act, activity).free("/session/uid", &body.session_id)
}

pub fn grant(body: &GrantDecision, done: bool) -> Mapping<'_> {
    let act = if done { "allowed" } else { "refused" };
    let severity = if body.lift { Severity::Medium } else { Severity::Informational };
    Mapping::new(AUTHORIZE_SESSION, act, (1, "Assign Privileges"))
        .severity(severity)
        .grant(&body.grant_id)
        .clear("/privileges", privileges(&body.layers))
        .free("/status_detail", &body.refusal)
        .clear("/unmapped/claims_hash", hex::encode(&body.claims_hash))
        .clear("/unmapped/cameras", values::ids(&body.camera_ids))
        .clear("/unmapped/layers", values::layers(&body.layers))
        .clear("/unmapped/span", values::optional_span(body.span.as_ref()))
        .clear("/unmapped/holder", body.holder.as_str())
        .clear("/unmapped/expires", values::optional_moment(body.expires_unix_ns))
        .clear("/unmapped/lift", body.lift)
        .personal("/unmapped/purpose", &body.purpose)
        .personal("/unmapped/reason", &body.reason)
}

/// What a grant lets one do. The class wants at least one.
fn privileges(layers: &[i32]) -> Json<'static> {
    if layers.is_empty() {
        return ["view"].into();
    }
    layers.iter().map(|code| format!("view:{}", values::layer(*code))).collect()
}

pub fn view(body: &View) -> Mapping<'_> {
    let (act, activity) = match body.phase() {
        view::Phase::Open | view::Phase::Unspecified => ("open", (3, "Connect")),
        view::Phase::Ongoing => ("ongoing", (1, "Read")),
        view::Phase::Close => ("close", (OTHER, "Close")),
    };
    Mapping::new(DATASTORE_ACTIVITY, act, activity)
        .grant(&body.grant_id)
        .clear("/type_id", 2_u32)
        .clear("/databucket/uid", body.camera_id.as_str())
        .clear("/databucket/type_id", OTHER)
        .clear("/databucket/type", "recording")
        .clear("/unmapped/cameras", [&body.camera_id])
        .clear("/unmapped/layers", values::layers(&[body.layer]))
        .clear("/unmapped/released", values::spans(&body.released))
        .clear("/unmapped/released_by", body.released_by.as_str())
}

pub fn export(body: &Export) -> Mapping<'_> {
    Mapping::new(FILE_HOSTING, "written", (2, "Download"))
        .severity(Severity::Low)
        .grant(&body.grant_id)
        .clear("/file/name", format!("export-{}", body.grant_id))
        .clear("/file/type_id", 1_u32)
        .clear("/file/size", body.bytes)
        .clear("/file/hashes", hashes(&body.file_sha256))
        .clear("/unmapped/cameras", values::ids(&body.camera_ids))
        .clear("/unmapped/span", values::optional_span(body.span.as_ref()))
}

fn hashes(sha256: &[u8]) -> Json<'static> {
    if sha256.is_empty() {
        return Json::Nothing;
    }
    let value = hex::encode(sha256);
    [Object::from([("algorithm", "SHA-256".into()), ("algorithm_id", 3_u32.into()), ("value", value.into())])]
        .into()
}

pub fn search(body: &Search) -> Mapping<'_> {
    Mapping::new(DATASTORE_ACTIVITY, "searched", (4, "Query"))
        .clear("/type_id", 1_u32)
        .clear("/database/name", body.subject.as_str())
        .clear("/database/type_id", OTHER)
        .clear("/database/type", "index")
        .clear("/unmapped/cameras", values::ids(&body.camera_ids))
        .clear("/unmapped/span", values::optional_span(body.span.as_ref()))
        .clear("/unmapped/entries", indexes(body))
        .clear("/unmapped/results", body.results)
        .personal("/unmapped/query", &body.query)
}

/// Indexes of the log that were read: the first, and the one behind the last.
fn indexes(body: &Search) -> Json<'static> {
    if body.end_index == 0 {
        return Json::Nothing;
    }
    Object::from([("end", body.end_index.into()), ("first", body.first_index.into())]).into()
}
