use clap::Args;
use obscura_clock::Timestamp;
use obscura_proto::keys::v1::{ShredReceipt, ShredRequest};
use prost::Message as _;
use serde_json::json;

use super::super::{
    Session,
    ground::Ground,
    stretch::{Stretch, shown},
};
use crate::{
    problem::{Context as _, Problem, Result},
    services::PATIENT,
    when,
    words::count,
};

/// Arguments of `key shred`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing opens that footage afterwards: not this installation, no backup of its database, no copy of the
sealed bytes. Held footage refuses it. Take a new backup of the key database afterwards: older ones no
longer open the neighbours in the same expiry hour.

Example:
  obscura key shred door --from 2026-11-23T10:00:00Z --for 5m --ground objection --case 117/26 \\
      --requested-by unix:1000 --approved-by unix:2000 --yes")]
pub struct Shred {
    #[command(flatten)]
    stretch: Stretch,
    #[command(flatten)]
    ground: Ground,
    /// Id of the person who asks for it
    #[arg(long, value_name = "ID")]
    requested_by: String,
    /// Id of the person who approves it: somebody else
    #[arg(long, value_name = "ID")]
    approved_by: String,
    /// Really destroy it
    #[arg(long)]
    yes: bool,
}

impl Shred {
    pub async fn run(self, session: &Session) -> Result<()> {
        let span = self.stretch.span(session.clock.wall())?;
        let services = session.services()?;
        let camera = services.camera(&self.stretch.camera, true).await?;
        if !self.yes {
            let (from, to) = shown(Some(&span));
            return Err(Problem::usage(format_args!(
                "this would destroy the keys of {} from {from} to {to} for good",
                camera.name
            ))
            .next("add --yes if that is what you want"));
        }
        let request = ShredRequest {
            camera_id: camera.camera_id,
            layers: self.stretch.layers(),
            span: Some(span),
            reason: self.ground.reason(),
            requested_by: self.requested_by,
            approved_by: self.approved_by,
        };
        let mut keys = services.keys();
        let answer = services.ask("keys", "destroy these keys", PATIENT, keys.shred(request)).await?;
        let signed = answer.receipt.unwrap_or_default();
        let receipt =
            ShredReceipt::decode(signed.receipt.clone()).doing("read the receipt of destruction")?;
        let value = json!({
            "number": receipt.number,
            "keys": receipt.keys.len(),
            "effective_unix_ns": receipt.effective_unix_ns,
            "receipt": hex::encode(&signed.receipt),
            "signature": hex::encode(&signed.signature),
        });
        session.out.result(&value, words(&camera.name, &receipt))
    }
}

fn words(camera: &str, receipt: &ShredReceipt) -> String {
    if receipt.keys.is_empty() {
        return format!(
            "No key of this span of {camera} has come yet; what comes later is destroyed as it comes: receipt {}.",
            receipt.number
        );
    }
    let slots = receipt.keys.iter().map(|key| u64::from(key.last_slot.saturating_sub(key.first_slot)) + 1);
    format!(
        "Destroyed {} of {camera}, {} of 2 s, in effect since {}: receipt {}.",
        count(receipt.keys.len() as u64, "part of a layer key")
            .replace("part of a layer keys", "parts of layer keys"),
        count(slots.sum::<u64>(), "slot"),
        when::local(Timestamp::from_unix_nanos(receipt.effective_unix_ns)),
        receipt.number
    )
}

#[cfg(test)]
mod tests {
    use obscura_proto::keys::v1::ShreddedKey;

    use super::*;

    #[test]
    fn a_destruction_is_told_with_its_receipt() {
        let key = ShreddedKey { first_slot: 5, last_slot: 9, ..ShreddedKey::default() };
        let receipt = ShredReceipt { number: 3, keys: vec![key.clone(), key], ..ShredReceipt::default() };
        let words = words("door", &receipt);
        assert!(words.starts_with("Destroyed 2 parts of layer keys of door, 10 slots of 2 s"), "{words}");
        assert!(words.ends_with("receipt 3."));
        let to_come = super::words("door", &ShredReceipt { number: 4, ..ShredReceipt::default() });
        assert!(to_come.contains("has come yet") && to_come.ends_with("receipt 4."), "{to_come}");
    }
}
