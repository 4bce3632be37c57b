//! The root of a zone's keys, split into printed shares of which so many restore it.
//!
//! The split is Shamir's ("How to share a secret", CACM 22, 1979) over GF(2^8), by `vsss-rs`, which
//! works in constant time without tables and draws coefficients from the whole field: fewer shares
//! than the threshold say nothing about the root. What is split is
//!
//! ```text
//! key 32 | first 8 bytes of SHA-256("obscura zone root v1", 0, u32 BE version, key, zone)
//! ```
//!
//! so that a root restored from wrong shares is noticed. Each share is a line of groups of five
//! symbols that a person can copy from paper; every group carries its own check symbol, so that a typo
//! is not only found but located.

mod error;
mod random;
mod share;
mod symbols;

use std::{collections::BTreeSet, fmt, fmt::Write as _};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA256},
};
use obscura_ids::ZoneId;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

pub use error::Error;
pub use share::Share;

use crate::{random::Random, share::SetId};

/// Fewest and most shares.
pub const SHARES: std::ops::RangeInclusive<u8> = 2..=16;

/// Name of the file in the data directory of the key service in which a recovery is noted until the audit log is told:
/// one serialised `obscura.audit.v1.Event`.
pub const RECOVERED_FILE: &str = "recovered.event";

const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 8;
const SECRET_BYTES: usize = KEY_BYTES + CHECK_BYTES;
const CHECK_DOMAIN: &[u8] = b"obscura zone root v1\0";
/// What `format` of a key file says; the key service reads it.
const KEY_FILE_FORMAT: &str = "obscura key-encryption key v1";

/// The key from which every other key of a zone follows. Never printed.
#[derive(Clone)]
pub struct Root {
    zone: ZoneId,
    version: u32,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Root {
    /// The root of this zone with this version.
    #[must_use]
    pub const fn new(zone: ZoneId, version: u32, key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { zone, version, key }
    }

    /// Its zone.
    #[must_use]
    pub const fn zone(&self) -> &ZoneId {
        &self.zone
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Whether the other is the same root. Takes the same time for every key.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let same_key = verify_slices_are_equal(self.key.as_ref(), other.key.as_ref()).is_ok();
        same_key && self.version == other.version && self.zone == other.zone
    }

    /// Splits it into `shares` of which any `threshold` restore it.
    ///
    /// # Errors
    /// [`Error::Counts`] unless `2 <= threshold <= shares <= 16`, [`Error::Library`] where the operating
    /// system gives no randomness.
    pub fn split(&self, threshold: u8, shares: u8) -> Result<Vec<Share>, Error> {
        if !SHARES.contains(&threshold) || !SHARES.contains(&shares) || threshold > shares {
            return Err(Error::Counts { threshold, shares });
        }
        let mut random = Random::default();
        let set = SetId::new(&mut random);
        let secret = self.secret();
        let parts = Gf256::split_bytes(threshold.into(), shares.into(), &secret[..], &mut random);
        random.check()?;
        let parts = parts.map_err(|_| Error::Library)?;
        let share = |part: Vec<u8>| {
            let part = Zeroizing::new(part);
            let (index, part) = part.split_first().ok_or(Error::Library)?;
            let part = Zeroizing::new(part.to_vec());
            Ok(Share {
                set,
                zone: self.zone.clone(),
                version: self.version,
                threshold,
                shares,
                index: *index,
                part,
            })
        };
        parts.into_iter().map(share).collect()
    }

    /// Restores it from shares, of which there may be more than needed.
    ///
    /// # Errors
    /// [`Error::OtherSet`], [`Error::Twice`] and [`Error::TooFew`] name what is wrong with the shares;
    /// [`Error::Wrong`] says that they do not restore what was split.
    pub fn restore(shares: &[Share]) -> Result<Self, Error> {
        let first = shares.first().ok_or(Error::None)?;
        check_set(first, shares)?;
        // One vector each, because the library takes them so; each is wiped below.
        let mut parts: Vec<Vec<u8>> =
            shares.iter().map(|share| [&[share.index], &share.part[..]].concat()).collect();
        let combined = Gf256::combine_bytes(&parts).map(Zeroizing::new);
        parts.iter_mut().for_each(zeroize::Zeroize::zeroize);
        let combined = combined.map_err(|_| Error::Wrong)?;
        let (key, _) = combined.split_first_chunk::<KEY_BYTES>().ok_or(Error::Wrong)?;
        let root = Self::new(first.zone.clone(), first.version, Zeroizing::new(*key));
        match verify_slices_are_equal(&root.secret()[..], &combined) {
            Ok(()) => Ok(root),
            Err(_) => Err(Error::Wrong),
        }
    }

    /// The content of the key file of a local key service with this root alone.
    #[must_use]
    pub fn key_file(&self) -> Zeroizing<String> {
        // Room for everything at once, because growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(256));
        // Writing to a string cannot fail.
        let _ = write!(text, "{{\"format\":\"{KEY_FILE_FORMAT}\",\"versions\":{{\"{}\":\"", self.version);
        for byte in self.key.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("\"}}");
        text
    }

    /// The key and its check.
    fn secret(&self) -> Zeroizing<[u8; SECRET_BYTES]> {
        let mut hash = Context::new(&SHA256);
        for part in
            [CHECK_DOMAIN, &self.version.to_be_bytes(), self.key.as_ref(), self.zone.as_str().as_bytes()]
        {
            hash.update(part);
        }
        let hash = hash.finish();
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        secret.iter_mut().zip(self.key.iter().chain(hash.as_ref())).for_each(|(to, from)| *to = *from);
        secret
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("zone", &self.zone)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Shares of one set, none twice, enough of them.
fn check_set(first: &Share, shares: &[Share]) -> Result<(), Error> {
    let mut indexes = BTreeSet::new();
    for share in shares {
        if !share.belongs_with(first) {
            return Err(Error::OtherSet { first: first.name(), other: share.name() });
        }
        if !indexes.insert(share.index) {
            return Err(Error::Twice(share.index));
        }
    }
    if shares.len() < usize::from(first.threshold) {
        return Err(Error::TooFew { given: shares.len(), threshold: first.threshold });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::subsequence};

    use super::*;

    fn root() -> Root {
        Root::new("eea".parse().unwrap(), 3, Zeroizing::new([0xa7; 32]))
    }

    fn printed(threshold: u8, shares: u8) -> Vec<String> {
        root().split(threshold, shares).unwrap().iter().map(|share| share.to_text().to_string()).collect()
    }

    #[test]
    fn shares_of_two_splits_do_not_mix() {
        let (first, second) = (root().split(2, 3).unwrap(), root().split(2, 3).unwrap());
        let error = Root::restore(&[first[0].clone(), second[1].clone()]).unwrap_err();
        assert!(matches!(error, Error::OtherSet { .. }), "{error}");
    }

    #[test]
    fn the_same_share_twice_is_named_and_one_share_is_not_enough() {
        let shares = root().split(2, 3).unwrap();
        assert_eq!(Root::restore(&[shares[1].clone(), shares[1].clone()]).unwrap_err(), Error::Twice(2));
        assert_eq!(Root::restore(&shares[..1]).unwrap_err(), Error::TooFew { given: 1, threshold: 2 });
        assert_eq!(Root::restore(&[]).unwrap_err(), Error::None);
    }

    #[test]
    fn counts_that_protect_nothing_or_cannot_be_met_are_refused() {
        for (threshold, shares) in [(0, 3), (1, 3), (3, 2), (2, 17), (17, 17), (0, 0)] {
            assert_eq!(root().split(threshold, shares).unwrap_err(), Error::Counts { threshold, shares });
        }
    }

    #[test]
    fn a_changed_part_restores_nothing() {
        let mut shares = root().split(2, 2).unwrap();
        shares[0].part[5] ^= 1;
        assert_eq!(Root::restore(&shares).unwrap_err(), Error::Wrong);
    }

    #[test]
    fn shares_relabelled_as_of_another_zone_or_version_restore_nothing() {
        for relabel in
            [|share: &mut Share| share.zone = "uk".parse().unwrap(), |share: &mut Share| share.version = 4]
        {
            let mut shares = root().split(2, 2).unwrap();
            shares.iter_mut().for_each(relabel);
            assert_eq!(Root::restore(&shares).unwrap_err(), Error::Wrong);
        }
    }

    #[test]
    fn nothing_that_is_printed_for_a_programmer_shows_the_key() {
        let shares = root().split(2, 2).unwrap();
        let printed = format!("{:?} {shares:?}", root());
        assert!(!printed.contains("167") && !printed.contains("part"), "{printed}");
        assert!(root().key_file().contains(&"a7".repeat(32)));
    }

    /// A threshold, a number of shares, and which of them are given.
    fn choices() -> impl Strategy<Value = (u8, u8, Vec<usize>)> {
        (2..=16_u8).prop_flat_map(|shares| (2..=shares, Just(shares))).prop_flat_map(|(threshold, shares)| {
            let all: Vec<usize> = (0..usize::from(shares)).collect();
            let given = subsequence(all, 1..=usize::from(shares)).prop_shuffle();
            (Just(threshold), Just(shares), given)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_so_many_restore_the_root_and_fewer_do_not((threshold, shares, given) in choices()) {
            let printed = printed(threshold, shares);
            let given: Vec<String> = given.into_iter().map(|index| printed[index].clone()).collect();
            let restored = Root::restore(&Share::parse_all(&given).unwrap());
            if given.len() >= usize::from(threshold) {
                prop_assert!(restored.unwrap().is(&root()));
            } else {
                let too_few = matches!(restored, Err(Error::TooFew { .. }));
                prop_assert!(too_few);
            }
        }

        /// Fewer shares than the threshold fit every root equally: with another root's remaining share
        /// they restore something else, and nothing tells that it is wrong but the check.
        #[test]
        fn fewer_shares_than_the_threshold_are_independent_of_the_root(key: [u8; 32]) {
            let other = Root::new("eea".parse().unwrap(), 3, Zeroizing::new(key));
            prop_assert!(!other.is(&root()));
            let (ours, theirs) = (root().split(3, 3).unwrap(), other.split(3, 3).unwrap());
            prop_assert_eq!(ours[0].part.len(), theirs[0].part.len());
            let mut mixed = vec![ours[0].clone(), ours[1].clone(), theirs[2].clone()];
            mixed[2].set = ours[0].set;
            prop_assert_eq!(Root::restore(&mixed).unwrap_err(), Error::Wrong);
        }
    }
}
