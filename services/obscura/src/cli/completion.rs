use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::{output, problem::Result};

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  obscura completion bash > ~/.local/share/bash-completion/completions/obscura"
)]
pub struct Completion {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "obscura", &mut script);
        output::line(String::from_utf8_lossy(&script).trim_end())
    }
}
