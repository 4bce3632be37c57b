use std::process::ExitCode;

use clap::Args;
use obscura_proto::{
    footage::v1::Span as SpanMessage,
    storage::v1::{ScrubRequest, ScrubResponse},
};
use serde_json::json;

use super::Findings;
use crate::{
    cli::{Session, recording::Between},
    problem::{Problem, Result},
    services::PATIENT,
    words::{bytes, count},
};

/// Arguments of `storage scrub`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obscura storage scrub
  obscura storage scrub door --from -24h
  obscura storage scrub --percent 5

Needs no keys: it compares with the hashes that the recorder made. `obscura recording verify` also opens
what it reads. Exit code 0 only where nothing was found.")]
pub struct Scrub {
    /// Only this camera
    camera: Option<String>,
    #[command(flatten)]
    between: Between,
    /// Read so many of a hundred objects, drawn by lot
    #[arg(long, value_name = "1-100", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    percent: u32,
}

impl Scrub {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        let services = session.services()?;
        let span = self.between.span(session.clock.wall())?;
        let camera_id = match &self.camera {
            Some(name) => services.camera(name, true).await?.camera_id,
            None => String::new(),
        };
        let span =
            SpanMessage { start_unix_ns: span.start().unix_nanos(), end_unix_ns: span.end().unix_nanos() };
        let request = ScrubRequest { camera_id, span: Some(span), percent: self.percent };
        let doing = "read the objects again";
        let mut storage = services.storage();
        let mut reports = services.ask("storage", doing, PATIENT, storage.scrub(request)).await?;
        let bar = session.out.progress(0, "reading {wide_bar} {bytes} of {total_bytes} {eta}");
        let (mut findings, mut last) = (Findings::default(), None);
        while let Some(mut report) =
            reports.message().await.map_err(|status| services.refused("storage", doing, &status))?
        {
            bar.set_length(report.total_bytes);
            bar.set_position(report.done_bytes);
            findings.add(std::mem::take(&mut report.findings));
            last = Some(report);
        }
        bar.finish_and_clear();
        let last =
            last.ok_or_else(|| Problem::new("storage ended the scrub without a word").next("try again"))?;
        let value = json!({ "objects": last.packs, "bytes": last.done_bytes, "findings": findings });
        session.out.result(&value, words(&last, &findings))?;
        Ok(findings.exit_code())
    }
}

fn words(last: &ScrubResponse, findings: &Findings) -> String {
    let read = format!("Read {}, {}", count(last.packs, "object"), bytes(last.done_bytes));
    match (last.packs, findings.0.is_empty()) {
        (0, true) => "There was nothing to read.".to_owned(),
        (_, true) => format!("{read}: every byte is as it was recorded."),
        (_, false) => format!("{read}: {}.{findings}", findings.summary()),
    }
}

#[cfg(test)]
mod tests {
    use obscura_proto::storage::v1::{Finding, FindingKind};

    use super::*;

    #[test]
    fn the_end_says_how_much_was_read_and_what_was_found() {
        let last = ScrubResponse { packs: 3, done_bytes: 4096, ..ScrubResponse::default() };
        let mut findings = Findings::default();
        assert_eq!(words(&last, &findings), "Read 3 objects, 4.00 KiB: every byte is as it was recorded.");
        assert_eq!(words(&ScrubResponse::default(), &findings), "There was nothing to read.");
        findings.add(vec![Finding { kind: FindingKind::HeadChanged.into(), ..Finding::default() }]);
        assert!(words(&last, &findings).contains(": 1 finding.\n  head changed"));
    }
}
