//! One page of status for a person.

use std::{fmt::Write as _, time::Duration};

use super::{CameraStatusLine, ServiceStatus, Spool, Status};
use crate::{
    output::Table,
    when,
    words::{bytes, count},
};

/// A spool that is full later than this is told as one that is not.
const FORESEEABLE: Duration = Duration::from_secs(60 * 24 * 3_600);

/// The page as plain text, without a line end at its end.
pub fn page(status: &Status) -> String {
    let mut text = heading(status);
    let _infallible = write!(text, "\n\n{}\n\n{}", services(status), cameras(status));
    if let Some(spool) = status.spool {
        let _infallible = write!(text, "\n\n{}", spool_line(spool));
    }
    for alarm in &status.alarms {
        let _infallible = write!(text, "\nALARM: {alarm}");
    }
    for part in &status.unknown {
        let _infallible = write!(text, "\nIncomplete: {part}");
    }
    if !status.notices.is_empty() {
        let _infallible = write!(text, "\n\n{}", status.notices.join("\n"));
    }
    text
}

fn spool_line(spool: Spool) -> String {
    let mut text = format!(
        "Spool: {} of {} in use, {} and {} waiting",
        bytes(spool.bytes),
        bytes(spool.limit_bytes),
        count(spool.pending_segments, "segment"),
        count(spool.pending_keys, "key"),
    );
    if spool.pending_segments > 0 {
        let oldest = when::words(Duration::from_secs(spool.oldest_pending_seconds));
        let _infallible = write!(text, ", the oldest segment for {oldest}");
    }
    let full_in = spool.full_in_seconds.map(Duration::from_secs).filter(|left| *left <= FORESEEABLE);
    if let Some(left) = full_in {
        let _infallible = write!(text, "; full in about {} at this rate", when::words(left));
    }
    text
}

fn heading(status: &Status) -> String {
    let Some(supervisor) = &status.supervisor else {
        let state = &status.state_directory;
        return format!("Obscura in {state} is not running: start it with `obscura --state {state} up`.");
    };
    let recording = match supervisor.recording_after_s.map(Duration::try_from_secs_f64) {
        Some(Ok(after)) => format!("recording after {}", when::words(after)),
        _ if status.cameras.is_empty() => "no camera yet: add one with `obscura camera add`".to_owned(),
        _ => "nothing recorded yet".to_owned(),
    };
    format!("Obscura in {} (process {}): {recording}", status.state_directory, supervisor.pid)
}

fn services(status: &Status) -> Table {
    let mut table = Table::with_heading(["SERVICE", "STATE", "PROCESS", "SINCE", "RESTARTS", "CERTIFICATE"]);
    for service in &status.services {
        table.row([
            service.name.clone(),
            service_state(service),
            or_dash(service.pid),
            or_dash(service.seconds.map(|seconds| when::words(Duration::from_secs(seconds)))),
            or_dash(service.restarts),
            or_dash(service.certificate_seconds.map(certificate)),
        ]);
    }
    table
}

fn service_state(service: &ServiceStatus) -> String {
    match &service.problem {
        None => "well".to_owned(),
        Some(problem) => format!("DOWN: {problem}"),
    }
}

fn certificate(seconds: u64) -> String {
    match seconds {
        0 => "expired".to_owned(),
        left => format!("{} left", when::words(Duration::from_secs(left))),
    }
}

fn cameras(status: &Status) -> String {
    if status.cameras.is_empty() {
        return "No cameras.".to_owned();
    }
    let mut table = Table::with_heading(["CAMERA", "STATE", "DURABLE UNTIL", "SEGMENTS", "SIZE", "REMARKS"]);
    for camera in &status.cameras {
        table.row([
            camera.name.clone(),
            camera.state.clone(),
            or_dash(camera.behind().map(|behind| format!("{} ago", when::words(behind)))),
            camera.segments.to_string(),
            bytes(camera.bytes),
            remarks(camera),
        ]);
    }
    table.to_string()
}

fn remarks(camera: &CameraStatusLine) -> String {
    let lost = (camera.packets_lost > 0).then(|| format!("{} lost", count(camera.packets_lost, "packet")));
    let plaintext = camera.plaintext.then(|| "not encrypted on the network".to_owned());
    [camera.reason.clone(), lost, plaintext].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Spool, SupervisorStatus};

    fn service(name: &str, problem: Option<&str>) -> ServiceStatus {
        ServiceStatus {
            name: name.into(),
            healthy: problem.is_none(),
            problem: problem.map(str::to_owned),
            pid: problem.is_none().then_some(42),
            since: None,
            seconds: Some(200),
            restarts: Some(1),
            certificate_until: None,
            certificate_seconds: Some(86_000),
        }
    }

    fn spool(full_in_seconds: Option<u64>) -> Spool {
        Spool {
            bytes: 1024,
            limit_bytes: 1 << 30,
            pending_segments: 1,
            pending_keys: 0,
            oldest_pending_seconds: 90,
            full_in_seconds,
        }
    }

    #[test]
    fn a_spool_that_does_not_grow_or_is_full_in_years_has_no_forecast() {
        for full_in_seconds in [None, Some(70 * 24 * 3_600)] {
            let line = spool_line(Spool { pending_segments: 0, ..spool(full_in_seconds) });
            assert_eq!(line, "Spool: 1.00 KiB of 1.00 GiB in use, 0 segments and 0 keys waiting");
        }
    }

    fn status() -> Status {
        Status {
            state_directory: "/state".into(),
            supervisor: Some(SupervisorStatus {
                pid: 7,
                since: String::new(),
                recording_after_s: Some(3.25),
            }),
            services: vec![service("keys", None), service("storage", Some("it is not running"))],
            cameras: vec![CameraStatusLine {
                reason: Some("the connection to the camera broke".into()),
                acknowledged_seconds_ago: Some(75.0),
                packets_lost: 1,
                plaintext: true,
                segments: 12,
                bytes: 3 * 1024 * 1024,
                ..CameraStatusLine::unknown("1", "gate", "waiting to try again")
            }],
            spool: Some(spool(Some(3 * 24 * 3_600))),
            alarms: vec!["The disk of the spool is full: make room".into()],
            notices: vec!["10:00:00 storage was killed (signal 9)".into()],
            unknown: Vec::new(),
        }
    }

    #[test]
    fn the_page_tells_the_whole_story_in_words() {
        let expected = "\
Obscura in /state (process 7): recording after 3.2 s

SERVICE  STATE                    PROCESS  SINCE       RESTARTS  CERTIFICATE
keys     well                     42       3 min 20 s  1         23 h 53 min left
storage  DOWN: it is not running  -        3 min 20 s  1         23 h 53 min left

CAMERA  STATE                 DURABLE UNTIL   SEGMENTS  SIZE      REMARKS
gate    waiting to try again  1 min 15 s ago  12        3.00 MiB  the connection to the camera broke; 1 packet lost; not encrypted on the network

Spool: 1.00 KiB of 1.00 GiB in use, 1 segment and 0 keys waiting, the oldest segment for 1 min 30 s; full in about 3 d at this rate
ALARM: The disk of the spool is full: make room

10:00:00 storage was killed (signal 9)";
        assert_eq!(page(&status()), expected);
    }

    #[test]
    fn a_stopped_installation_says_how_to_start_it() {
        let stopped = Status { supervisor: None, spool: None, cameras: Vec::new(), ..status() };
        assert!(
            page(&stopped)
                .starts_with("Obscura in /state is not running: start it with `obscura --state /state up`.")
        );
        assert!(page(&stopped).contains("No cameras."));
        assert!(!stopped.is_well());
    }
}
