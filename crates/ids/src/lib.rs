//! Typed identifiers: what names a camera can never be passed for what names a site.
//!
//! Ids that services make are UUIDs (version 7, so that index pages stay warm); zones are short
//! names that a person chose; positions are plain numbers in a type of their own.

mod digest;
mod zone;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use digest::Digest;
pub use zone::ZoneId;

/// The text is not an identifier of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {why}")]
pub struct InvalidId {
    /// What was expected.
    pub kind: &'static str,
    /// What came, at most 64 characters of it.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl InvalidId {
    fn new(kind: &'static str, text: &str, why: &'static str) -> Self {
        Self { kind, text: text.chars().take(64).collect(), why }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that no one else has.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with these 16 bytes, as found in a sealed header.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::new($kind, text, "expected a UUID"))
            }
        }
    };
}

uuid_id!(
    /// One camera.
    CameraId, "camera id"
);
uuid_id!(
    /// One site.
    SiteId, "site id"
);
uuid_id!(
    /// One layer key.
    LayerKeyId, "layer key id"
);
uuid_id!(
    /// One pack.
    PackId, "pack id"
);
uuid_id!(
    /// One grant.
    GrantId, "grant id"
);
uuid_id!(
    /// One gap.
    GapId, "gap id"
);

/// What a stored stream shows. Each layer has its own keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Layer {
    /// Bytes as the camera sent them, or after a permanent mask.
    Original = 1,
    /// Liftable masks burnt in.
    Masked = 2,
    /// Events.
    Metadata = 3,
}

impl Layer {
    /// The layer with this code in sealed headers and messages.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Original),
            2 => Some(Self::Masked),
            3 => Some(Self::Metadata),
            _ => None,
        }
    }

    /// The code in sealed headers and messages.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Original => "original",
            Self::Masked => "masked",
            Self::Metadata => "metadata",
        })
    }
}

impl FromStr for Layer {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "original" => Ok(Self::Original),
            "masked" => Ok(Self::Masked),
            "metadata" => Ok(Self::Metadata),
            _ => Err(InvalidId::new("layer", text, "expected original, masked or metadata")),
        }
    }
}

/// Which run of the recorder wrote something. Grows with every start, so that a recorder that was
/// thought dead can be told from its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterEpoch(pub u64);

impl WriterEpoch {
    /// The starts of one data directory are counted in so many bits; above them is what tells directories apart.
    pub const START_BITS: u32 = 32;

    /// The first epoch that a recorder with the data directory of this one can have had. Those from there up to this
    /// one are its own and its predecessors', and nobody else's.
    #[must_use]
    pub const fn first_of_directory(self) -> Self {
        Self(self.0 >> Self::START_BITS << Self::START_BITS)
    }
}

/// Position of a segment among those of one camera, layer and writer epoch, from 0 without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_own_text() {
        let id = CameraId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(CameraId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn a_wrong_id_is_named_with_its_kind_and_cut_to_a_sane_length() {
        let error = "x".repeat(1000).parse::<SiteId>().unwrap_err();
        assert_eq!(error.kind, "site id");
        assert_eq!(error.text.len(), 64);
    }

    #[test]
    fn epochs_of_one_directory_have_the_same_first_one() {
        let first = WriterEpoch(7 << 32);
        for epoch in [first, WriterEpoch((7 << 32) + 1), WriterEpoch((8 << 32) - 1)] {
            assert_eq!(epoch.first_of_directory(), first);
        }
        assert_ne!(WriterEpoch(8 << 32).first_of_directory(), first);
        assert_eq!(WriterEpoch(3).first_of_directory(), WriterEpoch(0));
    }

    #[test]
    fn layer_codes_and_names_read_back() {
        for layer in [Layer::Original, Layer::Masked, Layer::Metadata] {
            assert_eq!(Layer::from_code(layer.code()), Some(layer));
            assert_eq!(layer.to_string().parse(), Ok(layer));
        }
        assert_eq!(Layer::from_code(0), None);
    }
}
