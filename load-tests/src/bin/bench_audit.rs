//! How fast the audit log appends, beside what the disk can sync, and how fast a copy verifies offline.
//!
//! Writers append one event after the other, each an access event with sealed fields, and wait for the signed
//! receipt, which comes after the commit: within the process, and over gRPC with mutual TLS (clients and service
//! share the machine). On SQLite and on PostgreSQL. The peer writes 4 KiB at a time to a file on the same disk
//! and syncs it (`fdatasync`), one after the other, in the same run. Verifying reads a log of a million entries
//! with nothing but the public key; its peer hashes the same bytes once (SHA-256).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use clap::Parser;
use futures::future::try_join_all;
use obscura_clock::{SharedClock, SystemClock};
use obscura_load_tests::{
    audit::{Machine, ORIGIN, event, viewing},
    processes,
    report::{Line, quantile_ms},
};
use obscura_ocsf::{ExamplePersons, encode, example_source};
use obscura_proto::audit::v1::{AppendRequest, Event, audit_service_client::AuditServiceClient};
use obscura_test_servers::postgres::Postgres;
use obscura_tlog::{
    BundleId, CHECKPOINT_PATH, Checkpoint, DirectoryCopy, Expectations, LogKey, Policy, Pruned, RightEdge,
    SignedCheckpoint, encode_bundle, leaf_hash, verify_copy,
};
use serde_json::json;
use tonic::transport::Channel;

/// Bytes that the peer writes before each sync.
const PEER_BYTES: usize = 4_096;
/// Names of the ways to the log.
const DIRECT: &str = "in process";
const GRPC: &str = "gRPC with mTLS";
/// Entries in a bundle.
const BUNDLE: usize = 256;

/// Measures appends and offline verification.
#[derive(Parser)]
struct Arguments {
    /// Folder on the disk to measure.
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// Writers at the same time.
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// Seconds for each measurement of appends.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Databases.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgresql")]
    databases: Vec<String>,
    /// Ways to the log.
    #[arg(long, value_delimiter = ',', default_value = "in process,gRPC with mTLS")]
    transports: Vec<String>,
    /// Connections that the writers share over gRPC: an installation has about as many services.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Entries of the log that is verified; 0 to leave that out.
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Arguments { writers, seconds, connections, .. } = arguments;
    ensure!(writers > 0 && seconds > 0 && connections > 0, "writers, seconds and connections start at 1");
    fs::create_dir_all(&arguments.folder)?;
    let clock = SystemClock::shared();
    for database in &arguments.databases {
        ensure!(["sqlite", "postgresql"].contains(&&**database), "a database is sqlite or postgresql");
        for transport in &arguments.transports {
            ensure!([DIRECT, GRPC].contains(&&**transport), "a transport is \"{DIRECT}\" or \"{GRPC}\"");
            append(&arguments, &clock, database, transport).await?;
        }
    }
    if arguments.entries > 0 {
        verify(&arguments, &clock)?;
    }
    Ok(())
}

/// One way to the log.
enum Way {
    Direct(std::sync::Arc<obscura_audit::Running>),
    Grpc(AuditServiceClient<Channel>),
}

impl Way {
    async fn append(&mut self, event: Event) -> Result<()> {
        match self {
            Self::Direct(running) => drop(running.append(&event).await?),
            Self::Grpc(client) => drop(client.append(AppendRequest { event: Some(event) }).await?),
        }
        Ok(())
    }
}

async fn append(arguments: &Arguments, clock: &SharedClock, database: &str, transport: &str) -> Result<()> {
    let syncs = syncs_per_second(&arguments.folder, clock)?;
    let server = (database == "postgresql").then(Postgres::own);
    let url = server.as_ref().map(Postgres::new_database);
    let machine = Machine::new(&arguments.folder, url.as_deref())?;
    let (daemon, running) = machine.start().await?;
    let (router, shutdown) = (running.router(), daemon.shutdown.clone());
    let served = tokio::spawn(daemon.serve(router, &[]));
    while !machine.path("address").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let channels = (0..arguments.connections).map(|_| machine.channel()).collect::<Result<Vec<_>>>()?;
    let way = |writer: usize| match channels.get(writer % arguments.connections) {
        Some(channel) if transport == GRPC => Way::Grpc(AuditServiceClient::new(channel.clone())),
        _ => Way::Direct(running.clone()),
    };
    let example = viewing()?;
    // Connections and persons' keys are made before the time runs.
    write(arguments, clock, &example, &way, Duration::from_millis(500)).await?;
    let before = processes::cost(&[std::process::id()]);
    let took = Duration::from_secs(arguments.seconds);
    let mut times = write(arguments, clock, &example, &way, took).await?;
    let after = processes::cost(&[std::process::id()]);
    times.sort();
    let rate = count(times.len()) / took.as_secs_f64();
    let params = json!({
        "database": database, "transport": transport, "writers": arguments.writers, "seconds": arguments.seconds,
        "connections": if transport == GRPC { arguments.connections } else { 0 },
        "appends": times.len(), "rss_mib_before": before.rss_mib.round(), "rss_mib_after": after.rss_mib.round(),
        "cpu_us_per_append": ((after.cpu_seconds - before.cpu_seconds) * 1e6 / count(times.len())).round(),
    });
    let line = |metric, value, unit, peer: Option<(&'static str, f64)>| {
        let (peer, peer_value) = peer.unzip();
        Line { bench: "audit", metric, value, unit, peer, peer_value, params: params.clone() }.print();
    };
    line("appends_per_s", rate, "1/s", Some(("fdatasync of 4 KiB, one after the other", syncs)));
    line("append_ms_p50", quantile_ms(&times, 0.5), "ms", None);
    line("append_ms_p99", quantile_ms(&times, 0.99), "ms", None);
    shutdown.cancel();
    served.await??;
    Ok(())
}

/// Every writer appends one after the other; how long each append took.
async fn write(
    arguments: &Arguments,
    clock: &SharedClock,
    example: &Event,
    way: &impl Fn(usize) -> Way,
    during: Duration,
) -> Result<Vec<Duration>> {
    let began = clock.monotonic();
    let writers = (0..arguments.writers).map(|writer| {
        let (mut way, clock, example) = (way(writer), clock.clone(), example.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while clock.monotonic().since(began) < during {
                let start = clock.monotonic();
                way.append(event(&example, writer)).await?;
                times.push(clock.monotonic().since(start));
            }
            anyhow::Ok(times)
        })
    });
    let written = try_join_all(writers).await?;
    Ok(written.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn syncs_per_second(folder: &Path, clock: &SharedClock) -> Result<f64> {
    let path = folder.join("fdatasync.tmp");
    let file = File::create(&path)?;
    let (began, bytes, mut syncs) = (clock.monotonic(), [7; PEER_BYTES], 0_u32);
    while clock.monotonic().since(began) < Duration::from_secs(2) {
        file.write_all_at(&bytes, u64::from(syncs) * bytes.len() as u64)?;
        file.sync_data()?;
        syncs += 1;
    }
    let rate = f64::from(syncs) / clock.monotonic().since(began).as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn verify(arguments: &Arguments, clock: &SharedClock) -> Result<()> {
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let key = LogKey::from_seed(ORIGIN, &[7; 32])?;
    let bytes = write_log(folder.path(), &key, arguments.entries)?;
    let copy = DirectoryCopy::open(folder.path())?;
    let expected = Expectations {
        pruned: Pruned::Nothing,
        policy: Policy::none(),
        earlier: Vec::new(),
        more_files: Vec::new(),
    };
    let began = clock.monotonic();
    let report = verify_copy(&copy, &key.verifier(), &expected, &mut |_| {})?;
    let took = clock.monotonic().since(began).as_secs_f64();
    ensure!(report.is_good(), "the log that was just written does not verify: {:?}", report.problems);
    let peer = hash_once(folder.path(), clock, arguments.entries)?;
    let params = json!({ "entries": arguments.entries, "leaf_bytes": bytes });
    Line {
        bench: "audit",
        metric: "verify_s",
        value: took,
        unit: "s",
        peer: Some("reading and SHA-256 of the same entries, once"),
        peer_value: Some(peer),
        params,
    }
    .print();
    Ok(())
}

/// Writes a log as a copy of it would be, and returns the bytes of its leaves.
fn write_log(folder: &Path, key: &LogKey, entries: usize) -> Result<usize> {
    let (example, mut edge, mut bytes) = (viewing()?, RightEdge::default(), 0);
    let (mut written, mut partial) = (0, BTreeMap::new());
    while written < entries {
        let width = BUNDLE.min(entries - written);
        let leaves: Vec<Vec<u8>> = (0..width).map(|_| leaf(&example)).collect::<Result<_>>()?;
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let id = BundleId::new((written / BUNDLE).try_into()?, width.try_into()?).context("a bundle")?;
        put(&folder.join(id.to_string()), &encode_bundle(&leaves)?)?;
        written += width;
        for tile in edge.append(&hashes) {
            if tile.id.is_full() {
                put(&folder.join(tile.id.to_string()), &tile.to_bytes())?;
            } else {
                partial.insert(tile.id.level(), tile);
            }
        }
        bytes += leaves.iter().map(Vec::len).sum::<usize>();
    }
    for id in RightEdge::tile_ids(edge.size()).into_iter().filter(|id| !id.is_full()) {
        let tile = partial.get(&id.level()).filter(|tile| tile.id == id).context("a tile is missing")?;
        put(&folder.join(id.to_string()), &tile.to_bytes())?;
    }
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: edge.size(),
        root: edge.root(),
        extension: String::new(),
    };
    put(&folder.join(CHECKPOINT_PATH), SignedCheckpoint::sign(checkpoint, key)?.to_string().as_bytes())?;
    Ok(bytes)
}

fn leaf(example: &Event) -> Result<Vec<u8>> {
    let source = example_source();
    let leaf = encode(&event(example, 1), &source, &mut ExamplePersons)?;
    Ok(leaf.bytes)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(fs::write(path, bytes)?)
}

fn hash_once(folder: &Path, clock: &SharedClock, entries: usize) -> Result<f64> {
    let began = clock.monotonic();
    for first in (0..entries).step_by(BUNDLE) {
        let width = BUNDLE.min(entries - first);
        let id = BundleId::new((first / BUNDLE).try_into()?, width.try_into()?).context("a bundle")?;
        let bundle = fs::read(folder.join(id.to_string()))?;
        std::hint::black_box(digest(&SHA256, &bundle));
    }
    Ok(clock.monotonic().since(began).as_secs_f64())
}
