//! rsyslog (Debian `rsyslog`, `rsyslog-gnutls`) as a TLS receiver that wants client certificates.
//!
//! It runs as an ordinary process with a configuration and a directory of its own and writes each
//! message as one line of a file, as it stands in its memory: what was not written when it is killed
//! is gone.

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

const PROGRAM: &str = "/usr/sbin/rsyslogd";
const POLL: Duration = Duration::from_millis(20);
/// Starting may take a minute on a machine that is busy.
const POLLS: u32 = 3_000;
/// Begins every line, so that a line that was cut off by a kill can be told from its successor.
pub const LINE_START: &str = "@@ ";

/// A receiver of its own, on a port that stays the same over restarts.
#[derive(Debug)]
pub struct Syslog {
    directory: TempDir,
    port: Port,
    process: Option<Process>,
    /// A sender that it knows.
    pub client: Certificate,
    /// A sender of whom it knows nothing: from another authority.
    pub stranger: Certificate,
}

impl Syslog {
    /// Makes and starts a receiver.
    ///
    /// # Errors
    /// Where the program is missing or does not answer.
    pub fn own() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("obscura-syslog-").tempdir()?;
        let authority = Authority::new(directory.path())?;
        authority.server("server")?;
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere)?;
        let client = authority.service("client", "spiffe://shop.example/obscura/audit")?;
        let stranger =
            Authority::new(&elsewhere)?.service("client", "spiffe://shop.example/obscura/audit")?;
        let mut syslog = Self {
            port: Port::take()?,
            process: None,
            stranger: Certificate { ca: client.ca.clone(), ..stranger },
            client,
            directory,
        };
        fs::write(syslog.path("rsyslog.conf"), configuration(syslog.directory.path(), syslog.port.number()))?;
        syslog.start()?;
        Ok(syslog)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port.number())
    }

    /// Starts it again where it was killed.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn start(&mut self) -> Result<()> {
        // A killed one leaves its own behind and would call the next one a second instance.
        let _ = fs::remove_file(self.path("rsyslog.pid"));
        let mut command = Command::new(PROGRAM);
        command.current_dir(self.directory.path()).arg("-n");
        command.arg("-f").arg(self.path("rsyslog.conf")).arg("-i").arg(self.path("rsyslog.pid"));
        let process = self.process.insert(Process::start(&command, &self.path("server.log"))?);
        for _ in 0..POLLS {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).is_ok() {
                return Ok(());
            }
            if !process.is_running() {
                break;
            }
            thread::sleep(POLL);
        }
        let said = fs::read_to_string(self.path("server.log")).unwrap_or_default();
        bail!("rsyslogd does not answer; `apt-get install rsyslog rsyslog-gnutls`?\n{said}")
    }

    /// Stops it in the middle: its kernel acknowledges what it does not read.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().context("it does not run")?.pause()
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What it wrote down: structured data and message of each whole line, in the order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<(String, String)> {
        let text = fs::read(self.path("out.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.split('\n').filter_map(parts).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A line that was cut off stands before its successor on the same line: the last start counts.
fn parts(line: &str) -> Option<(String, String)> {
    let (_, line) = line.rsplit_once(LINE_START)?;
    let (data, message) = line.split_once("] ")?;
    Some((format!("{data}]"), message.trim_start().to_owned()))
}

fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        r#"
global(
  workDirectory="{directory}"
  maxMessageSize="128k"
  parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{directory}/ca.pem"
  defaultNetstreamDriverCertFile="{directory}/server.pem"
  defaultNetstreamDriverKeyFile="{directory}/server.key"
)
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid" MaxSessions="100")
template(name="line" type="string" string="{LINE_START}%structured-data% %msg%\n")
ruleset(name="all") {{ action(type="omfile" file="{directory}/out.log" template="line" asyncWriting="off" flushOnTXEnd="on") }}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="all")
"#
    )
}
