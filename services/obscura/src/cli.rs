//! The command line: nouns, verbs, and what they have in common.

mod audit;
mod camera;
mod completion;
mod demo;
mod ground;
mod hold;
mod key;
mod password;
mod recording;
mod retention;
mod site;
mod status;
mod storage;
mod stretch;
mod up;
mod witness;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use obscura_clock::{SharedClock, SystemClock};

use crate::{
    installation::{Installation, default_root},
    output::Output,
    problem::{Context as _, Result},
    services::Services,
};

const EXAMPLES: &str = "\
Examples:
  obscura demo                             see it record a built-in camera
  obscura up                               run the recorder of this machine
  obscura site add Shop --lat 52.52 --lon 13.405 --attested-by \"Ada Ventura\"
  obscura camera add door rtsp://10.0.0.5/stream1 --username viewer \\
      --purpose \"Clearing up burglaries\" --legal-basis legitimate-interests --owner \"Shop manager\"
  obscura recording get door --from -2m --to now -o door.mp4 --reason \"Broken window\"
  obscura recording verify

Exit codes: 0 it worked, 1 it did not, 2 the command was not understood.";

/// Records cameras sealed, keeps footage in its zone, and reads it back for a reason.
#[derive(Debug, Parser)]
#[command(name = "obscura", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// State directory of the installation [default: $XDG_DATA_HOME/obscura or ~/.local/share/obscura]
    #[arg(long, global = true, env = "OBSCURA_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON for programs instead of words
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the recorder of this machine until it is told to end
    Up(up::Up),
    /// Show how services and cameras do
    Status,
    /// Places with coordinates that somebody attests
    #[command(subcommand)]
    Site(site::Site),
    /// Video sources with a place and a purpose
    #[command(subcommand)]
    Camera(camera::Camera),
    /// What was recorded: list it, get it, verify it
    #[command(subcommand)]
    Recording(recording::Recording),
    /// Objects and their index: how they do, and whether everything is accounted for
    #[command(subcommand)]
    Storage(storage::Storage),
    /// Footage kept beyond its retention for a case
    #[command(subcommand)]
    Hold(hold::Hold),
    /// How long footage is kept
    #[command(subcommand)]
    Retention(retention::Retention),
    /// Custody of the keys that footage is sealed under
    #[command(subcommand)]
    Key(key::Key),
    /// The log that nobody can edit: read it, prove it, verify a copy of it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Cosign checkpoints of somebody else's audit log
    Witness(witness::Witness),
    /// See Obscura at work with a built-in camera, a video file or an RTSP camera
    Demo(demo::Demo),
    /// Print a completion script for a shell
    Completion(completion::Completion),
}

/// What every command works with.
#[derive(Debug)]
struct Session {
    state: Option<PathBuf>,
    out: Output,
    clock: SharedClock,
}

impl Session {
    /// The state directory, absolute.
    fn root(&self) -> Result<PathBuf> {
        let root = self.state.clone().map_or_else(default_root, Ok)?;
        std::path::absolute(&root).doing(format_args!("use {} as the state directory", root.display()))
    }

    fn installation(&self) -> Result<Installation> {
        Installation::open(&self.root()?)
    }

    fn services(&self) -> Result<Services> {
        Services::of(&self.installation()?)
    }
}

/// Parses the command line, does what it says and gives the exit code.
pub async fn run() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let out = Output::new(common.json);
    let session = Session { state: common.state, out, clock: SystemClock::shared() };
    match dispatch(&session, command).await {
        Ok(code) => code,
        Err(problem) => {
            out.problem(&problem);
            problem.exit_code()
        }
    }
}

async fn dispatch(session: &Session, command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(up) => up.run(session).await?,
        Command::Status => return status::run(session).await,
        Command::Site(site) => site.run(session).await?,
        Command::Camera(camera) => camera.run(session).await?,
        Command::Recording(recording) => return recording.run(session).await,
        Command::Storage(storage) => return storage.run(session).await,
        Command::Hold(hold) => hold.run(session).await?,
        Command::Retention(retention) => retention.run(session).await?,
        Command::Key(key) => key.run(session).await?,
        Command::Audit(audit) => return audit.run(session).await,
        Command::Witness(witness) => witness.run(session).await?,
        Command::Demo(demo) => return demo.run(session).await,
        Command::Completion(completion) => completion.run()?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent_and_every_command_explains_itself() {
        fn explained(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(explained);
        }
        Cli::command().debug_assert();
        explained(&Cli::command());
    }

    #[test]
    fn relative_times_are_not_taken_for_options() {
        parse("obscura recording get door --from -2m --to now -o x.mp4 --reason r").unwrap();
        parse("obscura recording get door --from -2m --for 30s -o x.mp4 --reason r").unwrap();
        parse("obscura site add Quito --lat -0.18 --lon -78.47 --attested-by Ada").unwrap();
    }

    #[test]
    fn common_options_go_before_and_behind_the_command() {
        assert!(parse("obscura --json --state /x status").unwrap().common.json);
        assert!(parse("obscura status --json --state /x").unwrap().common.json);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "obscura recording get door --from -2m --to now --for 30s -o x.mp4 --reason r",
            "obscura demo --video a.mp4 --rtsp rtsp://cam/1",
            "obscura camera add door a.mp4 --purpose p --legal-basis consent --lat 1",
            "obscura camera add door a.mp4 --purpose p --legal-basis consent --zone-decision eea",
        ] {
            let error = parse(line).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument),
                "{error}"
            );
        }
    }
}
