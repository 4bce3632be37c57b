//! Garage as S3 (crate `garage`, which `tools/need.sh garage` builds): one node with one bucket and one
//! access key. It insists on its region and does not honour conditional uploads.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{port::Port, process::Process};

const ACCESS_KEY: &str = "GK0b5c0ba0b5c0ba0b5c0ba0b5";
const SECRET_KEY: &str = "0b5c0ba00b5c0ba00b5c0ba00b5c0ba00b5c0ba00b5c0ba00b5c0ba00b5c0ba0";
const REGION: &str = "eu-obscura-1";
const BUCKET: &str = "footage";
const POLL: Duration = Duration::from_millis(50);
const POLLS: u32 = 1_200;

/// A server of its own. Ends when dropped and when the process ends, also when that is killed.
#[derive(Debug)]
pub struct Garage {
    ports: [Port; 3],
    _process: Process,
    _directory: TempDir,
}

impl Garage {
    /// Starts a server with an empty bucket.
    ///
    /// # Errors
    /// Where the program is missing or does not answer.
    pub fn own() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("obscura-garage-").tempdir()?;
        let ports = [Port::take()?, Port::take()?, Port::take()?];
        let config = directory.path().join("garage.toml");
        fs::write(&config, configuration(directory.path(), ports.each_ref().map(Port::number)))?;
        let mut command = Command::new(program()?);
        command.arg("-c").arg(&config).args(["server", "--single-node", "--default-bucket"]);
        command.env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY).env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY);
        command.env("GARAGE_DEFAULT_BUCKET", BUCKET);
        let log = directory.path().join("log");
        let mut process = Process::start(&command, &log)?;
        wait_until_it_answers(&mut process, ports[0].number(), &log)?;
        Ok(Self { ports, _process: process, _directory: directory })
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0].number())
    }

    /// Access key and secret of an identity that may read and write the bucket.
    #[must_use]
    pub const fn credentials(&self) -> (&'static str, &'static str) {
        (ACCESS_KEY, SECRET_KEY)
    }

    /// The region to sign for, and no other.
    #[must_use]
    pub const fn region(&self) -> &'static str {
        REGION
    }

    /// The bucket.
    #[must_use]
    pub const fn bucket(&self) -> &'static str {
        BUCKET
    }
}

/// It listens once the layout of its one node and the bucket are made.
fn wait_until_it_answers(process: &mut Process, port: u16, log: &Path) -> Result<()> {
    for _ in 0..POLLS {
        if fs::read_to_string(log)?.contains(BUCKET)
            && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            return Ok(());
        }
        if !process.is_running() {
            break;
        }
        thread::sleep(POLL);
    }
    bail!("garage does not answer:\n{}", fs::read_to_string(log).unwrap_or_default())
}

fn configuration(directory: &Path, [s3, rpc, admin]: [u16; 3]) -> String {
    let directory = directory.display();
    format!(
        r#"
metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{SECRET_KEY}"

[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{s3}"
root_domain = ".s3.localhost"

[admin]
api_bind_addr = "127.0.0.1:{admin}"
"#
    )
}

fn program() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/garage/bin/garage");
    path.canonicalize().with_context(|| format!("{} is missing: run tools/need.sh garage", path.display()))
}
