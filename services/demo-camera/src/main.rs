//! Start-up, shutdown and nothing else; see the library for what the camera does.

use std::{io::Write, path::Path, sync::Arc};

use anyhow::Context;
use clap::Parser;
use obscura_demo_camera::{Arguments, Library, Server, check_elements};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    die_with_parent()?;
    let filter = EnvFilter::try_from_env("OBSCURA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    gstreamer::init().context("GStreamer does not start")?;
    check_elements()?;

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Arc::new(Server::start(&arguments)?);
    if let Some(directory) = arguments.videos {
        tokio::spawn(Library::new(directory, Arc::clone(&server)).follow());
    }
    if let Some(file) = &arguments.address_file {
        write_atomically(file, &format!("{}\n", server.address()))
            .with_context(|| format!("address file {} cannot be written", file.display()))?;
    }
    tracing::info!(address = %server.address(), "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop();
    Ok(())
}

/// A supervised camera must not outlive its supervisor.
fn die_with_parent() -> anyhow::Result<()> {
    if let Some(supervisor) = std::env::var_os("OBSCURA_SUPERVISOR") {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
        // It may have ended before the kernel knew that we wanted to know.
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
        anyhow::ensure!(
            parent.is_some_and(|parent| supervisor == *parent),
            "the supervisor ended while the camera was starting"
        );
    }
    Ok(())
}

/// Whoever waits for the file finds either nothing or the whole address.
fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}
