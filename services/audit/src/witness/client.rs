//! One witness behind HTTP.

use std::time::Duration;

use obscura_tlog::{
    AddCheckpoint, Consistency, Hash, LogVerifier, SignedCheckpoint, WitnessVerifier, witness::origin_hash,
};
use reqwest::{Client, StatusCode};
use url::Url;

use super::Trouble;
use crate::{
    config::WitnessSettings,
    projection::Error,
    store::{Head, Store},
};

/// How long one answer of a witness may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes that an answer may have.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How often a witness may say that it knows another size, within one asking.
const ATTEMPTS: usize = 3;
/// What a witness whose size differs answers with.
const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// One witness and what we know of it.
#[derive(Debug)]
pub struct Witness {
    name: String,
    /// Its address without a slash at its end.
    base: String,
    /// What its cosignatures are checked with.
    pub verifier: WitnessVerifier,
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

impl Witness {
    /// Ready to ask; nobody is asked yet.
    ///
    /// # Errors
    /// A key or an address that is none.
    pub fn new(settings: &WitnessSettings, http: Client) -> anyhow::Result<Self> {
        let verifier: WitnessVerifier = settings.key.parse()?;
        let base = settings.url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { name: verifier.name().to_owned(), base, verifier, http, size: 0 })
    }

    /// Lines of cosignatures, or why there are none.
    ///
    /// # Errors
    /// [`Error::Ahead`] where the witness shows a newer checkpoint of this log; what the database says.
    pub async fn cosign(
        &mut self,
        note: &SignedCheckpoint,
        log: &LogVerifier,
        store: &Store,
        head: &Head,
    ) -> Result<Result<String, Trouble>, Error> {
        for _ in 0..ATTEMPTS {
            let hashes = consistency(store, self.size, head.size).await?;
            let asked = AddCheckpoint { old_size: self.size, hashes, checkpoint: note.clone() };
            match self.send(asked.to_string()).await {
                Ok(Answer::Cosigned(lines)) => {
                    self.size = head.size;
                    return Ok(Ok(lines));
                }
                Ok(Answer::Knows(size)) if size > head.size => {
                    let known = self.shown(log, head.size).await;
                    return match known {
                        Ok(known) => Err(ahead(known, head.size)),
                        Err(why) => Ok(Err(self.unproven(size, head.size, &why))),
                    };
                }
                Ok(Answer::Knows(size)) => self.size = size,
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
        Ok(Err(Trouble::Contradiction(format!("witness {}: it goes on naming other sizes", self.name))))
    }

    async fn send(&self, body: String) -> Result<Answer, Trouble> {
        let absent = |why: String| Trouble::Absent(format!("witness {}: {why}", self.name));
        let request = self.http.post(self.address("add-checkpoint").map_err(absent)?).body(body);
        let response = request.send().await.map_err(|error| absent(why(error)))?;
        let status = response.status();
        let is_size = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes() == SIZE_MEDIA_TYPE.as_bytes());
        let text = read(response).await.map_err(absent)?;
        let size = text.trim_end().parse().ok().filter(|_| is_size);
        match (status, size) {
            (StatusCode::OK, _) => Ok(Answer::Cosigned(text)),
            (StatusCode::CONFLICT, Some(size)) => Ok(Answer::Knows(size)),
            (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, _) => {
                let words = format!("witness {}: it answered {status}{}", self.name, said(&text));
                Err(Trouble::Contradiction(words))
            }
            _ => Err(absent(format!("it answered {status}{}", said(&text)))),
        }
    }

    /// Size of the newest checkpoint that the witness has, where it is beyond `size` and both the log and the witness
    /// signed it; else in words what it is instead. Others than `obscura witness` may show theirs up to an hour late,
    /// or none (C2SP tlog-witness, editor's draft, monitor retrieval).
    async fn shown(&self, log: &LogVerifier, size: u64) -> Result<u64, String> {
        let address = self.address(&format!("{}/checkpoint", origin_hash(log.origin())))?;
        let response = self.http.get(address).send().await.map_err(why)?;
        let status = response.status();
        let text = read(response).await?;
        if status != StatusCode::OK {
            return Err(format!("it answered {status}{}", said(&text)));
        }
        let note = log.verify(&text).map_err(|error| error.to_string())?;
        if note.cosignatures(std::slice::from_ref(&self.verifier)).is_empty() {
            return Err("the checkpoint has no good cosignature of the witness".to_owned());
        }
        let known = note.checkpoint().size;
        if known > size { Ok(known) } else { Err(format!("the checkpoint is of size {known}")) }
    }

    fn unproven(&self, claimed: u64, size: u64, why: &str) -> Trouble {
        Trouble::Contradiction(format!(
            "witness {}: it says that it cosigned {claimed} entries, the log has {size}, and it shows no checkpoint \
             that proves it: {why}",
            self.name
        ))
    }

    fn address(&self, path: &str) -> Result<Url, String> {
        format!("{}/{path}", self.base).parse().map_err(|error: url::ParseError| error.to_string())
    }
}

const fn ahead(known: u64, size: u64) -> Error {
    Error::Ahead { whence: "the checkpoint that a witness knows", known, size }
}

/// What a witness gave as its reason: the beginning of its first line, without what could forge a line of a log.
pub fn said(text: &str) -> String {
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
