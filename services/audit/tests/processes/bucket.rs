//! The log in a bucket of a real S3 server: a copy that verifies, and an object store that goes away.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use obscura_blob::{BlobStore, S3Bucket, S3Settings, WebTrust, read};
use obscura_clock::SystemClock;
use obscura_test_servers::{postgres, seaweedfs};
use tokio::net::{TcpListener, TcpStream};

use crate::machine::{Machine, ONLY, Receipts, append, event, eventually};

/// Between the log and the server: takes no connection and ends all it has while it is away.
struct Way {
    endpoint: String,
    is_away: Arc<AtomicBool>,
    /// Connections to the server.
    open: Arc<AtomicUsize>,
}

impl Way {
    async fn to(endpoint: &str) -> Self {
        let server = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (is_away, open) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        tokio::spawn({
            let (is_away, open) = (is_away.clone(), open.clone());
            async move {
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    let (server, is_away, open) = (server.clone(), is_away.clone(), open.clone());
                    tokio::spawn(async move {
                        let away = async {
                            while !is_away.load(Ordering::SeqCst) {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                        };
                        let both = async {
                            let mut server = TcpStream::connect(server).await.unwrap();
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        };
                        open.fetch_add(1, Ordering::SeqCst);
                        tokio::select! {
                            biased;
                            () = away => {}
                            () = both => {}
                        }
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Self { endpoint, is_away, open }
    }

    /// On return nothing reaches the server any more.
    async fn go_away(&self) {
        self.is_away.store(true, Ordering::SeqCst);
        let is_quiet = async || self.open.load(Ordering::SeqCst) == 0;
        eventually("the connections to the object store end", is_quiet).await;
    }

    fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
    }
}

/// The bucket as a stranger sees it who has nothing else of the log.
fn bucket(name: &str) -> S3Bucket {
    let server = seaweedfs::shared();
    let (access_key, secret_key) = server.credentials();
    let settings = S3Settings {
        endpoint: server.endpoint().parse().unwrap(),
        region: server.region().to_owned(),
        bucket: name.to_owned(),
        virtual_host: false,
        access_key: access_key.to_owned(),
        secret_key: secret_key.to_owned(),
        trust: WebTrust { ca: None, allow_http: true },
    };
    S3Bucket::open(&settings, SystemClock::shared()).unwrap()
}

async fn download(bucket: &S3Bucket, to: &Path) {
    let mut after = None;
    loop {
        let keys = bucket.list("", after.as_ref(), 100).await.unwrap();
        for key in &keys {
            let size = bucket.size(key).await.unwrap();
            let path = to.join(key.to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, read(bucket, key, 0..size).await.unwrap()).unwrap();
        }
        match keys.last() {
            Some(last) => after = Some(last.clone()),
            None => return,
        }
    }
}

async fn published(machine: &Machine, bucket: &S3Bucket) -> u64 {
    let key = "checkpoint".parse().unwrap();
    // In one request: its length may change with the next one.
    let Ok(note) = bucket.read_whole(&key, 64 << 10).await else { return 0 };
    let note = String::from_utf8(note.to_vec()).unwrap();
    machine.verifier().verify(&note).unwrap().checkpoint().size
}

/// The size of the log that holds everything that was acknowledged.
fn acknowledged(machine: &Machine, receipts: &Receipts) -> u64 {
    let receipts = receipts.lock().unwrap();
    let index = |receipt| obscura_access::verify_receipt(&machine.audit, receipt).unwrap().leaf_index + 1;
    receipts.values().map(index).max().unwrap_or_default()
}

async fn fill(machine: &Machine, receipts: &Receipts, entries: usize) {
    let mut client = machine.client("keys", ONLY);
    for _ in 0..entries {
        assert!(append(&mut client, receipts, &event()).await, "appending does not need the object store");
    }
}

async fn settings(machine: &Machine, name: &str, way: &Way) -> String {
    let (access_key, secret_key) = seaweedfs::shared().credentials();
    machine.private("credentials", format!("{access_key}\n{secret_key}\n").as_bytes());
    format!(
        "[settings.object_store]\nendpoint = {:?}\nregion = {:?}\nbucket = {name:?}\ncredentials_file = {:?}\n\
         allow_http = true\n",
        way.endpoint,
        seaweedfs::shared().region(),
        machine.path("credentials"),
    )
}

async fn publishes_to_a_bucket(with_postgres: bool) {
    let (name, way) = (seaweedfs::shared().new_bucket(), Way::to(&seaweedfs::shared().endpoint()).await);
    let (machine, bucket, receipts) = (Machine::new(""), bucket(&name), Receipts::default());
    let settings = settings(&machine, &name, &way).await;
    let new_database = || machine.private("url", postgres::shared().new_database().as_bytes());
    let database = if with_postgres {
        new_database();
        format!("database_url_file = {:?}\n", machine.path("url"))
    } else {
        String::new()
    };
    machine.configure(ONLY, "data", &(database + &settings));

    let process = machine.start(ONLY).await;
    // Over the end of a tile and of a bundle.
    fill(&machine, &receipts, 300).await;
    let is_published = async || published(&machine, &bucket).await >= acknowledged(&machine, &receipts);
    eventually("the bucket catches up", is_published).await;
    let seen = [machine.checkpoint(ONLY).await];

    way.go_away().await;
    // A checkpoint that is at the server already may still be stored: it is one of a log without this entry.
    fill(&machine, &receipts, 1).await;
    let before = acknowledged(&machine, &receipts);
    fill(&machine, &receipts, 300).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(published(&machine, &bucket).await < before, "it is published past the object store's absence");
    way.come_back();
    eventually("the bucket catches up", is_published).await;
    assert!(process.terminate());

    let copy = tempfile::tempdir().unwrap();
    download(&bucket, copy.path()).await;
    assert!(copy.path().join("tile/entries/001").exists() && !machine.path("data/log").exists());
    machine.verify(copy.path(), &seen);

    if with_postgres {
        new_database();
    } else {
        for file in ["audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"] {
            let _ = fs::remove_file(machine.path("data").join(file));
        }
    }
    let said = machine.complaint(ONLY);
    assert!(said.contains("the published checkpoint") && said.contains("would fork the log"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_holds_a_copy_that_verifies_and_may_be_away_for_a_while() {
    publishes_to_a_bucket(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_holds_a_copy_that_verifies_with_postgresql_too() {
    publishes_to_a_bucket(true).await;
}
