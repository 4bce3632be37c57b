mod receipts;
mod recovery;
mod shred;

use clap::Subcommand;
use obscura_proto::keys::v1::{
    GetKeyStatusRequest, GetKeyStatusResponse, ResumeDestructionRequest, RotateKeyEncryptionKeyRequest,
    RotateKeyEncryptionKeyResponse,
};
use serde_json::json;

use super::Session;
use crate::{
    problem::{Problem, Result},
    services::{PATIENT, PROMPT, Services},
    words::count,
};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a new key-encryption key and re-wrap every row under it; footage is not touched
    Rotate,
    /// Count what is in custody, and say whether anything stands still
    Status,
    /// Destroy the keys of a span before its retention ends
    Shred(Box<shred::Shred>),
    /// Save the receipts of destruction into a file
    Receipts(receipts::Receipts),
    /// Destroy again what receipts say is destroyed: after a restore, before anything is released
    Replay(receipts::Replay),
    /// Confirm the clock and what is due, so that destruction that stands still goes on
    ResumeDestruction {
        /// Who looked at the clock and at what is due
        #[arg(long, value_name = "NAME")]
        confirmed_by: String,
    },
    /// Split the zone root into shares to print, of which so many restore it
    Shares(recovery::Shares),
    /// Prove that printed shares restore the zone root
    Rehearse(recovery::Rehearse),
    /// Write a lost key file anew from printed shares, with the key service stopped
    Recover(recovery::Recover),
}

impl Key {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Rotate => rotate(session, &session.services()?).await,
            Self::Status => status(session, &session.services()?).await,
            Self::Shred(shred) => shred.run(session).await,
            Self::Receipts(receipts) => receipts.run(session).await,
            Self::Replay(replay) => replay.run(session).await,
            Self::ResumeDestruction { confirmed_by } => resume(session, confirmed_by).await,
            Self::Shares(shares) => shares.run(session).await,
            Self::Rehearse(rehearse) => rehearse.run(session).await,
            Self::Recover(recover) => recover.run(session),
        }
    }
}

async fn rotate(session: &Session, services: &Services) -> Result<()> {
    let doing = "rotate the key-encryption key";
    let mut keys = services.keys();
    let call = keys.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest {});
    let mut steps = services.ask("keys", doing, PROMPT, call).await?;
    let bar = session.out.progress(0, "re-wrapping {wide_bar} {pos} of {len} rows");
    let mut last = RotateKeyEncryptionKeyResponse::default();
    while let Some(step) = steps.message().await.map_err(|status| services.refused("keys", doing, &status))? {
        bar.set_length(step.total);
        bar.set_position(step.rewrapped);
        last = step;
    }
    bar.finish_and_clear();
    if last.version == 0 || last.rewrapped < last.total {
        return Err(Problem::new("the rotation ended before every row was re-wrapped")
            .next("run `obscura key rotate` again: it is safe to repeat, and nothing is lost"));
    }
    session.out.remark(
        "Recovery shares of the version before restore nothing now: make new ones, `obscura key shares`.",
    );
    let words = format!(
        "Key-encryption key version {} is in use; {} re-wrapped.",
        last.version,
        count(last.rewrapped, "row")
    );
    session.out.result(&json!({ "version": last.version, "rewrapped": last.rewrapped }), words)
}

async fn status(session: &Session, services: &Services) -> Result<()> {
    let mut keys = services.keys();
    let call = keys.get_key_status(GetKeyStatusRequest {});
    let status = services.ask("keys", "ask for the state of keys", PROMPT, call).await?;
    let value = json!({
        "key_encryption_key_version": status.key_encryption_key_version,
        "layer_keys": status.layer_keys,
        "epoch_keys": status.epoch_keys,
        "holds": status.holds,
        "shred_receipts": status.shred_receipts,
        "destruction_stopped": status.destruction_stopped,
        "releases_stopped": status.releases_stopped,
        "reviews_passed": status.reviews_passed,
        "receipt_public_key": hex::encode(&status.receipt_public_key),
    });
    session.out.result(&value, words(&status))
}

fn words(status: &GetKeyStatusResponse) -> String {
    let mut words = format!(
        "{} in custody under {}; {}; {} of destruction; key-encryption key version {}.",
        count(status.layer_keys, "layer key"),
        count(status.epoch_keys, "epoch key"),
        count(status.holds, "hold"),
        count(status.shred_receipts, "receipt"),
        status.key_encryption_key_version
    );
    for (what, why) in [
        ("Nothing is released", &status.releases_stopped),
        ("Expired keys are not destroyed", &status.destruction_stopped),
    ] {
        if !why.is_empty() {
            words.push_str(&format!("\n{what}: {why}"));
        }
    }
    words
}

async fn resume(session: &Session, confirmed_by: String) -> Result<()> {
    let services = session.services()?;
    let mut keys = services.keys();
    let call = keys.resume_destruction(ResumeDestructionRequest { confirmed_by });
    let answer = services.ask("keys", "resume destruction", PATIENT, call).await?;
    let destroyed = count(answer.destroyed_keys, "expired layer key");
    let words = if answer.was_stopped.is_empty() {
        format!("Destruction did not stand still. Destroyed {destroyed}.")
    } else {
        format!("Destruction goes on. Destroyed {destroyed}.")
    };
    let value = json!({ "was_stopped": answer.was_stopped, "destroyed_keys": answer.destroyed_keys });
    session.out.result(&value, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_told_with_its_reason() {
        let well = GetKeyStatusResponse { layer_keys: 1, holds: 2, ..GetKeyStatusResponse::default() };
        assert_eq!(
            words(&well),
            "1 layer key in custody under 0 epoch keys; 2 holds; 0 receipts of destruction; key-encryption key version 0."
        );
        let stopped = GetKeyStatusResponse { destruction_stopped: "the clock is wrong".into(), ..well };
        assert!(words(&stopped).ends_with("\nExpired keys are not destroyed: the clock is wrong"));
    }
}
