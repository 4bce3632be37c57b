//! Offline: no service is asked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use obscura_daemon::Trust;
use obscura_tlog::{
    AddCheckpoint, Checkpoint, DirectoryCopy, Expectations, LogProof, LogVerifier, Policy, Pruned, Report,
    SignedCheckpoint, WitnessVerifier, verify_copy,
};
use serde_json::json;

use super::Session;
use crate::{
    installation::Installation,
    problem::{Context as _, Problem, Result},
    words::count,
};

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no network and no installation where --key is given. The exit code is 0 only if everything holds.

Examples:
  obscura audit verify log-2026-11
  obscura audit verify log-2026-11 --key 'example.org/obscura/audit/eea+1a2b3c4d+AaBb...' --earlier checkpoint-of-may
  obscura audit verify entry-17.tlog-proof")]
pub struct Verify {
    /// A folder that `audit export` wrote, or a .tlog-proof file beside its .json
    copy: PathBuf,
    /// Key of the log (C2SP signed-note verifier key); the local installation's own where not given
    #[arg(long, value_name = "KEY")]
    key: Option<LogVerifier>,
    /// Key of a witness whose cosignature is wanted; may be repeated
    #[arg(long = "witness", value_name = "KEY")]
    witnesses: Vec<WitnessVerifier>,
    /// So many of the witnesses must have cosigned; all where not given
    #[arg(long, value_name = "COUNT", requires = "witnesses")]
    quorum: Option<usize>,
    /// Entries before this index were pruned after their retention (`obscura audit status` tells it); none where not
    /// given, so that a missing entry is never taken for a pruned one
    #[arg(long, value_name = "INDEX")]
    pruned_below: Option<u64>,
    /// A checkpoint of earlier that the log must still contain; may be repeated
    #[arg(long = "earlier", value_name = "FILE")]
    earlier: Vec<PathBuf>,
}

impl Verify {
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let log = match self.key.clone() {
            Some(key) => key,
            None => own_key(&session.installation()?)?,
        };
        if self.copy.is_file() { self.proof(session, &log) } else { self.log(session, &log) }
    }

    fn policy(&self) -> Result<Policy> {
        if self.witnesses.is_empty() {
            return Ok(Policy::none());
        }
        let quorum = self.quorum.unwrap_or(self.witnesses.len());
        Policy::new(quorum, self.witnesses.clone()).map_err(Problem::usage)
    }

    fn proof(&self, session: &Session, log: &LogVerifier) -> Result<ExitCode> {
        let shown = self.copy.display();
        let proof: LogProof = read(&self.copy)?.parse().doing(format_args!("read the proof {shown}"))?;
        let beside = self.copy.with_extension("json");
        let leaf = fs::read(&beside).doing(format_args!("read the entry {}", beside.display()))?;
        proof.verify(log, &self.policy()?, &leaf).doing(format_args!("accept the proof {shown}"))?;
        let value = json!({ "index": proof.index, "size": proof.checkpoint.checkpoint().size });
        let words = format!(
            "{} is entry {} of the log {}.",
            beside.display(),
            proof.index,
            proof.checkpoint.checkpoint().origin
        );
        session.out.result(&value, words)?;
        Ok(ExitCode::SUCCESS)
    }

    fn log(&self, session: &Session, log: &LogVerifier) -> Result<ExitCode> {
        let copy = DirectoryCopy::open(&self.copy).doing(format_args!("read {}", self.copy.display()))?;
        let expected = Expectations {
            pruned: self.pruned_below.map_or(Pruned::Nothing, Pruned::Below),
            policy: self.policy()?,
            earlier: self.earlier.iter().map(|path| earlier(path, log)).collect::<Result<_>>()?,
            more_files: Vec::new(),
        };
        let bar = session.out.progress(0, "verifying {wide_bar} {pos} of {len} entries {eta}");
        let report = verify_copy(&copy, log, &expected, &mut |progress| {
            bar.set_length(progress.of);
            bar.set_position(progress.entries);
        });
        bar.finish_and_clear();
        let report = report.doing(format_args!("read {}", self.copy.display()))?;
        told(session, &report)?;
        Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn told(session: &Session, report: &Report) -> Result<()> {
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    let value = json!({
        "good": report.is_good(),
        "size": report.checkpoint.as_ref().map(|checkpoint| checkpoint.size),
        "root": report.checkpoint.as_ref().map(|checkpoint| checkpoint.root.to_string()),
        "entries": report.entries,
        "pruned": report.pruned,
        "cosigned": report.cosigned.iter().map(|cosigned| &cosigned.name).collect::<Vec<_>>(),
        "problems": problems,
        "problem_count": report.problem_count,
    });
    session.out.result(&value, words(report, &problems))
}

fn words(report: &Report, problems: &[String]) -> String {
    if report.is_good() {
        let pruned = match report.pruned {
            0 => String::new(),
            pruned => format!(
                " ({} before them pruned, their hashes kept)",
                count(pruned, "entry").replace("entrys", "entries")
            ),
        };
        return format!(
            "The log holds: {} read{pruned}; nothing was changed, removed, reordered or added.",
            count(report.entries, "entry").replace("entrys", "entries")
        );
    }
    let mut lines = vec![format!("The log does NOT hold: {}.", count(report.problem_count, "problem"))];
    lines.extend(problems.iter().map(|problem| format!("  {problem}")));
    lines.join("\n")
}

/// The key that this installation's own log signs with.
pub fn own_key(installation: &Installation) -> Result<LogVerifier> {
    let trust = Trust::load(&installation.trust_file()).doing("read the key of the log")?;
    LogVerifier::new(&installation.log_origin(), &trust.audit).doing("use the key of the log")
}

/// A checkpoint or a consistency proof of earlier, whose signature counts.
fn earlier(path: &Path, log: &LogVerifier) -> Result<Checkpoint> {
    let text = read(path)?;
    let shown = path.display();
    let note = match text.parse::<AddCheckpoint>() {
        Ok(proof) => proof.checkpoint,
        Err(_) => text.parse::<SignedCheckpoint>().doing(format_args!("read the checkpoint {shown}"))?,
    };
    let signed = log.verify(&note.to_string()).doing(format_args!("accept the checkpoint {shown}"))?;
    Ok(signed.checkpoint().clone())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}
