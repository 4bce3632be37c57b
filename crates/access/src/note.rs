//! Status notes: what holds right now.

use std::{collections::BTreeSet, time::Duration};

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, GrantId};
use obscura_proto::access::v1::{SignedStatusNote, StatusNote};
use prost::Message as _;

use crate::{AccessTrust, Refusal, signing};

/// Oldest status note beside which a grant is honoured.
pub const MAX_NOTE_AGE: Duration = Duration::from_secs(30);
/// How far the issuer's clock may run ahead of ours.
pub const MAX_NOTE_LEAD: Duration = Duration::from_secs(5);
/// Longest note.
pub const MAX_NOTE_BYTES: usize = 1 << 20;
/// Most revocations, and most mask-set versions, in one note.
pub const MAX_REVOCATIONS: usize = 10_000;
/// Longest audit checkpoint in a note.
const MAX_CHECKPOINT_BYTES: usize = 16 << 10;

/// A note whose signature and age are good.
pub(crate) struct FreshNote {
    revoked: BTreeSet<GrantId>,
}

impl FreshNote {
    /// Checks size, signature, age and form, in this order.
    pub(crate) fn verify(
        trust: &AccessTrust,
        signed: &SignedStatusNote,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        if signed.note.len() > MAX_NOTE_BYTES {
            let bytes = signed.note.len();
            return Err(Refusal::TooLong { part: "status note", bytes, limit: MAX_NOTE_BYTES });
        }
        let message = signing::note_message(&signed.note);
        signing::check("status note", &trust.grant_issuer, &message, &signed.signature)?;
        let note = StatusNote::decode(signed.note.clone()).map_err(malformed)?;
        check_age(Timestamp::from_unix_nanos(note.made_unix_ns), now)?;
        read(&note)
    }

    /// Refuses a grant that was taken back.
    pub(crate) fn check_not_revoked(&self, grant: GrantId) -> Result<(), Refusal> {
        if self.revoked.contains(&grant) { Err(Refusal::Revoked(grant)) } else { Ok(()) }
    }
}

fn check_age(made: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now.since(made) > MAX_NOTE_AGE {
        return Err(Refusal::StaleNote { made });
    }
    if made.since(now) > MAX_NOTE_LEAD {
        return Err(Refusal::NoteFromTheFuture { made });
    }
    Ok(())
}

fn read(note: &StatusNote) -> Result<FreshNote, Refusal> {
    let lists = [note.revoked_grant_ids.len(), note.minimum_mask_set_versions.len()];
    if lists.iter().any(|length| *length > MAX_REVOCATIONS) {
        return Err(malformed(format!("a list has more than {MAX_REVOCATIONS} rows")));
    }
    if note.audit_checkpoint.len() > MAX_CHECKPOINT_BYTES {
        return Err(malformed(format!("the checkpoint has more than {MAX_CHECKPOINT_BYTES} bytes")));
    }
    for camera in note.minimum_mask_set_versions.keys() {
        camera.parse::<CameraId>().map_err(malformed)?;
    }
    let revoked = note.revoked_grant_ids.iter().map(|id| id.parse()).collect::<Result<_, _>>();
    Ok(FreshNote { revoked: revoked.map_err(malformed)? })
}

fn malformed(why: impl ToString) -> Refusal {
    Refusal::malformed("status note", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Signers;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn verify(note: &StatusNote) -> Result<FreshNote, Refusal> {
        let signers = Signers::new();
        FreshNote::verify(&signers.trust(), &signers.sign_note(note), now())
    }

    fn note_made(made: Timestamp) -> StatusNote {
        StatusNote { made_unix_ns: made.unix_nanos(), ..StatusNote::default() }
    }

    #[test]
    fn a_note_of_30_s_is_fresh_and_one_of_31_s_is_stale() {
        assert!(verify(&note_made(now() - Duration::from_secs(30))).is_ok());
        let made = now() - Duration::from_secs(31);
        assert_eq!(verify(&note_made(made)).err(), Some(Refusal::StaleNote { made }));
    }

    #[test]
    fn a_note_may_be_5_s_ahead_and_no_more() {
        assert!(verify(&note_made(now() + Duration::from_secs(5))).is_ok());
        let made = now() + Duration::from_secs(6);
        assert_eq!(verify(&note_made(made)).err(), Some(Refusal::NoteFromTheFuture { made }));
    }

    #[test]
    fn a_note_with_a_wrong_id_or_too_many_rows_is_malformed() {
        let mut note = note_made(now());
        note.revoked_grant_ids = vec!["nonsense".into()];
        assert!(matches!(verify(&note).err(), Some(Refusal::Malformed { .. })));
        note.revoked_grant_ids = vec![GrantId::generate().to_string(); MAX_REVOCATIONS + 1];
        assert!(matches!(verify(&note).err(), Some(Refusal::Malformed { .. })));
        let mut note = note_made(now());
        note.minimum_mask_set_versions.insert("nonsense".into(), 1);
        assert!(matches!(verify(&note).err(), Some(Refusal::Malformed { .. })));
    }
}
