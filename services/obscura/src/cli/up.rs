use clap::Args;

use super::Session;
use crate::{
    ending::ending,
    installation::{systemd_steps, systemd_unit},
    output::{line, on_terminal},
    problem::{Context as _, Result},
    services::command,
    up,
};

const EXAMPLES: &str = "\
The first start makes the installation: certificate authority, keys, identities. Later starts need no
word typed, so a service manager can do it at boot.

Examples:
  obscura up
  obscura up --print-unit | sudo tee /etc/systemd/system/obscura.service";

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Up {
    /// Print a systemd unit that runs this at boot, and do nothing else
    #[arg(long)]
    print_unit: bool,
}

impl Up {
    pub async fn run(self, session: &Session) -> Result<()> {
        if self.print_unit {
            return print_unit(session);
        }
        let ending = ending()?;
        if !on_terminal() {
            obscura_telemetry::init("supervisor", false);
        }
        let mut running =
            up::Up::start(&session.root()?, &session.clock, !on_terminal(), &ending, |_| Ok(())).await?;
        let installation = running.services().installation();
        let below = format!(
            "Ctrl-C ends it. In another terminal: `{}`. At boot: `{}`.",
            command(installation, "camera add --help"),
            command(installation, "up --print-unit"),
        );
        let watched = running.watch(&ending, &below).await;
        running.stop().await;
        watched
    }
}

fn print_unit(session: &Session) -> Result<()> {
    let program = std::env::current_exe().doing("find this program")?;
    let root = session.root()?;
    let user =
        std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "root".to_owned());
    line(systemd_unit(&program, &root, &user).trim_end())?;
    session.out.remark(systemd_steps(&program, &root));
    Ok(())
}
