//! `obscura witness`: cosigns checkpoints of logs that other people run.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path as UrlPath, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use clap::Args;
use obscura_clock::SharedClock;
use obscura_daemon::write_atomically;
use obscura_tlog::{
    LogVerifier, WitnessKey,
    witness::{FileStore, Refusal, Witness as Core},
};
use tokio::net::TcpListener;

use super::Session;
use crate::{
    installation::private_folder,
    problem::{Context as _, Problem},
};

/// Largest request: a proof has at most 64 hashes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Arguments of `witness`.
#[derive(Debug, Args)]
#[command(after_help = "\
A witness belongs to somebody who does not run the log: it remembers the newest checkpoint of each log and
refuses to cosign one that contradicts it (C2SP tlog-witness). Anybody may read the newest one, by the hash of
the log's name: /<SHA-256 in hexadecimal digits>/checkpoint. Put a TLS proxy in front of it.

Example:
  obscura witness --folder /var/lib/obscura-witness --name witness.example.org/w1 \\
      --log 'example.org/obscura/audit/eea+1a2b3c4d+AaBb...' --listen 127.0.0.1:7380")]
pub struct Witness {
    /// Where it keeps its key and what it has seen
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Its name in cosignatures, usually a URL without scheme
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Key of a log to cosign (verifier key of `obscura audit status`); may be repeated
    #[arg(long = "log", value_name = "KEY", required = true)]
    logs: Vec<LogVerifier>,
    /// Address to listen on (HTTP)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7380")]
    listen: SocketAddr,
}

struct Shared {
    core: Core<FileStore>,
    clock: SharedClock,
}

impl Witness {
    pub async fn run(self, session: &Session) -> Result<(), Problem> {
        private_folder(&self.folder)?;
        let key = open_key(&self.folder, &self.name)?;
        let shown = key.verifier_key();
        let store = FileStore::open(&self.folder.join("heads"))
            .doing(format_args!("use {}", self.folder.display()))?;
        let shared =
            Arc::new(Shared { core: Core::new(key, self.logs, store), clock: session.clock.clone() });
        let listener =
            TcpListener::bind(self.listen).await.doing(format_args!("listen on {}", self.listen))?;
        let address = listener.local_addr().doing("learn the own address")?;
        crate::output::line(format_args!("witness {shown}\nlistening on http://{address}"))?;
        let router = Router::new()
            .route("/add-checkpoint", post(add_checkpoint))
            .route("/{hash}/checkpoint", get(newest))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(shared);
        axum::serve(listener, router).with_graceful_shutdown(interrupted()).await.doing("serve")
    }
}

async fn interrupted() {
    // Without a handler the signal ends the process, which is as good: every answer is durable before it is given.
    let _ = tokio::signal::ctrl_c().await;
}

/// Storing waits for the disk, so it leaves the thread that serves connections.
async fn add_checkpoint(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    answered(move || {
        let now = shared.clock.wall();
        shared.core.add_checkpoint(&body, now)
    })
    .await
}

/// The newest checkpoint of a log, as it was cosigned.
async fn newest(State(shared): State<Arc<Shared>>, UrlPath(hash): UrlPath<String>) -> Response {
    answered(move || shared.core.newest(&hash).map(|note| note.to_string())).await
}

async fn answered(work: impl FnOnce() -> Result<String, Refusal> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(text)) => text.into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let code = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(CONTENT_TYPE, refusal.content_type())], refusal.body()).into_response()
}

/// The key of the witness, made where there is none.
fn open_key(folder: &Path, name: &str) -> Result<WitnessKey, Problem> {
    let path = folder.join("witness-key.pkcs8");
    let shown = path.display();
    if !path.exists() {
        let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8());
        let pkcs8 = made.map_err(|_| Problem::new("the system gave no randomness for a key"))?;
        write_atomically(&path, pkcs8.as_ref(), 0o600).doing(format_args!("write {shown}"))?;
    }
    let pkcs8 = std::fs::read(&path).doing(format_args!("read {shown}"))?;
    WitnessKey::from_pkcs8(name, &pkcs8).doing(format_args!("use {shown}"))
}
