//! Names of the objects in which packs rest.

use std::{fmt, str::FromStr};

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Layer, PackId, ZoneId};

use crate::Error;

/// Bytes of `yyyy-mm-dd`.
const DAY_BYTES: usize = 10;
const SUFFIX: &str = ".pack";

/// A day in UTC, written `yyyy-mm-dd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(Timestamp);

/// What the key of an object says about the pack in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// Zone in which the pack rests.
    pub zone: ZoneId,
    /// Camera of its segments.
    pub camera: CameraId,
    /// Layer of its segments.
    pub layer: Layer,
    /// Day on which its first frame was filmed.
    pub day: Day,
    /// The pack.
    pub pack: PackId,
}

impl Day {
    /// The day in which the moment lies.
    #[must_use]
    pub fn of(moment: Timestamp) -> Self {
        const NANOS: i64 = 86_400_000_000_000;
        let nanos = moment.unix_nanos();
        Self(Timestamp::from_unix_nanos(nanos.saturating_sub(nanos.rem_euclid(NANOS))))
    }

    /// First moment of the day.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A moment is written in RFC 3339, which starts with the day.
        f.write_str(self.0.to_string().get(..DAY_BYTES).unwrap_or_default())
    }
}

impl FromStr for Day {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let start = format!("{text}T00:00:00Z").parse().map_err(|_| Error::ObjectKey)?;
        Ok(Self(start))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, camera, layer, day, pack } = self;
        write!(f, "{zone}/{camera}/{layer}/{day}/{pack}{SUFFIX}")
    }
}

/// The key of the object for a pack whose first frame was filmed at `start`:
/// `<zone>/<camera>/<layer>/<yyyy-mm-dd>/<pack>.pack`, the day in UTC.
#[must_use]
pub fn object_key(zone: &ZoneId, camera: CameraId, layer: Layer, start: Timestamp, pack: PackId) -> String {
    ObjectName { zone: zone.clone(), camera, layer, day: Day::of(start), pack }.to_string()
}

/// Reads a key back.
///
/// # Errors
/// [`Error::ObjectKey`] for any text that [`object_key`] does not write, be it only in capitals.
pub fn parse_object_key(key: &str) -> Result<ObjectName, Error> {
    let name = read(key).ok_or(Error::ObjectKey)?;
    if name.to_string() == key { Ok(name) } else { Err(Error::ObjectKey) }
}

fn read(key: &str) -> Option<ObjectName> {
    let mut parts = key.strip_suffix(SUFFIX)?.splitn(5, '/');
    Some(ObjectName {
        zone: parts.next()?.parse().ok()?,
        camera: parts.next()?.parse().ok()?,
        layer: parts.next()?.parse().ok()?,
        day: parts.next()?.parse().ok()?,
        pack: parts.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(start: Timestamp) -> String {
        let camera = CameraId::from_bytes([0xaa; 16]);
        object_key(&"eea-1".parse().unwrap(), camera, Layer::Masked, start, PackId::from_bytes([0xbb; 16]))
    }

    #[test]
    fn a_key_is_zone_camera_layer_day_and_pack() {
        assert_eq!(
            key("2026-11-23T23:59:59.999Z".parse().unwrap()),
            "eea-1/aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa/masked/2026-11-23/bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb.pack"
        );
    }

    #[test]
    fn a_second_way_to_write_a_key_is_refused() {
        let key = key("2026-11-23T10:00:00Z".parse().unwrap());
        let others = [
            key.to_uppercase(),
            key.replace("aaaa-", "aaaa"),
            key.replace("eea-1", "../eea-1"),
            key.replace("2026-11-23", "2026-11-32"),
            key.replace("2026-11-23", "20261123"),
            key.replace("/masked", "//masked"),
            format!("/{key}"),
            format!("{key}.pack"),
        ];
        for other in others {
            assert_eq!(parse_object_key(&other), Err(Error::ObjectKey), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_key_reads_back_for_every_moment(nanos: i64) {
            let start = Timestamp::from_unix_nanos(nanos);
            prop_assume!(nanos > i64::MIN + 86_400_000_000_000);
            let name = parse_object_key(&key(start)).unwrap();
            prop_assert_eq!(name.day, Day::of(start));
            prop_assert!(name.day.start() <= start);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,120}") {
            let _ = parse_object_key(&text);
        }
    }
}
