//! `obscura`: the command line of an installation, and the supervisor of one machine.

mod camera;
mod cli;
mod demo;
mod ending;
mod installation;
mod log;
mod output;
mod problem;
mod reader;
mod services;
#[cfg(test)]
mod settings_page;
mod source;
mod status;
mod supervisor;
mod up;
mod when;
mod words;

use std::process::ExitCode;

/// Everything that waits runs on the first thread: children must be started by a thread that lives as
/// long as the process, because the kernel ends them when the thread that started them ends.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Only this provider is compiled in; an error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    cli::run().await
}
