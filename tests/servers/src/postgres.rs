//! PostgreSQL (Debian `postgresql`).

#![expect(clippy::expect_used, clippy::panic, reason = "a test whose server does not run has failed")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::port::Port;

/// Where Debian puts it, one directory for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Both, so that a test that looks for a leaked secret finds nothing else by that name.
const USER: &str = "obscura";
const PASSWORD: &str = "pgsecret7Zq";
/// Starting may take a minute on a machine that is busy.
const POLLS: u32 = 1_200;
const POLL: Duration = Duration::from_millis(50);
/// What the server may be told by `ALTER SYSTEM` stays on top of this. Durability is the default: on. A test has a
/// dozen connections, and as many tests run at a time as the machine has processors.
const CONFIGURATION: &str = "
listen_addresses = '127.0.0.1'
max_connections = 600
shared_buffers = 32MB
timezone = 'UTC'
";
/// Clear passwords on the loopback interface: hashing one costs a debug build a tenth of a second.
const AUTHENTICATION: &str = "local all all trust\nhost all all 127.0.0.1/32 password\n";
/// Waits until this process is gone, however it went, then for the server, and removes the directory.
const JANITOR: &str = r#"
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
if [ -n "$pid" ] && grep -q "$1" "/proc/$pid/cmdline" 2> /dev/null; then kill -QUIT "$pid"; fi
tries=0
while [ -e "$1/data/postmaster.pid" ] && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
rm -rf -- "$1"
"#;

/// A cluster of its own. Ends when dropped and when the process ends, also when that is killed.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    port: Port,
    server: Mutex<Option<Child>>,
    spawner: mpsc::Sender<(Command, mpsc::Sender<Child>)>,
    databases: AtomicU32,
    /// Its input closes when the process ends.
    _janitor: Child,
}

/// The cluster that all tests of this process share. Tests that stop or change it take [`Postgres::own`].
#[must_use]
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::own)
}

impl Postgres {
    /// Makes and starts a cluster that nobody else uses: about two seconds.
    #[must_use]
    pub fn own() -> Self {
        let directory = tempfile::Builder::new().prefix("obscura-postgres-").tempdir();
        let directory = directory.expect("a temporary directory").keep();
        let janitor = janitor(&directory);
        let postgres = Self {
            port: Port::take().expect("a free port"),
            server: Mutex::new(None),
            spawner: spawner(),
            databases: AtomicU32::new(0),
            _janitor: janitor,
            directory,
        };
        postgres.initialise();
        postgres
    }

    /// Makes an empty database and returns its URL, with a password.
    #[must_use]
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name}"));
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{name}", self.port())
    }

    /// The password in every URL, to look for where it must not be.
    #[must_use]
    pub const fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The port, the same after a restart.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Everything that the server keeps: tables, indexes, its write-ahead log.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Runs a statement as the superuser, in no database of a test, and returns the first value.
    pub fn sql(&self, statement: &str) -> String {
        self.psql("-c default_transaction_read_only=off", statement)
    }

    /// Stops it as an administrator does (connections are ended, data is written) and starts it again.
    pub fn restart(&self) {
        self.stop_politely();
        self.start();
    }

    /// Stops it as a crash does: the next start recovers from the log.
    pub fn stop_immediately(&self) {
        self.stop(Signal::QUIT);
    }

    /// Stops it as an administrator does: connections are ended, data is written.
    pub fn stop_politely(&self) {
        self.stop(Signal::INT);
    }

    /// Kills the server with SIGKILL; those that it started find themselves without it and end.
    pub fn kill(&self) {
        self.stop(Signal::KILL);
        let data = self.directory.join("data");
        // Their memory must be gone before there can be a new server.
        wait_until("the processes of the killed server end", || !works_in(&data));
    }

    /// Starts it where it is stopped.
    pub fn start(&self) {
        let mut server = self.server();
        if server.is_some() {
            return;
        }
        let mut command = self.program("postgres");
        let log = fs::File::create(self.directory.join("server.log")).expect("a log");
        command.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        command.args(["-p", &self.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let (answer, child) = mpsc::channel();
        self.spawner.send((command, answer)).expect("the thread that starts servers");
        *server = Some(child.recv().expect("PostgreSQL starts"));
        self.wait_until_it_answers(server.as_mut().expect("it was started"));
    }

    /// Lets transactions that begin from now on only read, or lets them write again.
    pub fn set_read_only(&self, read_only: bool) {
        let value = if read_only { "on" } else { "off" };
        self.sql(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
        self.sql("SELECT pg_reload_conf()");
        let seen = || self.psql("", "SHOW default_transaction_read_only") == value;
        wait_until("the server takes its new configuration", seen);
    }

    fn psql(&self, options: &str, statement: &str) -> String {
        let mut psql = self.program("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        psql.args(["--username", USER, "--dbname", "postgres", "--host"]).arg(&self.directory);
        psql.args(["--port", &self.port().to_string(), "--command", statement]);
        run(psql.env("PGOPTIONS", options))
    }

    fn stop(&self, signal: Signal) {
        let Some(mut child) = self.server().take() else { return };
        kill_process(Pid::from_child(&child), signal).unwrap_or_default();
        child.wait().expect("PostgreSQL ends");
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only the server syncs: a cluster that was cut off while it was made is made anew.
    fn initialise(&self) {
        if getuid().is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(&self.directory));
        }
        let data = self.directory.join("data");
        // The order of words is that of people, as on most servers, and not that of bytes as in SQLite.
        let locale = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"];
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(&data).args(["-U", USER, "-E", "UTF8", "-A", "trust", "--no-sync"]).args(locale);
        run(&mut initdb);
        let path = data.join("postgresql.conf");
        let configuration = fs::read_to_string(&path).expect("the configuration that initdb wrote");
        fs::write(&path, configuration + CONFIGURATION).expect("the configuration is written");
        fs::write(data.join("pg_hba.conf"), AUTHENTICATION).expect("the rules are written");
        self.start();
        self.sql(&format!("ALTER ROLE {USER} PASSWORD '{PASSWORD}'"));
    }

    fn wait_until_it_answers(&self, child: &mut Child) {
        wait_until("PostgreSQL answers", || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
                panic!("PostgreSQL ended with {status}:\n{log}");
            }
            let mut ready = self.program("pg_isready");
            ready
                .arg("--quiet")
                .arg("--host")
                .arg(&self.directory)
                .args(["--port", &self.port().to_string()]);
            ready.status().is_ok_and(|status| status.success())
        });
    }

    /// A program of the server, with the rights of `postgres` where we are root, which the server
    /// refuses to be. It ends with the thread that started it.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]).current_dir(&self.directory);
        if getuid().is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.arg(programs().join(name));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop(Signal::QUIT);
    }
}

/// Whether any process has this working directory, as all of the server have its data directory.
fn works_in(directory: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .into_iter()
        .any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == directory))
}

fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name().and_then(OsStr::to_str)?.parse::<u32>().ok();
    let newest = versions.filter(|path| number(path).is_some()).max_by_key(number);
    newest.expect("PostgreSQL: apt-get install postgresql").join("bin")
}

/// Linux ends a child together with the thread that started it, and threads of tests are short-lived.
fn spawner() -> mpsc::Sender<(Command, mpsc::Sender<Child>)> {
    let (sender, receiver) = mpsc::channel::<(Command, mpsc::Sender<Child>)>();
    thread::spawn(move || {
        for (mut command, answer) in receiver {
            drop(answer.send(command.spawn().expect("setpriv")));
        }
    });
    sender
}

fn janitor(directory: &Path) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", JANITOR, "janitor"]).arg(directory).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell")
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("setpriv and the programs of PostgreSQL");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..POLLS {
        if condition() {
            return;
        }
        thread::sleep(POLL);
    }
    panic!("it did not happen in a minute: {what}");
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    #[test]
    #[ignore = "a part of the test below, which kills it"]
    fn a_cluster_whose_process_waits() {
        println!("directory={}", shared().directory.display());
        thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn a_cluster_ends_and_is_removed_with_its_process_also_when_that_is_killed() {
        let mut test = Command::new(std::env::current_exe().expect("this program"));
        test.args(["--ignored", "--nocapture", "--exact", "postgres::tests::a_cluster_whose_process_waits"]);
        let mut process = test.stdout(Stdio::piped()).spawn().expect("this program runs twice");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let directory = lines.map(|line| line.expect("text")).find_map(|line| {
            let (_, directory) = line.split_once("directory=")?;
            Some(PathBuf::from(directory))
        });
        let directory = directory.expect("it says where it is");
        let pid = fs::read_to_string(directory.join("data/postmaster.pid")).expect("it runs");
        let server = Path::new("/proc").join(pid.lines().next().expect("a number"));
        assert!(server.exists());
        process.kill().expect("it is killed");
        process.wait().expect("it is dead");
        wait_until("the directory goes", || !directory.exists());
        wait_until("the server goes", || {
            fs::read_to_string(server.join("cmdline")).is_ok_and(|line| line.is_empty()) || !server.exists()
        });
    }

    #[test]
    fn a_cluster_that_crashed_or_was_killed_starts_again_with_what_was_committed() {
        let postgres = Postgres::own();
        postgres.sql("CREATE TABLE kept AS SELECT 7 AS number");
        for stop in [Postgres::stop_immediately, Postgres::kill] {
            stop(&postgres);
            postgres.start();
            assert_eq!(postgres.sql("SELECT number FROM kept"), "7");
        }
    }
}
