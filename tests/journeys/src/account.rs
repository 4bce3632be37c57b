//! Accounts for every second: footage, or a gap with a reason.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Shorter holes are what lies between two frames.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// A line of `recording list --json`.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: Timestamp,
    /// Absent for a gap that lasts.
    end: Option<Timestamp>,
    is_footage: bool,
}

impl Stretch {
    fn read(line: &Value) -> Self {
        let moment = |text: &str| text.parse().unwrap();
        Self {
            start: moment(line["start"].as_str().unwrap()),
            end: line["end"].as_str().map(moment),
            is_footage: line["kind"] == "footage",
        }
    }
}

/// Holes in what `recording list --json` shows of each camera, between its first and its last moment, and
/// gaps that never ended though the camera was recorded again.
///
/// # Panics
/// Where the list is not one.
#[must_use]
pub fn unaccounted(list: &Value) -> Vec<String> {
    let mut stretches: BTreeMap<&str, Vec<Stretch>> = BTreeMap::new();
    for line in list.as_array().unwrap() {
        stretches.entry(line["camera"].as_str().unwrap()).or_default().push(Stretch::read(line));
    }
    stretches.into_iter().flat_map(|(camera, stretches)| findings(camera, stretches)).collect()
}

fn findings(camera: &str, mut stretches: Vec<Stretch>) -> Vec<String> {
    stretches.sort_by_key(|stretch| stretch.start);
    let mut findings = holes(camera, &stretches);
    findings.extend(never_ended(camera, &stretches));
    findings
}

/// A gap without an end accounts for its first moment only: had it lasted, nothing would follow it.
fn holes(camera: &str, stretches: &[Stretch]) -> Vec<String> {
    let mut holes = Vec::new();
    let mut covered: Option<Timestamp> = None;
    for Stretch { start, end, .. } in stretches {
        if let Some(until) = covered
            && start.duration_since(until) > TOLERANCE
        {
            holes.push(format!("{camera}: nothing accounts for {until} to {start}"));
        }
        covered = covered.max(Some(end.unwrap_or(*start)));
    }
    holes
}

fn never_ended(camera: &str, stretches: &[Stretch]) -> Vec<String> {
    let newest =
        stretches.iter().filter(|stretch| stretch.is_footage).filter_map(|stretch| stretch.end).max();
    let open = stretches.iter().filter(|stretch| stretch.end.is_none());
    open.filter(|gap| newest.is_some_and(|newest| newest.duration_since(gap.start) > TOLERANCE))
        .map(|gap| format!("{camera}: the gap of {} never ended though footage follows it", gap.start))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(kind: &str, start: &str, end: Option<&str>) -> Value {
        let day = |time: &str| format!("2026-11-23T{time}Z");
        json!({ "camera": "door", "kind": kind, "start": day(start), "end": end.map(day) })
    }

    fn footage(start: &str, end: &str) -> Value {
        line("footage", start, Some(end))
    }

    #[test]
    fn footage_and_gaps_together_leave_no_hole_or_it_is_named() {
        let whole = json!([footage("10:00:00", "10:01:00"), footage("10:01:00.2", "10:02:00")]);
        assert!(unaccounted(&whole).is_empty());
        let gap = line("gap", "10:01:00", Some("10:01:02"));
        let told = json!([footage("10:00:00", "10:01:00"), gap, footage("10:01:02", "10:02:00")]);
        assert!(unaccounted(&told).is_empty());
        let holed = json!([footage("10:00:00", "10:01:00"), footage("10:01:02", "10:02:00")]);
        assert_eq!(unaccounted(&holed).len(), 1);
    }

    #[test]
    fn a_gap_that_lasts_accounts_for_the_end_of_the_list() {
        let lasting = json!([footage("10:00:00", "10:01:00"), line("gap", "10:01:00", None)]);
        assert!(unaccounted(&lasting).is_empty());
    }

    #[test]
    fn a_gap_that_never_ended_though_footage_follows_is_a_finding() {
        let stale = json!([
            footage("10:00:00", "10:01:00"),
            line("gap", "10:01:00", None),
            footage("10:01:00.5", "10:06:00")
        ]);
        assert_eq!(unaccounted(&stale).len(), 1);
    }

    #[test]
    fn behind_a_gap_that_never_ended_a_hole_is_still_one() {
        let both = json!([
            footage("10:00:00", "10:01:00"),
            line("gap", "10:01:00", None),
            footage("10:05:00", "10:06:00"),
            footage("10:08:00", "10:09:00")
        ]);
        assert_eq!(unaccounted(&both).len(), 3);
    }

    #[test]
    fn times_are_compared_as_times_whatever_their_digits() {
        let digits = json!([footage("10:00:00.9", "10:01:00"), footage("10:00:00", "10:00:00.90")]);
        assert!(unaccounted(&digits).is_empty());
    }
}
