use std::{fmt, str::FromStr};

/// The text cannot name an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object key: {0}")]
pub struct InvalidKey(&'static str);

/// Name of an object: components of `a` to `z`, `0` to `9`, `-` and `.`, joined by `/`, at most 512
/// bytes. No component is empty or starts with `.`, so that a key can neither leave its store nor
/// meet a file that the store keeps for itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobKey(String);

impl BlobKey {
    /// Longest key, in bytes.
    pub const MAX_BYTES: usize = 512;
    /// Longest component, in bytes: what common file systems take.
    pub const MAX_COMPONENT_BYTES: usize = 255;

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidKey("longer than 512 bytes"));
        }
        text.split('/').try_for_each(check_component)?;
        Ok(Self(text.to_owned()))
    }
}

fn check_component(component: &str) -> Result<(), InvalidKey> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    match component.bytes().next() {
        None => Err(InvalidKey("an empty component, or a `/` at an end")),
        Some(b'.') => Err(InvalidKey("a component that starts with `.`")),
        Some(_) if component.len() > BlobKey::MAX_COMPONENT_BYTES => {
            Err(InvalidKey("a component longer than 255 bytes"))
        }
        Some(_) if component.bytes().all(allowed) => Ok(()),
        Some(_) => Err(InvalidKey("only a-z, 0-9, `-`, `.` and `/` are allowed")),
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobKey({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_could_leave_the_store_are_refused() {
        let component = "x".repeat(256);
        let long = "x/".repeat(256) + "x";
        for text in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/../b",
            "a/.",
            "./a",
            ".partial/x",
            "A",
            "a b",
            "a\\b",
            "a%2e",
            "a\0",
            "ä",
            &component,
            &long,
        ] {
            assert!(text.parse::<BlobKey>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_key_of_a_pack_is_a_key() {
        let text = "eea/0190b6a5-0000-7000-8000-000000000001/original/2026-11-23/0190b6a5.pack";
        assert_eq!(text.parse::<BlobKey>().unwrap().as_str(), text);
    }

    proptest! {
        #[test]
        fn whatever_parses_stays_below_the_root_of_the_store(text in "[a-c./\\\\-]{0,24}|.{0,24}") {
            if let Ok(key) = text.parse::<BlobKey>() {
                let path = Path::new(key.as_str());
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(Path::new("/root").join(path).starts_with("/root/"));
                prop_assert_eq!(key.as_str(), text);
            }
        }
    }
}
