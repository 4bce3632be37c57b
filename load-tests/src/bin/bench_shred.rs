//! How long it takes until footage can no longer be opened, beside overwriting the same footage on the same disk.
//!
//! The real custody over SQLite and over PostgreSQL: early destruction of a camera-hour among so many keys of the
//! same expiry hour, of a camera-day, and expiry of a thousand cameras' hour and month. Each ends with the signed
//! receipt and its mark on the disk. The peer overwrites (`shred -n 1`, GNU coreutils) a file on the same disk in
//! the same run, scaled to the bytes of the footage at 3 Mbit/s; it reaches no copy and no backup, and on flash not
//! even this one.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::Parser;
use futures::future::try_join_all;
use obscura_clock::{SharedClock, SystemClock};
use obscura_ids::CameraId;
use obscura_keys::measured::Measured;
use obscura_load_tests::report::{Line, quantile_ms};
use obscura_seal::Hour;
use obscura_test_servers::postgres::Postgres;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Bytes of an hour of one camera at 3 Mbit/s.
const CAMERA_HOUR_BYTES: f64 = 3e6 / 8.0 * 3_600.0;
/// Longer ago than any hour that is filled here and not to expire.
const RETENTION_HOURS: u32 = 720;
/// Cameras of a large site.
const CAMERAS: usize = 1_000;
const DAY_HOURS: u32 = 24;
const PEER: &str = "shred -n 1 of the same footage at 3 Mbit/s, scaled";

/// Measures destruction.
#[derive(Parser)]
struct Arguments {
    /// Folder on the disk to measure.
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// Databases.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgresql")]
    databases: Vec<String>,
    /// Keys in the epoch of a camera-hour that is destroyed early.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000,4000")]
    rows: Vec<usize>,
    /// Early destructions of each kind.
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// Hours of a thousand cameras that expire at once in the last measurement; 0 to leave it out.
    #[arg(long, default_value_t = 720)]
    month_hours: u32,
    /// Bytes that the peer overwrites, in MiB.
    #[arg(long, default_value_t = 256)]
    peer_mib: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.times > 0 && arguments.peer_mib > 0, "times and peer-mib start at 1");
    fs::create_dir_all(&arguments.folder)?;
    let clock = SystemClock::shared();
    for database in &arguments.databases {
        ensure!(["sqlite", "postgresql"].contains(&&**database), "a database is sqlite or postgresql");
        let peer = overwriting_ms_per_byte(&arguments, &clock)?;
        Bench { arguments: &arguments, clock: &clock, database, peer_ms_per_byte: peer }.run().await?;
    }
    Ok(())
}

/// One database.
struct Bench<'a> {
    arguments: &'a Arguments,
    clock: &'a SharedClock,
    database: &'a str,
    peer_ms_per_byte: f64,
}

impl Bench<'_> {
    async fn run(&self) -> Result<()> {
        let server = (self.database == "postgresql").then(Postgres::own);
        let url = server.as_ref().map(Postgres::new_database);
        let (_folder, custody) = self.custody(url.as_deref()).await?;
        let mut hour = self.now_hour() - 5 * self.arguments.times.max(DAY_HOURS);
        for rows in &self.arguments.rows {
            self.camera_hours(&custody, hour, *rows).await?;
            hour += self.arguments.times;
        }
        self.camera_days(&custody, hour).await?;
        for at_once in [1, 64] {
            self.releases(&custody, at_once).await?;
        }
        let url = server.as_ref().map(Postgres::new_database);
        let (_folder, custody) = self.custody(url.as_deref()).await?;
        self.hours(&custody).await?;
        if self.arguments.month_hours > 0 {
            self.month(&custody).await?;
        }
        Ok(())
    }

    async fn custody(&self, url: Option<&str>) -> Result<(TempDir, Measured)> {
        let folder = tempfile::tempdir_in(&self.arguments.folder)?;
        let custody = Measured::open(folder.path(), url).await?;
        Ok((folder, custody))
    }

    /// A camera-hour in an epoch of so many keys, each time of another epoch.
    async fn camera_hours(&self, custody: &Measured, from: u32, rows: usize) -> Result<()> {
        let cameras = cameras(rows);
        let mut times = Vec::new();
        for hour in hours_from(from, self.arguments.times) {
            custody.fill(hour, &cameras, RETENTION_HOURS).await?;
            let start = self.clock.monotonic();
            custody.shred(first(&cameras), hour, 1).await?;
            times.push(self.clock.monotonic().since(start));
        }
        self.print(times, CAMERA_HOUR_BYTES, json!({ "act": "early, a camera-hour", "rows_of_epoch": rows }));
        Ok(())
    }

    /// A camera-day over epochs of a thousand cameras.
    async fn camera_days(&self, custody: &Measured, day: u32) -> Result<()> {
        let cameras = cameras(CAMERAS);
        for hour in hours_from(day, DAY_HOURS) {
            custody.fill(hour, &cameras, RETENTION_HOURS).await?;
        }
        let mut times = Vec::new();
        for camera in cameras.iter().take(self.arguments.times.try_into()?) {
            let start = self.clock.monotonic();
            custody.shred(*camera, day, DAY_HOURS).await?;
            times.push(self.clock.monotonic().since(start));
        }
        let bytes = CAMERA_HOUR_BYTES * f64::from(DAY_HOURS);
        self.print(times, bytes, json!({ "act": "early, a camera-day", "rows_of_epoch": CAMERAS }));
        Ok(())
    }

    /// The same hour of a thousand cameras, again and again.
    async fn hours(&self, custody: &Measured) -> Result<()> {
        let cameras = cameras(CAMERAS);
        let mut times = Vec::new();
        for hour in hours_from(self.now_hour() - self.arguments.times - 2, self.arguments.times) {
            custody.fill(hour, &cameras, 1).await?;
            times.push(self.expire(custody, CAMERAS).await?);
        }
        let bytes = CAMERA_HOUR_BYTES * count(CAMERAS);
        self.print(times, bytes, json!({ "act": "expiry, an hour of all cameras", "cameras": CAMERAS }));
        Ok(())
    }

    /// Thirty days of a thousand cameras at once, as after a month without the service.
    async fn month(&self, custody: &Measured) -> Result<()> {
        let (cameras, hours) = (cameras(CAMERAS), self.arguments.month_hours);
        for hour in hours_from(self.now_hour() - hours - 2, hours) {
            custody.fill(hour, &cameras, 1).await?;
        }
        let keys = CAMERAS * usize::try_from(hours)?;
        let took = self.expire(custody, keys).await?;
        let bytes = CAMERA_HOUR_BYTES * count(keys);
        let act = "expiry, all hours at once";
        self.print(vec![took], bytes, json!({ "act": act, "cameras": CAMERAS, "hours": hours }));
        Ok(())
    }

    /// What it costs that every release is written down before it is answered.
    async fn releases(&self, custody: &Measured, at_once: usize) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..self.arguments.times {
            let told = (0..at_once).map(|_| async {
                let start = self.clock.monotonic();
                custody.tell_release().await?;
                anyhow::Ok(self.clock.monotonic().since(start))
            });
            times.extend(try_join_all(told).await?);
        }
        times.sort();
        let sync = self.sync_ms()?;
        for (metric, share) in [("release_told_ms_p50", 0.5), ("release_told_ms_p99", 0.99)] {
            Line {
                bench: "shred",
                metric,
                value: quantile_ms(&times, share),
                unit: "ms",
                peer: Some("fdatasync of 4 KiB, median"),
                peer_value: Some(sync),
                params: json!({ "database": self.database, "at_once": at_once, "releases": times.len() }),
            }
            .print();
        }
        Ok(())
    }

    /// Hours since the Unix epoch.
    fn now_hour(&self) -> u32 {
        Hour::of(self.clock.wall()).map_or(0, |(hour, _)| hour.get())
    }

    fn sync_ms(&self) -> Result<f64> {
        let mut file = tempfile::tempfile_in(&self.arguments.folder)?;
        let mut times = Vec::new();
        for _ in 0..50 {
            let start = self.clock.monotonic();
            file.write_all(&[7; 4_096])?;
            file.sync_data()?;
            times.push(self.clock.monotonic().since(start));
        }
        times.sort();
        Ok(quantile_ms(&times, 0.5))
    }

    async fn expire(&self, custody: &Measured, keys: usize) -> Result<Duration> {
        let start = self.clock.monotonic();
        custody.expire(keys.try_into()?).await?;
        Ok(self.clock.monotonic().since(start))
    }

    fn print(&self, mut times: Vec<Duration>, bytes: f64, mut params: Value) {
        times.sort();
        for (name, value) in [
            ("database", json!(self.database)),
            ("times", json!(times.len())),
            ("footage_gb", json!((bytes / 1e7).round() / 100.0)),
            ("peer_file_mib", json!(self.arguments.peer_mib)),
        ] {
            params.as_object_mut().map(|params| params.insert(name.to_owned(), value));
        }
        for (metric, share) in [("shred_ms_p50", 0.5), ("shred_ms_p99", 0.99)] {
            Line {
                bench: "shred",
                metric,
                value: quantile_ms(&times, share),
                unit: "ms",
                peer: Some(PEER),
                peer_value: Some(self.peer_ms_per_byte * bytes),
                params: params.clone(),
            }
            .print();
        }
    }
}

/// What the peer needs for a byte, over a file that is on the disk before the time runs.
fn overwriting_ms_per_byte(arguments: &Arguments, clock: &SharedClock) -> Result<f64> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let path = folder.path().join("footage");
    write_file(&path, arguments.peer_mib)?;
    let start = clock.monotonic();
    let status = Command::new("shred").args(["-n", "1", "-u"]).arg(&path).status()?;
    ensure!(status.success(), "shred failed");
    let took = clock.monotonic().since(start).as_secs_f64() * 1_000.0;
    Ok(took / (f64::from(arguments.peer_mib) * f64::from(1 << 20)))
}

fn write_file(path: &Path, mib: u32) -> Result<()> {
    let mut file = File::create(path)?;
    for _ in 0..mib {
        file.write_all(&vec![7; 1 << 20])?;
    }
    Ok(file.sync_all()?)
}

fn cameras(count: usize) -> Vec<CameraId> {
    (0..count).map(|_| CameraId::generate()).collect()
}

fn first(cameras: &[CameraId]) -> CameraId {
    cameras.first().copied().unwrap_or_else(CameraId::generate)
}

fn hours_from(first: u32, count: u32) -> std::ops::Range<u32> {
    first..first + count
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
