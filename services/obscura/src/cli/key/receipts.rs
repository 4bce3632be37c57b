//! Receipts of destruction in a file: one JSON object a line, so that a restored custody can be told again
//! what is destroyed.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use obscura_proto::keys::v1::{
    ListShredReceiptsRequest, ReplayShredReceiptsRequest, ShredReceipt, SignedShredReceipt,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::NamedTempFile;

use super::super::Session;
use crate::{
    problem::{Context as _, Problem, Result},
    services::{PATIENT, PROMPT, Services},
    words::count,
};

/// Receipts in one request.
const PER_CALL: usize = 100;
/// Bytes in one request: a gRPC message has at most 4 MiB.
const BYTES_PER_CALL: usize = 2 << 20;
/// Longest line: a receipt of 2 MiB in hexadecimal.
const MAX_LINE_BYTES: usize = 6 << 20;

/// Arguments of `key receipts`.
#[derive(Debug, Args)]
pub struct Receipts {
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Only receipts with a greater number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
}

/// Arguments of `key replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// File that `key receipts` wrote
    file: PathBuf,
}

/// A receipt as a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    number: u64,
    receipt: String,
    signature: String,
}

impl Line {
    fn of(signed: &SignedShredReceipt) -> Result<Self> {
        let receipt = ShredReceipt::decode(signed.receipt.clone()).doing("read a receipt of destruction")?;
        let (receipt_hex, signature) = (hex::encode(&signed.receipt), hex::encode(&signed.signature));
        Ok(Self { number: receipt.number, receipt: receipt_hex, signature })
    }

    fn signed(&self) -> Result<SignedShredReceipt> {
        let bytes = |text: &str| hex::decode(text).doing(format_args!("read receipt {}", self.number));
        Ok(SignedShredReceipt {
            receipt: bytes(&self.receipt)?.into(),
            signature: bytes(&self.signature)?.into(),
        })
    }
}

impl Receipts {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let folder = self.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        let doing = format!("write {}", self.output.display());
        let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).doing(&doing)?;
        let (mut last, mut saved) = (self.after, 0_u64);
        loop {
            let page = page(&services, last).await?;
            if page.is_empty() {
                break;
            }
            for signed in &page {
                let line = Line::of(signed)?;
                last = line.number;
                saved += 1;
                let text = serde_json::to_string(&line).doing(&doing)?;
                writeln!(file, "{text}").doing(&doing)?;
            }
        }
        file.as_file().sync_all().doing(&doing)?;
        file.persist(&self.output).map_err(|error| error.error).doing(&doing)?;
        let words = format!("Saved {} up to number {last}.", count(saved, "receipt"));
        session.out.result(&json!({ "receipts": saved, "last_number": last }), words)
    }
}

async fn page(services: &Services, after_number: u64) -> Result<Vec<SignedShredReceipt>> {
    let mut keys = services.keys();
    let call = keys.list_shred_receipts(ListShredReceiptsRequest { after_number });
    Ok(services.ask("keys", "list receipts of destruction", PROMPT, call).await?.receipts)
}

impl Replay {
    pub async fn run(self, session: &Session) -> Result<()> {
        let services = session.services()?;
        let receipts = read(&self.file)?;
        let total = receipts.len() as u64;
        let bar = session.out.progress(total, "replaying {wide_bar} {pos} of {len} receipts");
        let mut destroyed_again = 0;
        for part in parts(receipts) {
            let sent = part.len() as u64;
            let mut keys = services.keys();
            let call = keys.replay_shred_receipts(ReplayShredReceiptsRequest { receipts: part });
            destroyed_again += services.ask("keys", "replay receipts", PATIENT, call).await?.destroyed_again;
            bar.inc(sent);
        }
        bar.finish_and_clear();
        let words = format!(
            "Replayed {}: {} found alive and destroyed again.",
            count(total, "receipt"),
            count(destroyed_again, "key or part of a key")
                .replace("key or part of a keys", "keys or parts of keys")
        );
        session.out.result(&json!({ "receipts": total, "destroyed_again": destroyed_again }), words)
    }
}

fn read(path: &Path) -> Result<Vec<SignedShredReceipt>> {
    let doing = format!("read {}", path.display());
    let lines = BufReader::new(File::open(path).doing(&doing)?).lines();
    let mut receipts = Vec::new();
    for (number, line) in (1..).zip(lines) {
        let line = line.doing(&doing)?;
        let wrong = || {
            Problem::new(format_args!("cannot {doing}: line {number} is no receipt"))
                .next("give a file that `obscura key receipts` wrote")
        };
        if line.len() > MAX_LINE_BYTES {
            return Err(wrong());
        }
        let line: Line = serde_json::from_str(&line).map_err(|_| wrong())?;
        receipts.push(line.signed()?);
    }
    Ok(receipts)
}

/// Requests of a bounded size, in order.
fn parts(receipts: Vec<SignedShredReceipt>) -> Vec<Vec<SignedShredReceipt>> {
    let mut parts: Vec<Vec<SignedShredReceipt>> = Vec::new();
    let mut bytes = 0;
    for receipt in receipts {
        let length = receipt.encoded_len();
        match parts.last_mut() {
            Some(part) if part.len() < PER_CALL && bytes + length <= BYTES_PER_CALL => {
                part.push(receipt);
                bytes += length;
            }
            _ => {
                parts.push(vec![receipt]);
                bytes = length;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(number: u64, bytes: usize) -> SignedShredReceipt {
        let receipt = ShredReceipt { number, reason: "x".repeat(bytes), ..ShredReceipt::default() };
        SignedShredReceipt { receipt: receipt.encode_to_vec().into(), signature: vec![7; 64].into() }
    }

    #[test]
    fn receipts_survive_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts");
        let receipts: Vec<_> = (1..4).map(|number| receipt(number, 5)).collect();
        let lines =
            receipts.iter().map(|receipt| serde_json::to_string(&Line::of(receipt).unwrap()).unwrap());
        std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(read(&path).unwrap(), receipts);
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap_err().what().contains("line 1"));
    }

    #[test]
    fn requests_stay_small() {
        let many = (1..=250).map(|number| receipt(number, 5)).collect();
        assert_eq!(parts(many).iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let long = (1..=3).map(|number| receipt(number, 1_500_000)).collect();
        assert_eq!(parts(long).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
