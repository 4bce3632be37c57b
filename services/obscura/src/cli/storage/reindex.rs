use std::process::ExitCode;

use obscura_proto::storage::v1::{ReindexRequest, ReindexResponse};
use serde_json::json;

use super::Findings;
use crate::{
    cli::Session,
    problem::{Problem, Result},
    services::PATIENT,
    words::count,
};

/// What the bucket does not know.
const LOST: &str = "The count of deleted objects cannot be rebuilt from the bucket and starts anew.";

/// Rebuilds the index. May be repeated; goes on where it was cut short.
pub async fn run(session: &Session) -> Result<ExitCode> {
    let services = session.services()?;
    let doing = "rebuild the index";
    let mut storage = services.storage();
    let call = storage.reindex(ReindexRequest {});
    let mut reports = services.ask("storage", doing, PATIENT, call).await?;
    let bar = session.out.progress(0, "{spinner} looked at {pos} objects");
    let (mut findings, mut last) = (Findings::default(), None);
    while let Some(mut report) =
        reports.message().await.map_err(|status| services.refused("storage", doing, &status))?
    {
        bar.set_position(report.objects);
        findings.add(std::mem::take(&mut report.findings));
        last = Some(report);
    }
    bar.finish_and_clear();
    let last = last.ok_or_else(|| {
        Problem::new("storage ended the work without a word").next("run it again: it goes on where it stood")
    })?;
    let value = json!({ "objects": last.objects, "indexed": last.indexed, "not_rebuilt": LOST, "findings": findings });
    session.out.result(&value, words(&last, &findings))?;
    Ok(findings.exit_code())
}

fn words(last: &ReindexResponse, findings: &Findings) -> String {
    let mut text = format!(
        "Looked at {}; {} not in the index before.",
        count(last.objects, "object"),
        match last.indexed {
            1 => "1 was".to_owned(),
            many => format!("{many} were"),
        }
    );
    if last.indexed > 0 {
        text.push('\n');
        text.push_str(LOST);
    }
    if !findings.0.is_empty() {
        text.push_str(&format!("\n{}:{findings}", findings.summary()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_rebuilt_is_said_where_something_was() {
        let findings = Findings::default();
        let nothing = ReindexResponse { objects: 5, ..ReindexResponse::default() };
        assert_eq!(words(&nothing, &findings), "Looked at 5 objects; 0 were not in the index before.");
        let some = ReindexResponse { indexed: 1, ..nothing };
        assert!(
            words(&some, &findings)
                .contains("1 was not in the index before.\nThe count of deleted objects cannot be rebuilt")
        );
    }
}
