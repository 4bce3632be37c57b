//! What is known about an installation right now: from the services themselves where they answer.

mod certificates;
mod page;

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use obscura_clock::{SharedClock, Timestamp};
use obscura_identity::Validity;
use obscura_proto::{
    footage::v1::GapReason,
    ingest::v1::{CameraState, CameraStatus, GetIngestStatusRequest, GetIngestStatusResponse},
    keys::v1::{GetKeyStatusRequest, GetKeyStatusResponse},
    registry::v1::Camera as RegistryCamera,
};
use serde::Serialize;

pub use page::page;

use crate::{
    installation::SERVICES,
    services::{PROMPT, Services},
    supervisor::{Child, Report},
    when,
    words::{self, count},
};

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The state directory.
    pub state_directory: String,
    /// The supervisor; absent while it does not run.
    pub supervisor: Option<SupervisorStatus>,
    /// In the order of their start.
    pub services: Vec<ServiceStatus>,
    /// By name.
    pub cameras: Vec<CameraStatusLine>,
    /// Absent while `ingest` does not answer.
    pub spool: Option<Spool>,
    /// What a person must look at, with what to do.
    pub alarms: Vec<String>,
    /// The newest remarks of the supervisor.
    pub notices: Vec<String>,
    /// What kept the page from being complete.
    pub unknown: Vec<String>,
}

/// How the supervisor does.
#[derive(Clone, Debug, Serialize)]
pub struct SupervisorStatus {
    /// Process id.
    pub pid: u32,
    /// Since when it runs.
    pub since: String,
    /// Seconds from its start to the first durable segment; absent before that.
    pub recording_after_s: Option<f64>,
}

/// How one child does.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceStatus {
    /// Name.
    pub name: String,
    /// Whether it says that it is well; for the demo camera, whether it runs.
    pub healthy: bool,
    /// Why not.
    pub problem: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
    /// Since when it runs, or does not.
    pub since: Option<String>,
    /// For how many seconds that has been so.
    pub seconds: Option<u64>,
    /// How often it was started again.
    pub restarts: Option<u32>,
    /// End of its certificate; the demo camera has none.
    pub certificate_until: Option<String>,
    /// Seconds until then.
    pub certificate_seconds: Option<u64>,
}

/// How one camera does.
#[derive(Clone, Debug, Serialize)]
pub struct CameraStatusLine {
    /// UUID.
    pub id: String,
    /// Name; the id where the registry does not answer.
    pub name: String,
    /// What it is doing, in words.
    pub state: String,
    /// Whether frames arrive and are sealed.
    pub recording: bool,
    /// Why it is not recording, in words.
    pub reason: Option<String>,
    /// Everything before is durable.
    pub acknowledged_through: Option<String>,
    /// How many seconds ago that is.
    pub acknowledged_seconds_ago: Option<f64>,
    /// Segments sealed since the recorder started.
    pub segments: u64,
    /// Sealed bytes since then.
    pub bytes: u64,
    /// Packets lost since then.
    pub packets_lost: u64,
    /// Not encrypted on the network.
    pub plaintext: bool,
    /// Whether the recorder itself said this.
    #[serde(skip)]
    pub told_by_recorder: bool,
}

/// What waits on the recorder's disk.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spool {
    /// Bytes in use.
    pub bytes: u64,
    /// Bound in bytes.
    pub limit_bytes: u64,
    /// Segments that wait for upload.
    pub pending_segments: u64,
    /// Keys that wait for import.
    pub pending_keys: u64,
    /// Age in seconds of the oldest segment that waits for upload.
    pub oldest_pending_seconds: u64,
    /// Seconds until it is full at the rate of the last minutes; absent while it does not grow.
    pub full_in_seconds: Option<u64>,
}

/// Asks every service, at the same time. Also says when this recorder's first segment was durable.
pub async fn collect(
    services: &Services,
    report: Option<&Report>,
    clock: &SharedClock,
) -> (Status, Option<Timestamp>) {
    let health = join_all(SERVICES.map(|service| services.health(service)));
    let mut ingest = services.ingest();
    let request = ingest.get_ingest_status(GetIngestStatusRequest {});
    let ingest = services.ask("ingest", "ask how the cameras do", PROMPT, request);
    let mut keys = services.keys();
    let custody = keys.get_key_status(GetKeyStatusRequest {});
    let custody = services.ask("keys", "ask for the state of keys", PROMPT, custody);
    let (health, ingest, registry, custody) = tokio::join!(health, ingest, services.cameras(false), custody);
    let now = clock.wall();
    let unknown = [ingest.as_ref().err(), registry.as_ref().err()].into_iter().flatten();
    let certificates = certificates::read(services.installation());
    let mut alarms = alarms(ingest.as_ref().ok(), custody.as_ref().ok());
    alarms.extend(certificates::alarms(&certificates, now));
    alarms.extend(certificates::authority_alarm(certificates::authority(services.installation()), now));
    let status = Status {
        state_directory: services.installation().root().display().to_string(),
        supervisor: report.map(supervisor),
        unknown: unknown.map(|problem| problem.what().to_owned()).collect(),
        services: service_lines(&certificates, &health, report, now),
        spool: ingest.as_ref().ok().map(spool),
        alarms,
        cameras: camera_lines(ingest.as_ref().ok(), registry.as_deref().unwrap_or_default(), now),
        notices: report.map(|report| report.notices.iter().cloned().collect()).unwrap_or_default(),
    };
    let first = ingest.ok().map(|answer| answer.first_acknowledged_unix_ns).filter(|nanos| *nanos > 0);
    (status, first.map(Timestamp::from_unix_nanos))
}

impl Status {
    /// Whether everything that should run does.
    pub fn is_well(&self) -> bool {
        self.supervisor.is_some() && self.services.iter().all(|service| service.healthy)
    }
}

fn supervisor(report: &Report) -> SupervisorStatus {
    let after = report.first_acknowledged.map(|first| first.since(report.started).as_secs_f64());
    SupervisorStatus { pid: report.pid, since: report.started.to_string(), recording_after_s: after }
}

fn spool(answer: &GetIngestStatusResponse) -> Spool {
    Spool {
        bytes: answer.spool_bytes,
        limit_bytes: answer.spool_limit_bytes,
        pending_segments: answer.pending_segments,
        pending_keys: answer.pending_keys,
        oldest_pending_seconds: answer.oldest_pending_seconds,
        full_in_seconds: answer.spool_full_in_seconds,
    }
}

fn alarms(ingest: Option<&GetIngestStatusResponse>, keys: Option<&GetKeyStatusResponse>) -> Vec<String> {
    let mut alarms = ingest.map(spool_alarms).unwrap_or_default();
    if let Some(keys) = keys {
        let told = |what: &str, why: &str| (!why.is_empty()).then(|| format!("{what}: {why}"));
        alarms.extend(told("Nothing is destroyed", &keys.destruction_stopped));
        alarms.extend(told("Nothing is released", &keys.releases_stopped));
        let passed = count(keys.reviews_passed, "hold");
        let review = format!("Past their review date: {passed}; see `obscura hold list`");
        alarms.extend((keys.reviews_passed > 0).then_some(review));
    }
    alarms
}

fn spool_alarms(answer: &GetIngestStatusResponse) -> Vec<String> {
    let mut alarms = Vec::new();
    if answer.spool_alarm {
        let left = answer.spool_full_in_seconds.map(|seconds| when::words(Duration::from_secs(seconds)));
        let left = left.map_or_else(|| "soon".to_owned(), |left| format!("in about {left}"));
        alarms.push(format!("The spool is full {left}: bring storage and keys back, or make room"));
    }
    if answer.disk_full {
        alarms.push("The disk of the spool is full: make room, recording goes on by itself".to_owned());
    }
    if !answer.paused_camera_ids.is_empty() {
        let paused = count(answer.paused_camera_ids.len() as u64, "camera");
        alarms.push(format!("Not recorded because the spool is nearly full: {paused}"));
    }
    if answer.refused_keys > 0 {
        let keys = count(answer.refused_keys, "layer key");
        alarms.push(format!("Refused by keys and set aside: {keys}; the log of keys says why"));
    }
    alarms
}

fn service_lines(
    certificates: &BTreeMap<&str, Validity>,
    health: &[Result<(), String>],
    report: Option<&Report>,
    now: Timestamp,
) -> Vec<ServiceStatus> {
    let children: BTreeMap<&str, &Child> = report
        .map(|report| report.children.iter().map(|child| (child.name.as_str(), child)).collect())
        .unwrap_or_default();
    let mut lines: Vec<_> = SERVICES
        .into_iter()
        .zip(health)
        .map(|(name, health)| {
            let until = certificates.get(name).map(|validity| validity.not_after);
            let line =
                ServiceStatus::new(name, health.as_ref().err().cloned(), children.get(name).copied(), now);
            ServiceStatus {
                certificate_until: until.map(|until| until.to_string()),
                certificate_seconds: until.map(|until| until.since(now).as_secs()),
                ..line
            }
        })
        .collect();
    let others = children.into_iter().filter(|(name, _)| !SERVICES.contains(name));
    lines.extend(others.map(|(name, child)| {
        let problem =
            child.pid.is_none().then(|| child.last_end.clone().unwrap_or_else(|| "it does not run".into()));
        ServiceStatus::new(name, problem, Some(child), now)
    }));
    lines
}

impl ServiceStatus {
    fn new(name: &str, problem: Option<String>, child: Option<&Child>, now: Timestamp) -> Self {
        let since = child.and_then(|child| child.since);
        Self {
            name: name.to_owned(),
            healthy: problem.is_none(),
            problem,
            pid: child.and_then(|child| child.pid),
            since: since.map(|since| since.to_string()),
            seconds: since.map(|since| now.since(since).as_secs()),
            restarts: child.map(|child| child.restarts),
            certificate_until: None,
            certificate_seconds: None,
        }
    }
}

/// Cameras of the recorder with the names of the registry, then those the recorder does not know yet.
fn camera_lines(
    ingest: Option<&GetIngestStatusResponse>,
    registry: &[RegistryCamera],
    now: Timestamp,
) -> Vec<CameraStatusLine> {
    let mut names: BTreeMap<&str, &str> =
        registry.iter().map(|camera| (camera.camera_id.as_str(), camera.name.as_str())).collect();
    let recorded = ingest.map(|answer| answer.cameras.as_slice()).unwrap_or_default();
    let mut lines: Vec<_> = recorded
        .iter()
        .map(|camera| CameraStatusLine::new(camera, names.remove(camera.camera_id.as_str()), now))
        .collect();
    let state =
        if ingest.is_some() { "not known to the recorder yet" } else { "unknown: ingest does not answer" };
    lines.extend(names.into_iter().map(|(id, name)| CameraStatusLine::unknown(id, name, state)));
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

impl CameraStatusLine {
    fn new(camera: &CameraStatus, name: Option<&str>, now: Timestamp) -> Self {
        let through = Some(camera.acknowledged_through_unix_ns).filter(|nanos| *nanos > 0);
        let through = through.map(Timestamp::from_unix_nanos);
        let reason = camera.reason();
        Self {
            id: camera.camera_id.clone(),
            name: name.unwrap_or(&camera.camera_id).to_owned(),
            state: words::camera_state(camera.state()).to_owned(),
            recording: camera.state() == CameraState::Recording,
            reason: (reason != GapReason::Unspecified).then(|| words::gap_reason(reason).to_owned()),
            acknowledged_through: through.map(|moment| moment.to_string()),
            acknowledged_seconds_ago: through.map(|moment| now.since(moment)).map(|ago| ago.as_secs_f64()),
            segments: camera.segments,
            bytes: camera.bytes,
            packets_lost: camera.packets_lost,
            plaintext: camera.plaintext,
            told_by_recorder: true,
        }
    }

    /// A camera of which only this is known.
    pub fn unknown(id: &str, name: &str, state: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            state: state.to_owned(),
            recording: false,
            reason: None,
            acknowledged_through: None,
            acknowledged_seconds_ago: None,
            segments: 0,
            bytes: 0,
            packets_lost: 0,
            plaintext: false,
            told_by_recorder: false,
        }
    }

    /// How long ago the newest durable frame was filmed.
    pub fn behind(&self) -> Option<Duration> {
        self.acknowledged_seconds_ago.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn registered(id: &str, name: &str) -> RegistryCamera {
        RegistryCamera { camera_id: id.into(), name: name.into(), ..RegistryCamera::default() }
    }

    #[test]
    fn a_camera_is_shown_with_its_name_and_its_trouble_in_words() {
        let mut camera = CameraStatus { camera_id: "1".into(), ..CameraStatus::default() };
        camera.set_state(CameraState::Waiting);
        camera.set_reason(GapReason::Unauthorized);
        camera.acknowledged_through_unix_ns = (now() - Duration::from_secs(90)).unix_nanos();
        let answer = GetIngestStatusResponse { cameras: vec![camera], ..GetIngestStatusResponse::default() };
        let lines = camera_lines(Some(&answer), &[registered("1", "gate"), registered("2", "door")], now());
        assert_eq!(
            (lines[0].name.as_str(), lines[0].state.as_str()),
            ("door", "not known to the recorder yet")
        );
        assert_eq!(lines[1].name, "gate");
        assert_eq!(lines[1].reason.as_deref(), Some("the camera refuses the user name or password"));
        assert_eq!(lines[1].behind(), Some(Duration::from_secs(90)));
    }

    #[test]
    fn with_the_registry_away_a_camera_keeps_its_id_for_a_name() {
        let camera = CameraStatus { camera_id: "1".into(), ..CameraStatus::default() };
        let answer = GetIngestStatusResponse { cameras: vec![camera], ..GetIngestStatusResponse::default() };
        assert_eq!(camera_lines(Some(&answer), &[], now())[0].name, "1");
    }

    #[test]
    fn with_the_recorder_away_cameras_are_listed_as_unknown() {
        let lines = camera_lines(None, &[registered("1", "gate")], now());
        assert_eq!(lines[0].state, "unknown: ingest does not answer");
    }

    #[test]
    fn a_forecast_of_the_spool_is_given_to_programs_and_left_out_while_it_does_not_grow() {
        let growing = GetIngestStatusResponse {
            spool_full_in_seconds: Some(7_200),
            oldest_pending_seconds: 90,
            ..GetIngestStatusResponse::default()
        };
        let json = serde_json::to_value(spool(&growing)).unwrap();
        assert_eq!((&json["full_in_seconds"], &json["oldest_pending_seconds"]), (&7_200.into(), &90.into()));
        let calm = serde_json::to_value(spool(&GetIngestStatusResponse::default())).unwrap();
        assert!(calm["full_in_seconds"].is_null());
    }

    #[test]
    fn alarms_say_what_to_do_and_a_quiet_installation_has_none() {
        assert!(
            alarms(Some(&GetIngestStatusResponse::default()), Some(&GetKeyStatusResponse::default()))
                .is_empty()
        );
        let ingest = GetIngestStatusResponse {
            spool_alarm: true,
            spool_full_in_seconds: Some(7_200),
            paused_camera_ids: vec!["c".into()],
            refused_keys: 2,
            ..GetIngestStatusResponse::default()
        };
        let keys =
            GetKeyStatusResponse { destruction_stopped: "the clock jumped".into(), ..Default::default() };
        let told = alarms(Some(&ingest), Some(&keys));
        assert_eq!(told.len(), 4);
        assert!(
            told.concat().contains("in about 2 h") && told.concat().contains("the clock jumped"),
            "{told:?}"
        );
    }
}
