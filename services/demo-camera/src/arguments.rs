use std::{fs, io::Read, path::PathBuf};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::{Size, encoder::Codec};

/// Longest password file, in bytes.
const MAX_PASSWORD_BYTES: u64 = 1024;

/// A camera that speaks RTSP on 127.0.0.1 and shows a drawn scene or looped video files.
#[derive(Clone, Debug, Parser)]
#[command(name = "obscura-demo-camera", version)]
pub struct Arguments {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Where to write host:port once the camera listens.
    #[arg(long)]
    pub address_file: Option<PathBuf>,
    /// Directory whose video files are shown as /video/<name without extension>, also those that come later.
    #[arg(long)]
    pub videos: Option<PathBuf>,
    /// User that may watch; without one, everybody may.
    #[arg(long, requires = "password_file")]
    pub user: Option<String>,
    /// File with the user's password, one line.
    #[arg(long, requires = "user")]
    pub password_file: Option<PathBuf>,
    /// How the user must prove the password.
    #[arg(long, value_enum, default_value_t = Method::Digest)]
    pub auth: Method,
    /// Width of the drawn scene in pixels, a multiple of 8.
    #[arg(long, default_value_t = 1280)]
    pub width: usize,
    /// Height of the drawn scene in pixels, even.
    #[arg(long, default_value_t = 720)]
    pub height: usize,
    /// Frames of the drawn scene in a second.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub fps: u32,
    /// How pictures are encoded.
    #[arg(long, value_enum, default_value_t = Codec::H264)]
    pub codec: Codec,
}

/// RTSP authentication (RFC 2326 appendix D, RFC 7617 and RFC 7616).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The password never travels.
    Digest,
    /// The password travels in the clear, as cheap cameras want it.
    Basic,
}

/// Who may watch.
#[derive(Clone)]
pub struct Authentication {
    /// Name of the only user.
    pub user: String,
    /// Their password.
    pub password: String,
    /// How they must prove it.
    pub method: Method,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Arguments {
    /// Size of the drawn scene.
    ///
    /// # Errors
    /// When the encoder or the drawing could not work with it.
    pub fn size(&self) -> anyhow::Result<Size> {
        Size::try_new(self.width, self.height).context(
            "--width must be a multiple of 8 from 160 to 3840, --height an even number from 120 to 2160",
        )
    }

    /// Reads the password, where one is needed.
    ///
    /// # Errors
    /// When the file cannot be read, is empty or is too long.
    pub fn authentication(&self) -> anyhow::Result<Option<Authentication>> {
        let (Some(user), Some(file)) = (&self.user, &self.password_file) else { return Ok(None) };
        let mut password = String::new();
        fs::File::open(file)
            .and_then(|file| file.take(MAX_PASSWORD_BYTES + 1).read_to_string(&mut password))
            .with_context(|| format!("password file {} cannot be read", file.display()))?;
        let password = password.trim_end_matches(['\r', '\n']);
        ensure!(!password.is_empty(), "password file {} is empty", file.display());
        ensure!(password.len() < 1024, "password file {} is longer than 1023 bytes", file.display());
        Ok(Some(Authentication { user: user.clone(), password: password.to_owned(), method: self.auth }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["obscura-demo-camera"], words].concat())
    }

    #[test]
    fn a_user_without_a_password_file_is_refused() {
        assert!(parse(&["--user", "viewer"]).is_err());
        assert!(parse(&["--password-file", "/nowhere"]).is_err());
    }

    #[test]
    fn the_end_of_line_is_not_part_of_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let arguments = parse(&["--user", "viewer", "--password-file", path]).unwrap();
        let authentication = arguments.authentication().unwrap().unwrap();
        assert_eq!((authentication.password.as_str(), authentication.method), ("secret", Method::Digest));
        assert!(!format!("{authentication:?}").contains("secret"));
    }

    #[test]
    fn an_odd_size_is_refused_in_words() {
        let error = parse(&["--width", "641"]).unwrap().size().unwrap_err();
        assert!(error.to_string().contains("--width"), "{error}");
    }
}
