//! Offline verification of a copy of a log with nothing but public keys.
//!
//! Trust flows down: the checkpoint vouches for the tiles at the right edge, each sound tile for
//! the roots of those below it, the tiles of level 0 for the entries. Where a tile does not fit to
//! what is above it, the hashes of what is below it take its place; if those fit, it alone was
//! changed and the position is named. So a single fault is named exactly; where several faults
//! contradict each other, both sides are named. One tile for each level is in memory at a time.

mod directory;
mod entries;
mod names;
mod problem;
mod report;
#[cfg(test)]
mod tests;
mod walk;

use std::io;

use crate::{CHECKPOINT_PATH, Checkpoint, LogVerifier, Policy, SignedCheckpoint};

pub use directory::DirectoryCopy;
pub use problem::{MAX_PROBLEMS, Problem};
pub use report::{Progress, Report};

/// The files of a copied log, by their paths below its root.
pub trait Copied {
    /// The content of a file; `None` where there is no such file.
    ///
    /// # Errors
    /// Where the medium fails: the verification stops, since it could say nothing.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Names every file, in any order.
    ///
    /// # Errors
    /// Where the medium fails.
    fn each_path(&self, found: &mut dyn FnMut(&str)) -> io::Result<()>;
}

/// Which entries may be gone. Tiles are never pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pruned {
    /// None.
    #[default]
    Nothing,
    /// Bundles of which every entry is below this index.
    Below(u64),
    /// Every bundle before the first that is there: how many entries are gone is in the report, and
    /// that is for a person to judge.
    Detect,
}

/// What the verifier knows beside the log's key.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// Which entries may be gone.
    pub pruned: Pruned,
    /// How many witnesses must have cosigned the checkpoint.
    pub policy: Policy,
    /// Checkpoints of this log that were seen (and verified) before: it must go on from each.
    pub earlier: Vec<Checkpoint>,
    /// Further files that may lie beside the log's, such as a note about the copy.
    pub more_files: Vec<String>,
}

/// Checks everything that a copy of a log can show: the checkpoint's signatures, each tile, each
/// entry, each earlier checkpoint, and that there is no file that does not belong there.
///
/// `progress` is told after every 256 entries.
///
/// # Errors
/// Only where the medium fails. What is wrong with the log is in the report.
pub fn verify_copy(
    copy: &dyn Copied,
    log: &LogVerifier,
    expected: &Expectations,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<Report> {
    let mut report = Report::default();
    let Some(signed) = read_checkpoint(copy, &mut report)? else { return Ok(report) };
    match log.check(&signed).and_then(|()| expected.policy.check(&signed)) {
        Ok(cosigned) => report.cosigned = cosigned,
        Err(error) => report.add(Problem::Checkpoint(error)),
    }
    let checkpoint = signed.checkpoint().clone();
    walk::walk(copy, &checkpoint, expected.pruned, progress, &mut report)?;
    names::check_earlier(copy, &checkpoint, &expected.earlier, &mut report)?;
    names::check_names(copy, checkpoint.size, &expected.more_files, &mut report)?;
    report.checkpoint = Some(checkpoint);
    Ok(report)
}

fn read_checkpoint(copy: &dyn Copied, report: &mut Report) -> io::Result<Option<SignedCheckpoint>> {
    let Some(bytes) = copy.read(CHECKPOINT_PATH)? else {
        report.add(Problem::MissingFile { path: CHECKPOINT_PATH.to_owned() });
        return Ok(None);
    };
    // Bytes that are no text become characters that no checkpoint has.
    match String::from_utf8_lossy(&bytes).parse() {
        Ok(signed) => Ok(Some(signed)),
        Err(error) => {
            report.add(Problem::Checkpoint(error));
            Ok(None)
        }
    }
}
