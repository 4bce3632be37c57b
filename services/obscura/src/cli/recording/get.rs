use std::{
    fs::File,
    io::{self, BufWriter, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::digest;
use clap::Args;
use indicatif::ProgressBar;
use obscura_clock::{Span, Timestamp};
use obscura_ids::CameraId;
use obscura_media::{ClipSummary, ClipWriter};
use obscura_proto::{
    audit::v1::Export,
    footage::v1::{Gap, Span as SpanMessage},
    storage::v1::ListRecordingsResponse,
};
use obscura_seal::ClearSegment;
use serde_json::json;
use tempfile::NamedTempFile;

use super::{Session, hand_over, is_fresh, span, totals};
use crate::{
    problem::{Context as _, Problem, Result},
    reader::{Cause, Fault, Interrupt, Located, Reader, Sink, Stretch, Wanted, has_no_frame},
    services::command,
    when::{self, When},
    words::{bytes, count, gap_reason},
};

const EXAMPLES: &str = "\
Whole segments are read, so a clip may begin and end a few seconds outside of what was asked for.
The reason becomes part of the grant and, sealed under your key, of the audit log.

Examples:
  obscura recording get door --from -2m --to now -o door.mp4 --reason \"Broken window\"
  obscura recording get door --from 2026-11-23T10:00:00Z --for 30s -o door.mp4 --reason \"Case 17\"";

/// Arguments of `recording get`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// Name of the camera
    camera: String,
    /// Start: RFC 3339, -2m (two minutes ago) or now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: When,
    /// End; now where neither --to nor --for is given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "length")]
    to: Option<When>,
    /// Length from the start, for example 30s
    #[arg(long = "for", id = "length", value_name = "DURATION", value_parser = when::duration)]
    length: Option<Duration>,
    /// The MP4 file to write; its folder must exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Why you look at this footage
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

impl Get {
    pub async fn run(self, session: &Session) -> Result<()> {
        Interrupt::watch(async |interrupt| self.read(session, interrupt).await).await
    }

    async fn read(&self, session: &Session, interrupt: Interrupt) -> Result<()> {
        let now = session.clock.wall();
        let span = self.span(now)?;
        let target = Target::prepare(&self.output, self.force)?;
        let services = session.services()?;
        let camera = services.camera(&self.camera, true).await?;
        let wanted = Wanted::of(&camera, &self.reason, span)?;
        let reader = Reader::new(&services, &session.clock)?.until(interrupt);
        if is_fresh(span, now) {
            hand_over(session, &reader, Some(wanted.camera), span.end() >= now).await;
        }
        let recordings = reader.recordings(Some(wanted.camera), Some(span)).await?;
        let (_, size) = totals(&recordings);
        if size == 0 {
            let next = command(services.installation(), &format!("recording list {}", self.camera));
            return Err(nothing(&self.camera, &recordings).next(next));
        }
        let bar =
            session.out.progress(size, "reading {wide_bar} {binary_bytes} of {binary_total_bytes} {eta}");
        let mut clip = Clip::begin(target, bar)?;
        reader.read(&wanted, &mut clip).await?;
        let verify = command(services.installation(), &format!("recording verify {}", self.camera));
        let finished = clip.finish()?;
        // Only what the log knows of leaves the system.
        reader.log().export(finished.export(&wanted)?).await?;
        self.told(session, &finished.put()?, &recordings, &verify)
    }

    fn span(&self, now: Timestamp) -> Result<Span> {
        let start = self.from.resolve(now);
        let end = match (self.to, self.length) {
            (Some(to), _) => to.resolve(now),
            (None, Some(length)) => start + length,
            (None, None) => now,
        };
        span(start, end.min(now.max(start)))
    }

    fn told(
        &self,
        session: &Session,
        written: &Written,
        recordings: &ListRecordingsResponse,
        verify: &str,
    ) -> Result<()> {
        let &Written { summary, span, segments, size } = written;
        let value = json!({
            "file": self.output,
            "bytes": size,
            "segments": segments,
            "frames": summary.frames,
            "seconds": summary.duration.as_secs_f64(),
            "skipped_gaps": summary.skipped_gaps,
            "from": span.start().to_string(),
            "to": span.end().to_string(),
        });
        let mut words = format!(
            "Wrote {}: {}, {} of {}, {} to {} ({}).",
            self.output.display(),
            bytes(size),
            when::words(summary.duration),
            count(segments, "segment"),
            when::local(span.start()),
            when::local(span.end()),
            when::zone_name(),
        );
        if summary.skipped_gaps > 0 {
            words.push_str(&format!("\n{}", gaps_in_words(summary.skipped_gaps, &recordings.gaps)));
        }
        words.push_str(&format!("\nProve it: {verify}"));
        session.out.result(&value, words)
    }
}

fn gaps_in_words(skipped: u32, gaps: &[Gap]) -> String {
    let reasons: std::collections::BTreeSet<_> = gaps.iter().map(|gap| gap_reason(gap.reason())).collect();
    let reasons: Vec<_> = reasons.into_iter().collect();
    let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
    format!("Left out {} where nothing was recorded{why}.", count(skipped, "gap"))
}

fn nothing(camera: &str, recordings: &ListRecordingsResponse) -> Problem {
    let reason = recordings.gaps.last().map(|gap| format!(": {}", gap_reason(gap.reason())));
    Problem::new(format_args!("nothing of {camera} was recorded in that span{}", reason.unwrap_or_default()))
        .next("`obscura recording list` shows what was recorded")
}

/// The file that is to be written.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    folder: PathBuf,
    force: bool,
}

impl Target {
    /// Says what is wrong with the file before anything is read.
    fn prepare(path: &Path, force: bool) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.file_name().is_none() || path.is_dir() {
            return Err(Problem::usage(format_args!("{} is not the name of a file", path.display()))
                .next("name a file with -o"));
        }
        if !folder.is_dir() {
            return Err(Problem::usage(format_args!("the folder {} does not exist", folder.display()))
                .next("make it first, or choose another file with -o"));
        }
        if path.exists() && !force {
            return Err(Problem::usage(format_args!("{} exists already", path.display()))
                .next("choose another file, or overwrite it with --force"));
        }
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), force })
    }

    /// Puts the finished file into its place, durably.
    fn put(&self, file: NamedTempFile) -> Result<u64> {
        let doing = format!("write {}", self.path.display());
        file.as_file().sync_all().doing(&doing)?;
        let size = file.as_file().metadata().doing(&doing)?.len();
        let placed = if self.force { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        placed.map_err(|error| error.error).doing(&doing)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).doing(doing)?;
        Ok(size)
    }
}

/// A clip that grows in a temporary file beside its target.
struct Clip {
    target: Target,
    writer: ClipWriter<BufWriter<File>>,
    file: NamedTempFile,
    span: Option<Span>,
    grant_id: String,
    segments: u64,
    bar: ProgressBar,
}

/// A clip that is whole and not in its place yet.
struct Finished {
    target: Target,
    file: NamedTempFile,
    summary: ClipSummary,
    span: Span,
    grant_id: String,
    segments: u64,
}

/// What became of it.
#[derive(Debug)]
struct Written {
    summary: ClipSummary,
    span: Span,
    segments: u64,
    size: u64,
}

impl Clip {
    fn begin(target: Target, bar: ProgressBar) -> Result<Self> {
        let doing = format!("write into {}", target.folder.display());
        let file =
            tempfile::Builder::new().prefix(".obscura-").suffix(".partial").tempfile_in(&target.folder);
        let file = file.doing(&doing)?;
        let writer = ClipWriter::new(BufWriter::with_capacity(256 * 1024, file.reopen().doing(doing)?));
        Ok(Self { target, writer, file, span: None, grant_id: String::new(), segments: 0, bar })
    }

    fn finish(self) -> Result<Finished> {
        let span = self.span.ok_or_else(|| {
            Problem::new("the index lists footage there, but none came")
                .next("`obscura storage reconcile` tells what is missing")
        })?;
        let summary = self.writer.finish().doing("finish the clip")?;
        self.bar.finish_and_clear();
        let Self { target, file, grant_id, segments, .. } = self;
        Ok(Finished { target, file, summary, span, grant_id, segments })
    }
}

impl Finished {
    fn export(&self, wanted: &Wanted) -> Result<Export> {
        let hashed = hash(self.file.path()).doing("hash the clip")?;
        Ok(export(&self.grant_id, wanted.camera, self.span, hashed))
    }

    fn put(self) -> Result<Written> {
        let size = self.target.put(self.file)?;
        Ok(Written { summary: self.summary, span: self.span, segments: self.segments, size })
    }
}

fn export(grant_id: &str, camera: CameraId, span: Span, (file_sha256, bytes): (Vec<u8>, u64)) -> Export {
    Export {
        grant_id: grant_id.to_owned(),
        camera_ids: vec![camera.to_string()],
        span: Some(SpanMessage {
            start_unix_ns: span.start().unix_nanos(),
            end_unix_ns: span.end().unix_nanos(),
        }),
        file_sha256: file_sha256.into(),
        bytes,
    }
}

/// SHA-256 and number of bytes of a file.
fn hash(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let mut hashing = digest::Context::new(&digest::SHA256);
    let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0);
    loop {
        let read = file.read(&mut buffer)?;
        let piece = buffer.get(..read).unwrap_or_default();
        if piece.is_empty() {
            return Ok((hashing.finish().as_ref().to_vec(), bytes));
        }
        hashing.update(piece);
        bytes += piece.len() as u64;
    }
}

impl Sink for Clip {
    async fn stretch(&mut self, stretch: &Stretch<'_>) -> Result<()> {
        if self.grant_id.is_empty() {
            stretch.grant_id.clone_into(&mut self.grant_id);
        }
        Ok(())
    }

    fn segment(&mut self, located: &Located, opened: Result<ClearSegment, Cause>) -> Result<()> {
        let clear = opened.map_err(|cause| broken(&located.fault(cause)))?;
        self.bar.inc(located.entry.length);
        if has_no_frame(&clear) {
            return Ok(());
        }
        let own = located.entry.span;
        self.writer.add(clear.as_bytes(), own.start()).doing("add a segment to the clip")?;
        let start = self.span.map_or(own.start(), Span::start);
        self.span = Span::try_new(start, own.end().max(start));
        self.segments += 1;
        Ok(())
    }

    /// Nobody can see it any more.
    fn shredded(&mut self, _located: &Located) {}

    fn malformed(&mut self, fault: Fault) -> Result<()> {
        Err(broken(&fault))
    }

    fn examines(&self) -> bool {
        false
    }
}

fn broken(fault: &Fault) -> Problem {
    let time = fault.time.map(|time| format!(" at {}", when::local(time))).unwrap_or_default();
    Problem::new(format_args!(
        "the footage{time} cannot be used: {} (object {})",
        fault.cause, fault.object_key
    ))
    .next("`obscura recording verify` finds everything that is wrong; ask for a span around it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_told_in_an_event_that_the_log_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        std::fs::write(&path, "a clip").unwrap();
        let clock = obscura_clock::SystemClock::shared();
        let now = clock.wall();
        let span = Span::try_new(now - Duration::from_secs(60), now).unwrap();
        let grant = uuid::Uuid::now_v7().to_string();
        let export = export(&grant, CameraId::generate(), span, hash(&path).unwrap());
        assert_eq!(export.bytes, 6);
        let body = obscura_proto::audit::v1::event::Body::Export(export);
        obscura_ocsf::validate(&crate::log::event(&clock, body)).unwrap();
    }

    #[test]
    fn a_file_is_not_overwritten_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        assert!(Target::prepare(&path, false).is_ok());
        std::fs::write(&path, "precious").unwrap();
        assert!(Target::prepare(&path, false).unwrap_err().what().contains("exists already"));
        assert!(Target::prepare(&path, true).is_ok());
        let elsewhere = Target::prepare(&folder.path().join("no/clip.mp4"), false).unwrap_err();
        assert!(elsewhere.what().contains("does not exist"));
        assert!(Target::prepare(folder.path(), true).is_err());
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_not_overwritten_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let target = Target::prepare(&path, false).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(target.put(NamedTempFile::new_in(folder.path()).unwrap()).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
