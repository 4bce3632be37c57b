//! What a witness remembers, durably.
//!
//! One file per log, which is the newest checkpoint with the signatures of the log and of the witness, replaced as a
//! whole:
//!
//! | step | a crash leaves | repaired by |
//! |---|---|---|
//! | write the new file aside | the old head; a part of a file that nobody reads | the next save, which starts it anew |
//! | fsync it | the old head; a new file that may be incomplete | the same |
//! | rename it over the old | the old head or the new one, each whole | nothing: nothing was answered |
//! | fsync the folder | the new head or, after a power cut, the old one | the same |
//!
//! Only then is there a cosignature. So whatever was cosigned is remembered, and what is remembered
//! without having been cosigned is at most the log's own next checkpoint.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::SignedCheckpoint;

/// Where a witness keeps the newest checkpoints by the origins of the logs.
pub trait HeadStore: Send {
    /// The checkpoint that was saved last; `None` where there never was one.
    ///
    /// # Errors
    /// Where it cannot be read: the witness then cosigns nothing.
    fn load(&mut self, origin: &str) -> io::Result<Option<SignedCheckpoint>>;

    /// Remembers a checkpoint with its signatures. Returns only once it is durable.
    ///
    /// # Errors
    /// Where it is not durable, or is smaller than the one that is remembered.
    fn save(&mut self, head: &SignedCheckpoint) -> io::Result<()>;
}

/// Name of a log where its origin may not stand, which may have any characters: SHA-256 of the origin in lower-case
/// hexadecimal digits (C2SP tlog-witness, editor's draft).
#[must_use]
pub fn origin_hash(origin: &str) -> String {
    digest(&SHA256, origin.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Heads in a folder of its own, locked against a second witness.
#[derive(Debug)]
pub struct FileStore {
    folder: PathBuf,
    _lock: File,
}

/// What [`FileStore`] does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write,
    SyncFile,
    Rename,
    SyncFolder,
}

impl FileStore {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// Where another witness has it, or it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|error| {
            io::Error::other(format!("{} is in use by another witness: {error}", folder.display()))
        })?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.folder.join(origin_hash(origin))
    }

    fn save_with(
        &mut self,
        head: &SignedCheckpoint,
        mut before: impl FnMut(Step) -> io::Result<()>,
    ) -> io::Result<()> {
        let (origin, size) = (&head.checkpoint().origin, head.checkpoint().size);
        let known = self.load(origin)?.map_or(0, |known| known.checkpoint().size);
        if known > size {
            return Err(io::Error::other(format!("{known} entries are remembered, {size} would be less")));
        }
        let (path, aside) = (self.path(origin), self.path(origin).with_extension("new"));
        before(Step::Write)?;
        let mut file = File::create(&aside)?;
        file.write_all(head.to_string().as_bytes())?;
        before(Step::SyncFile)?;
        file.sync_all()?;
        before(Step::Rename)?;
        fs::rename(&aside, &path)?;
        before(Step::SyncFolder)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl HeadStore for FileStore {
    fn load(&mut self, origin: &str) -> io::Result<Option<SignedCheckpoint>> {
        let path = self.path(origin);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::other(format!("{} is damaged: restore it", path.display()));
        parse(&text, origin).map(Some).ok_or_else(damaged)
    }

    fn save(&mut self, head: &SignedCheckpoint) -> io::Result<()> {
        self.save_with(head, |_| Ok(()))
    }
}

fn parse(text: &str, origin: &str) -> Option<SignedCheckpoint> {
    text.parse().ok().filter(|note: &SignedCheckpoint| note.checkpoint().origin == origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Checkpoint,
        test_support::{ORIGIN, leaves, log_key},
    };
    use proptest::prelude::*;

    const STEPS: [Step; 4] = [Step::Write, Step::SyncFile, Step::Rename, Step::SyncFolder];

    fn head(size: u64) -> SignedCheckpoint {
        let root = leaves(usize::try_from(size).unwrap() + 1)[0];
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root, extension: String::new() };
        SignedCheckpoint::sign(checkpoint, &log_key()).unwrap()
    }

    fn dying_at(at: Step) -> impl FnMut(Step) -> io::Result<()> {
        move |step| if step == at { Err(io::Error::other("killed")) } else { Ok(()) }
    }

    #[test]
    fn a_crash_at_any_step_twice_leaves_the_old_head_or_the_new_one_and_the_next_save_works() {
        for at in STEPS {
            let folder = tempfile::tempdir().unwrap();
            FileStore::open(folder.path()).unwrap().save(&head(3)).unwrap();
            for attempt in 1..=2 {
                let mut store = FileStore::open(folder.path()).unwrap();
                store.save_with(&head(3 + attempt), dying_at(at)).unwrap_err();
                drop(store);
                let found = FileStore::open(folder.path()).unwrap().load(ORIGIN).unwrap().unwrap();
                let renamed = at == Step::SyncFolder;
                assert_eq!(found, head(if renamed { 3 + attempt } else { 3 }), "{at:?} {attempt}");
            }
            let mut store = FileStore::open(folder.path()).unwrap();
            store.save(&head(9)).unwrap();
            assert_eq!(store.load(ORIGIN).unwrap(), Some(head(9)));
        }
    }

    #[test]
    fn a_torn_new_file_is_never_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path()).unwrap();
        store.save(&head(3)).unwrap();
        fs::write(store.path(ORIGIN).with_extension("new"), &ORIGIN.as_bytes()[..4]).unwrap();
        assert_eq!(store.load(ORIGIN).unwrap(), Some(head(3)));
        store.save(&head(4)).unwrap();
        assert_eq!(store.load(ORIGIN).unwrap(), Some(head(4)));
    }

    #[test]
    fn a_smaller_head_a_damaged_file_and_a_second_witness_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path()).unwrap();
        store.save(&head(3)).unwrap();
        assert!(store.save(&head(2)).unwrap_err().to_string().contains("3 entries are remembered"));
        assert!(FileStore::open(folder.path()).unwrap_err().to_string().contains("another witness"));
        assert_eq!(store.load("other").unwrap(), None);
        fs::write(store.path(ORIGIN), format!("{ORIGIN}\n3\n")).unwrap();
        assert!(store.load(ORIGIN).unwrap_err().to_string().contains("damaged"));
        assert!(store.save(&head(5)).is_err());
    }

    proptest! {
        #[test]
        fn any_file_is_read_back_or_refused(text in "(log\n)?[0-9]{0,3}\n?[A-Za-z0-9+/=]{0,45}\n?(\n— log [A-Za-z0-9+/]{8}\n)?") {
            if let Some(head) = parse(&text, "log") {
                prop_assert_eq!(head.to_string(), text);
            }
        }
    }
}
