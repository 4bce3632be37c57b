//! Accounts for every second: footage, or a gap with a reason.

use std::collections::BTreeMap;

use serde_json::Value;

/// Shorter holes are what lies between two frames.
const TOLERANCE_NANOS: i128 = 1_000_000_000;

/// Holes in what `recording list --json` shows of each camera, between its first and its last moment.
///
/// # Panics
/// Where the list is not one.
#[must_use]
pub fn unaccounted(list: &Value) -> Vec<String> {
    let mut spans: BTreeMap<&str, Vec<(&str, Option<&str>)>> = BTreeMap::new();
    for line in list.as_array().unwrap() {
        let start = line["start"].as_str().unwrap();
        spans.entry(line["camera"].as_str().unwrap()).or_default().push((start, line["end"].as_str()));
    }
    spans.into_iter().flat_map(|(camera, spans)| holes(camera, spans)).collect()
}

fn holes(camera: &str, mut spans: Vec<(&str, Option<&str>)>) -> Vec<String> {
    spans.sort_unstable();
    let mut holes = Vec::new();
    let mut covered: Option<&str> = None;
    for (start, end) in spans {
        if let Some(until) = covered
            && nanos(start) - nanos(until) > TOLERANCE_NANOS
        {
            holes.push(format!("{camera}: nothing accounts for {until} to {start}"));
        }
        // A gap without an end lasts: it accounts for everything behind it.
        let Some(end) = end else { return holes };
        covered = covered.max(Some(end));
    }
    holes
}

/// Nanoseconds of an RFC 3339 time in UTC since an arbitrary day; only differences matter.
fn nanos(time: &str) -> i128 {
    let time: jiff::Timestamp = time.parse().unwrap();
    time.as_nanosecond()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn footage_and_gaps_together_leave_no_hole_or_it_is_named() {
        let line = |start: &str, end: Option<&str>| json!({ "camera": "door", "start": format!("2026-11-23T{start}Z"), "end": end.map(|end| format!("2026-11-23T{end}Z")) });
        let whole = json!([line("10:00:00", Some("10:01:00")), line("10:01:00.2", Some("10:02:00"))]);
        assert!(unaccounted(&whole).is_empty());
        let holed = json!([line("10:00:00", Some("10:01:00")), line("10:01:02", Some("10:02:00"))]);
        assert_eq!(unaccounted(&holed).len(), 1);
        let lasting = json!([
            line("10:00:00", Some("10:01:00")),
            line("10:01:00", None),
            line("10:05:00", Some("10:06:00"))
        ]);
        assert!(unaccounted(&lasting).is_empty());
    }
}
