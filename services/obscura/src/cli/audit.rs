mod entries;
mod erase;
mod export;
mod feed;
mod prove;
mod status;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::Session;
use crate::problem::Result;

pub use verify::own_key;

/// Commands about the audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Size of the log, its checkpoint, and how its feeds do
    Status,
    /// Show the newest entries, and go on with new ones
    Tail(entries::Tail),
    /// Find entries by kind, time, camera or person
    Query(entries::Query),
    /// Prove that one entry is in the log, as a file that anybody can check
    Prove(prove::Prove),
    /// Copy the whole log into a folder, for safe keeping or for somebody else to verify
    Export(export::Export),
    /// Verify a copy of the log or a proof, offline, with nothing but public keys
    Verify(verify::Verify),
    /// Destroy the keys of a person: names and pseudonyms lead nowhere afterwards, every proof stays valid
    Erase(erase::Erase),
    /// Send an event through every feed to see whether it arrives
    TestEvent(feed::TestEvent),
    /// Send a feed everything again from an index on
    Replay(feed::Replay),
}

impl Audit {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Verify(verify) => return verify.run(session),
            Self::Status => status::run(session).await?,
            Self::Tail(tail) => tail.run(session).await?,
            Self::Query(query) => query.run(session).await?,
            Self::Prove(prove) => prove.run(session).await?,
            Self::Export(export) => export.run(session).await?,
            Self::Erase(erase) => erase.run(session).await?,
            Self::TestEvent(test) => test.run(session).await?,
            Self::Replay(replay) => replay.run(session).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
