//! Where the footage of one camera may rest, as typed values that only verification yields.

use obscura_ids::{CameraId, ZoneId};
use obscura_proto::registry::v1::Placement as Message;

use crate::Error;

/// Longest retention, in hours: one year.
const MAX_RETENTION_HOURS: u32 = 8_760;
/// Longest bucket name, in bytes (the S3 rule).
const MAX_BUCKET_BYTES: usize = 63;

/// A verified placement; see [`crate::AuthorityKey::verify_placement`], the only way to one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Placement {
    /// The camera.
    pub camera: CameraId,
    /// Residency zone that its footage and keys stay in.
    pub zone: ZoneId,
    /// ISO 3166-1 alpha-2 code of the territory it stands in.
    pub country: String,
    /// Attested latitude, degrees north (WGS 84).
    pub latitude: f64,
    /// Attested longitude, degrees east (WGS 84).
    pub longitude: f64,
    /// Bucket that takes its footage.
    pub bucket: String,
    /// How long footage is kept at most, 1 to 8 760 hours.
    pub retention_hours: u32,
    /// Version of the snapshot in which this placement was made.
    pub version: u64,
}

impl Placement {
    /// Reads a message whose signature has been verified.
    pub(crate) fn from_verified(message: Message) -> Result<Self, Error> {
        let coordinates = message.coordinates.unwrap_or_default();
        let placement = Self {
            camera: message.camera_id.parse().map_err(malformed)?,
            zone: message.zone.parse().map_err(malformed)?,
            country: message.country,
            latitude: coordinates.latitude,
            longitude: coordinates.longitude,
            bucket: message.bucket,
            retention_hours: message.retention_hours,
            version: message.version,
        };
        placement.check().map_err(malformed)?;
        Ok(placement)
    }

    /// The authority signs nothing outside these bounds; a reader does not rely on it.
    fn check(&self) -> Result<(), &'static str> {
        if self.country.len() != 2 || !self.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err("the country is not an ISO 3166-1 alpha-2 code");
        }
        // Comparisons with NaN are false, so NaN lands outside as well.
        if !(self.latitude.abs() <= 90.0 && self.longitude.abs() <= 180.0) {
            return Err("the coordinates are not on the Earth");
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if self.bucket.is_empty()
            || self.bucket.len() > MAX_BUCKET_BYTES
            || !self.bucket.bytes().all(allowed)
            || self.bucket.contains("..")
        {
            return Err("the bucket name is not one to 63 of a-z, 0-9, - and single dots");
        }
        if !(1..=MAX_RETENTION_HOURS).contains(&self.retention_hours) {
            return Err("the retention is not 1 to 8760 hours");
        }
        if self.version == 0 {
            return Err("versions start at 1");
        }
        Ok(())
    }
}

fn malformed(why: impl ToString) -> Error {
    Error::malformed("placement", why)
}

#[cfg(test)]
mod tests {
    use obscura_proto::registry::v1::Coordinates;
    use proptest::prelude::*;

    use super::*;
    use crate::{Authority, AuthorityKey};

    fn message() -> Message {
        Message {
            camera_id: CameraId::from_bytes([7; 16]).to_string(),
            coordinates: Some(Coordinates { latitude: 52.52, longitude: 13.405 }),
            country: "DE".into(),
            zone: "eea".into(),
            bucket: "footage-eea".into(),
            retention_hours: 72,
            version: 4,
        }
    }

    fn signed_and_read(message: &Message) -> Result<Placement, Error> {
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        AuthorityKey::from_bytes(authority.public_key()).verify_placement(&authority.sign_placement(message))
    }

    #[test]
    fn a_verified_placement_carries_what_was_signed() {
        let placement = signed_and_read(&message()).unwrap();
        assert_eq!(placement.camera, CameraId::from_bytes([7; 16]));
        assert_eq!(placement.zone.as_str(), "eea");
        assert_eq!((placement.country.as_str(), placement.bucket.as_str()), ("DE", "footage-eea"));
        assert_eq!((placement.retention_hours, placement.version), (72, 4));
    }

    #[test]
    fn a_placement_moved_to_another_camera_is_forged() {
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let key = AuthorityKey::from_bytes(authority.public_key());
        let mine = authority.sign_placement(&message());
        let other = Message { camera_id: CameraId::from_bytes([8; 16]).to_string(), ..message() };
        let mut moved = authority.sign_placement(&other);
        moved.signature = mine.signature;
        assert!(matches!(key.verify_placement(&moved), Err(Error::Forged("placement"))));
    }

    #[test]
    fn fields_outside_their_bounds_are_refused_even_when_signed() {
        let at = |latitude, longitude| Some(Coordinates { latitude, longitude });
        let wrong = [
            Message { camera_id: "front door".into(), ..message() },
            Message { zone: "EEA".into(), ..message() },
            Message { country: "de".into(), ..message() },
            Message { country: "DEU".into(), ..message() },
            Message { coordinates: at(f64::NAN, 0.0), ..message() },
            Message { coordinates: at(91.0, 0.0), ..message() },
            Message { coordinates: at(0.0, 181.0), ..message() },
            Message { bucket: String::new(), ..message() },
            Message { bucket: "../other".into(), ..message() },
            Message { bucket: "a..b".into(), ..message() },
            Message { retention_hours: 0, ..message() },
            Message { retention_hours: 8_761, ..message() },
            Message { version: 0, ..message() },
        ];
        for message in wrong {
            let verdict = signed_and_read(&message);
            assert!(matches!(verdict, Err(Error::Malformed { .. })), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn every_placement_within_bounds_reads_back(
            latitude in -90.0..=90.0_f64,
            longitude in -180.0..=180.0_f64,
            retention_hours in 1..=8_760_u32,
            version in 1..u64::MAX,
        ) {
            let coordinates = Some(Coordinates { latitude, longitude });
            let placement =
                signed_and_read(&Message { coordinates, retention_hours, version, ..message() }).unwrap();
            prop_assert_eq!((placement.latitude, placement.longitude), (latitude, longitude));
            prop_assert_eq!((placement.retention_hours, placement.version), (retention_hours, version));
        }
    }
}
