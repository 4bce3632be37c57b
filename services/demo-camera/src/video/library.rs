//! The directory of video files: each file becomes a mount, as soon as it is there completely.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::Player;
use crate::Server;

/// Most files that are looked at.
const MAX_FILES: usize = 256;
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// Keeps the mounts of a server in step with a directory.
#[derive(Debug)]
pub struct Library {
    directory: PathBuf,
    server: Arc<Server>,
    files: BTreeMap<PathBuf, Known>,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    state: State,
    shown_as: Option<String>,
    looked_at: bool,
}

/// Changes while a file is being copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    bytes: u64,
    modified: Option<SystemTime>,
}

/// What to do about a file that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It is new or still grows.
    Wait,
    /// It stood still for a whole interval and was not tried yet.
    Try,
    /// It was tried.
    Leave,
}

impl Library {
    /// The files of `directory` as mounts of `server`.
    #[must_use]
    pub const fn new(directory: PathBuf, server: Arc<Server>) -> Self {
        Self { directory, server, files: BTreeMap::new() }
    }

    /// Looks into the directory every second, for ever.
    pub async fn follow(mut self) {
        let mut interval = tokio::time::interval(SCAN_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut complained = false;
        loop {
            interval.tick().await;
            let scan = tokio::task::spawn_blocking(move || {
                let result = self.scan();
                (self, result)
            });
            let Ok((library, result)) = scan.await else { return };
            self = library;
            if let Err(error) = &result
                && !complained
            {
                tracing::warn!(directory = %self.directory.display(), %error, "videos cannot be listed");
            }
            complained = result.is_err();
        }
    }

    fn scan(&mut self) -> io::Result<()> {
        let seen = list(&self.directory)?;
        self.forget_missing(&seen);
        for (path, state) in seen {
            match action(self.files.get(&path), state) {
                Action::Leave => {}
                Action::Wait => self.note(path, state, false),
                Action::Try => {
                    self.note(path.clone(), state, true);
                    self.show(&path);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, path: PathBuf, state: State, looked_at: bool) {
        let shown_as = self.files.remove(&path).and_then(|known| known.shown_as);
        self.files.insert(path, Known { state, shown_as, looked_at });
    }

    /// Mounts a file, or says in the log why not.
    fn show(&mut self, path: &Path) {
        let file = path.display();
        let Some(name) = mount_name(path) else {
            tracing::warn!(%file, "not shown: name it with letters, digits, `.`, `-` and `_` only");
            return;
        };
        let taken = |known: &Known| known.shown_as.as_deref() == Some(&name);
        if self.files.iter().any(|(other, known)| other != path && taken(known)) {
            tracing::warn!(%file, name, "not shown: another file has this name already; rename one");
            return;
        }
        if let Err(error) = Player::open(path) {
            tracing::warn!(%file, "not shown: it is not a video that can be decoded: {error:#}");
            self.hide(path);
            return;
        }
        let opened = path.to_owned();
        self.server.mount_video(&name, move || Player::open(&opened));
        tracing::info!(%file, path = format!("/video/{name}"), "video shown");
        if let Some(known) = self.files.get_mut(path) {
            known.shown_as = Some(name);
        }
    }

    /// Removes the mount of a file that was good before.
    fn hide(&mut self, path: &Path) {
        if let Some(name) = self.files.get_mut(path).and_then(|known| known.shown_as.take()) {
            self.server.unmount_video(&name);
        }
    }

    fn forget_missing(&mut self, seen: &BTreeMap<PathBuf, State>) {
        let server = &self.server;
        self.files.retain(|path, known| {
            let there = seen.contains_key(path);
            if !there && let Some(name) = &known.shown_as {
                server.unmount_video(name);
                tracing::info!(path = format!("/video/{name}"), "video gone");
            }
            there
        });
    }
}

fn action(known: Option<&Known>, now: State) -> Action {
    match known {
        Some(known) if known.state != now => Action::Wait,
        Some(known) if known.looked_at => Action::Leave,
        Some(_) => Action::Try,
        None => Action::Wait,
    }
}

/// Plain files whose name does not begin with a dot.
fn list(directory: &Path) -> io::Result<BTreeMap<PathBuf, State>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)?.take(MAX_FILES) {
        let entry = entry?;
        // It may vanish between being listed and being looked at. Links are followed.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            let state = State { bytes: metadata.len(), modified: metadata.modified().ok() };
            files.insert(entry.path(), state);
        }
    }
    Ok(files)
}

/// The file name without its extension, where it can stand in a URL as it is.
fn mount_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (stem.bytes().all(plain) && stem.len() <= 128).then(|| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(bytes: u64) -> State {
        State { bytes, modified: None }
    }

    #[test]
    fn a_file_is_tried_once_and_only_after_it_stood_still() {
        let known = |bytes, looked_at| Known { state: state(bytes), shown_as: None, looked_at };
        assert_eq!(action(None, state(1)), Action::Wait);
        assert_eq!(action(Some(&known(1, false)), state(2)), Action::Wait);
        assert_eq!(action(Some(&known(2, false)), state(2)), Action::Try);
        assert_eq!(action(Some(&known(2, true)), state(2)), Action::Leave);
        assert_eq!(action(Some(&known(2, true)), state(3)), Action::Wait);
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_url_is_refused() {
        assert_eq!(mount_name(Path::new("/v/shop-floor_1.mp4")), Some("shop-floor_1".to_owned()));
        for name in ["/v/a b.mp4", "/v/a%2e.mp4", "/v/ä.mp4", "/v/.."] {
            assert_eq!(mount_name(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn hidden_files_and_directories_are_not_listed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".part.mp4"), "x").unwrap();
        fs::write(directory.path().join("clip.mp4"), "x").unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        let files = list(directory.path()).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), [&directory.path().join("clip.mp4")]);
    }
}
