//! A permission that has been verified.

use std::{collections::BTreeSet, time::Duration};

use obscura_clock::{Span, Timestamp};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, GrantId, Layer};

use crate::Refusal;

/// Length of a slot: a segment is sealed under the leaf of the slot in which it starts, so a grant
/// cannot tell moments inside one slot apart.
const SLOT: Duration = Duration::from_secs(2);

/// What a verified grant permits. Only [`crate::verify`] makes one, and it holds for the moment at
/// which it was verified: check again during long streams.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Id of the grant.
    pub id: GrantId,
    /// Pseudonymous id of the person or client who looks.
    pub subject: String,
    /// Cameras whose footage may be opened; at least one.
    pub cameras: BTreeSet<CameraId>,
    /// Layers that may be opened; at least one.
    pub layers: BTreeSet<Layer>,
    /// Segments whose start slot overlaps this span may be opened.
    pub span: Span,
    /// Purpose for which the footage is looked at.
    pub purpose: String,
    /// Reason that the person gave.
    pub reason: String,
    /// The service that may use the grant.
    pub holder: SpiffeId,
    /// The service that relays to the holder.
    pub relay: Option<SpiffeId>,
    /// End of validity, exclusive.
    pub expires: Timestamp,
}

impl Grant {
    /// Whether a segment of `camera` and `layer` that starts at `start` may be opened.
    ///
    /// A start anywhere in a slot of which the span touches any part is covered, because that slot's
    /// key opens it.
    ///
    /// # Errors
    /// Says which of camera, layer and time lies outside the grant.
    pub fn covers(&self, camera: CameraId, layer: Layer, start: Timestamp) -> Result<(), Refusal> {
        if !self.cameras.contains(&camera) {
            return Err(Refusal::CameraNotGranted(camera));
        }
        if !self.layers.contains(&layer) {
            return Err(Refusal::LayerNotGranted(layer));
        }
        match slot_of(start) {
            Some(slot) if slot.overlaps(self.span) => Ok(()),
            _ => Err(Refusal::OutsideSpan(start)),
        }
    }
}

/// The slot that contains the moment.
fn slot_of(moment: Timestamp) -> Option<Span> {
    let length = i64::try_from(SLOT.as_nanos()).ok()?;
    let start = moment.unix_nanos().checked_sub(moment.unix_nanos().rem_euclid(length))?;
    let start = Timestamp::from_unix_nanos(start);
    Span::try_new(start, start + SLOT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_unix_nanos(seconds * 1_000_000_000)
    }

    fn grant(start: i64, end: i64) -> Grant {
        let holder: SpiffeId = "spiffe://example.org/obscura/cli".parse().unwrap();
        Grant {
            id: GrantId::from_bytes([1; 16]),
            subject: "u1".into(),
            cameras: [CameraId::from_bytes([2; 16])].into(),
            layers: [Layer::Original].into(),
            span: Span::try_new(seconds(start), seconds(end)).unwrap(),
            purpose: "p".into(),
            reason: "r".into(),
            holder,
            relay: None,
            expires: seconds(0),
        }
    }

    #[test]
    fn a_grant_covers_its_cameras_layers_and_slots_and_nothing_else() {
        let grant = grant(101, 105);
        let camera = CameraId::from_bytes([2; 16]);
        let other = CameraId::from_bytes([3; 16]);
        assert_eq!(grant.covers(other, Layer::Original, seconds(102)), Err(Refusal::CameraNotGranted(other)));
        let wrong_layer = grant.covers(camera, Layer::Masked, seconds(102));
        assert_eq!(wrong_layer, Err(Refusal::LayerNotGranted(Layer::Masked)));
        // Slots 100, 102 and 104 have a moment in common with [101, 105).
        let covered: Vec<i64> =
            (96..110).filter(|at| grant.covers(camera, Layer::Original, seconds(*at)).is_ok()).collect();
        assert_eq!(covered, [100, 101, 102, 103, 104, 105]);
    }

    proptest! {
        #[test]
        fn no_moment_makes_the_check_panic(nanos: i64, start: i64, length in 0..i64::MAX) {
            let mut grant = grant(0, 1);
            let start = Timestamp::from_unix_nanos(start);
            grant.span = Span::try_new(start, start + Duration::from_nanos(length.unsigned_abs())).unwrap();
            let camera = CameraId::from_bytes([2; 16]);
            let moment = Timestamp::from_unix_nanos(nanos);
            let covered = grant.covers(camera, Layer::Original, moment).is_ok();
            if grant.span.contains(moment) && nanos > i64::MIN + 2_000_000_000 && nanos < i64::MAX - 2_000_000_000 {
                prop_assert!(covered);
            }
        }
    }
}
