//! What happens without a person: cameras, storage, services, and the log itself.

use obscura_proto::{
    audit::v1::{CameraAct, Heartbeat, Overflow, ServiceAct, StorageManifest, Test, service_act},
    footage::v1::GapReason,
};

use super::{Mapping, Severity, administration::entity, values};
use crate::{
    class::{APPLICATION_LIFECYCLE, DATASTORE_ACTIVITY, DETECTION_FINDING, EVENT_LOG},
    leaf::Source,
};

/// `status_id` of findings.
const NEW: u32 = 1;
const RESOLVED: u32 = 4;

pub fn camera(body: &CameraAct) -> Mapping<'_> {
    let (act, activity, severity) = if body.recording {
        ("recording", (13, "Resume"), Severity::Informational)
    } else {
        ("stopped", (12, "Suspend"), Severity::Low)
    };
    entity(act, activity, "camera")
        .severity(severity)
        .clear("/entity/uid", body.camera_id.as_str())
        .clear("/unmapped/cameras", [&body.camera_id])
        .clear("/unmapped/gap_reason", gap_reason(body))
        .clear("/unmapped/since", values::moment(body.since_unix_ns))
}

/// The name in the protos without its prefix; empty where none was given.
fn gap_reason(body: &CameraAct) -> String {
    match body.reason() {
        GapReason::Unspecified => String::new(),
        reason => reason.as_str_name().trim_start_matches("GAP_REASON_").to_ascii_lowercase(),
    }
}

pub fn manifest(body: &StorageManifest) -> Mapping<'_> {
    Mapping::new(DATASTORE_ACTIVITY, "stored", (5, "Write"))
        .clear("/type_id", 2_u32)
        .clear("/databucket/name", "packs")
        .clear("/databucket/type_id", 99_u32)
        .clear("/databucket/type", "object store")
        .clear("/unmapped/root", hex::encode(&body.root))
        .clear("/unmapped/pack_ids", values::ids(&body.pack_ids))
        .clear("/unmapped/bytes", body.bytes)
}

pub fn service<'a>(body: &'a ServiceAct, source: &Source) -> Mapping<'a> {
    let mapping = match body.act() {
        service_act::Act::Started | service_act::Act::Unspecified => lifecycle("started", (3, "Start")),
        service_act::Act::Stopped => lifecycle("stopped", (4, "Stop")),
        service_act::Act::Alarm => finding("alarm", source, &body.alarm, true),
        service_act::Act::AlarmEnded => finding("alarm_ended", source, &body.alarm, false),
        service_act::Act::Pruned => {
            Mapping::new(EVENT_LOG, "pruned", (2, "Delete")).clear("/log_name", "audit")
        }
    };
    mapping.free("/metadata/product/version", &body.version).free("/status_detail", &body.detail)
}

fn lifecycle(act: &'static str, activity: (u32, &'static str)) -> Mapping<'static> {
    Mapping::new(APPLICATION_LIFECYCLE, act, activity)
}

/// Something that a person must look at, or that is over. The same alarm of the same program has
/// the same `finding_info.uid`, so that its end finds its beginning.
pub fn finding(act: &'static str, source: &Source, alarm: &str, begins: bool) -> Mapping<'static> {
    let (activity, severity, status) = if begins {
        ((1, "Create"), Severity::High, NEW)
    } else {
        ((3, "Close"), Severity::Informational, RESOLVED)
    };
    let mut mapping = Mapping::new(DETECTION_FINDING, act, activity)
        .severity(severity)
        .clear("/finding_info/uid", format!("{}#{alarm}", source.producer))
        .clear("/finding_info/title", alarm.replace('_', " "))
        .clear("/is_alert", begins);
    mapping.status = Some(status);
    mapping
}

pub fn overflow(body: &Overflow) -> Mapping<'_> {
    let dropped = body.last_counter.saturating_sub(body.first_counter).saturating_add(1);
    Mapping::new(EVENT_LOG, "dropped", (99, "Overflow"))
        .severity(Severity::High)
        .clear("/log_name", "outbox")
        .clear("/unmapped/first_counter", body.first_counter)
        .clear("/unmapped/last_counter", body.last_counter)
        .clear("/unmapped/dropped", dropped)
}

/// Whoever sends a test by hand may write anything into it, so only what a program sends by itself is in clear.
pub fn test(body: &Test, acted: bool) -> Mapping<'_> {
    let mapping = Mapping::new(EVENT_LOG, "sent", (99, "Test")).clear("/log_name", "audit");
    if acted {
        mapping.clear("/message", "test event").personal("/unmapped/text", &body.text)
    } else {
        mapping.free("/message", &body.text)
    }
}

pub fn heartbeat(body: &Heartbeat) -> Mapping<'_> {
    Mapping::new(EVENT_LOG, "alive", (99, "Heartbeat"))
        .clear("/log_name", "audit")
        .clear("/unmapped/size", body.size)
}
