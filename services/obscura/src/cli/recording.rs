mod get;
mod list;
mod verify;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use obscura_clock::{Span, Timestamp};
use obscura_proto::storage::v1::ListRecordingsResponse;

use super::Session;
use crate::{
    problem::{Problem, Result},
    reader::{Reader, everything},
    when::When,
};

/// Footage that is younger than this may not be uploaded yet.
const STILL_UPLOADING: Duration = Duration::from_secs(180);

/// Commands about recordings.
#[derive(Debug, Subcommand)]
pub enum Recording {
    /// List runs of footage, and gaps with their reasons
    List(list::List),
    /// Read footage back as a plain MP4
    Get(get::Get),
    /// Prove that everything recorded is there, unchanged and readable
    Verify(verify::Verify),
}

impl Recording {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::List(list) => list.run(session).await.map(|()| ExitCode::SUCCESS),
            Self::Get(get) => get.run(session).await.map(|()| ExitCode::SUCCESS),
            Self::Verify(verify) => verify.run(session).await,
        }
    }
}

/// A span that may be open on both sides.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Between {
    /// Only from this time on: RFC 3339, -2m (two minutes ago) or now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<When>,
    /// Only before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<When>,
}

impl Between {
    pub(super) fn span(self, now: Timestamp) -> Result<Span> {
        let start = self.from.map_or(everything().start(), |when| when.resolve(now));
        let end = self.to.map_or(everything().end(), |when| when.resolve(now));
        span(start, end)
    }
}

/// Refuses a span that is empty or runs backwards.
fn span(start: Timestamp, end: Timestamp) -> Result<Span> {
    Span::try_new(start, end).filter(|span| !span.duration().is_zero()).ok_or_else(|| {
        Problem::usage("the span ends before it starts")
            .next("--from is the earlier time, --to the later one")
    })
}

/// Whether part of the span may still wait in the recorder.
fn is_fresh(span: Span, now: Timestamp) -> bool {
    span.end() > now - STILL_UPLOADING
}

/// Has the recorder hand over the newest footage. Where it cannot, what is there already is read.
async fn hand_over(
    session: &Session,
    reader: &Reader<'_>,
    camera: Option<obscura_ids::CameraId>,
    end_open: bool,
) {
    if let Err(problem) = reader.flush(camera, end_open).await {
        session.out.remark(format_args!("The newest minutes may be missing: {}", problem.what()));
    }
}

/// Segments and bytes of an answer, for progress bars.
fn totals(recordings: &ListRecordingsResponse) -> (u64, u64) {
    let runs = &recordings.runs;
    (runs.iter().map(|run| run.segments).sum(), runs.iter().map(|run| run.bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_span_is_open_where_nothing_was_said() {
        assert_eq!(Between { from: None, to: None }.span(now()).unwrap(), everything());
        let from = Some(When::Ago(Duration::from_secs(60)));
        assert_eq!(
            Between { from, to: Some(When::Now) }.span(now()).unwrap().duration(),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn a_span_that_runs_backwards_or_is_empty_is_refused() {
        assert!(span(now(), now()).is_err());
        assert!(span(now(), now() - Duration::from_secs(1)).is_err());
    }

    #[test]
    fn only_young_footage_may_still_wait_in_the_recorder() {
        let ending = |ago| span(now() - Duration::from_secs(9000), now() - Duration::from_secs(ago)).unwrap();
        assert!(is_fresh(ending(170), now()));
        assert!(!is_fresh(ending(190), now()));
    }
}
