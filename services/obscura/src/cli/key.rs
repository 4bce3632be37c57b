use clap::Subcommand;
use obscura_proto::keys::v1::{
    GetKeyStatusRequest, RotateKeyEncryptionKeyRequest, RotateKeyEncryptionKeyResponse,
};
use serde_json::json;

use super::Session;
use crate::{
    problem::{Problem, Result},
    services::{PROMPT, Services},
    words::count,
};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a new key-encryption key and re-wrap every row under it; footage is not touched
    Rotate,
    /// Count what is in custody
    Status,
}

impl Key {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        match self {
            Self::Rotate => rotate(session, &services).await,
            Self::Status => status(session, &services).await,
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
    });
    let words = format!(
        "{} in custody under {}; key-encryption key version {}.",
        count(status.layer_keys, "layer key"),
        count(status.epoch_keys, "epoch key"),
        status.key_encryption_key_version
    );
    session.out.result(&value, words)
}
