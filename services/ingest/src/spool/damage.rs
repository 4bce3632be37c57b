//! What of the spool could not be read back, for the alarm and the metrics.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Files that an alarm names; all others are counted.
const MOST_NAMED: usize = 2;

/// What was lost since the recorder started.
#[derive(Debug, Default)]
pub struct Damage(Mutex<Lost>);

#[derive(Debug, Default)]
struct Lost {
    files: BTreeSet<PathBuf>,
    gaps: usize,
}

impl Damage {
    /// Part of a file could not be read back.
    pub fn note(&self, file: &Path) {
        self.lock().files.insert(file.to_owned());
    }

    /// So many gaps say what was lost.
    pub fn recorded(&self, gaps: usize) {
        let mut lost = self.lock();
        lost.gaps = lost.gaps.saturating_add(gaps);
    }

    /// Files of which part could not be read back.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.lock().files.len() as u64
    }

    /// What to tell a person; `None` where nothing was lost.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let lost = self.lock();
        let named: Vec<String> =
            lost.files.iter().take(MOST_NAMED).map(|file| file.display().to_string()).collect();
        if named.is_empty() {
            return None;
        }
        let others = match lost.files.len() - named.len() {
            0 => String::new(),
            others => format!(" and {others} others"),
        };
        let files = named.join(", ");
        Some(format!(
            "the disk lost part of {files}{others}; gaps recorded for it: {}; replace the disk",
            lost.gaps
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Lost> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_few_files_and_fit_an_alarm() {
        let damage = Damage::default();
        assert_eq!(damage.words(), None);
        for number in 0..40 {
            damage.note(Path::new(&format!("/srv/obscura/ingest/data/spool/spool-{number:020}.log")));
            damage.recorded(2);
        }
        damage.note(Path::new("/srv/obscura/ingest/data/spool/spool-00000000000000000000.log"));
        damage.recorded(1);
        let words = damage.words().unwrap();
        assert!(words.contains("spool-00000000000000000000.log") && words.contains("38 others"), "{words}");
        assert!(words.contains("gaps recorded for it: 81") && words.len() < 512, "{words}");
        assert_eq!(damage.files(), 40);
    }
}
