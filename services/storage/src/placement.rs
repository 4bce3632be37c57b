//! No upload without a valid placement: the zone decides where footage rests.

use obscura_ids::ZoneId;
use obscura_proto::registry::v1::SignedPlacement;
use obscura_snapshot::{AuthorityKey, Placement};

use crate::Error;

/// What a placement must say for its footage to rest here.
#[derive(Clone, Debug)]
pub struct PlacementCheck {
    /// The zone authority, whose signature counts.
    pub authority: AuthorityKey,
    /// Zone of this service.
    pub zone: ZoneId,
    /// Buckets of this service.
    pub buckets: Vec<String>,
}

impl PlacementCheck {
    /// The placement, if its footage may rest here.
    ///
    /// # Errors
    /// Says in words why not: not signed by the authority, another zone, an unknown bucket.
    pub fn check(&self, signed: Option<&SignedPlacement>) -> Result<Placement, Error> {
        let signed = signed.ok_or_else(|| Error::invalid("placement", "there is none"))?;
        let placement = self.authority.verify_placement(signed)?;
        if placement.zone != self.zone {
            return Err(Error::ForeignZone { placement: placement.zone, own: self.zone.clone() });
        }
        if !self.buckets.contains(&placement.bucket) {
            return Err(Error::UnknownBucket(placement.bucket));
        }
        Ok(placement)
    }
}

#[cfg(test)]
mod tests {
    use obscura_ids::CameraId;
    use obscura_proto::registry::v1::{Coordinates, Placement as Message};
    use obscura_snapshot::Authority;
    use obscura_status::{Code, Failure};

    use super::*;

    fn message(zone: &str, bucket: &str) -> Message {
        Message {
            camera_id: CameraId::from_bytes([1; 16]).to_string(),
            coordinates: Some(Coordinates { latitude: 52.5, longitude: 13.4 }),
            country: "DE".into(),
            zone: zone.into(),
            bucket: bucket.into(),
            retention_hours: 72,
            version: 1,
        }
    }

    fn authority() -> Authority {
        Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap()
    }

    fn check(authority: &Authority) -> PlacementCheck {
        PlacementCheck {
            authority: AuthorityKey::from_bytes(authority.public_key()),
            zone: "eea".parse().unwrap(),
            buckets: vec!["eea".into()],
        }
    }

    #[test]
    fn a_placement_in_the_own_zone_and_a_known_bucket_passes() {
        let authority = authority();
        let signed = authority.sign_placement(&message("eea", "eea"));
        assert_eq!(check(&authority).check(Some(&signed)).unwrap().camera, CameraId::from_bytes([1; 16]));
    }

    #[test]
    fn everything_else_is_refused_with_words() {
        let (own, other) = (authority(), authority());
        let cases = [
            (other.sign_placement(&message("eea", "eea")), "placement"),
            (own.sign_placement(&message("ch", "eea")), "this service keeps the footage of zone eea only"),
            (own.sign_placement(&message("eea", "us-east")), "bucket `us-east`"),
        ];
        for (signed, words) in cases {
            let failure = Failure::from(check(&own).check(Some(&signed)).unwrap_err());
            assert_eq!(failure.code(), Code::PermissionDenied);
            assert!(failure.external().contains(words), "{}", failure.external());
        }
        let absent = Failure::from(check(&own).check(None).unwrap_err());
        assert_eq!(absent.code(), Code::InvalidArgument);
    }
}
