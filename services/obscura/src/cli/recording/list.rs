use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use obscura_clock::Timestamp;
use obscura_proto::{
    footage::v1::Gap,
    storage::v1::{ListRecordingsResponse, Run},
};
use serde::Serialize;

use super::{Between, Session, hand_over, is_fresh};
use crate::{
    output::Table,
    problem::{Context as _, Result},
    reader::{Reader, everything, recordings},
    when,
    words::{bytes, count, gap_reason},
};

/// Arguments of `recording list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  obscura recording list\n  obscura recording list door --from -24h")]
pub struct List {
    /// Only this camera
    camera: Option<String>,
    #[command(flatten)]
    between: Between,
}

/// What stands behind the lines where the index could not tell all of them in one answer.
const CUT: &str = "there is more than one answer can hold, and only the newest gaps and the first runs are here: ask for \
                   a shorter span with --from and --to";

/// An element of the JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Element<'a> {
    Line(&'a Line),
    Cut { kind: &'static str, note: &'static str },
}

/// A run of footage or a gap.
#[derive(Clone, Debug, Serialize)]
struct Line {
    camera: String,
    camera_id: String,
    kind: &'static str,
    start: String,
    /// Absent while a gap lasts.
    end: Option<String>,
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip)]
    from: Timestamp,
    #[serde(skip)]
    to: Option<Timestamp>,
}

impl List {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let span = match (self.between.from, self.between.to) {
            (None, None) => None,
            _ => Some(self.between.span(session.clock.wall())?),
        };
        let camera = match &self.camera {
            Some(name) => Some(services.camera(name, true).await?),
            None => None,
        };
        let id = camera.map(|camera| camera.camera_id.parse()).transpose().doing("read the camera's id")?;
        if is_fresh(span.unwrap_or_else(everything), session.clock.wall()) {
            hand_over(session, &Reader::new(&services, &session.clock)?, id, false).await;
        }
        let answer = recordings(&services, id, span).await?;
        let names = services.cameras(true).await.unwrap_or_default();
        let names = names.into_iter().map(|camera| (camera.camera_id, camera.name)).collect();
        let lines = lines(&answer, &names);
        session.out.result(&elements(&lines, answer.truncated), words(&lines, answer.truncated))
    }
}

fn elements(lines: &[Line], truncated: bool) -> Vec<Element<'_>> {
    let cut = truncated.then_some(Element::Cut { kind: "truncated", note: CUT });
    lines.iter().map(Element::Line).chain(cut).collect()
}

/// Runs and gaps together, by camera and time.
fn lines(answer: &ListRecordingsResponse, names: &BTreeMap<String, String>) -> Vec<Line> {
    let mut lines: Vec<_> = answer.runs.iter().map(run).chain(answer.gaps.iter().map(gap)).collect();
    for line in &mut lines {
        line.camera = names.get(&line.camera_id).unwrap_or(&line.camera_id).clone();
    }
    lines.sort_by(|a, b| (&a.camera, &a.camera_id, a.from).cmp(&(&b.camera, &b.camera_id, b.from)));
    lines
}

fn run(run: &Run) -> Line {
    let span = run.span.unwrap_or_default();
    let (from, to) = (span.start_unix_ns, span.end_unix_ns);
    Line {
        layer: Some(layer_name(run)),
        segments: Some(run.segments),
        bytes: Some(run.bytes),
        ..Line::new(&run.camera_id, "footage", from, Some(to))
    }
}

fn layer_name(run: &Run) -> &'static str {
    use obscura_proto::footage::v1::Layer;
    match run.layer() {
        Layer::Original => "original",
        Layer::Masked => "masked",
        Layer::Metadata => "metadata",
        Layer::Unspecified => "unknown",
    }
}

fn gap(gap: &Gap) -> Line {
    let to = Some(gap.end_unix_ns).filter(|nanos| *nanos > 0);
    let reason = Some(gap_reason(gap.reason()));
    Line { reason, ..Line::new(&gap.camera_id, "gap", gap.start_unix_ns, to) }
}

impl Line {
    fn new(camera_id: &str, kind: &'static str, from: i64, to: Option<i64>) -> Self {
        let (from, to) = (Timestamp::from_unix_nanos(from), to.map(Timestamp::from_unix_nanos));
        Self {
            camera: String::new(),
            camera_id: camera_id.to_owned(),
            kind,
            start: from.to_string(),
            end: to.map(|to| to.to_string()),
            seconds: to.map(|to| to.since(from).as_secs_f64()),
            layer: None,
            segments: None,
            bytes: None,
            reason: None,
            from,
            to,
        }
    }

    fn length(&self) -> Option<Duration> {
        self.to.map(|to| to.since(self.from))
    }
}

fn words(lines: &[Line], truncated: bool) -> String {
    if lines.is_empty() {
        return "Nothing was recorded there.".to_owned();
    }
    let mut table = Table::with_heading(["CAMERA", "FROM", "TO", "LENGTH", "WHAT"]);
    for line in lines {
        let what = match (line.reason, line.segments, line.bytes) {
            (Some(reason), ..) => format!("GAP: {reason}"),
            (None, Some(segments), Some(size)) => format!("{}, {}", count(segments, "segment"), bytes(size)),
            _ => String::new(),
        };
        table.row([
            line.camera.clone(),
            when::local(line.from),
            line.to.map_or_else(|| "still".to_owned(), when::local),
            line.length().map_or_else(|| "-".to_owned(), when::words),
            what,
        ]);
    }
    let cut = if truncated { format!("\nIncomplete: {CUT}.") } else { String::new() };
    format!("{table}\nTimes are those of {}.{cut}", when::zone_name())
}

#[cfg(test)]
mod tests {
    use obscura_proto::footage::v1::{GapReason, Span};

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn runs_and_gaps_stand_together_in_the_order_of_time() {
        let run = |from: i64, to: i64| Run {
            camera_id: "1".into(),
            span: Some(Span { start_unix_ns: from * SECOND, end_unix_ns: to * SECOND }),
            segments: 1,
            bytes: 2048,
            ..Run::default()
        };
        let mut lost = Gap {
            camera_id: "1".into(),
            start_unix_ns: 60 * SECOND,
            end_unix_ns: 80 * SECOND,
            ..Gap::default()
        };
        lost.set_reason(GapReason::ConnectionLost);
        let open = Gap { start_unix_ns: 200 * SECOND, end_unix_ns: 0, ..lost.clone() };
        let answer = ListRecordingsResponse {
            runs: vec![run(80, 200), run(0, 60)],
            gaps: vec![open, lost],
            truncated: false,
        };
        let lines = lines(&answer, &BTreeMap::from([("1".to_owned(), "door".to_owned())]));
        let kinds: Vec<_> = lines.iter().map(|line| line.kind).collect();
        assert_eq!(kinds, ["footage", "gap", "footage", "gap"]);
        let text = words(&lines, false);
        assert!(text.contains("GAP: the connection to the camera broke"), "{text}");
        assert!(text.contains("1 min   1 segment, 2.00 KiB"), "{text}");
        assert!(text.contains("still") && !text.contains("Incomplete"), "{text}");
        assert_eq!(elements(&lines, false).len(), 4);
        assert!(words(&lines, true).contains("Incomplete: there is more than one answer can hold"));
        let json = serde_json::to_value(elements(&lines, true)).unwrap();
        assert_eq!((&json[3]["kind"], &json[4]["kind"]), (&"gap".into(), &"truncated".into()));
    }
}
