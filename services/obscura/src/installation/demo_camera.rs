//! The demo camera: an RTSP server of this machine that plays a drawn scene and video files.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Installation;
use crate::problem::{Context as _, Problem, Result};

/// What `installation.toml` says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoCamera {
    /// Port on the loopback interface. It stays the same, because sources name it.
    pub port: u16,
    /// Whether it runs also without a video file, for its drawn scene.
    #[serde(default)]
    pub scene: bool,
}

impl Installation {
    /// Whether the demo camera has something to show.
    pub fn wants_demo_camera(&self) -> bool {
        self.settings().demo_camera.is_some_and(|camera| camera.scene) || !self.videos().is_empty()
    }

    /// The port of the demo camera, chosen and written down the first time.
    pub fn demo_camera_port(&mut self) -> Result<u16> {
        match self.settings().demo_camera {
            Some(camera) => Ok(camera.port),
            None => self.choose_port(false),
        }
    }

    /// The port the demo camera is about to listen on, and the port that had to be given up for it
    /// because someone else took it.
    pub fn free_demo_camera_port(&mut self) -> Result<(u16, Option<u16>)> {
        let port = self.demo_camera_port()?;
        if is_free(port) {
            return Ok((port, None));
        }
        let scene = self.settings().demo_camera.is_some_and(|camera| camera.scene);
        Ok((self.choose_port(scene)?, Some(port)))
    }

    /// Has the demo camera show its drawn scene from the next start on.
    pub fn show_scene(&mut self) -> Result<u16> {
        let port = self.demo_camera_port()?;
        self.change(|settings| settings.demo_camera = Some(DemoCamera { port, scene: true }))?;
        Ok(port)
    }

    fn choose_port(&mut self, scene: bool) -> Result<u16> {
        let port = any_free_port().doing("find a free port for the demo camera")?;
        self.change(|settings| settings.demo_camera = Some(DemoCamera { port, scene }))?;
        Ok(port)
    }

    /// Video files by name.
    pub fn videos(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.videos_dir()) else { return Vec::new() };
        let files = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut videos: Vec<_> = files.filter(|path| path.is_file() && !is_hidden(path)).collect();
        videos.sort();
        videos
    }

    /// Copies a video file to where the demo camera plays from. The stem under which it is played.
    pub fn add_video(&self, from: &Path) -> Result<String> {
        let wrong = |why: &str| {
            Problem::usage(format_args!("{}: {why}", from.display()))
                .next("SOURCE is an rtsp:// URL or the path of a video file")
        };
        match fs::metadata(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(wrong("there is no such file"));
            }
            Err(error) => return Err(wrong(&error.to_string())),
            Ok(metadata) if !metadata.is_file() => return Err(wrong("this is not a file")),
            Ok(metadata) if metadata.len() == 0 => return Err(wrong("this file is empty")),
            Ok(_) => {}
        }
        let stem = self.unused_stem(&sanitised(from));
        self.copy_into_place(from, &stem)?;
        Ok(stem)
    }

    /// Takes a video file back that no camera plays after all.
    pub fn drop_video(&self, stem: &str) {
        for path in self.videos().iter().filter(|path| path.file_stem().is_some_and(|own| own == stem)) {
            let _what_stays_is_only_a_copy = fs::remove_file(path);
        }
    }

    /// Copies under a hidden name first: the demo camera never sees half a file.
    fn copy_into_place(&self, from: &Path, stem: &str) -> Result<()> {
        let folder = self.videos_dir();
        let extension = from.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let extension = extension.filter(|text| text.chars().all(|c| c.is_ascii_alphanumeric()));
        let name = extension.map_or_else(|| stem.to_owned(), |extension| format!("{stem}.{extension}"));
        let partial = folder.join(format!(".{name}.partial"));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::copy(from, &partial).map(drop))
            .and_then(|()| fs::File::open(&partial)?.sync_all())
            .and_then(|()| fs::rename(&partial, folder.join(&name)))
            .doing(format_args!("copy {} to {}", from.display(), folder.display()))
    }

    /// The stem, with a number where another file has it.
    fn unused_stem(&self, stem: &str) -> String {
        let taken: Vec<_> = self.videos().iter().map(|path| sanitised(path)).collect();
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        std::iter::once(stem.to_owned())
            .chain(numbered)
            .find(|candidate| !taken.contains(candidate))
            .unwrap_or_else(|| stem.to_owned())
    }
}

/// The stem of a file's name in `a` to `z`, `0` to `9` and `-`, at most 40 characters.
fn sanitised(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let parts = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let joined: String = parts.collect::<Vec<_>>().join("-").chars().take(40).collect();
    if joined.is_empty() { "video".to_owned() } else { joined.trim_end_matches('-').to_owned() }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

fn any_free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation::Settings;

    fn installation(root: &Path) -> Installation {
        let settings = Settings { trust_domain: "x.local".into(), zone: "eea".into(), demo_camera: None };
        Installation { root: root.to_owned(), settings }
    }

    #[test]
    fn a_stem_is_safe_in_a_url_and_in_a_path() {
        for (name, stem) in [
            ("Entrance Cam (1).MP4", "entrance-cam-1"),
            ("../../etc/passwd", "passwd"),
            ("näh.mp4", "n-h"),
            ("---", "video"),
            ("%2e%2e.mov", "2e-2e"),
        ] {
            assert_eq!(sanitised(Path::new(name)), stem);
        }
        assert_eq!(sanitised(Path::new(&"a".repeat(300))).len(), 40);
    }

    #[test]
    fn two_videos_of_one_name_get_two_stems() {
        let folder = tempfile::tempdir().unwrap();
        let installation = installation(folder.path());
        let clip = folder.path().join("Clip.mp4");
        fs::write(&clip, "frames").unwrap();
        assert!(!installation.wants_demo_camera());
        assert_eq!(installation.add_video(&clip).unwrap(), "clip");
        assert_eq!(installation.add_video(&clip).unwrap(), "clip-2");
        assert_eq!(installation.videos().len(), 2);
        assert!(installation.wants_demo_camera());
        installation.drop_video("clip");
        assert_eq!(installation.videos(), [installation.videos_dir().join("clip-2.mp4")]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let problem = installation(folder.path()).add_video(Path::new("/no/such.mp4")).unwrap_err();
        assert!(problem.what().contains("/no/such.mp4: there is no such file"), "{problem}");
    }

    #[test]
    fn the_port_stays_unless_someone_else_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut installation = installation(folder.path());
        let port = installation.show_scene().unwrap();
        assert_eq!(installation.free_demo_camera_port().unwrap(), (port, None));
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (other, given_up) = Installation::open(folder.path()).unwrap().free_demo_camera_port().unwrap();
        assert_eq!(given_up, Some(port));
        assert_ne!(other, port);
        assert!(Installation::open(folder.path()).unwrap().wants_demo_camera());
    }
}
