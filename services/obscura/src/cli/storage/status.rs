use std::process::ExitCode;

use obscura_clock::Timestamp;
use obscura_proto::storage::v1::{GetStorageStatusRequest, GetStorageStatusResponse};
use serde_json::{Value, json};

use crate::{
    cli::Session,
    problem::Result,
    services::PATIENT,
    when,
    words::{bytes, count},
};

/// Shows it. The exit code says whether something was found and is not put right.
pub async fn run(session: &Session) -> Result<ExitCode> {
    let services = session.services()?;
    let mut storage = services.storage();
    let call = storage.get_storage_status(GetStorageStatusRequest {});
    let status = services.ask("storage", "ask for the state of storage", PATIENT, call).await?;
    session.out.result(&value(&status), words(&status))?;
    let is_well = status.damaged_packs == 0 && status.reconcile_findings == 0;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn value(status: &GetStorageStatusResponse) -> Value {
    json!({
        "object_store": status.object_store,
        "limitations": status.limitations,
        "database": status.database,
        "packs": status.packs,
        "segments": status.segments,
        "bytes": status.bytes,
        "deleted_packs": status.deleted_packs,
        "pending_deletions": status.pending_deletions,
        "reconciled": reconciled(status).map(|at| at.to_string()),
        "reconcile_findings": status.reconcile_findings,
        "scrubbed_packs": status.scrubbed_packs,
        "damaged_packs": status.damaged_packs,
    })
}

fn reconciled(status: &GetStorageStatusResponse) -> Option<Timestamp> {
    let at = status.reconciled_unix_ns;
    (at != 0).then(|| Timestamp::from_unix_nanos(at))
}

fn words(status: &GetStorageStatusResponse) -> String {
    let mut lines = vec![
        format!("Objects in {}, index in {}.", status.object_store, status.database),
        format!(
            "{} with {}, {}.",
            count(status.packs, "object"),
            count(status.segments, "segment"),
            bytes(status.bytes)
        ),
        format!(
            "{} deleted after their keys, {} waiting for it.",
            count(status.deleted_packs, "object"),
            count(status.pending_deletions, "object")
        ),
        account(status),
        scrubbed(status),
    ];
    lines.extend(
        status.limitations.iter().map(|limitation| format!("The object store has a limit: {limitation}")),
    );
    lines.join("\n")
}

fn account(status: &GetStorageStatusResponse) -> String {
    match (reconciled(status), status.reconcile_findings) {
        (None, _) => "Never accounted for yet: `obscura storage reconcile` does it now.".to_owned(),
        (Some(at), 0) => format!("Everything was accounted for at {}.", when::local(at)),
        (Some(at), findings) => format!(
            "Accounted for at {} with {}: `obscura storage reconcile` tells them.",
            when::local(at),
            count(findings, "finding")
        ),
    }
}

fn scrubbed(status: &GetStorageStatusResponse) -> String {
    let read = format!("{} read again since the service started", count(status.scrubbed_packs, "object"));
    match status.damaged_packs {
        0 => format!("{read}, none known to be damaged."),
        damaged => format!(
            "{read}; {} known to be damaged: `obscura storage scrub` names the places.",
            count(damaged, "object")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_storage_says_what_to_do_and_a_damaged_one_where_to_look() {
        let fresh = GetStorageStatusResponse { object_store: "S3".into(), ..Default::default() };
        assert!(words(&fresh).contains("Never accounted for yet: `obscura storage reconcile`"));
        let damaged = GetStorageStatusResponse {
            damaged_packs: 2,
            reconciled_unix_ns: 1_795_000_000_000_000_000,
            reconcile_findings: 1,
            limitations: vec!["conditional put: an object may be written twice".into()],
            ..Default::default()
        };
        let text = words(&damaged);
        assert!(text.contains("with 1 finding: `obscura storage reconcile` tells them"), "{text}");
        assert!(text.contains("2 objects known to be damaged: `obscura storage scrub`"), "{text}");
        assert!(text.ends_with("an object may be written twice"), "{text}");
        assert_eq!(value(&fresh)["reconciled"], Value::Null);
    }
}
