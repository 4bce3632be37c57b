//! What every service process does the same way: configuration, crypto provider, identity,
//! listener, health, metrics, drain.
//!
//! ```no_run
//! # async fn router(_: &obscura_daemon::Daemon) -> anyhow::Result<axum::Router> { Ok(axum::Router::new()) }
//! # async fn run() -> anyhow::Result<()> {
//! let daemon = obscura_daemon::Daemon::start("keys").await?;
//! let router = router(&daemon).await?;
//! daemon.serve(router, &[]).await
//! # }
//! ```

mod config;
mod expiry;
mod private_file;
mod signals;
mod trust;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::{Router, routing::get};
use clap::Parser as _;
use http::header::CONTENT_TYPE;
use obscura_clock::{SharedClock, SystemClock};
use obscura_identity::{Identity, Route, channel, serve};
use obscura_telemetry::{Metrics, RpcMetricsLayer};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use config::Config;
pub use obscura_identity::write_atomically;
pub use private_file::read_private;
pub use trust::Trust;

/// How often the identity folder is looked at for a new certificate.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// One service process, from its start to its end.
#[derive(Debug)]
pub struct Daemon {
    /// Its configuration file.
    pub config: Config,
    /// Whose signatures it believes.
    pub trust: Trust,
    /// Who it is.
    pub identity: Identity,
    /// Its time.
    pub clock: SharedClock,
    /// Its metrics, which `/metrics` shows.
    pub metrics: Metrics,
    /// Cancelled when the process has to end: stop taking on work, finish what is under way.
    pub shutdown: CancellationToken,
}

#[derive(Debug, clap::Parser)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Daemon {
    /// Starts the process of `service`: reads `--config FILE`, and lets SIGTERM and SIGINT cancel
    /// [`Daemon::shutdown`]. With the process id of the parent as `OBSCURA_SUPERVISOR` in the environment the end of
    /// the parent counts as SIGTERM.
    ///
    /// # Errors
    /// As [`Daemon::open`], and where signals cannot be caught.
    pub async fn start(service: &'static str) -> Result<Self> {
        signals::follow_parent()?;
        let arguments = Arguments::parse();
        let shutdown = CancellationToken::new();
        signals::cancel_on_signal(shutdown.clone())?;
        Ok(Self { shutdown, ..Self::open(service, &arguments.config).await? })
    }

    /// Like [`Daemon::start`] with the name of the file, and without touching signals.
    ///
    /// # Errors
    /// Where the configuration, the trust file or the identity cannot be used, or is that of
    /// another service. Each error names the file, what is wrong with it and what to do.
    pub async fn open(service: &'static str, config: &Path) -> Result<Self> {
        // Someone may have installed it already; it can be no other, for no other is compiled in.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = Config::load(config, service)?;
        obscura_telemetry::init(service, config.log_json);
        forget_address(&config)?;
        make_data_dir(&config.data_dir)?;
        let trust = Trust::load(&config.trust_file)?;
        let identity = open_identity(service, &config.identity_dir)?;
        identity.spawn_reload(RELOAD_INTERVAL);
        let metrics = Metrics::new(service);
        expiry::register(&metrics, &identity);
        let (clock, shutdown) = (SystemClock::shared(), CancellationToken::new());
        Ok(Self { config, trust, identity, clock, metrics, shutdown })
    }

    /// A channel to another service, which connects when it is used.
    ///
    /// # Errors
    /// Where `[peers]` of the configuration does not say where the service is.
    pub fn peer(&self, service: &str) -> Result<Channel> {
        let Some(endpoint) = self.config.peers.get(service) else {
            bail!(
                "the configuration of `{}` does not say where `{service}` is: add `{service} = \"host:port\"` \
                 (or \"file:PATH\") under [peers]",
                self.config.service
            );
        };
        Ok(channel(&self.identity, service, endpoint.clone()))
    }

    /// The `[settings]` of the configuration in the service's own shape.
    ///
    /// # Errors
    /// Where a setting is missing, unknown or of the wrong kind; names it.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let settings = self.config.settings.clone().try_into();
        settings.with_context(|| format!("[settings] in the configuration of `{}`", self.config.service))
    }

    /// Listens, writes the address file, and serves `router`, `/healthz` and `/metrics` to the
    /// peers that may, until shutdown; then drains.
    ///
    /// # Errors
    /// Where the address is taken or the address file cannot be written.
    pub async fn serve(self, router: Router, routes: &'static [Route]) -> Result<()> {
        let listen = self.config.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}: choose another `listen`, or 127.0.0.1:0 for any port")
        })?;
        // From here on a connection waits in the backlog at worst, so others may know the address.
        let address = listener.local_addr()?;
        if let Some(path) = &self.config.address_file {
            write_atomically(path, format!("{address}\n").as_bytes(), 0o644)
                .with_context(|| format!("cannot write `address_file` {}", path.display()))?;
        }
        let router = self.with_health_and_metrics(router, routes);
        let shutdown = self.shutdown.clone();
        serve(listener, self.identity, router, routes, shutdown.cancelled_owned()).await?;
        tracing::info!("ended");
        Ok(())
    }

    fn with_health_and_metrics(&self, router: Router, routes: &[Route]) -> Router {
        let folders = routes.iter().map(|route| route.prefix).chain(["/healthz", "/metrics"]).collect();
        let measure = RpcMetricsLayer::new(&self.metrics, self.clock.clone(), folders);
        let metrics = self.metrics.clone();
        router
            .route("/healthz", get(async || "ok\n"))
            .route(
                "/metrics",
                get(async move || ([(CONTENT_TYPE, obscura_telemetry::CONTENT_TYPE)], metrics.render())),
            )
            .layer(measure)
    }
}

/// An address of an earlier run would send others to a port that is now someone else's.
fn forget_address(config: &Config) -> Result<()> {
    let Some(path) = &config.address_file else { return Ok(()) };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the old `address_file` {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn make_data_dir(folder: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make `data_dir` {}", folder.display()))
}

fn open_identity(service: &str, folder: &Path) -> Result<Identity> {
    let identity = Identity::load(folder).with_context(|| format!("`identity_dir` {}", folder.display()))?;
    if identity.id().service() != service {
        bail!(
            "`identity_dir` {} holds the certificate of `{}`, but this is `{service}`: issue one for it",
            folder.display(),
            identity.id().service()
        );
    }
    Ok(identity)
}

#[cfg(test)]
mod tests;
