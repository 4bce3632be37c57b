//! A recovery of the zone root from printed shares, which needs no service and so has no log at hand: `obscura key
//! recover` leaves what it did, and who did it, in the data directory, and the next start tells the audit log.

use std::path::Path;

use obscura_clock::SharedClock;
use obscura_outbox::staged;
use obscura_proto::audit::v1::{Event, event::Body, key_act::Act};
use prost::Message as _;
use sea_orm::EntityTrait as _;

use crate::{custody::Custody, error::Error, reports::act_event, secrets};

/// Longest note.
const MAX_BYTES: u64 = 64 << 10;

/// Tells of a recovery of which there is a note, and removes the note once that is staged. A crash in between tells it
/// again, which the log knows by its id.
///
/// # Errors
/// A database or a disk that fails; then the service must not start, because nobody would learn of the recovery.
pub async fn tell(custody: &Custody, note: &Path) -> Result<(), Error> {
    let failed = |source| secrets::Error::Io { path: note.to_owned(), source };
    if !note.try_exists().map_err(failed)? {
        return Ok(());
    }
    let event = read(note, &custody.parts.clock);
    tracing::warn!("the zone root was recovered from shares: the audit log is told");
    stage(custody, &event).await?;
    Ok(std::fs::remove_file(note).map_err(failed)?)
}

async fn stage(custody: &Custody, event: &Event) -> Result<(), Error> {
    let writer = custody.parts.store.write().await?;
    if staged::Entity::find_by_id(&event.event_id).one(writer.tx()).await?.is_none() {
        staged::stage(writer.tx(), event).await?;
    }
    Ok(writer.commit().await?)
}

/// A note that cannot be read still says that there was a recovery.
fn read(note: &Path, clock: &SharedClock) -> Event {
    let length = std::fs::metadata(note).map_or(u64::MAX, |found| found.len());
    let bytes = (length <= MAX_BYTES).then(|| std::fs::read(note).ok()).flatten();
    let event = bytes.and_then(|bytes| Event::decode(bytes.as_slice()).ok());
    let is_one = |event: &Event| {
        let is_recovery = matches!(&event.body, Some(Body::Key(act)) if act.act() == Act::Recovered);
        is_recovery && obscura_ocsf::validate(event).is_ok()
    };
    let words = "the note of who recovered the zone root, and when, cannot be read";
    event.filter(is_one).unwrap_or_else(|| act_event(clock, None, Act::Recovered, 0, words))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use obscura_proto::audit::v1::{KeyAct, Person};

    use super::*;
    use crate::test_support::Bench;

    fn act(event: &Event) -> &KeyAct {
        let Some(Body::Key(act)) = &event.body else { panic!("{event:?}") };
        act
    }

    #[tokio::test]
    async fn a_recovery_is_told_with_who_did_it_at_the_next_start_and_only_once() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let note = bench.data(obscura_shares::RECOVERED_FILE);
        let ada = Person { id: "unix:1000".into(), name: "ada".into(), ..Person::default() };
        let clock: SharedClock = bench.clock.clone();
        let event = act_event(&clock, Some(ada.clone()), Act::Recovered, 3, "from 2 shares");
        fs::write(&note, event.encode_to_vec()).unwrap();
        bench.silence(true).await;
        assert!(tell(&custody, &note).await.is_err());
        assert!(note.exists(), "it is not forgotten before it is kept");
        bench.silence(false).await;
        tell(&custody, &note).await.unwrap();
        assert!(!note.exists());
        // As after a crash before it was removed.
        fs::write(&note, event.encode_to_vec()).unwrap();
        tell(&custody, &note).await.unwrap();
        tell(&custody, &note).await.unwrap();
        assert_eq!(bench.told(&custody).await, [event]);
    }

    #[tokio::test]
    async fn a_note_that_cannot_be_read_or_says_something_else_is_a_recovery_by_nobody_known() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let note = bench.data(obscura_shares::RECOVERED_FILE);
        let clock: SharedClock = bench.clock.clone();
        let other = act_event(&clock, None, Act::Rotated, 3, "").encode_to_vec();
        for content in [&b"no event"[..], &other] {
            fs::write(&note, content).unwrap();
            tell(&custody, &note).await.unwrap();
        }
        let told = bench.told(&custody).await;
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|event| act(event).act() == Act::Recovered && event.actor.is_none()));
    }
}
