//! Witnesses in other administrative domains, who cosign checkpoints (C2SP tlog-witness).
//!
//! A witness remembers the newest checkpoint that it cosigned, and signs only what extends it. So nobody who
//! holds our key and our disks can show two logs to two people. Witnesses are optional and never hold
//! anything up for longer than a deadline; one that knows a newer log than ours ends the service.

use std::time::Duration;

use futures::future::join_all;
use obscura_tlog::{AddCheckpoint, Consistency, Hash, LogKey, SignedCheckpoint, WitnessVerifier};
use reqwest::{Client, StatusCode, redirect};
use url::Url;

use crate::{
    config::WitnessSettings,
    projection::{self, Error},
    store::{Head, Store},
};

/// How long one witness may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that an answer may have.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How often a witness may say that it knows another size, within one asking.
const ATTEMPTS: usize = 3;
/// What a witness whose size differs answers with.
const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// All configured witnesses.
#[derive(Debug)]
pub struct Witnesses {
    clients: Vec<Witness>,
    quorum: usize,
}

/// What came of asking for cosignatures.
#[derive(Debug)]
pub struct Cosigning {
    /// The checkpoint with all cosignatures.
    pub note: SignedCheckpoint,
    /// How many, 0 where the quorum was not met.
    pub cosignatures: usize,
    /// What was wrong with those that did not, in words.
    pub lacking: Option<String>,
}

#[derive(Debug)]
struct Witness {
    name: String,
    url: Url,
    verifier: WitnessVerifier,
    http: Client,
    /// Size that it cosigned last, as far as we know.
    size: u64,
}

/// What a witness answered.
#[derive(Debug)]
enum Answer {
    /// Lines of cosignatures.
    Cosigned(String),
    /// It knows another size.
    Knows(u64),
}

impl Witnesses {
    /// Ready to ask; nobody is asked yet.
    ///
    /// # Errors
    /// A key or an address that is none.
    pub fn new(settings: &[WitnessSettings], quorum: usize) -> anyhow::Result<Self> {
        let http = Client::builder().timeout(DEADLINE).redirect(redirect::Policy::none()).build()?;
        let clients = settings.iter().map(|settings| Witness::new(settings, http.clone()));
        Ok(Self { clients: clients.collect::<anyhow::Result<_>>()?, quorum })
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Asks every witness whether it knows something newer than the head. One that does not answer in time, or
    /// refuses for another reason, does not hold up the start: that is in the log of the service, and it is asked
    /// again with each checkpoint.
    ///
    /// # Errors
    /// [`Error::Ahead`].
    pub async fn refuse_newer(&mut self, store: &Store, key: &LogKey, head: &Head) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let note = projection::sign(key, head)?;
        let cosigning = self.cosign(note, store, head).await?;
        if let Some(lacking) = cosigning.lacking {
            tracing::warn!(
                lacking,
                "not every witness cosigned the log at the start; it is asked again with each checkpoint. Where it \
                 refuses the log as forked or unknown, see its own log and compare `obscura audit status` with what it \
                 remembers"
            );
        }
        Ok(())
    }

    /// Asks all witnesses at once for their cosignature.
    ///
    /// # Errors
    /// [`Error::Ahead`] where a witness knows a newer log; what the database says.
    pub async fn cosign(
        &mut self,
        mut note: SignedCheckpoint,
        store: &Store,
        head: &Head,
    ) -> Result<Cosigning, Error> {
        if self.is_empty() {
            return Ok(Cosigning { note, cosignatures: 0, lacking: None });
        }
        let verifiers: Vec<WitnessVerifier> =
            self.clients.iter().map(|client| client.verifier.clone()).collect();
        let asked = join_all(self.clients.iter_mut().map(|client| client.cosign(&note, store, head))).await;
        let mut lacking = Vec::new();
        for answer in asked {
            match answer? {
                Ok(lines) if note.add_cosignatures(&lines, &verifiers) > 0 => {}
                Ok(_) => lacking.push("a witness sent no cosignature of its key".to_owned()),
                Err(why) => lacking.push(why),
            }
        }
        let found = note.cosignatures(&verifiers).len();
        let cosignatures = if found >= self.quorum.max(1) { found } else { 0 };
        let lacking = (!lacking.is_empty()).then(|| lacking.join("; "));
        Ok(Cosigning { note, cosignatures, lacking })
    }
}

impl Witness {
    fn new(settings: &WitnessSettings, http: Client) -> anyhow::Result<Self> {
        let verifier: WitnessVerifier = settings.key.parse()?;
        let base = settings.url.as_str().trim_end_matches('/');
        let url = format!("{base}/add-checkpoint").parse()?;
        Ok(Self { name: verifier.name().to_owned(), url, verifier, http, size: 0 })
    }

    /// Lines of cosignatures, or in words why there are none.
    async fn cosign(
        &mut self,
        note: &SignedCheckpoint,
        store: &Store,
        head: &Head,
    ) -> Result<Result<String, String>, Error> {
        for _ in 0..ATTEMPTS {
            let hashes = consistency(store, self.size, head.size).await?;
            let asked = AddCheckpoint { old_size: self.size, hashes, checkpoint: note.clone() };
            match self.send(asked.to_string()).await {
                Ok(Answer::Cosigned(lines)) => {
                    self.size = head.size;
                    return Ok(Ok(lines));
                }
                Ok(Answer::Knows(size)) if size > head.size => {
                    return Err(Error::Ahead {
                        whence: "the checkpoint that a witness knows",
                        known: size,
                        size: head.size,
                    });
                }
                Ok(Answer::Knows(size)) => self.size = size,
                Err(why) => return Ok(Err(format!("witness {}: {why}", self.name))),
            }
        }
        Ok(Err(format!("witness {}: it goes on naming other sizes", self.name)))
    }

    async fn send(&self, body: String) -> Result<Answer, String> {
        let response = self.http.post(self.url.clone()).body(body).send().await.map_err(why)?;
        let status = response.status();
        let is_size = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes() == SIZE_MEDIA_TYPE.as_bytes());
        let text = read(response).await?;
        match status {
            StatusCode::OK => Ok(Answer::Cosigned(text)),
            StatusCode::CONFLICT if is_size => {
                text.trim_end().parse().map(Answer::Knows).map_err(|_| "its size is no number".to_owned())
            }
            status => Err(format!("it answered {status}{}", said(&text))),
        }
    }
}

/// What a witness gave as its reason: the beginning of its first line, without what could forge a line of a log.
fn said(text: &str) -> String {
    const MAX_CHARACTERS: usize = 120;
    let line = text.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|letter| !letter.is_control()).take(MAX_CHARACTERS).collect();
    if line.trim().is_empty() { String::new() } else { format!(": {}", line.trim()) }
}

async fn read(mut response: reqwest::Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(why)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err("its answer is too long".to_owned());
        }
    }
    String::from_utf8(bytes).map_err(|_| "its answer is no text".to_owned())
}

/// The error without the address, which may hold a token.
fn why(error: reqwest::Error) -> String {
    error.without_url().to_string()
}

/// Hashes that prove the size `old` to be a prefix; none where there is nothing to prove.
async fn consistency(store: &Store, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
    if old == 0 || old >= new {
        return Ok(Vec::new());
    }
    let broken = |error: obscura_tlog::ProofError| Error::Broken(error.to_string());
    let proof = Consistency::new(old, new).map_err(broken)?;
    proof.prove(&store.tiles(&proof.plan()).await?).map_err(broken)
}

#[cfg(test)]
mod tests;
