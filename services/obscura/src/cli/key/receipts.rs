//! Receipts of destruction in a file: one JSON object a line, so that a restored custody can be told again
//! what is destroyed.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::ProgressBar;
use obscura_proto::{
    keys::v1::{ListShredReceiptsRequest, ReplayShredReceiptsRequest, ShredReceipt, SignedShredReceipt},
    storage::v1::ListKeptReceiptsRequest,
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
#[command(after_help = "\
Examples:
  obscura key replay --from-storage
  obscura key replay receipts-2026-11")]
pub struct Replay {
    /// File that `key receipts` wrote
    #[arg(required_unless_present = "from_storage", conflicts_with = "from_storage")]
    file: Option<PathBuf>,
    /// Take the receipts that storage has kept, 400 days back, instead of a file
    #[arg(long)]
    from_storage: bool,
}

/// Feeds receipts to custody, as many at once as a request may have.
struct Feed<'a> {
    services: &'a Services,
    bar: ProgressBar,
    receipts: u64,
    destroyed_again: u64,
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
        let receipts = self.file.as_deref().map(read).transpose()?;
        let length = receipts.as_ref().map_or(0, Vec::len) as u64;
        let bar = session.out.progress(length, "replaying {wide_bar} {pos} of {len} receipts");
        let mut feed = Feed { services: &services, bar, receipts: 0, destroyed_again: 0 };
        match receipts {
            Some(receipts) => feed.give(receipts).await?,
            None => feed.give_kept().await?,
        }
        feed.bar.finish_and_clear();
        let Feed { receipts, destroyed_again, .. } = feed;
        let words = format!(
            "Replayed {}: {} found alive and destroyed again.",
            count(receipts, "receipt"),
            count(destroyed_again, "key or part of a key")
                .replace("key or part of a keys", "keys or parts of keys")
        );
        session.out.result(&json!({ "receipts": receipts, "destroyed_again": destroyed_again }), words)
    }
}

impl Feed<'_> {
    async fn give(&mut self, receipts: Vec<SignedShredReceipt>) -> Result<()> {
        for part in parts(receipts) {
            let sent = part.len() as u64;
            let mut keys = self.services.keys();
            let call = keys.replay_shred_receipts(ReplayShredReceiptsRequest { receipts: part });
            let answer = self.services.ask("keys", "replay receipts", PATIENT, call).await?;
            self.destroyed_again += answer.destroyed_again;
            self.receipts += sent;
            self.bar.inc(sent);
        }
        Ok(())
    }

    /// Page by page. How many there are shows only at the end.
    async fn give_kept(&mut self) -> Result<()> {
        let mut last = 0;
        loop {
            let page = kept(self.services, last).await?;
            let Some(next) = page.last().map(Line::of).transpose()? else { return Ok(()) };
            if next.number <= last {
                return Err(Problem::new(
                    "cannot read the receipts that storage has kept: they are not in order",
                )
                .next("use a file of `obscura key receipts` instead"));
            }
            last = next.number;
            self.bar.set_length(last);
            self.give(page).await?;
        }
    }
}

async fn kept(services: &Services, after_number: u64) -> Result<Vec<SignedShredReceipt>> {
    let mut storage = services.storage();
    let call = storage.list_kept_receipts(ListKeptReceiptsRequest { after_number });
    Ok(services.ask("storage", "list the receipts that are kept", PROMPT, call).await?.receipts)
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
