//! Real RTSP cameras for tests: the demo camera's own program, a GStreamer RTSP server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{program, wait_for};

/// How a camera asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// RFC 7617.
    Basic,
    /// RFC 7616.
    Digest,
}

/// User name of cameras that ask for one.
pub const USER: &str = "viewer";
/// Password of cameras that ask for one.
pub const PASSWORD: &str = "correct horse";

/// A camera that runs as long as this lives.
#[derive(Debug)]
pub struct TestCamera {
    child: Child,
    dir: TempDir,
    auth: Auth,
    codec: &'static str,
    port: u16,
}

impl TestCamera {
    /// A camera that shows `/scene`, and `/video/<stem>` for every file in its [`TestCamera::videos`].
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(auth: Auth) -> Self {
        Self::start_with(auth, "h264")
    }

    /// A camera that sends nothing but H.265.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_h265() -> Self {
        Self::start_with(Auth::None, "h265")
    }

    fn start_with(auth: Auth, codec: &'static str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("videos")).unwrap();
        let (child, port) = spawn(dir.path(), auth, codec, 0);
        Self { child, dir, auth, codec, port }
    }

    /// Folder whose video files it plays.
    #[must_use]
    pub fn videos(&self) -> PathBuf {
        self.dir.path().join("videos")
    }

    /// Address of a stream, without credentials.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}{path}", self.port)
    }

    /// The camera loses its power.
    ///
    /// # Panics
    /// Where it cannot be killed.
    pub fn power_off(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The camera is back under the same address.
    pub fn power_on(&mut self) {
        (self.child, _) = spawn(self.dir.path(), self.auth, self.codec, self.port);
    }
}

impl Drop for TestCamera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, auth: Auth, codec: &str, port: u16) -> (Child, u16) {
    let address = dir.join("address");
    let _ = fs::remove_file(&address);
    let mut command = Command::new(program("obscura-demo-camera"));
    command.arg("--port").arg(port.to_string()).arg("--address-file").arg(&address);
    command.arg("--videos").arg(dir.join("videos")).args(["--width", "640", "--height", "360"]);
    command.args(["--codec", codec]);
    if auth != Auth::None {
        let password = dir.join("password");
        fs::write(&password, PASSWORD).unwrap();
        command.args(["--user", USER, "--password-file"]).arg(password);
        command.args(["--auth", if auth == Auth::Basic { "basic" } else { "digest" }]);
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let address = wait_for("the camera's address", || fs::read_to_string(&address).ok());
    let port = address.trim().rsplit(':').next().unwrap().parse().unwrap();
    (child, port)
}
