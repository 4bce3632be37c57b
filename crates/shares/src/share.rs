//! One share, and its line of text.
//!
//! ```text
//! format 1 | set 4 | threshold | shares | index | u32 BE version | length of zone | zone | part 40 | check 4
//! ```
//!
//! in groups ([`crate::symbols`]); the check is the start of SHA-256 over what stands before it.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use obscura_ids::ZoneId;
use zeroize::Zeroizing;

use crate::{Error, SECRET_BYTES, random::Random, symbols};

const FORMAT: u8 = 1;
/// Format, set, threshold, shares, index, version, length of the zone.
const HEAD_BYTES: usize = 13;
const CHECK_BYTES: usize = 4;

/// Tells splits of the same root apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetId([u8; 4]);

impl SetId {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut id = [0; 4];
        random.fill(&mut id);
        Self(id)
    }
}

/// One share of a root.
#[derive(Clone)]
pub struct Share {
    pub(crate) set: SetId,
    pub(crate) zone: ZoneId,
    pub(crate) version: u32,
    pub(crate) threshold: u8,
    pub(crate) shares: u8,
    pub(crate) index: u8,
    pub(crate) part: Zeroizing<Vec<u8>>,
}

impl Share {
    /// The line to print: what it is in words, a colon, groups.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let groups = symbols::encode(&self.bytes());
        let Self { zone, version, threshold, .. } = self;
        let mut text = Zeroizing::new(String::with_capacity(groups.len() + 160));
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "Obscura recovery {}, any {threshold} restore the root of zone {zone}, version {version}: {}",
            self.name(),
            groups.as_str()
        );
        text
    }

    /// Reads a line, or its groups alone, however they are separated.
    ///
    /// # Errors
    /// [`Error::Typo`] names the group that was copied wrongly, [`Error::Groups`] says that some are
    /// missing, [`Error::Format`] that it is something else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let groups = text.rsplit(':').next().unwrap_or_default();
        let bytes = symbols::decode(groups)?;
        let malformed = || Error::Groups(bytes.len().div_ceil(3));
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or_else(malformed)?;
        let [format, s0, s1, s2, s3, threshold, shares, index, v0, v1, v2, v3, zone_length] = *head;
        if format != FORMAT {
            return Err(Error::Format(format));
        }
        let zone_bytes = usize::from(zone_length);
        let length = HEAD_BYTES + zone_bytes + SECRET_BYTES;
        let (checked, filling) = bytes.split_at_checked(length + CHECK_BYTES).ok_or_else(malformed)?;
        let (content, check) = checked.split_at(length);
        if filling.iter().any(|byte| *byte != 0) || *check != self::check(content) {
            return Err(malformed());
        }
        let (zone, part) = rest.split_at_checked(zone_bytes).ok_or_else(malformed)?;
        let zone = str::from_utf8(zone).ok().and_then(|zone| zone.parse().ok()).ok_or_else(malformed)?;
        let part = Zeroizing::new(part.iter().copied().take(SECRET_BYTES).collect());
        let version = u32::from_be_bytes([v0, v1, v2, v3]);
        Ok(Self { set: SetId([s0, s1, s2, s3]), zone, version, threshold, shares, index, part })
    }

    /// Reads several; empty lines do not count.
    ///
    /// # Errors
    /// [`Error::Share`] says which one and why.
    pub fn parse_all<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Self>, Error> {
        let given = texts.iter().map(AsRef::as_ref).filter(|text| !text.trim().is_empty());
        let parse = |(position, text): (usize, &str)| {
            Self::parse(text).map_err(|why| Error::Share { position: position + 1, why: Box::new(why) })
        };
        given.enumerate().map(parse).collect()
    }

    /// Zone of its root.
    #[must_use]
    pub const fn zone(&self) -> &ZoneId {
        &self.zone
    }

    /// Version of its root.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Shares that restore the root.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Its number among the shares, from 1.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    pub(crate) fn name(&self) -> String {
        format!("share {} of {} (set {:08x})", self.index, self.shares, u32::from_be_bytes(self.set.0))
    }

    pub(crate) fn belongs_with(&self, other: &Self) -> bool {
        let of = |share: &Self| (share.set, share.version, share.threshold, share.shares);
        of(self) == of(other) && self.zone == other.zone
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let zone = self.zone.as_str().as_bytes();
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(HEAD_BYTES + zone.len() + SECRET_BYTES + CHECK_BYTES));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.set.0);
        bytes.extend([self.threshold, self.shares, self.index]);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.push(u8::try_from(zone.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(zone);
        bytes.extend_from_slice(&self.part);
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("name", &self.name()).field("zone", &self.zone).finish_non_exhaustive()
    }
}

fn check(content: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.iter_mut().zip(digest(&SHA256, content).as_ref()).for_each(|(to, from)| *to = *from);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(zone: &str) -> Share {
        Share {
            set: SetId([1, 2, 3, 4]),
            zone: zone.parse().unwrap(),
            version: 70_000,
            threshold: 3,
            shares: 5,
            index: 2,
            part: Zeroizing::new((0..40).collect()),
        }
    }

    #[test]
    fn a_share_reads_back_with_and_without_its_words() {
        for zone in ["e", "eea", "a-zone-name-with-thirty-two-chars"] {
            let zone = &zone[..zone.len().min(32)];
            let text = share(zone).to_text();
            assert!(text.contains("share 2 of 5") && text.contains("any 3 restore"), "{}", text.as_str());
            for typed in [text.as_str(), text.split(": ").last().unwrap()] {
                let read = Share::parse(typed).unwrap();
                assert_eq!((read.bytes(), read.name()), (share(zone).bytes(), share(zone).name()));
            }
        }
    }

    #[test]
    fn a_missing_and_an_extra_group_are_noticed() {
        let text = share("eea").to_text();
        let groups = text.split(": ").last().unwrap();
        let (without_last, last) = groups.rsplit_once(' ').unwrap();
        assert!(Share::parse(without_last).is_err());
        assert!(Share::parse(&format!("{groups} {last}")).is_err());
        let (first, without_first) = groups.split_once(' ').unwrap();
        assert_eq!(Share::parse(without_first).unwrap_err(), Error::Typo(1));
        assert!(Share::parse(&format!("{first} {groups}")).is_err());
        assert_eq!(Share::parse("").unwrap_err(), Error::Groups(0));
    }

    #[test]
    fn a_typo_names_the_share_and_the_group() {
        let good = share("eea").to_text().to_string();
        let last = good.chars().last().unwrap();
        let wrong = format!("{}{}", &good[..good.len() - 1], if last == '7' { '8' } else { '7' });
        let error = Share::parse_all(&[good.clone(), String::new(), wrong]).unwrap_err();
        assert_eq!(error.to_string(), "share 2 as given: group 24 has a typo: compare it with the print");
        assert!(!error.to_string().contains(&good[good.len() - 5..]));
    }

    proptest! {
        #[test]
        fn arbitrary_groups_never_panic_and_never_pass(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            prop_assert!(Share::parse(&symbols::encode(&bytes)).is_err());
            let mut framed = bytes;
            framed.splice(0..0, [1, 0, 0, 0, 0, 2, 2, 1, 0, 0, 0, 1, 3]);
            prop_assert!(Share::parse(&symbols::encode(&framed)).is_err());
        }
    }
}
