use std::process::ExitCode;

use clap::Args;
use obscura_proto::storage::v1::{ReconcileRequest, SegmentCounts};
use serde_json::{Value, json};

use super::Findings;
use crate::{
    cli::Session,
    problem::{Problem, Result},
    services::PATIENT,
    words::count,
};

/// Arguments of `storage reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Compares index, objects and custody: each segment is live, held, shredded or deleted, and what only one of
the three knows is named. Runs by itself once a day. Exit code 0 only where nothing was found.")]
pub struct Reconcile {
    /// Put right what can be: index objects that are good packs, set others aside
    #[arg(long)]
    repair: bool,
}

impl Reconcile {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        let services = session.services()?;
        let doing = "account for everything";
        let mut storage = services.storage();
        let call = storage.reconcile(ReconcileRequest { repair: self.repair });
        let mut reports = services.ask("storage", doing, PATIENT, call).await?;
        let bar = session.out.progress(0, "reconciling {wide_bar} {pos} of {len} objects {eta}");
        let (mut findings, mut counts) = (Findings::default(), None);
        while let Some(report) =
            reports.message().await.map_err(|status| services.refused("storage", doing, &status))?
        {
            bar.set_length(report.total);
            bar.set_position(report.done);
            findings.add(report.findings);
            counts = report.counts;
        }
        bar.finish_and_clear();
        let counts = counts.ok_or_else(|| {
            Problem::new("storage ended the account before its end")
                .next("run it again: it is safe to repeat")
        })?;
        session.out.result(&value(&counts, &findings), words(&counts, &findings))?;
        Ok(findings.exit_code())
    }
}

fn value(counts: &SegmentCounts, findings: &Findings) -> Value {
    json!({
        "segments": {
            "live": counts.live,
            "held": counts.held,
            "shredded": counts.shredded,
            "deleted": counts.deleted,
            "unaccounted": counts.unaccounted,
        },
        "findings": findings,
    })
}

fn words(counts: &SegmentCounts, findings: &Findings) -> String {
    let SegmentCounts { live, held, shredded, deleted, unaccounted } = counts;
    let all = live + held + shredded + deleted + unaccounted;
    let text = format!(
        "{}: {live} live, {held} held, {shredded} shredded, {deleted} deleted, {unaccounted} unaccounted for.",
        count(all, "segment")
    );
    if findings.0.is_empty() {
        return format!("{text}\nEverything is accounted for.");
    }
    format!("{text}\n{}:{findings}", findings.summary())
}

#[cfg(test)]
mod tests {
    use obscura_proto::storage::v1::{Finding, FindingKind};

    use super::*;

    #[test]
    fn an_account_adds_up_and_names_what_is_missing() {
        let counts = SegmentCounts { live: 10, held: 1, shredded: 2, deleted: 3, unaccounted: 4 };
        let mut findings = Findings::default();
        assert!(
            words(&counts, &findings).starts_with("20 segments: 10 live, 1 held, 2 shredded, 3 deleted, 4")
        );
        assert!(words(&counts, &findings).ends_with("Everything is accounted for."));
        findings.add(vec![Finding { kind: FindingKind::ObjectMissing.into(), ..Finding::default() }]);
        assert!(words(&counts, &findings).contains("1 finding:\n  object missing"));
        assert_eq!(value(&counts, &findings)["segments"]["deleted"], 3);
    }
}
