//! What the audit log hears of packs: a Merkle root over those that came, and what was destroyed.
//!
//! Notices wait in the index until the outbox has them on its disk. Until then the same notices make the
//! same event with the same id, so that one told twice is told once.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use obscura_clock::{Span, Timestamp};
use obscura_ids::CameraId;
use obscura_outbox::Outbox;
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
/// Cameras in one event.
const CAMERAS: usize = 256;
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
        outbox.record(event);
        if !outbox.flush().await {
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
        for (receipt, notices) in by_receipt(&notices) {
            let receipt = store.receipt(receipt).await?;
            for event in destructions(&notices, receipt.as_ref()) {
                outbox.record(event);
                told = told.saturating_add(1);
            }
        }
        if !outbox.flush().await {
            return Ok(told);
        }
        store.close_notices(Subject::Deletions, last.position).await?;
    }
}

/// The event about packs that came, in the order in which they did; `None` for none.
#[must_use]
pub fn manifest(notices: &[Notice]) -> Option<Event> {
    let first = notices.first()?;
    let manifest = StorageManifest {
        root: root(notices).as_bytes().to_vec().into(),
        pack_ids: notices.iter().map(|notice| notice.pack.to_string()).collect(),
        bytes: notices.iter().map(|notice| notice.bytes).fold(0, u64::saturating_add),
    };
    Some(event(first.at, Body::Manifest(manifest)))
}

/// RFC 6962 tree hash whose leaves are the SHA-256 of the packs' heads.
fn root(notices: &[Notice]) -> Hash {
    let leaves: Vec<Hash> = notices.iter().map(|notice| leaf_hash(notice.root.as_bytes())).collect();
    tree_hash(&leaves)
}

fn by_receipt(notices: &[Notice]) -> BTreeMap<u64, Vec<&Notice>> {
    let mut groups: BTreeMap<u64, Vec<&Notice>> = BTreeMap::new();
    for notice in notices {
        groups.entry(notice.receipt).or_default().push(notice);
    }
    groups
}

/// Events about objects that were deleted for one receipt.
#[must_use]
pub fn destructions(notices: &[&Notice], receipt: Option<&ReceiptRow>) -> Vec<Event> {
    let cameras: BTreeSet<CameraId> = notices.iter().map(|notice| notice.camera).collect();
    let cameras: Vec<CameraId> = cameras.into_iter().collect();
    let at = notices.iter().map(|notice| notice.at).min();
    let event_of = |cameras: &[CameraId]| {
        let of_these = notices.iter().filter(|notice| cameras.binary_search(&notice.camera).is_ok());
        let destruction = Destruction {
            receipt: receipt
                .map(|receipt| receipt.signed.clone())
                .filter(|signed| signed.len() <= RECEIPT_BYTES)
                .unwrap_or_default()
                .into(),
            camera_ids: cameras.iter().map(ToString::to_string).collect(),
            span: hull(of_these.map(|notice| notice.span)),
            early: receipt.is_some_and(|receipt| receipt.is_early),
        };
        Some(event(at?, Body::Destruction(destruction)))
    };
    cameras.chunks(CAMERAS).filter_map(event_of).collect()
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
            root: Digest::from_bytes([number; 32]),
            at: at(i64::from(number)),
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_over_the_hashes_of_heads() {
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

    #[test]
    fn destructions_name_cameras_span_and_a_short_receipt() {
        let (first, second) = (notice(1, 7), notice(2, 7));
        let receipt = ReceiptRow { is_early: true, signed: vec![1; 100] };
        let events = destructions(&[&first, &second], Some(&receipt));
        let Some(Body::Destruction(told)) = events[0].body.clone() else { panic!("no destruction") };
        assert_eq!((told.camera_ids.len(), told.early, told.receipt.len()), (2, true, 100));
        assert_eq!(told.span.unwrap().end_unix_ns, at(180_000).unix_nanos());
        let long = ReceiptRow { is_early: false, signed: vec![1; RECEIPT_BYTES + 1] };
        let events = destructions(&[&first], Some(&long));
        let Some(Body::Destruction(told)) = events[0].body.clone() else { panic!("no destruction") };
        assert!(told.receipt.is_empty());
    }

    #[test]
    fn the_log_takes_a_deletion_whatever_is_known_of_its_receipt() {
        let notices: Vec<_> = (0..=255).map(|camera| notice(camera, 7)).collect();
        let notices: Vec<_> = notices.iter().collect();
        for bytes in [None, Some(100), Some(8_192), Some(RECEIPT_BYTES), Some(RECEIPT_BYTES + 1)] {
            let receipt = bytes.map(|bytes| ReceiptRow { is_early: true, signed: vec![1; bytes] });
            for event in destructions(&notices, receipt.as_ref()) {
                obscura_ocsf::validate(&event).unwrap();
            }
        }
    }
}
