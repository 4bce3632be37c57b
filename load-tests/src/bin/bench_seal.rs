//! How much of raw AES-256-GCM is left when segments are sealed and opened, copies included.
//!
//! Segments of 1.2 MB (3 Mbit/s for 3.2 s) are sealed from writes of 64 KiB and opened whole, the
//! keys of each derived and the clear bytes wiped. The peer is AES-256-GCM of the same library, in
//! place, over as many bytes in chunks of 16 KiB: one key for ever, no copy, no allocation, nothing
//! wiped. Beside it the parameters show the same peer when it has to copy as well, because what is
//! recorded has to get from one buffer into another whoever encrypts it. All run in turns on one
//! core, round by round; the medians are printed as JSON, one metric a line.

use std::{hint::black_box, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use clap::Parser;
use obscura_clock::{SharedClock, SystemClock};
use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, Sequence, WriterEpoch};
use obscura_seal::{
    CHUNK_BYTES, Cobblestone256, Hour, LayerKey, LeafKey, NodeSet, SegmentCipher as _, SegmentHeader, Slot,
    SlotRange,
};

/// Measures sealing and opening beside raw AES-256-GCM.
#[derive(Parser)]
struct Arguments {
    /// Clear bytes of a segment.
    #[arg(long, default_value_t = 1_200_000)]
    segment_bytes: usize,
    /// Bytes of each write into a segment.
    #[arg(long, default_value_t = 64 * 1024)]
    write_bytes: usize,
    /// Segments in a round.
    #[arg(long, default_value_t = 50)]
    segments: u32,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 61)]
    rounds: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.write_bytes > 0 && arguments.rounds > 0, "writes and rounds start at 1");
    let clock = SystemClock::shared();
    let mut sealed = Sealed::new(&arguments)?;
    let (mut raw, mut copying) = (Raw::new(&arguments, false)?, Raw::new(&arguments, true)?);
    sealed.check()?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        rounds.push(Round {
            raw: round(&arguments, &clock, &mut raw)?,
            sealed: round(&arguments, &clock, &mut sealed)?,
            copying: round(&arguments, &clock, &mut copying)?,
        });
    }
    print(&arguments, &rounds, "seal_gb_per_s", |times| times.seal);
    print(&arguments, &rounds, "open_gb_per_s", |times| times.open);
    Ok(())
}

/// One turn of everybody.
struct Round {
    sealed: Times,
    raw: Times,
    copying: Times,
}

/// What can be measured: seals one segment, then opens it.
trait Work {
    fn seal(&mut self) -> Result<()>;
    fn open(&mut self) -> Result<()>;
}

/// What a round took.
#[derive(Default)]
struct Times {
    seal: Duration,
    open: Duration,
}

/// Segments as Obscura seals them.
struct Sealed {
    write_bytes: usize,
    header: SegmentHeader,
    leaf: LeafKey,
    released: NodeSet,
    clear: Vec<u8>,
    sealed: Vec<u8>,
}

/// The peer.
struct Raw {
    key: LessSafeKey,
    /// Where the bytes come from and go to, for the peer that copies.
    elsewhere: Option<Vec<u8>>,
    bytes: Vec<u8>,
    tags: Vec<Tag>,
}

impl Sealed {
    fn new(arguments: &Arguments) -> Result<Self> {
        let (header, key) = (header()?, LayerKey::generate()?);
        // A viewer who was granted the minute of the segment.
        let minute = SlotRange::new(Slot::new(890)?, Slot::new(919)?)?;
        let leaf = key.leaf(header.slot);
        let clear = clear_bytes(arguments);
        let released = NodeSet::new(key.cover(minute));
        Ok(Self { write_bytes: arguments.write_bytes, header, leaf, released, clear, sealed: Vec::new() })
    }

    /// What is measured is right.
    fn check(&mut self) -> Result<()> {
        self.seal()?;
        let opened = Cobblestone256.open(&self.released, &self.sealed, None)?;
        ensure!(opened.as_bytes() == self.clear, "a segment did not come back as it was sealed");
        Ok(())
    }
}

impl Work for Sealed {
    fn seal(&mut self) -> Result<()> {
        self.sealed.clear();
        let mut sealer = Cobblestone256.begin(&self.leaf, &self.header, &mut self.sealed)?;
        for piece in self.clear.chunks(self.write_bytes) {
            sealer.update(piece, &mut self.sealed);
        }
        sealer.finish(&mut self.sealed)?;
        black_box(&self.sealed);
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        black_box(Cobblestone256.open(&self.released, &self.sealed, None)?);
        Ok(())
    }
}

impl Raw {
    fn new(arguments: &Arguments, copies: bool) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("the library refused a key")?;
        let bytes = clear_bytes(arguments);
        Ok(Self {
            key: LessSafeKey::new(key),
            elsewhere: copies.then(|| bytes.clone()),
            bytes,
            tags: Vec::new(),
        })
    }
}

impl Work for Raw {
    fn seal(&mut self) -> Result<()> {
        self.tags.clear();
        let mut elsewhere = self.elsewhere.iter().flat_map(|bytes| bytes.chunks(CHUNK_BYTES));
        for (index, chunk) in (0..).zip(self.bytes.chunks_mut(CHUNK_BYTES)) {
            if let Some(from) = elsewhere.next() {
                chunk.copy_from_slice(from);
            }
            let tag = self.key.seal_in_place_separate_tag(nonce(index), Aad::empty(), chunk);
            self.tags.push(tag.ok().context("the library refused to seal")?);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        let mut elsewhere = self.elsewhere.iter_mut().flat_map(|bytes| bytes.chunks_mut(CHUNK_BYTES));
        let chunks = self.bytes.chunks_mut(CHUNK_BYTES).zip(&self.tags);
        for (index, (chunk, tag)) in (0..).zip(chunks) {
            let opened = self.key.open_in_place_separate_tag(nonce(index), Aad::empty(), tag.as_ref(), chunk);
            let opened = opened.ok().context("the library refused to open")?;
            if let Some(to) = elsewhere.next() {
                to.copy_from_slice(opened);
            }
        }
        black_box(&self.bytes);
        Ok(())
    }
}

fn round(arguments: &Arguments, clock: &SharedClock, work: &mut impl Work) -> Result<Times> {
    let mut times = Times::default();
    for _ in 0..arguments.segments {
        let start = clock.monotonic();
        work.seal()?;
        let between = clock.monotonic();
        work.open()?;
        times.seal += between.since(start);
        times.open += clock.monotonic().since(between);
    }
    Ok(times)
}

fn print(arguments: &Arguments, rounds: &[Round], metric: &str, of: fn(&Times) -> Duration) {
    let median = |pick: fn(&Round) -> &Times| rate(arguments, rounds.iter().map(pick).map(of).collect());
    let line = serde_json::json!({
        "bench": "seal", "metric": metric, "value": median(|round| &round.sealed), "unit": "GB/s",
        "peer": "raw AES-256-GCM (aws-lc-rs)", "peer_value": median(|round| &round.raw),
        "params": {
            "segment_bytes": arguments.segment_bytes, "write_bytes": arguments.write_bytes,
            "chunk_bytes": CHUNK_BYTES, "segments": arguments.segments, "rounds": arguments.rounds,
            "peer_with_a_copy": median(|round| &round.copying),
        },
    });
    println!("{line}");
}

/// The median, in GB of clear bytes a second.
fn rate(arguments: &Arguments, mut times: Vec<Duration>) -> f64 {
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64();
    let kilobytes = u32::try_from(arguments.segment_bytes / 1_000).unwrap_or(u32::MAX);
    rounded(f64::from(kilobytes) / 1e6 * f64::from(arguments.segments) / median)
}

fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

fn clear_bytes(arguments: &Arguments) -> Vec<u8> {
    vec![0xa5; arguments.segment_bytes]
}

fn nonce(index: u32) -> Nonce {
    let [a, b, c, d] = index.to_be_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
}

fn header() -> Result<SegmentHeader> {
    Ok(SegmentHeader {
        key_id: LayerKeyId::generate(),
        hour: Hour::new(498_000)?,
        slot: Slot::new(900)?,
        zone: "eea".parse()?,
        camera: CameraId::generate(),
        layer: Layer::Original,
        dependent: false,
        writer_epoch: WriterEpoch(1),
        sequence: Sequence(0),
        init_hash: Digest::ZERO,
        mask_set_hash: Digest::ZERO,
    })
}
