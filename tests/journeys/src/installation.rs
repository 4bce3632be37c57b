//! One installation of Obscura in a directory of its own, driven through its command line.

use std::{
    fs::File,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{MovedTime, Replica, from_a_terminal, wait_for};

/// An auditor beside whoever runs the test.
pub const SECOND_AUDITOR: &str = "a:1";
/// The data-protection officer, by the settings that the helpers write.
pub const OFFICER: &str = "d:1";

/// Who runs the test, as the log knows them.
///
/// # Panics
/// Where it cannot be told.
#[must_use]
pub fn me() -> String {
    let said = Command::new("id").arg("-u").output().unwrap();
    format!("unix:{}", String::from_utf8(said.stdout).unwrap().trim())
}

/// What a command said.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Outcome {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// An installation that runs as long as this lives.
#[derive(Debug)]
pub struct Installation {
    up: Option<Child>,
    dir: TempDir,
    time: MovedTime,
}

impl Installation {
    /// A fresh installation, running.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A fresh installation in which nobody is an auditor yet, as `obscura up` makes it, running.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_as_made() -> Self {
        let mut installation = Self::new(MovedTime::default());
        installation.up();
        installation
    }

    fn new(time: MovedTime) -> Self {
        Self { up: None, dir: TempDir::new().unwrap(), time }
    }

    /// A fresh installation with `[settings]` of an operator for some of its services, running.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_with(settings: &[(&str, String)]) -> Self {
        Self::start_with_at(settings, MovedTime::default())
    }

    /// The same, and it takes this for the time.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_with_at(settings: &[(&str, String)], time: MovedTime) -> Self {
        let mut installation = Self::new(time);
        installation.configure(settings);
        installation.up();
        installation
    }

    /// Writes settings of an operator; whoever runs the test is an auditor.
    fn configure(&self, settings: &[(&str, String)]) {
        let auditors = format!(
            "auditors = [\"{}\", \"{SECOND_AUDITOR}\"]\ndata_protection_officers = [\"{OFFICER}\"]\n",
            me()
        );
        let is_told = settings.iter().any(|(service, _)| *service == "audit");
        let audit = (!is_told).then(|| ("audit", String::new()));
        for (service, settings) in settings.iter().chain(&audit) {
            let folder = self.state().join(service);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
            let auditors = if *service == "audit" { auditors.as_str() } else { "" };
            std::fs::write(folder.join("config.toml"), format!("[settings]\n{auditors}{settings}")).unwrap();
        }
    }

    /// A fresh installation that takes this for the time, running.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_at(time: MovedTime) -> Self {
        Self::start_with_at(&[], time)
    }

    /// Starts a second process of a service, with data of its own and the certificate of the first.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn replica(&self, service: &str, peers: &[(&str, &Path)]) -> Replica {
        Replica::start(&self.state(), service, peers)
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// What programs that are started from now on take for the time, and at once the service that runs with
    /// a clock of its own.
    pub fn set_time(&mut self, time: MovedTime) {
        self.time = time;
        time.set(self.dir.path());
    }

    /// Starts `obscura up`, and waits until every service answers.
    ///
    /// # Panics
    /// Where they do not.
    pub fn up(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("up.log")).unwrap();
        let mut command = self.command(&["up"]);
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        self.up = Some(command.spawn().unwrap());
        wait_for("all services", || {
            let status = self.status();
            let services = status["services"].as_array()?;
            let well = services.len() >= 5 && services.iter().all(|service| service["healthy"] == true);
            well.then_some(())
        });
    }

    /// Process id of `obscura up`.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.up.as_ref().unwrap().id()
    }

    /// Process id of a service.
    ///
    /// # Panics
    /// Where it does not run within a while.
    #[must_use]
    pub fn pid(&self, service: &str) -> u32 {
        wait_for("the process of a service", || {
            let status = self.status();
            let services = status["services"].as_array()?;
            let found = services.iter().find(|found| found["name"] == service)?;
            found["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Ends `obscura up` the polite way, waits for it and says how it ended; nothing where it did not run.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub fn down(&mut self) -> Option<ExitStatus> {
        let mut up = self.up.take()?;
        signal(up.id(), "TERM");
        Some(up.wait().unwrap())
    }

    /// As a power cut, as far as processes go: everything is killed at once.
    ///
    /// # Panics
    /// Where it cannot be.
    pub fn kill_everything(&mut self) {
        let services = self.status();
        let pids =
            services["services"].as_array().unwrap().iter().filter_map(|service| service["pid"].as_u64());
        let pids: Vec<u32> = pids.filter_map(|pid| u32::try_from(pid).ok()).collect();
        let mut up = self.up.take().unwrap();
        signal(up.id(), "KILL");
        pids.iter().for_each(|pid| signal(*pid, "KILL"));
        up.wait().unwrap();
    }

    /// Kills one service without a warning.
    pub fn kill(&self, service: &str) {
        signal(self.pid(service), "KILL");
    }

    /// Stops a service where it stands, as a hung machine would, until [`Installation::thaw`].
    pub fn freeze(&self, service: &str) {
        signal(self.pid(service), "STOP");
    }

    /// Lets a frozen service go on.
    pub fn thaw(&self, pid: u32) {
        signal(pid, "CONT");
    }

    /// What `obscura status` says; null where it cannot say anything yet.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--json"]).out).unwrap_or_default()
    }

    /// Runs a command, whatever it says.
    ///
    /// # Panics
    /// Where the program cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let Output { status, stdout, stderr } =
            self.command(arguments).stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// Starts a command and does not wait for it.
    ///
    /// # Panics
    /// Where the program cannot be started.
    #[must_use]
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = from_a_terminal(&self.command(arguments));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs a command that must work.
    ///
    /// # Panics
    /// Where it does not.
    pub fn must(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "`obscura {}`: {outcome:?}", arguments.join(" "));
        outcome
    }

    /// Runs a command that must fail, and gives what it said about it.
    ///
    /// # Panics
    /// Where it works.
    #[must_use]
    pub fn refused(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_ne!(outcome.code, Some(0), "`obscura {}` should fail: {outcome:?}", arguments.join(" "));
        outcome.err
    }

    /// Adds the site `Shop` in Berlin.
    pub fn add_site(&self) {
        self.must(&[
            "site",
            "add",
            "Shop",
            "--lat",
            "52.52",
            "--lon",
            "13.405",
            "--attested-by",
            "Ada Ventura",
        ]);
    }

    /// Adds a camera with a purpose.
    pub fn add_camera(&self, name: &str, source: &str, more: &[&str]) {
        let purpose = "Clearing up burglaries in the shop";
        let first =
            ["camera", "add", name, source, "--purpose", purpose, "--legal-basis", "legitimate-interests"];
        self.must(&[&first[..], more].concat());
    }

    /// A camera as `obscura status` shows it, once `ready` says so.
    pub fn camera(&self, name: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let status = self.status();
            let cameras = status["cameras"].as_array()?;
            cameras.iter().find(|camera| camera["name"] == name).filter(|camera| ready(camera)).cloned()
        })
    }

    /// What a service wrote into its log.
    #[must_use]
    pub fn log(&self, service: &str) -> String {
        std::fs::read_to_string(self.state().join("logs").join(format!("{service}.log"))).unwrap_or_default()
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command =
            if arguments == ["up"] { self.time.supervisor(self.dir.path()) } else { self.time.obscura() };
        command.env("OBSCURA_STATE", self.state()).args(arguments);
        command
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.down();
        if std::thread::panicking() {
            let name = self.dir.path().file_name().unwrap().to_string_lossy().into_owned();
            let kept = std::env::temp_dir().join(format!("obscura-failed{name}"));
            let _ = Command::new("cp").arg("-r").arg(self.dir.path()).arg(&kept).status();
            eprintln!("the state of the failed installation is in {}", kept.display());
        }
    }
}

/// Sends a signal, for example `TERM`, where the process still runs.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}
