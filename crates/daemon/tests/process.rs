//! A service as a real process: what it does on SIGTERM, and when its supervisor dies.
//!
//! There is no service to start in this crate, so this program is one itself when it is called
//! with `--config`, and a supervisor when it is called with `supervise`.

use std::{
    env, fs,
    net::TcpStream,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use obscura_clock::SystemClock;
use obscura_daemon::{Config, Daemon, Trust};
use obscura_identity::Ca;
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag, _file] if flag == "--config" => serve(),
        [verb, file] if verb == "supervise" => supervise(Path::new(file)),
        _ => {
            sigterm_ends_a_service_with_exit_code_0()?;
            sigint_ends_a_service_with_exit_code_0()?;
            a_service_does_not_outlive_its_supervisor()?;
            a_service_whose_supervisor_is_gone_already_does_not_start()?;
            a_configuration_that_is_not_there_ends_with_words_and_exit_code_1()
        }
    }
}

#[tokio::main]
async fn serve() -> Result<()> {
    let daemon = Daemon::start("keys").await?;
    // Where a test fails nobody else would end it.
    tokio::time::timeout(PATIENCE * 2, daemon.serve(Router::new(), &[])).await?
}

/// Starts the service and never looks after it again.
fn supervise(config: &Path) -> Result<()> {
    start(config)?.wait()?;
    Ok(())
}

fn sigterm_ends_a_service_with_exit_code_0() -> Result<()> {
    ends_on(Signal::TERM)
}

fn sigint_ends_a_service_with_exit_code_0() -> Result<()> {
    ends_on(Signal::INT)
}

fn ends_on(signal: Signal) -> Result<()> {
    let place = Place::new()?;
    let mut service = start(&place.config)?;
    let address = place.address()?;
    kill_process(pid(&service)?, signal)?;
    let status = ended(&mut service)?;
    ensure!(status.code() == Some(0), "{signal:?}: {status}");
    ensure!(TcpStream::connect(address).is_err(), "{signal:?}: something still listens");
    Ok(())
}

fn a_service_does_not_outlive_its_supervisor() -> Result<()> {
    let place = Place::new()?;
    let mut supervisor = Command::new(env::current_exe()?).arg("supervise").arg(&place.config).spawn()?;
    let address = place.address()?;
    ensure!(TcpStream::connect(&address).is_ok(), "the service listens");
    supervisor.kill()?;
    ensure!(ended(&mut supervisor)?.signal() == Some(Signal::KILL.as_raw()), "the supervisor was killed");
    until("the service ends", || TcpStream::connect(&address).is_err())
}

fn a_service_whose_supervisor_is_gone_already_does_not_start() -> Result<()> {
    let place = Place::new()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg("--config").arg(&place.config).env("OBSCURA_SUPERVISOR", "1");
    let output = command.output()?;
    let words = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && words.contains("the supervisor ended"), "{words}");
    Ok(())
}

fn a_configuration_that_is_not_there_ends_with_words_and_exit_code_1() -> Result<()> {
    let output = Command::new(env::current_exe()?).args(["--config", "/nowhere/keys.toml"]).output()?;
    let words = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && words.contains("/nowhere/keys.toml"), "{words}");
    Ok(())
}

fn start(config: &Path) -> Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command
        .arg("--config")
        .arg(config)
        .env("OBSCURA_SUPERVISOR", std::process::id().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command.spawn()?)
}

fn pid(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id().try_into()?).context("a process id")
}

fn ended(child: &mut Child) -> Result<ExitStatus> {
    until("the process ends", || child.try_wait().is_ok_and(|status| status.is_some()))?;
    Ok(child.wait()?)
}

fn until(what: &str, mut happened: impl FnMut() -> bool) -> Result<()> {
    let clock = SystemClock::shared();
    let started = clock.monotonic();
    while !happened() {
        ensure!(clock.monotonic().since(started) < PATIENCE, "waited in vain: {what}");
        sleep(TICK);
    }
    Ok(())
}

/// Everything one service needs on disk.
struct Place {
    config: PathBuf,
    address_file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let clock = SystemClock::shared();
        let ca = Ca::create(&at("ca"), &"shop.example".parse()?, &*clock)?;
        ca.issue("keys", &at("identity"), Duration::from_hours(1), &*clock)?;
        Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit: [3; 32] }.save(&at("trust.toml"))?;
        let config = Config {
            service: "keys".into(),
            zone: "eea".parse()?,
            data_dir: at("data"),
            identity_dir: at("identity"),
            trust_file: at("trust.toml"),
            listen: "127.0.0.1:0".parse()?,
            address_file: Some(at("keys.addr")),
            hand_over_socket: None,
            log_json: false,
            peers: Default::default(),
            settings: Default::default(),
        };
        fs::write(at("keys.toml"), toml::to_string(&config)?)?;
        Ok(Self { config: at("keys.toml"), address_file: at("keys.addr"), _folder: folder })
    }

    fn address(&self) -> Result<String> {
        until("the service listens", || self.address_file.exists())?;
        Ok(fs::read_to_string(&self.address_file)?.trim_end().to_owned())
    }
}
