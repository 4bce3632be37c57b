//! How long the index of storage takes to answer, on PostgreSQL and on SQLite, beside the same SQL without
//! Obscura's layer.
//!
//! The index is filled with plain SQL, as if 1,000 cameras had recorded for 30 days (650 million segments
//! in packs; a tenth of it on SQLite). On PostgreSQL packs go into the table of new ones, and the service's own function
//! moves them from there after each hour. Then the index is asked through the functions of the service: the segments of
//! an hour of a camera, with their directories decoded, and the runs and gaps of a day of a camera. Then
//! packs are committed one by one, each durably. The peer reads and writes the same rows and does nothing
//! with them; the two take turns, so that neither has a warmer cache.

use std::{hint::black_box, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use obscura_clock::{SharedClock, Span, SystemClock, Timestamp};
use obscura_database::{Location, PostgresUrl};
use obscura_ids::{CameraId, Layer};
use obscura_load_tests::{
    index::{
        Plan, SEGMENTS_OF_PACK,
        bulk::Plain,
        directory, pack,
        row::{Row, make_rows, stream_of},
    },
    report::{Line, quantile_ms},
};
use obscura_storage::{SCHEMA, Slice, Store};
use obscura_test_servers::postgres::Postgres;
use rand::Rng as _;
use serde_json::json;
use tokio::sync::mpsc;

/// Such heaps that are made before the database takes them.
const BATCHES_AHEAD: usize = 4;
/// How long after the end of an hour it settles, at most.
const GRACE: Duration = Duration::from_secs(300);
/// After each hour the server has that long to free what was moved; here the next one comes within seconds.
const FREE: &str = "VACUUM packs_recent";
/// Minutes of a search for segments.
const RANGE_MINUTES: i64 = 60;
const NANOS_OF_HOUR: i64 = 3_600_000_000_000;
/// Minutes of a question for coverage.
const COVERAGE_MINUTES: i64 = 1_440;
/// Packs that are committed at the same time.
const COMMITTERS: usize = 8;
/// What a machine that serves an index gives its database, instead of what a test does.
const MEMORY: &str = "ALTER SYSTEM SET shared_buffers = '1GB'";
/// So that filling does not write the same pages again and again; what is measured does not come near.
const LOG: &str = "ALTER SYSTEM SET max_wal_size = '4GB'";

/// Measures searches, coverage and commits in a large index.
#[derive(Debug, Parser)]
struct Arguments {
    /// Segments in the index on PostgreSQL.
    #[arg(long, default_value_t = 650_000_000)]
    segments: u64,
    /// Segments in the index on SQLite; a tenth where not given.
    #[arg(long)]
    sqlite_segments: Option<u64>,
    /// Days over which they spread.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_000))]
    days: u32,
    /// Questions of each kind.
    #[arg(long, default_value_t = 2_000)]
    queries: usize,
    /// Packs to commit.
    #[arg(long, default_value_t = 500)]
    inserts: u32,
    /// Where to measure.
    #[arg(long, value_enum, default_values_t = [Kind::Postgres, Kind::Sqlite])]
    database: Vec<Kind>,
    /// A file with the URL of an empty database; a server of its own is started where not given.
    #[arg(long)]
    postgres_url_file: Option<PathBuf>,
    /// Where the file of SQLite goes; a temporary directory where not given.
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Postgres,
    Sqlite,
}

/// One database, filled.
struct Bench<'a> {
    arguments: &'a Arguments,
    kind: Kind,
    plan: Plan,
    store: Store,
    plain: Plain,
    clock: SharedClock,
    filling: Filling,
}

/// How long filling took.
#[derive(Clone, Copy, Default)]
struct Filling {
    /// Packs that settled.
    settled: u64,
    /// Time that they took.
    settling: Duration,
    /// Time that it took to add all packs before.
    adding: Duration,
}

/// What ours took, and what the peer took.
#[derive(Default)]
struct Times {
    ours: Vec<Duration>,
    peer: Vec<Duration>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for kind in &arguments.database {
        match kind {
            Kind::Postgres => postgres(&arguments).await?,
            Kind::Sqlite => sqlite(&arguments).await?,
        }
    }
    Ok(())
}

async fn postgres(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.postgres_url_file {
        return on_postgres(arguments, std::fs::read_to_string(file)?.trim()).await;
    }
    let server = Postgres::own();
    server.sql(MEMORY);
    server.sql(LOG);
    server.restart();
    on_postgres(arguments, &server.new_database()).await
}

async fn on_postgres(arguments: &Arguments, url: &str) -> Result<()> {
    let known = PostgresUrl::try_new(url).context("expected postgres://user:password@host:port/database")?;
    let location = Location::Postgres { url: known, schema: SCHEMA };
    let store = Store::open(&location).await?;
    let plan = Plan::new(arguments.segments, arguments.days)?;
    let plain = Plain::postgres(url).await?;
    let clock = SystemClock::shared();
    Bench { arguments, kind: Kind::Postgres, plan, store, plain, clock, filling: Filling::default() }
        .run()
        .await
}

async fn sqlite(arguments: &Arguments) -> Result<()> {
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let file = directory.path().join("index.sqlite");
    let store = Store::open(&Location::Sqlite(file.clone())).await?;
    let segments = arguments.sqlite_segments.unwrap_or(arguments.segments / 10);
    let plan = Plan::new(segments, arguments.days)?;
    let plain = Plain::sqlite(&file).await?;
    let clock = SystemClock::shared();
    Bench { arguments, kind: Kind::Sqlite, plan, store, plain, clock, filling: Filling::default() }
        .run()
        .await
}

impl Bench<'_> {
    async fn run(mut self) -> Result<()> {
        let start = self.clock.monotonic();
        let segments = self.fill().await?;
        eprintln!("filled in {:.0?}", self.clock.monotonic().since(start));
        #[expect(clippy::cast_precision_loss, reason = "a ratio to two digits")]
        let bytes = self.plain.bytes().await? as f64 / segments as f64;
        let range = self.ranges().await?;
        let coverage = self.coverage().await?;
        self.print_time("query_ms_p99", segments, RANGE_MINUTES, range);
        self.print_time("coverage_ms_p99", segments, COVERAGE_MINUTES, coverage);
        self.print_settling(segments);
        let (ours, peer) = self.inserts().await?;
        let params = json!({ "database": self.name(), "segments": segments, "packs": self.arguments.inserts,
            "at_the_same_time": COMMITTERS });
        let peer_name = Some("one INSERT and COMMIT after the other, packs only");
        let line = Line {
            bench: "index",
            metric: "inserts_per_s",
            value: ours,
            unit: "packs/s",
            peer: peer_name,
            peer_value: Some(peer),
            params,
        };
        line.print();
        let params =
            json!({ "database": self.name(), "segments": segments, "segments_of_pack": SEGMENTS_OF_PACK });
        Line {
            bench: "index",
            metric: "bytes_per_segment",
            value: bytes,
            unit: "B",
            peer: None,
            peer_value: None,
            params,
        }
        .print();
        Ok(())
    }

    const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::Sqlite => "sqlite",
        }
    }

    /// Fills day by day and, as recorders do, minute by minute. Returns the number of segments.
    async fn fill(&mut self) -> Result<u64> {
        let cameras = self.plan.cameras.len() as u64;
        let progress = progress(self.name(), self.plan.minutes.unsigned_abs() * cameras);
        self.plain.add_streams(&self.plan).await?;
        self.make_days().await?;
        let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let plan = self.plan.clone();
        let maker = tokio::task::spawn_blocking(move || make_rows(&plan, &sender));
        let (mut packs, mut hour) = (0, 0);
        while let Some(rows) = batches.recv().await {
            let start = self.clock.monotonic();
            self.plain.add(&rows).await?;
            self.filling.adding += self.clock.monotonic().since(start);
            packs += rows.len() as u64;
            progress.inc(rows.len() as u64);
            // Rows come in the order of minutes, so every hour before that of the last one is whole.
            let last = rows.last().map_or(0, |row| row.start);
            if std::mem::replace(&mut hour, last / NANOS_OF_HOUR) != last / NANOS_OF_HOUR {
                self.settle(Timestamp::from_unix_nanos(last)).await?;
            }
        }
        maker.await??;
        self.settle(Plan::moment(self.plan.minutes + 60)).await?;
        self.plain.add_runs(&self.plan).await?;
        if self.kind == Kind::Postgres {
            self.plain.run("VACUUM ANALYZE").await?;
            self.plain.run("CHECKPOINT").await?;
        }
        progress.finish_and_clear();
        Ok(packs * SEGMENTS_OF_PACK)
    }

    /// Puts packs of the hours before that of this moment in order.
    async fn settle(&mut self, moment: Timestamp) -> Result<()> {
        let start = self.clock.monotonic();
        let moved = self.store.settle(moment + GRACE).await?;
        if moved > 0 {
            self.filling.settling += self.clock.monotonic().since(start);
            self.filling.settled += moved;
            self.plain.run(FREE).await?;
        }
        Ok(())
    }

    /// The service makes what it needs for the days; its packs are as good as others, and go again.
    async fn make_days(&mut self) -> Result<()> {
        let camera = *self.plan.cameras.first().context("a camera")?;
        let behind = 2 * i64::from(self.arguments.inserts) / i64::try_from(self.plan.cameras.len())?;
        for minute in self.plan.days(behind) {
            let (row, runs) = pack(camera, minute)?;
            self.store.insert_pack(&row, &runs, self.clock.wall()).await?;
        }
        self.plain.clear_new().await
    }

    async fn ranges(&mut self) -> Result<Times> {
        let mut times = Times::default();
        for number in 0..self.arguments.queries {
            let (stream, camera, from, to) = self.somewhere(RANGE_MINUTES);
            // Who comes second finds the pages in memory.
            for ours in [number % 2 == 0, number % 2 != 0] {
                let start = self.clock.monotonic();
                let found = if ours {
                    self.segments(camera, from, to).await?
                } else {
                    self.plain.range(stream, from, to).await?
                };
                times.add(ours, self.clock.monotonic().since(start));
                ensure!(found > 0, "an hour of a camera without footage");
            }
        }
        Ok(times)
    }

    /// Segments that overlap the stretch of minutes.
    async fn segments(&self, camera: CameraId, from: i64, to: i64) -> Result<usize> {
        let span = Span::try_new(Plan::moment(from), Plan::moment(to)).context("a span")?;
        let slice = Slice {
            camera,
            layer: Layer::Original,
            from: span.start(),
            to: span.end(),
            after: None,
            limit: 64,
        };
        let mut segments = 0;
        for pack in self.store.packs(&slice).await? {
            let entries = pack.directory.entries.iter();
            segments += entries.filter(|entry| black_box(entry.span).overlaps(span)).count();
        }
        Ok(segments)
    }

    async fn coverage(&mut self) -> Result<Times> {
        let mut times = Times::default();
        for number in 0..self.arguments.queries {
            let (_, camera, from, to) = self.somewhere(COVERAGE_MINUTES);
            for ours in [number % 2 == 0, number % 2 != 0] {
                let start = self.clock.monotonic();
                let found = if ours {
                    let span = Span::try_new(Plan::moment(from), Plan::moment(to));
                    let runs = self.store.runs(Some(camera), span, 1_000).await?;
                    runs.len() + self.store.gaps(Some(camera), span, 1_000).await?.len()
                } else {
                    self.plain.coverage(camera, from, to).await?
                };
                times.add(ours, self.clock.monotonic().since(start));
                ensure!(found > 0, "a day of a camera without footage");
            }
        }
        Ok(times)
    }

    /// Commits packs of the minutes behind the plan; returns how many a second, ours and the peer's.
    async fn inserts(&mut self) -> Result<(f64, f64)> {
        let count = i64::from(self.arguments.inserts);
        let cameras = i64::try_from(self.plan.cameras.len())?;
        let place = |number: i64| -> Result<_> {
            let camera = *self.plan.cameras.get(usize::try_from(number % cameras)?).context("a camera")?;
            Ok((stream_of(usize::try_from(number % cameras)?)?, camera, self.plan.minutes + number / cameras))
        };
        let ours =
            (0..count).map(place).map(|place| place.and_then(|(_, camera, minute)| pack(camera, minute)));
        let peers = (count..2 * count).map(place).map(|place| {
            place.and_then(|(stream, camera, minute)| Ok(Row::of(stream, &directory(camera, minute)?)))
        });
        let (ours, peers) = (ours.collect::<Result<Vec<_>>>()?, peers.collect::<Result<Vec<_>>>()?);
        let start = self.clock.monotonic();
        let store = &self.store;
        let now = self.clock.wall();
        let inserts = ours.iter().map(|(row, runs)| store.insert_pack(row, runs, now));
        stream::iter(inserts).buffer_unordered(COMMITTERS).try_for_each(|_| async { Ok(()) }).await?;
        let between = self.clock.monotonic();
        for row in &peers {
            self.plain.insert(row).await?;
        }
        let end = self.clock.monotonic();
        let rate = |time: Duration| f64::from(self.arguments.inserts) / time.as_secs_f64();
        Ok((rate(between.since(start)), rate(end.since(between))))
    }

    /// A random camera, its stream, and as many minutes of it, or all that there are.
    fn somewhere(&self, minutes: i64) -> (i32, CameraId, i64, i64) {
        let mut random = rand::rng();
        let place = random.random_range(0..self.plan.cameras.len());
        let from = random.random_range(0..=(self.plan.minutes - minutes).max(0));
        let camera = self.plan.cameras.get(place).copied().unwrap_or_else(CameraId::generate);
        (stream_of(place).unwrap_or(0), camera, from, from + minutes)
    }

    /// Beside adding them, which is without Obscura's layer.
    fn print_settling(&self, segments: u64) {
        let Filling { settled, settling, adding } = self.filling;
        if settled == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate to three digits")]
        let rate = |time: Duration| settled as f64 / time.as_secs_f64();
        Line {
            bench: "index",
            metric: "settled_per_s",
            value: rate(settling),
            unit: "packs/s",
            peer: Some("COPY of the same packs into the table of new ones"),
            peer_value: Some(rate(adding)),
            params: json!({ "database": self.name(), "segments": segments, "packs": settled }),
        }
        .print();
    }

    fn print_time(&self, metric: &str, segments: u64, minutes: i64, mut times: Times) {
        times.ours.sort();
        times.peer.sort();
        let p50 = (quantile_ms(&times.ours, 0.5), quantile_ms(&times.peer, 0.5));
        let params = json!({ "database": self.name(), "segments": segments, "cameras": self.plan.cameras.len(),
            "minutes_of_question": minutes, "queries": self.arguments.queries, "ms_p50": p50.0, "peer_ms_p50": p50.1 });
        Line {
            bench: "index",
            metric,
            value: quantile_ms(&times.ours, 0.99),
            unit: "ms",
            peer: Some("the same rows by plain SQL"),
            peer_value: Some(quantile_ms(&times.peer, 0.99)),
            params,
        }
        .print();
    }
}

impl Times {
    fn add(&mut self, ours: bool, time: Duration) {
        if ours { self.ours.push(time) } else { self.peer.push(time) }
    }
}

fn progress(name: &'static str, packs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} packs {per_sec} {eta}");
    ProgressBar::new(packs)
        .with_prefix(name)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
