//! An HTTPS server that takes events as a webhook does, and fails half of the time where it is told to.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;

use crate::certificates::{Authority, Certificate};

/// 32 bytes, as the Standard Webhooks specification writes a secret.
const SECRET: &str = "whsec_dGhlIHdlYmhvb2sgYW5kIHdlIGtub3cgdGhpcyBrZXk=";
/// Longest body that is taken.
const MAX_BODY_BYTES: usize = 4 << 20;
/// A client that says nothing is let go.
const SILENCE: Duration = Duration::from_secs(60);

/// A receiver of its own. Serves until the process ends.
#[derive(Debug)]
pub struct Webhook {
    directory: TempDir,
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: AtomicU32,
    fails_half: AtomicBool,
    bodies: Mutex<Vec<String>>,
}

impl State {
    fn bodies(&self) -> MutexGuard<'_, Vec<String>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Webhook {
    /// Makes and starts a receiver.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub fn own() -> Result<Self> {
        // Two providers may be linked into a test; whoever comes first has chosen the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::Builder::new().prefix("obscura-webhook-").tempdir()?;
        let config = Arc::new(configuration(&Authority::new(directory.path())?.server("server")?)?);
        fs::write(directory.path().join("secret"), format!("{SECRET}\n"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (port, state) = (listener.local_addr()?.port(), Arc::new(State::default()));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, state) = (Arc::clone(&config), Arc::clone(&served));
                // A connection that breaks is the client's to repair.
                thread::spawn(move || serve(stream, config, &state).ok());
            }
        });
        Ok(Self { directory, port, state })
    }

    /// Where it takes events.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/events", self.port)
    }

    /// The root above its certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The secret that signs what is sent.
    #[must_use]
    pub fn secret_file(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    /// From now on every second request fails: by turns without taking the events, and without saying
    /// that it took them.
    pub fn fail_half(&self, fail: bool) {
        self.state.fails_half.store(fail, Ordering::Relaxed);
    }

    /// How many requests came, those that failed included.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// What it took, one body for each request, in the order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        self.state.bodies().clone()
    }
}

fn configuration(certificate: &Certificate) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&certificate.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key)?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?)
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, state: &State) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    loop {
        let Some(body) = request(&mut stream)? else { return Ok(()) };
        let number = state.requests.fetch_add(1, Ordering::Relaxed);
        let fails = state.fails_half.load(Ordering::Relaxed) && number % 2 == 1;
        if fails && number % 4 == 1 {
            write!(stream.get_mut(), "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        state.bodies().push(body);
        if fails {
            bail!("the connection breaks before the answer");
        }
        write!(stream.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// The body of the next request; `None` where there is none.
fn request(stream: &mut impl BufRead) -> Result<Option<String>> {
    let mut length = None;
    for number in 0.. {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() && number > 0 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let length = length.context("the request has no length")?;
    ensure!(length <= MAX_BODY_BYTES, "the body has {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(String::from_utf8(body)?))
}
