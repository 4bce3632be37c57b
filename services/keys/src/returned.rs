//! Secrets that come back after what they opened was destroyed: of a folder whose disk was not mounted meanwhile.
//! There was nothing to erase then, and a copy of the database from before would open with them.

use std::collections::BTreeSet;

use crate::{
    custody::Custody,
    error::Error,
    expiry_hour::ExpiryHour,
    keyring::{hold_of_secret, hour_of_secret},
    store::{epoch, hold},
};

impl Custody {
    /// Erases secrets of hours that are over and of holds that were released. Call it behind the last epoch that a
    /// round destroys, with `changing` in hand. Of what this database does not know nothing is erased: it may be an
    /// old copy.
    pub(crate) async fn erase_returned(&self, current: ExpiryHour) -> Result<(), Error> {
        let (reader, zone) = (self.parts.store.reader(), &self.parts.zone);
        let mut unnamed = self.parts.secrets.names()?;
        for named in epoch::secrets(reader, zone).await?.iter().chain(&hold::secrets(reader, zone).await?) {
            unnamed.remove(named);
        }
        let mut returned = BTreeSet::new();
        for name in unnamed {
            let is_over = match hour_of_secret(&name) {
                Some(hour) => hour < current,
                None => self.is_of_released_hold(&name).await?,
            };
            if is_over {
                returned.insert(name);
            }
        }
        if returned.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            secrets = returned.len(),
            "secrets are back of what was destroyed while they were away"
        );
        let _alone = self.alone().await;
        Ok(self.parts.secrets.erase(&returned)?)
    }

    async fn is_of_released_hold(&self, secret: &str) -> Result<bool, Error> {
        let Some(id) = hold_of_secret(secret) else { return Ok(false) };
        let row = self.damage.readable(hold::get(self.parts.store.reader(), id).await)?;
        Ok(row.flatten().is_some_and(|row| row.hold.released.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::test_support::{Bench, HOUR, RETENTION_HOURS, nobody, slots};

    #[tokio::test]
    async fn what_ended_while_the_folder_was_away_ends_when_it_is_back_and_nothing_else_does() {
        let bench = Bench::new();
        let (custody, key) = bench.with_key().await;
        let later = bench.made_key(HOUR + 9);
        bench.import(&custody, &later).await;
        let released = bench.held(&custody, &key, 0, 9).await;
        let stands = bench.held(&custody, &key, 100, 199).await;
        bench.close(custody).await;
        fs::rename(bench.data("epoch-secrets"), bench.data("away")).unwrap();
        let custody = bench.open().await;
        custody.release_hold(&released, nobody()).await.unwrap();
        bench.wait_hours(RETENTION_HOURS);
        custody.expire().await.unwrap();
        bench.close(custody).await;
        fs::remove_dir_all(bench.data("epoch-secrets")).unwrap();
        fs::rename(bench.data("away"), bench.data("epoch-secrets")).unwrap();
        let custody = bench.open().await;
        let unknown = "hold-01890000-0000-7000-8000-000000000000-00";
        custody.parts.secrets.create(unknown).unwrap();
        custody.expire().await.unwrap();
        let names = custody.parts.secrets.names().unwrap();
        let has = |begin: &str| names.iter().any(|name| name.starts_with(begin));
        assert!(
            !has(&format!("epoch-{}-", bench.expiry(&key))) && !has(&format!("hold-{released}-")),
            "{names:?}"
        );
        assert!(has(&format!("hold-{stands}-")) && has(unknown), "{names:?}");
        bench.assert_releasable(&custody, &later).await;
        assert_eq!(bench.opens(&custody, &key).await, slots(100, 199));
    }
}
