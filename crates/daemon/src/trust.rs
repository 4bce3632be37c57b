use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::write_atomically;

/// Whose signatures a service believes: Ed25519 public keys, 32 bytes each, in a TOML file as 64
/// hexadecimal digits. There is nothing secret in it, but whoever can change it can have every
/// camera placed, every grant issued and every receipt signed by a key of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Signs placements and snapshots of the zone.
    #[serde(with = "hexadecimal")]
    pub zone_authority: [u8; 32],
    /// Signs grants and status notes.
    #[serde(with = "hexadecimal")]
    pub grant_issuer: [u8; 32],
    /// Signs the receipts of the audit log.
    #[serde(with = "hexadecimal")]
    pub audit: [u8; 32],
}

impl Trust {
    /// Reads the keys.
    ///
    /// # Errors
    /// Where the file cannot be read, or a key is missing, unknown or not 64 hexadecimal digits.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `trust_file` {shown}"))?;
        toml::from_str(&text).with_context(|| format!("`trust_file` {shown} is wrong"))
    }

    /// Writes the keys, durably and all at once.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self)?;
        write_atomically(path, text.as_bytes(), 0o644)
            .with_context(|| format!("cannot write `trust_file` {}", path.display()))
    }
}

mod hexadecimal {
    use super::*;

    pub fn serialize<S: Serializer>(key: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(key))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let mut key = [0; 32];
        hex::decode_to_slice(&text, &mut key)
            .map_err(|_| D::Error::custom("a public key is 64 hexadecimal digits (32 bytes)"))?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_read_back_from_their_file(zone_authority: [u8; 32], grant_issuer: [u8; 32], audit: [u8; 32]) {
            let folder = tempfile::tempdir().unwrap();
            let (path, trust) = (folder.path().join("trust.toml"), Trust { zone_authority, grant_issuer, audit });
            trust.save(&path).unwrap();
            prop_assert_eq!(Trust::load(&path).unwrap(), trust);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text: String) {
            prop_assert!(toml::from_str::<Trust>(&text).is_err());
        }
    }

    #[test]
    fn a_short_key_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.toml");
        let whole = "00".repeat(32);
        let text = format!("zone_authority = \"{whole}\"\ngrant_issuer = \"{whole}\"\naudit = \"abcd\"");
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", Trust::load(&path).unwrap_err());
        assert!(error.contains("trust.toml") && error.contains("audit = "), "{error}");
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
}
