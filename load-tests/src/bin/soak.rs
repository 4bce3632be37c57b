//! Faults in random order for half an hour, and then an account of every second.
//!
//! Cameras record while services are killed, frozen and thawed, everything loses its power at once,
//! cameras go away and come back, somebody else fills the disk of the spool (where a file system may be mounted for
//! it) and the recorder's clock is set (where libfaketime is installed); with `--back-ends` also while PostgreSQL takes no writes, is killed or
//! stopped, and the object store is frozen or killed. Nothing is asserted on the way. At the end the
//! verdict: every second of every camera is footage or a gap with a reason, every segment reads back,
//! index, objects and keys agree, and a copy of the audit log verifies. Exit code 0 only then.

#![expect(clippy::indexing_slicing, reason = "a panic in a test or bench is a failure with a line number")]

use std::{collections::BTreeMap, fmt, process::ExitCode, thread::sleep, time::Duration};

use anyhow::Result;
use clap::Parser;
use indicatif::ProgressBar;
use obscura_journeys::{Auth, Installation, MovedTime, Outcome, TestCamera, back_ends, unaccounted};
use obscura_load_tests::small_disk::SmallDisk;
use obscura_proto::footage::v1::GapReason;
use obscura_test_servers::{postgres::Postgres, seaweedfs::SeaweedFs};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;

const SERVICES: [&str; 5] = ["ingest", "storage", "keys", "registry", "audit"];
/// The disk of the spool, of which the recorder keeps a part for what frees it.
const DISK_BYTES: u64 = 256 << 20;
const RESERVE_BYTES: u64 = 16 << 20;
/// How often it is looked whether everything has come to rest, and how many times.
const REST: Duration = Duration::from_secs(5);
const RESTS: u32 = 48;

/// Pull plugs for a while, then account for every second.
#[derive(Debug, Parser)]
struct Arguments {
    /// Minutes of faults
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Cameras
    #[arg(long, default_value_t = 4)]
    cameras: usize,
    /// Use PostgreSQL and an S3 store instead of files, and pull their plugs too
    #[arg(long)]
    back_ends: bool,
    /// Leave the recorder's clock alone, and run it without libfaketime
    #[arg(long)]
    without_clock_steps: bool,
    /// Seed of the order of faults; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
}

/// One plug. Numbers are seconds.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(&'static str),
    Freeze(&'static str, u64),
    CameraAway(u64),
    PowerCut,
    DiskFull(u64),
    /// By how many seconds, and for how many.
    ClockStep(u64, u64),
    DatabaseReadsOnly(u64),
    DatabaseKilled(u64),
    DatabaseStopped(u64),
    StoreFrozen(u64),
    StoreKilled(u64),
}

/// By what is counted.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(service) => write!(f, "{service} killed"),
            Self::Freeze(service, _) => write!(f, "{service} frozen"),
            Self::CameraAway(_) => f.write_str("cameras away"),
            Self::PowerCut => f.write_str("everything killed at once"),
            Self::DiskFull(_) => f.write_str("disk of the spool full"),
            Self::ClockStep(..) => f.write_str("recorder's clock set"),
            Self::DatabaseReadsOnly(_) => f.write_str("database only reads"),
            Self::DatabaseKilled(_) => f.write_str("database killed"),
            Self::DatabaseStopped(_) => f.write_str("database stopped"),
            Self::StoreFrozen(_) => f.write_str("object store frozen"),
            Self::StoreKilled(_) => f.write_str("object store killed"),
        }
    }
}

/// What is plugged in.
struct World {
    installation: Installation,
    camera: TestCamera,
    servers: Option<Servers>,
    disk: Option<SmallDisk>,
    sets_clock: bool,
}

struct Servers {
    database: Postgres,
    store: SeaweedFs,
    _secrets: TempDir,
}

impl World {
    fn start(arguments: &Arguments) -> Result<Self> {
        let (mut servers, mut settings) = (None, Vec::new());
        if arguments.back_ends {
            let (database, store, secrets) = (Postgres::own(), SeaweedFs::own(), TempDir::new()?);
            settings = back_ends(&database, &store, secrets.path());
            servers = Some(Servers { database, store, _secrets: secrets });
        }
        let disk = SmallDisk::mount(DISK_BYTES)?;
        match &disk {
            Some(disk) => put_spool_on(&mut settings, disk),
            None => eprintln!("no file system may be mounted here (it takes root): the disk never runs full"),
        }
        let sets_clock = !arguments.without_clock_steps && MovedTime::is_possible();
        if !sets_clock {
            eprintln!("the recorder runs without libfaketime: its clock is never set");
        }
        let time = if sets_clock { clock_ahead(0) } else { MovedTime::default() };
        let camera = TestCamera::start(Auth::None);
        let installation = Installation::start_with_at(&settings, time);
        installation.add_site();
        for number in 0..arguments.cameras {
            let name = format!("camera-{number}");
            installation.add_camera(&name, &camera.url("/scene"), &[]);
            // The next one joins the same stream, which may stumble while it begins.
            installation.camera(&name, "recording to begin", |camera| camera["recording"] == true);
        }
        Ok(Self { installation, camera, servers, disk, sets_clock })
    }

    fn any_fault(&self, random: &mut StdRng) -> Fault {
        let service = SERVICES[random.random_range(0..SERVICES.len())];
        let seconds = random.random_range(1..20);
        match random.random_range(0..if self.servers.is_some() { 19 } else { 13 }) {
            5..=6 => Fault::Freeze(service, seconds),
            7..=8 => Fault::CameraAway(seconds),
            9 => Fault::PowerCut,
            10..=11 if self.disk.is_some() => Fault::DiskFull(seconds),
            // By less than five minutes, beyond which custody stops to destroy until somebody has looked.
            12 if self.sets_clock => Fault::ClockStep(random.random_range(6..60), seconds),
            0..=4 | 10..=12 => Fault::Kill(service),
            13 => Fault::DatabaseReadsOnly(seconds),
            14 => Fault::DatabaseKilled(seconds),
            15 => Fault::DatabaseStopped(seconds),
            16..=17 => Fault::StoreFrozen(seconds),
            _ => Fault::StoreKilled(seconds),
        }
    }

    fn inject(&mut self, fault: Fault) -> Result<()> {
        let wait = |seconds| sleep(Duration::from_secs(seconds));
        match (fault, &self.servers) {
            (Fault::Kill(service), _) => self.installation.kill(service),
            (Fault::Freeze(service, seconds), _) => {
                let pid = self.installation.pid(service);
                self.installation.freeze(service);
                wait(seconds);
                self.installation.thaw(pid);
            }
            (Fault::CameraAway(seconds), _) => {
                self.camera.power_off();
                wait(seconds);
                self.camera.power_on();
            }
            (Fault::PowerCut, _) => {
                self.installation.kill_everything();
                self.installation.up();
            }
            (Fault::DiskFull(seconds), _) => {
                if let Some(disk) = &self.disk {
                    disk.fill()?;
                    wait(seconds);
                    disk.clear()?;
                }
            }
            (Fault::ClockStep(ahead, seconds), _) => {
                self.installation.set_time(clock_ahead(ahead));
                wait(seconds);
                self.installation.set_time(clock_ahead(0));
            }
            (_, Some(servers)) => servers.inject(fault, wait),
            (_, None) => {}
        }
        Ok(())
    }
}

/// So many seconds.
const fn clock_ahead(seconds: u64) -> MovedTime {
    MovedTime::wrong_clock("ingest", Duration::from_secs(seconds))
}

/// Adds to the settings of the recorder, which may have a table of their own behind.
fn put_spool_on(settings: &mut Vec<(&'static str, String)>, disk: &SmallDisk) {
    let spool = disk.path().join("spool");
    let ours = format!("spool_dir = \"{}\"\nspool_reserve_bytes = {RESERVE_BYTES}\n", spool.display());
    match settings.iter_mut().find(|(service, _)| *service == "ingest") {
        Some((_, theirs)) => theirs.insert_str(0, &ours),
        None => settings.push(("ingest", ours)),
    }
}

impl Servers {
    fn inject(&self, fault: Fault, wait: impl Fn(u64)) {
        match fault {
            Fault::DatabaseReadsOnly(seconds) => {
                self.database.set_read_only(true);
                wait(seconds);
                self.database.set_read_only(false);
            }
            Fault::DatabaseKilled(seconds) => {
                self.database.kill();
                wait(seconds);
                self.database.start();
            }
            Fault::DatabaseStopped(seconds) => {
                self.database.stop_politely();
                wait(seconds);
                self.database.start();
            }
            Fault::StoreFrozen(seconds) => {
                self.store.freeze();
                wait(seconds);
                self.store.thaw();
            }
            Fault::StoreKilled(seconds) => {
                self.store.kill();
                wait(seconds);
                self.store.start();
            }
            Fault::Kill(_)
            | Fault::Freeze(..)
            | Fault::CameraAway(_)
            | Fault::PowerCut
            | Fault::DiskFull(_)
            | Fault::ClockStep(..) => {}
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start(&arguments)?;
    let whole = Duration::from_secs(arguments.minutes * 60);
    let bar = ProgressBar::new(whole.as_secs());
    let mut faults: BTreeMap<String, u32> = BTreeMap::new();
    while bar.elapsed() < whole {
        sleep(Duration::from_secs(random.random_range(2..25)));
        let fault = world.any_fault(&mut random);
        bar.println(format!("{fault:?}"));
        world.inject(fault)?;
        *faults.entry(fault.to_string()).or_default() += 1;
        bar.set_position(bar.elapsed().as_secs());
    }
    bar.finish_and_clear();
    let verdict = verdict(&world.installation);
    let good = verdict.as_object().is_some_and(|parts| parts.values().all(|part| part["good"] == true));
    let line = json!({ "bench": "soak", "metric": "good", "value": u8::from(good), "unit": "1",
        "params": { "minutes": arguments.minutes, "cameras": arguments.cameras, "seed": seed,
            "back_ends": if arguments.back_ends { "PostgreSQL and S3" } else { "files" } },
        "faults": faults, "faults_in_all": faults.values().sum::<u32>(), "verdict": verdict });
    println!("{line}");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What each examiner says, once everything has come to rest.
fn verdict(installation: &Installation) -> Value {
    let verified = at_rest(installation, &["recording", "verify", "--json"]);
    let reconciled = at_rest(installation, &["storage", "reconcile", "--json"]);
    let listed = installation.run(&["recording", "list", "--json"]);
    let list: Value = serde_json::from_str(&listed.out).unwrap_or_default();
    let is_list = list.is_array();
    let (holes, gaps) =
        if is_list { (unaccounted(&list), gaps_by_reason(&list)) } else { Default::default() };
    let copy = installation.folder().join("log");
    let copy = copy.to_string_lossy().into_owned();
    let exported = installation.run(&["audit", "export", &copy]);
    let log = installation.run(&["audit", "verify", &copy, "--json"]);
    let part = |outcome: &Outcome| json!({ "good": outcome.code == Some(0), "said": said(outcome) });
    json!({
        "recording": part(&verified),
        "every_second": { "good": is_list && holes.is_empty(), "holes": holes, "gaps": gaps,
            "blamed": blamed(&installation.log("ingest")) },
        "reconcile": part(&reconciled),
        "export": part(&exported),
        "log": part(&log),
    })
}

/// The last word of an examiner: the first good one, or that after some minutes.
fn at_rest(installation: &Installation, arguments: &[&str]) -> Outcome {
    let mut outcome = installation.run(arguments);
    for _ in 0..RESTS {
        if outcome.code == Some(0) {
            break;
        }
        sleep(REST);
        outcome = installation.run(arguments);
    }
    outcome
}

fn said(outcome: &Outcome) -> String {
    outcome.out.chars().chain(outcome.err.chars()).take(2_000).collect()
}

/// What the recorder wrote down where it found that the camera broke the protocol, which this camera does
/// not do: then the client or its judge is wrong.
fn blamed(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(GapReason::ProtocolError.as_str_name())).take(20).collect()
}

/// How many gaps there are for each reason.
fn gaps_by_reason(list: &Value) -> BTreeMap<String, u32> {
    let mut gaps: BTreeMap<String, u32> = BTreeMap::new();
    for line in list.as_array().into_iter().flatten().filter(|line| line["kind"] == "gap") {
        *gaps.entry(line["reason"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    gaps
}
