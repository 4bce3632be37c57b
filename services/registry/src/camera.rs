//! Cameras: what a request must say before one is added, and what is stored of it.

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Digest};
use obscura_proto::registry::v1::{
    AddCameraRequest, Camera as CameraMessage, Placement, SealedSource as SealedSourceMessage,
};
use obscura_snapshot::Authority;

use prost::Message as _;

use crate::{
    publisher::Retention,
    purpose::{self, Purpose},
    site::{Attestation, Site},
    words::{Invalid, Name},
    zone::{Decision, Settled},
};

/// Length of an X25519 encapsulated key (RFC 9180, section 7.1), in bytes.
const ENCAPSULATED_KEY_BYTES: usize = 32;
/// Length of the authentication tag that ends every ciphertext, in bytes.
const TAG_BYTES: usize = 16;
/// Longest sealed source, in bytes: a URL of 4 KiB, credentials and a pinned certificate fit.
const MAX_CIPHERTEXT_BYTES: usize = 16 * 1024;

/// A camera that a request describes well enough to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCamera {
    /// Its name, unique without regard to case among the cameras that are not removed.
    pub name: Name,
    /// Name of its site.
    pub site: Name,
    /// Why it films.
    pub purpose: Purpose,
    /// Where it is, if not at the coordinates of its site.
    pub attestation: Option<Attestation>,
    /// A person's decision about its zone.
    pub decision: Option<Decision>,
    /// Its source, sealed to the recorder.
    pub source: SealedSource,
    /// Whether the source is not encrypted on its way to the recorder.
    pub plaintext_source: bool,
}

/// What makes a request unfit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A field makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The purpose is missing or not complete.
    #[error(transparent)]
    Purpose(#[from] purpose::Error),
}

impl NewCamera {
    /// Reads a request at `now`.
    ///
    /// # Errors
    /// The first field that makes no sense; for a purpose all of its faults.
    pub fn read(request: &AddCameraRequest, now: Timestamp) -> Result<Self, Error> {
        let attestation = request.attestation.as_ref().map(|message| Attestation::read(message, now));
        Ok(Self {
            name: Name::read("the name of the camera", &request.name)?,
            site: Name::read("the name of the site", &request.site_name)?,
            purpose: Purpose::read(&request.purpose.clone().unwrap_or_default(), now)?,
            attestation: attestation.transpose()?,
            decision: request.zone_decision.as_ref().map(Decision::read).transpose()?,
            source: SealedSource::read(request.sealed_source.clone())?,
            plaintext_source: request.plaintext_source,
        })
    }
}

/// A source that only the recorder can open. The registry checks no more than its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedSource(SealedSourceMessage);

impl SealedSource {
    fn read(message: Option<SealedSourceMessage>) -> Result<Self, Invalid> {
        let wrong = |why: &str| Err(Invalid::new("the sealed source", why));
        let Some(source) = message else { return wrong("is missing: seal the source to the recorder's key") };
        if source.encapsulated_key.len() != ENCAPSULATED_KEY_BYTES {
            return wrong("must have an encapsulated key of 32 bytes (X25519)");
        }
        if !(TAG_BYTES + 1..=MAX_CIPHERTEXT_BYTES).contains(&source.ciphertext.len()) {
            return wrong("must have 17 to 16384 bytes of ciphertext");
        }
        Ok(Self(source))
    }
}

/// A camera on its way in: described, placed, not yet numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    id: CameraId,
    name: Name,
    /// The placement is made when the version is known.
    placement: Placement,
    message: CameraMessage,
}

impl Admission {
    /// Puts the camera at its site and into its zone.
    #[must_use]
    pub fn new(camera: NewCamera, site: Site, settled: Settled<'_>) -> Self {
        let id = CameraId::generate();
        let attestation = camera.attestation.unwrap_or(site.attestation);
        let placement = Placement {
            camera_id: id.to_string(),
            coordinates: Some(attestation.coordinates.into()),
            country: settled.place.country.to_string(),
            zone: settled.place.zone.id.to_string(),
            bucket: settled.place.zone.bucket.clone(),
            retention_hours: camera.purpose.retention_hours(),
            version: 0,
        };
        let message = CameraMessage {
            camera_id: id.to_string(),
            name: camera.name.to_string(),
            site_id: site.id.to_string(),
            purpose: Some(camera.purpose.into()),
            attestation: Some(attestation.into()),
            zone_decision: settled.decision.map(Into::into),
            sealed_source: Some(camera.source.0),
            placement: None,
            mask_set_version: 0,
            mask_set_hash: Digest::ZERO.as_bytes().to_vec().into(),
            permanently_masked: false,
            removed: false,
            plaintext_source: camera.plaintext_source,
        };
        Self { id, name: camera.name, placement, message }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> CameraId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The camera as it is stored and published, with a placement made in snapshot `version`.
    #[must_use]
    pub fn into_message(self, version: u64, authority: &Authority) -> CameraMessage {
        let placement = authority.sign_placement(&Placement { version, ..self.placement });
        CameraMessage { placement: Some(placement), ..self.message }
    }
}

/// The camera as it is stored once removed: its source and credentials are of no use any more.
#[must_use]
pub fn removed(camera: CameraMessage) -> CameraMessage {
    CameraMessage { removed: true, sealed_source: None, ..camera }
}

/// The camera with another retention and a placement of snapshot `version` that says so.
///
/// # Errors
/// What is wrong with the purpose as it would be then.
pub fn with_retention(
    camera: CameraMessage,
    retention: &Retention,
    version: u64,
    authority: &Authority,
) -> Result<CameraMessage, crate::error::Error> {
    let damaged = || crate::error::Error::Damaged("camera");
    let mut purpose = camera.purpose.clone().ok_or_else(damaged)?;
    purpose.retention_hours = retention.hours;
    purpose.longer_retention_reason.clone_from(&retention.longer_reason);
    purpose::check_retention(&purpose).map_err(Error::from)?;
    let signed = camera.placement.as_ref().ok_or_else(damaged)?;
    let placement = Placement::decode(signed.placement.clone()).map_err(|_| damaged())?;
    let placement = Placement { retention_hours: retention.hours, version, ..placement };
    let placement = authority.sign_placement(&placement);
    Ok(CameraMessage { purpose: Some(purpose), placement: Some(placement), ..camera })
}

#[cfg(test)]
pub(crate) mod tests {
    use obscura_proto::registry::v1::{
        Attestation as AttestationMessage, Coordinates, LegalBasis, Purpose as PurposeMessage, ZoneDecision,
    };

    use super::*;

    /// A request that lacks nothing.
    pub(crate) fn request(name: &str, site: &str) -> AddCameraRequest {
        AddCameraRequest {
            name: name.into(),
            site_name: site.into(),
            purpose: Some(PurposeMessage {
                text: "Against theft at the till.".into(),
                legal_basis: LegalBasis::LegitimateInterests.into(),
                retention_hours: 48,
                longer_retention_reason: String::new(),
                owner: "Shop manager".into(),
                review_on: "2027-06-01".into(),
                priority: 0,
            }),
            attestation: None,
            zone_decision: None,
            sealed_source: Some(SealedSourceMessage {
                encapsulated_key: vec![1; 32].into(),
                ciphertext: vec![2; 100].into(),
            }),
            plaintext_source: true,
        }
    }

    fn read(request: &AddCameraRequest) -> Result<NewCamera, Error> {
        NewCamera::read(request, "2026-11-23T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_complete_request_is_read() {
        let camera = read(&request(" Till ", "Shop")).unwrap();
        assert_eq!((camera.name.as_str(), camera.site.as_str()), ("Till", "Shop"));
        assert!(camera.attestation.is_none() && camera.decision.is_none() && camera.plaintext_source);
    }

    #[test]
    fn a_camera_without_a_purpose_is_refused_with_all_that_is_missing() {
        let error = read(&AddCameraRequest { purpose: None, ..request("Till", "Shop") }).unwrap_err();
        assert!(matches!(&error, Error::Purpose(faults) if faults.0.len() == 5), "{error}");
    }

    #[test]
    fn a_source_that_cannot_be_a_sealed_one_is_refused() {
        let sealed = |key: usize, ciphertext: usize| {
            let (encapsulated_key, ciphertext) = (vec![0; key].into(), vec![0; ciphertext].into());
            let sealed_source = Some(SealedSourceMessage { encapsulated_key, ciphertext });
            read(&AddCameraRequest { sealed_source, ..request("Till", "Shop") })
        };
        for (key, ciphertext) in [(31, 100), (33, 100), (32, 16), (32, 16 * 1024 + 1), (0, 0)] {
            assert!(sealed(key, ciphertext).is_err(), "{key} {ciphertext}");
        }
        assert!(sealed(32, 17).is_ok() && sealed(32, 16 * 1024).is_ok());
        let missing = read(&AddCameraRequest { sealed_source: None, ..request("Till", "Shop") }).unwrap_err();
        assert!(missing.to_string().contains("is missing"), "{missing}");
    }

    #[test]
    fn an_own_place_and_a_decision_are_checked_like_those_of_a_site() {
        let nowhere = AttestationMessage {
            coordinates: Some(Coordinates { latitude: 99.0, longitude: 0.0 }),
            attested_by: "Ada".into(),
            attested_unix_ns: 0,
        };
        assert!(read(&AddCameraRequest { attestation: Some(nowhere), ..request("Till", "Shop") }).is_err());
        let decision = |country: &str, decided_by: &str, reason: &str| ZoneDecision {
            zone: "eea".into(),
            country: country.into(),
            decided_by: decided_by.into(),
            reason: reason.into(),
        };
        for wrong in [
            decision("Germany", "Ada", "It is on German soil."),
            decision("DE", " ", "It is on German soil."),
            decision("DE", "Ada", "because"),
            ZoneDecision { zone: "E E A".into(), ..decision("DE", "Ada", "It is on German soil.") },
        ] {
            let request = AddCameraRequest { zone_decision: Some(wrong.clone()), ..request("Till", "Shop") };
            assert!(read(&request).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_removed_camera_keeps_its_purpose_and_forgets_its_source() {
        let camera = CameraMessage {
            sealed_source: Some(SealedSourceMessage::default()),
            purpose: Some(PurposeMessage::default()),
            ..CameraMessage::default()
        };
        let removed = removed(camera);
        assert!(removed.removed && removed.sealed_source.is_none() && removed.purpose.is_some());
    }
}
