//! Recovery of the zone root by printed shares: making them, and proving that they work.

use std::time::Duration;

use obscura_proto::audit::v1::{Person, key_act::Act};
use obscura_shares::{Root, Share};

use crate::{custody::Custody, error::Error, reports::act_event};

/// Between two rehearsals: nobody types shares faster, and guessing goes nowhere.
const REHEARSAL_INTERVAL: Duration = Duration::from_secs(5);
/// Most shares in one request.
const MAX_SHARES: usize = 16;

impl Custody {
    /// Splits the zone root. The shares are in the answer and nowhere else; the audit log is told before.
    ///
    /// # Errors
    /// [`Error::KeyEncryption`] where the back end does not give out its key or a rotation is under way,
    /// [`Error::Shares`] for counts that make no sense.
    pub async fn recovery_shares(
        &self,
        threshold: u32,
        shares: u32,
        actor: Option<Person>,
    ) -> Result<Vec<String>, Error> {
        let small = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
        let root = self.root().await?;
        let split = root.split(small(threshold), small(shares))?;
        let words = format!("{shares} shares of which {threshold} restore the root");
        self.tell(act_event(&self.parts.clock, actor, Act::SharesMade, root.version(), &words)).await?;
        tracing::warn!(threshold, shares, "recovery shares of the zone root were made");
        Ok(split.iter().map(|share| share.to_text().to_string()).collect())
    }

    /// Whether these shares restore the root in use; its version.
    ///
    /// # Errors
    /// [`Error::TooSoon`], [`Error::Shares`] with the share and group that is wrong, and
    /// [`Error::OtherRoot`] for shares of a root that is no longer in use.
    pub async fn rehearse_recovery(&self, shares: &[String], actor: Option<Person>) -> Result<u32, Error> {
        self.wait_between_rehearsals()?;
        match self.rehearsed(shares).await {
            Ok(version) => {
                let event = act_event(&self.parts.clock, actor, Act::SharesRehearsed, version, "");
                self.tell(event).await?;
                Ok(version)
            }
            Err(error) => {
                self.tell_refusal(actor, Act::SharesRehearsed, &error).await;
                Err(error)
            }
        }
    }

    async fn rehearsed(&self, shares: &[String]) -> Result<u32, Error> {
        if shares.len() > MAX_SHARES {
            return Err(Error::malformed("request", "it has more than 16 shares"));
        }
        let restored = Root::restore(&Share::parse_all(shares)?)?;
        let root = self.root().await?;
        if !restored.is(&root) {
            return Err(Error::OtherRoot { restored: restored.version(), in_use: root.version() });
        }
        tracing::info!(version = root.version(), "a rehearsal restored the zone root");
        Ok(root.version())
    }

    async fn root(&self) -> Result<Root, Error> {
        let (version, key) = self.parts.encryption.root().await?;
        Ok(Root::new(self.parts.zone.clone(), version.0, key))
    }

    fn wait_between_rehearsals(&self) -> Result<(), Error> {
        let now = self.parts.clock.monotonic();
        let mut watch = self.watch();
        if watch.rehearsed.is_some_and(|last| now.since(last) < REHEARSAL_INTERVAL) {
            return Err(Error::TooSoon);
        }
        watch.rehearsed = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
