//! Witnesses in other administrative domains, who cosign checkpoints (C2SP tlog-witness).
//!
//! A witness remembers the newest checkpoint that it cosigned, and signs only what extends it. So nobody who
//! holds our key and our disks can show two logs to two people. Witnesses are optional and never hold
//! anything up for longer than a few deadlines.
//!
//! One that knows a newer log than ours ends the service, but its word is not enough: what counts is the newer
//! checkpoint itself, with our own signature and that of the witness. A witness that claims such a thing and cannot
//! show it, or says that the log has forked, is an alarm, and the log goes on without its cosignature.

mod client;
#[cfg(test)]
mod tests;

use futures::future::join_all;
use obscura_tlog::{LogKey, SignedCheckpoint, WitnessVerifier};
use reqwest::{Client, redirect};

use crate::{
    config::WitnessSettings,
    projection::{self, Error},
    store::{Head, Store},
};
use client::{DEADLINE, Witness};

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
    /// What was wrong with those that did not.
    pub lacking: Option<Lacking>,
}

/// Why there are fewer cosignatures than witnesses, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// All that was wrong.
    pub why: String,
    /// What contradicts our log and was not shown: somebody lies, is broken, or somebody has our key.
    pub contradiction: Option<String>,
}

/// Why one witness gave no cosignature.
#[derive(Debug)]
enum Trouble {
    /// It was away, or had a reason of its own.
    Absent(String),
    /// It says that our log is not the one that it knows.
    Contradiction(String),
}

impl Lacking {
    fn of(troubles: &[Trouble]) -> Option<Self> {
        let contradicts = |trouble: &Trouble| matches!(trouble, Trouble::Contradiction(_));
        let contradictions = in_words(troubles.iter().filter(|trouble| contradicts(trouble)));
        let why = in_words(troubles.iter());
        let contradiction = Some(contradictions).filter(|words| !words.is_empty());
        (!troubles.is_empty()).then_some(Self { why, contradiction })
    }
}

fn in_words<'a>(troubles: impl Iterator<Item = &'a Trouble>) -> String {
    let words = |trouble: &'a Trouble| match trouble {
        Trouble::Absent(why) | Trouble::Contradiction(why) => why.as_str(),
    };
    troubles.map(words).collect::<Vec<_>>().join("; ")
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
        let cosigning = self.cosign(projection::sign(key, head)?, key, store, head).await?;
        if let Some(Lacking { why, contradiction }) = cosigning.lacking {
            tracing::warn!(
                lacking = why,
                contradicts = contradiction.is_some(),
                "not every witness cosigned the log at the start; it is asked again with each checkpoint. Where it \
                 refuses the log as forked or unknown, see its own log and compare `obscura audit status` with what it \
                 remembers"
            );
        }
        Ok(())
    }

    /// Asks all witnesses at once for their cosignature of `note`, which is of this head and signed with this key.
    ///
    /// # Errors
    /// [`Error::Ahead`] where a witness shows a newer checkpoint of this log; what the database says.
    pub async fn cosign(
        &mut self,
        mut note: SignedCheckpoint,
        key: &LogKey,
        store: &Store,
        head: &Head,
    ) -> Result<Cosigning, Error> {
        if self.is_empty() {
            return Ok(Cosigning { note, cosignatures: 0, lacking: None });
        }
        let verifiers: Vec<WitnessVerifier> =
            self.clients.iter().map(|client| client.verifier.clone()).collect();
        let log = key.verifier();
        let asked = self.clients.iter_mut().map(|client| client.cosign(&note, &log, store, head));
        let mut troubles = Vec::new();
        for answer in join_all(asked).await {
            match answer? {
                Ok(lines) if note.add_cosignatures(&lines, &verifiers) > 0 => {}
                Ok(_) => {
                    troubles.push(Trouble::Absent("a witness sent no cosignature of its key".to_owned()));
                }
                Err(trouble) => troubles.push(trouble),
            }
        }
        let found = note.cosignatures(&verifiers).len();
        let cosignatures = if found >= self.quorum.max(1) { found } else { 0 };
        Ok(Cosigning { note, cosignatures, lacking: Lacking::of(&troubles) })
    }
}
