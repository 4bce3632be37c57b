//! Rows of custody that do not open any more. One of them must never stand in the way of all the others: it
//! opens nothing, the log names it, and the operator sees how many there are.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use obscura_seal::NodeSet;

use crate::error::Error;

/// Most rows that are told apart; there is one thing to do about so many, whatever their number.
const MAX_ROWS: usize = 10_000;

/// Damaged rows that were met since the start, each once.
#[derive(Debug, Default)]
pub struct Damage(Mutex<BTreeSet<String>>);

impl Damage {
    /// How many there are.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.names().len()).unwrap_or(u64::MAX)
    }

    /// What an operator is told of them; nothing where there is none.
    pub fn told(&self) -> Option<String> {
        let rows = self.rows();
        (rows > 0).then(|| {
            format!("{rows} damaged rows of the key database open nothing: restore it from a backup; the log names them")
        })
    }

    /// What a row opens; nothing where it is damaged.
    ///
    /// # Errors
    /// Every one but [`Error::Damaged`].
    pub fn opened(&self, nodes: Result<NodeSet, Error>) -> Result<NodeSet, Error> {
        Ok(self.readable(nodes)?.unwrap_or_else(|| NodeSet::new(Vec::new())))
    }

    /// What was read; nothing where it is damaged.
    ///
    /// # Errors
    /// Every one but [`Error::Damaged`].
    pub fn readable<T>(&self, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(Error::Damaged { row }) => {
                self.met(row);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Those rows whose columns can be read.
    ///
    /// # Errors
    /// Every one but [`Error::Damaged`].
    pub fn sift<T>(&self, rows: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
        rows.into_iter().filter_map(|row| self.readable(row).transpose()).collect()
    }

    fn met(&self, row: String) {
        tracing::error!(%row, "a row of custody does not open: it was changed or damaged");
        let mut names = self.names();
        if names.len() < MAX_ROWS {
            names.insert(row);
        }
    }

    /// A panic of another holder leaves nothing half done behind this lock.
    fn names(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(row: &str) -> Error {
        Error::Damaged { row: row.into() }
    }

    #[test]
    fn a_damaged_row_counts_once_and_opens_nothing_and_other_failures_stay_what_they_are() {
        let damage = Damage::default();
        assert_eq!(damage.told(), None);
        for _ in 0..2 {
            assert!(damage.opened(Err(damaged("held key 1/2"))).unwrap().is_empty());
        }
        assert_eq!(damage.rows(), 1);
        assert!(damage.told().unwrap().starts_with("1 damaged rows"));
        assert_eq!(damage.sift(vec![Ok(1), Err(damaged("hold 3")), Ok(2)]).unwrap(), [1, 2]);
        assert_eq!(damage.rows(), 2);
        assert!(matches!(damage.opened(Err(Error::Unheard)), Err(Error::Unheard)));
        assert!(matches!(damage.sift(vec![Ok(1), Err(Error::Unheard)]), Err(Error::Unheard)));
    }
}
