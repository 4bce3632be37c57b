//! What the audit log hears of packs: a Merkle root over those that came, and what was destroyed.
//!
//! Notices wait in the index until the outbox has them on its disk, however long it has no room. Until then the
//! same notices make the same event with the same id, so that one told twice is told once.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use obscura_clock::{Span, Timestamp};
use obscura_ids::CameraId;
use obscura_outbox::{Outbox, Recorded};
use obscura_proto::{
    audit::v1::{Destruction, Event, Outcome, StorageManifest, event::Body},
    footage::v1 as footage,
};
use obscura_tlog::{Hash, leaf_hash, tree_hash};
use prost::Message as _;

use crate::{
    Error,
    store::{Notice, ReceiptRow, Store, Subject},
};

/// Packs in one event, which must fit into a leaf of the log.
const PACKS: u64 = 1_000;
/// Deleted packs in one event, which names their cameras and repeats the receipt besides.
const DELETED: usize = 256;
/// Custody's receipts are shorter. One that is longer is not repeated: custody has told it in an event of its own.
const RECEIPT_BYTES: usize = 12 * 1024;

/// Tells what there is to tell. Returns the number of events.
///
/// # Errors
/// [`Error::Store`]; what was not told comes again.
pub async fn tell(store: &Store, outbox: &Outbox) -> Result<u64, Error> {
    Ok(tell_arrivals(store, outbox).await? + tell_deletions(store, outbox).await?)
}

async fn tell_arrivals(store: &Store, outbox: &Outbox) -> Result<u64, Error> {
    let mut told = 0_u64;
    loop {
        let notices = store.open_notices(Subject::Arrivals, PACKS).await?;
        let (Some(event), Some(last)) = (manifest(&notices), notices.last()) else { return Ok(told) };
        if !keeps(outbox, &[event]).await {
            return Ok(told);
        }
        store.close_notices(Subject::Arrivals, last.position).await?;
        told = told.saturating_add(1);
    }
}

async fn tell_deletions(store: &Store, outbox: &Outbox) -> Result<u64, Error> {
    let mut told = 0_u64;
    loop {
        let notices = store.open_notices(Subject::Deletions, PACKS).await?;
        let Some(last) = notices.last() else { return Ok(told) };
        let mut events = Vec::new();
        for (receipt, notices) in by_receipt(&notices) {
            let receipt = store.receipt(receipt).await?;
            events.extend(destructions(&notices, receipt.as_ref()));
        }
        if !keeps(outbox, &events).await {
            return Ok(told);
        }
        store.close_notices(Subject::Deletions, last.position).await?;
        told = told.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
    }
}

/// Whether the outbox has all of these events on its disk. Otherwise it has none of them, or, where its disk failed,
/// gets them again under the same ids.
async fn keeps(outbox: &Outbox, events: &[Event]) -> bool {
    if !outbox.has_room_for_what_can_wait() {
        return false;
    }
    match outbox.record_all(events) {
        Recorded::Kept => outbox.flush().await,
        Recorded::Full => false,
        Recorded::TooLong => {
            // The bounds above forbid it: the longest event fits into a leaf.
            tracing::error!("an event about packs is too long for the outbox; its notices wait");
            false
        }
    }
}

/// The event about packs that came, in the order in which they did; `None` for none.
#[must_use]
pub fn manifest(notices: &[Notice]) -> Option<Event> {
    let first = notices.first()?;
    let manifest = StorageManifest {
        root: root(notices.iter()),
        pack_ids: notices.iter().map(|notice| notice.pack.to_string()).collect(),
        bytes: notices.iter().map(|notice| notice.bytes).fold(0, u64::saturating_add),
    };
    Some(event(first.at, Body::Manifest(manifest)))
}

/// RFC 6962 tree hash whose leaves are the SHA-256 of the packs' statements.
fn root<'a>(notices: impl Iterator<Item = &'a Notice>) -> Bytes {
    let leaves: Vec<Hash> = notices.map(|notice| leaf_hash(notice.leaf.as_bytes())).collect();
    tree_hash(&leaves).as_bytes().to_vec().into()
}

fn by_receipt(notices: &[Notice]) -> BTreeMap<u64, Vec<&Notice>> {
    let mut groups: BTreeMap<u64, Vec<&Notice>> = BTreeMap::new();
    for notice in notices {
        groups.entry(notice.receipt).or_default().push(notice);
    }
    groups
}

/// Events about objects that were deleted for one receipt, in the order in which they were. A receipt that is
/// forgotten is told by its number alone.
#[must_use]
pub fn destructions(notices: &[&Notice], receipt: Option<&ReceiptRow>) -> Vec<Event> {
    notices.chunks(DELETED).filter_map(|notices| destruction(notices, receipt)).collect()
}

fn destruction(notices: &[&Notice], receipt: Option<&ReceiptRow>) -> Option<Event> {
    let first = notices.first()?;
    let cameras: BTreeSet<CameraId> = notices.iter().map(|notice| notice.camera).collect();
    let signed = receipt.map(|receipt| receipt.signed.clone());
    let destruction = Destruction {
        receipt: signed.filter(|signed| signed.len() <= RECEIPT_BYTES).unwrap_or_default().into(),
        camera_ids: cameras.iter().map(ToString::to_string).collect(),
        span: hull(notices.iter().map(|notice| notice.span)),
        early: receipt.is_some_and(|receipt| receipt.is_early),
        pack_ids: notices.iter().map(|notice| notice.pack.to_string()).collect(),
        root: root(notices.iter().copied()),
        receipt_number: first.receipt,
        effective_unix_ns: receipt.map_or(0, |receipt| receipt.effective.unix_nanos()),
    };
    Some(event(notices.iter().map(|notice| notice.at).min()?, Body::Destruction(destruction)))
}

fn hull(spans: impl Iterator<Item = Span> + Clone) -> Option<footage::Span> {
    let start = spans.clone().map(Span::start).min()?;
    let end = spans.map(Span::end).max()?;
    Some(footage::Span { start_unix_ns: start.unix_nanos(), end_unix_ns: end.unix_nanos() })
}

/// An event whose id follows from its content.
fn event(at: Timestamp, body: Body) -> Event {
    let mut event = Event {
        time_unix_ns: at.unix_nanos(),
        outcome: Outcome::Success.into(),
        body: Some(body),
        ..Event::default()
    };
    event.event_id = event_id(at, &event.encode_to_vec());
    event
}

/// A UUID of version 7 whose random part is a hash.
fn event_id(at: Timestamp, content: &[u8]) -> String {
    let millis = u64::try_from(at.unix_nanos()).unwrap_or(0) / 1_000_000;
    let hash = digest(&SHA256, content);
    let mut random = [0; 10];
    random.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use obscura_ids::{Digest, PackId};

    use super::*;
    use crate::test_support::{at, camera, span};

    fn notice(number: u8, receipt: u64) -> Notice {
        Notice {
            position: u64::from(number),
            receipt,
            pack: PackId::from_bytes([number; 16]),
            camera: camera(number % 2),
            span: span(i64::from(number) * 60_000, i64::from(number) * 60_000 + 60_000),
            bytes: 10,
            leaf: Digest::from_bytes([number; 32]),
            at: at(i64::from(number)),
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_over_the_leaves_of_packs() {
        let notices = [notice(1, 0), notice(2, 0)];
        let Some(Body::Manifest(manifest)) = manifest(&notices).unwrap().body else { panic!("no manifest") };
        let leaf = |number: u8| crate::inspection::sha256(&[&[0][..], &[number; 32]].concat());
        let node = [&[1][..], leaf(1).as_bytes(), leaf(2).as_bytes()].concat();
        assert_eq!(manifest.root[..], crate::inspection::sha256(&node).as_bytes()[..]);
        assert_eq!((manifest.pack_ids.len(), manifest.bytes), (2, 20));
    }

    #[test]
    fn the_same_packs_make_the_same_event_and_others_another() {
        let (one, two) = ([notice(1, 0)], [notice(1, 0), notice(2, 0)]);
        assert_eq!(manifest(&one), manifest(&one));
        let (first, second) = (manifest(&one).unwrap(), manifest(&two).unwrap());
        assert_ne!(first.event_id, second.event_id);
        assert_eq!(first.event_id.parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
        assert_eq!(manifest(&[]), None);
    }

    fn told(event: &Event) -> Destruction {
        let Some(Body::Destruction(told)) = event.body.clone() else { panic!("no destruction") };
        told
    }

    fn receipt(bytes: usize) -> ReceiptRow {
        ReceiptRow { number: 7, effective: at(1), is_early: true, signed: vec![1; bytes] }
    }

    #[test]
    fn destructions_name_cameras_span_packs_root_and_a_short_receipt() {
        let (first, second) = (notice(1, 7), notice(2, 7));
        let events = destructions(&[&first, &second], Some(&receipt(100)));
        let short = told(&events[0]);
        assert_eq!((short.camera_ids.len(), short.early, short.receipt.len()), (2, true, 100));
        assert_eq!(short.span.unwrap().end_unix_ns, at(180_000).unix_nanos());
        assert_eq!(short.pack_ids, [first.pack.to_string(), second.pack.to_string()]);
        assert_eq!((short.receipt_number, short.effective_unix_ns), (7, at(1).unix_nanos()));
        let Some(Body::Manifest(manifest)) = manifest(&[first.clone(), second]).unwrap().body else {
            panic!("no manifest")
        };
        assert_eq!(short.root, manifest.root, "the same packs have the same root");
        let long = told(&destructions(&[&first], Some(&receipt(RECEIPT_BYTES + 1)))[0]);
        assert!(long.receipt.is_empty() && long.receipt_number == 7);
        assert_ne!(long.root, manifest.root);
    }

    #[test]
    fn a_large_deletion_is_several_events_that_name_every_pack_once() {
        let packs = |count: usize| -> Vec<Notice> {
            let numbers = (0..count).map(|number| u8::try_from(number % 256).unwrap());
            numbers.map(|number| notice(number, 7)).collect()
        };
        for (count, lengths) in [(DELETED, vec![DELETED]), (2 * DELETED + 1, vec![DELETED, DELETED, 1])] {
            let notices = packs(count);
            let events = destructions(&notices.iter().collect::<Vec<_>>(), None);
            let named: Vec<_> = events.iter().map(told).collect();
            assert_eq!(named.iter().map(|told| told.pack_ids.len()).collect::<Vec<_>>(), lengths);
            let ids: Vec<_> = named.into_iter().flat_map(|told| told.pack_ids).collect();
            assert_eq!(ids, notices.iter().map(|notice| notice.pack.to_string()).collect::<Vec<_>>());
        }
        assert!(destructions(&[], None).is_empty());
    }

    #[test]
    fn the_log_takes_a_deletion_whatever_is_known_of_its_receipt() {
        let notices: Vec<_> = (0..=255).map(|camera| notice(camera, 7)).collect();
        let notices: Vec<_> = notices.iter().collect();
        for bytes in [None, Some(100), Some(8_192), Some(RECEIPT_BYTES), Some(RECEIPT_BYTES + 1)] {
            let receipt = bytes.map(receipt);
            for event in destructions(&notices, receipt.as_ref()) {
                obscura_ocsf::validate(&event).unwrap();
            }
        }
    }
}
