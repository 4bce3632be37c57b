//! Where a camera's video comes from, with its credentials.
//!
//! Sources are sealed to this recorder by whoever adds a camera. They are opened here, kept in
//! memory only, and never printed: [`Source`] shows its host and nothing else.

use std::{fmt, path::Path};

use obscura_proto::{ingest::v1 as proto, registry::v1::SealedSource};
use obscura_seal::{RecipientKeyPair, RecipientPublicKey, SOURCE_INFO, Wrapped, unwrap};
use prost::Message as _;
use url::Url;
use zeroize::Zeroizing;

/// A source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was sealed to another key.
    #[error("the source is not sealed to this recorder; add the camera again")]
    NotForUs,
    /// It is not what a source looks like.
    #[error("the source is malformed; add the camera again")]
    Malformed,
    /// Only RTSP over TCP is spoken.
    #[error("`{0}` is not supported; give an rtsp:// address")]
    Scheme(String),
    /// The key file cannot be used.
    #[error("source key {path}: {cause}")]
    KeyFile {
        /// The file.
        path: String,
        /// What went wrong.
        cause: String,
    },
}

/// How to reach a camera.
#[derive(Clone)]
pub struct Source {
    url: Url,
    credentials: Option<(String, Zeroizing<String>)>,
}

impl Source {
    /// A source from its message.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Scheme`].
    pub fn try_new(source: proto::Source) -> Result<Self, Error> {
        let url = Url::parse(&source.url).map_err(|_| Error::Malformed)?;
        if url.scheme() != "rtsp" {
            return Err(Error::Scheme(url.scheme().to_owned()));
        }
        if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Malformed);
        }
        let password = Zeroizing::new(source.password);
        let credentials = (!source.username.is_empty()).then_some((source.username, password));
        Ok(Self { url, credentials })
    }

    /// The address, free of credentials.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Credentials as the RTSP client takes them.
    #[must_use]
    pub fn credentials(&self) -> Option<retina::client::Credentials> {
        let (username, password) = self.credentials.as_ref()?;
        Some(retina::client::Credentials { username: username.clone(), password: password.to_string() })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// The recorder's key for sources.
pub struct SourceKey(RecipientKeyPair);

impl SourceKey {
    /// Reads the key from a file, or makes it at the first start.
    ///
    /// # Errors
    /// [`Error::KeyFile`].
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let fail = |cause: String| Error::KeyFile { path: path.display().to_string(), cause };
        match obscura_daemon::read_private(path) {
            Ok(bytes) => RecipientKeyPair::from_private_bytes(&bytes)
                .map(Self)
                .map_err(|error| fail(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pair = RecipientKeyPair::generate().map_err(|error| fail(error.to_string()))?;
                obscura_daemon::write_atomically(path, &pair.private_bytes(), 0o600)
                    .map_err(|error| fail(error.to_string()))?;
                Ok(Self(pair))
            }
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// The half that everybody may know.
    #[must_use]
    pub fn public(&self) -> RecipientPublicKey {
        self.0.public()
    }

    /// Opens a source.
    ///
    /// # Errors
    /// [`Error::NotForUs`], [`Error::Malformed`], [`Error::Scheme`].
    pub fn open(&self, sealed: &SealedSource) -> Result<Source, Error> {
        let wrapped = Wrapped {
            encapsulated_key: sealed.encapsulated_key.to_vec(),
            ciphertext: sealed.ciphertext.to_vec(),
        };
        let clear = unwrap(&self.0, SOURCE_INFO, b"", &wrapped).map_err(|_| Error::NotForUs)?;
        Source::try_new(proto::Source::decode(clear.as_slice()).map_err(|_| Error::Malformed)?)
    }
}

impl fmt::Debug for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str) -> proto::Source {
        proto::Source { url: url.into(), username: "admin".into(), password: "hunter2".into() }
    }

    #[test]
    fn a_sealed_source_opens_only_with_the_key_it_was_sealed_to() {
        let dir = tempfile::tempdir().unwrap();
        let key = SourceKey::load_or_create(&dir.path().join("a")).unwrap();
        let clear = source("rtsp://10.0.0.7/main").encode_to_vec();
        let wrapped = obscura_seal::wrap(&key.public(), SOURCE_INFO, b"", &clear).unwrap();
        let sealed = SealedSource {
            encapsulated_key: wrapped.encapsulated_key.into(),
            ciphertext: wrapped.ciphertext.into(),
        };
        let again = SourceKey::load_or_create(&dir.path().join("a")).unwrap();
        assert_eq!(again.open(&sealed).unwrap().url().as_str(), "rtsp://10.0.0.7/main");
        let other = SourceKey::load_or_create(&dir.path().join("b")).unwrap();
        assert!(matches!(other.open(&sealed), Err(Error::NotForUs)));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source.key");
        SourceKey::load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = SourceKey::load_or_create(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn credentials_are_never_printed() {
        let printed = format!("{:?}", Source::try_new(source("rtsp://cam/main")).unwrap());
        assert!(
            !printed.contains("hunter2") && !printed.contains("admin") && !printed.contains("main"),
            "{printed}"
        );
    }

    #[test]
    fn other_schemes_and_credentials_in_the_address_are_refused() {
        assert!(matches!(Source::try_new(source("http://cam/")), Err(Error::Scheme(_))));
        assert!(matches!(Source::try_new(source("rtsp://a:b@cam/")), Err(Error::Malformed)));
    }
}
