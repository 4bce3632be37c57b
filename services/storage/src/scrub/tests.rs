use obscura_blob::Fault;
use obscura_pack::Directory;
use obscura_seal::prefix_length;

use super::*;
use crate::{
    test_support::{key_of, object},
    zone_bench::{Zone, key, kinds, pack_under},
};

/// Three segments of four and a half chunks.
fn big(id: u8) -> Directory {
    pack_under(1, 1, id, &[(0, 4_000), (4_000, 8_000), (8_000, 12_000)], 4 * 16_400 + 8_000)
}

async fn recorded() -> (Zone, Directory) {
    let (zone, pack) = (Zone::start().await, big(1));
    zone.record(&pack).await;
    (zone, pack)
}

/// Puts other bytes in the place of the object.
async fn replace(zone: &Zone, pack: &Directory, bytes: Vec<u8>) {
    zone.installation.grpc.blobs.delete(&key_of(pack)).await.unwrap();
    zone.installation.place(&key_of(pack), bytes).await;
}

/// Position in the object of a byte of a chunk of a segment.
fn position(pack: &Directory, segment: usize, chunk: usize) -> usize {
    let entry = &pack.entries[segment];
    let start = pack.encode_head().len() + usize::try_from(entry.offset).unwrap();
    start + prefix_length(&entry.header) + chunk * 16_400 + 77
}

async fn flip(zone: &Zone, pack: &Directory, at: usize) {
    let mut bytes = object(pack);
    bytes[at] ^= 4;
    replace(zone, pack, bytes).await;
}

#[tokio::test]
async fn a_flipped_bit_is_named_to_segment_and_chunk_once_the_pack_was_read_whole() {
    let (zone, pack) = recorded().await;
    assert_eq!(zone.scrub().await, []);
    for (segment, chunk) in [(0, 0), (1, 3), (2, 4)] {
        flip(&zone, &pack, position(&pack, segment, chunk)).await;
        let found = zone.scrub().await;
        assert_eq!(kinds(&found), [FindingKind::BytesChanged]);
        assert_eq!(found[0].segment, Some(u32::try_from(segment).unwrap()));
        assert_eq!(found[0].chunk, Some(chunk as u64));
        assert_eq!(zone.upkeep.store.totals().await.unwrap().damaged_packs, 1, "it is remembered");
    }
    replace(&zone, &pack, object(&pack)).await;
    assert_eq!(zone.scrub().await, []);
    assert_eq!(zone.upkeep.store.totals().await.unwrap().damaged_packs, 0, "it was restored");
}

#[tokio::test]
async fn before_the_first_clean_reading_the_segment_is_named_and_where_the_chunk_can_be_learnt() {
    let (zone, pack) = recorded().await;
    flip(&zone, &pack, position(&pack, 1, 2)).await;
    let found = zone.scrub().await;
    assert_eq!((found[0].segment, found[0].chunk), (Some(1), None));
    assert!(found[0].words.contains("obscura recording verify"), "{}", found[0].words);
}

#[tokio::test]
async fn another_head_length_or_nothing_at_all_is_found() {
    let (zone, pack) = recorded().await;
    assert_eq!(zone.scrub().await, []);
    flip(&zone, &pack, 20).await;
    assert_eq!(kinds(&zone.scrub().await), [FindingKind::HeadChanged]);
    let bytes = object(&pack);
    replace(&zone, &pack, bytes[..bytes.len() - 1].to_vec()).await;
    let found = zone.scrub().await;
    assert_eq!(kinds(&found), [FindingKind::ObjectWrongSize, FindingKind::BytesChanged]);
    assert_eq!((found[1].segment, found[1].chunk), (Some(2), Some(4)));
    zone.installation.grpc.blobs.delete(&key_of(&pack)).await.unwrap();
    assert_eq!(kinds(&zone.scrub().await), [FindingKind::ObjectMissing]);
}

#[tokio::test]
async fn shredded_segments_do_not_matter_any_more() {
    let (zone, pack) = recorded().await;
    assert_eq!(zone.scrub().await, []);
    zone.custody.shred(key(1), &[(2, 3)]);
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    flip(&zone, &pack, position(&pack, 1, 0)).await;
    assert_eq!(zone.scrub().await, [], "the second segment is under slot 2");
    flip(&zone, &pack, position(&pack, 2, 0)).await;
    assert_eq!(zone.scrub().await[0].segment, Some(2));
}

#[tokio::test]
async fn a_transfer_that_breaks_off_once_is_no_damage() {
    let (zone, _) = recorded().await;
    let scrubber = zone.upkeep.scrubber();
    let row = zone.upkeep.store.pack(obscura_ids::PackId::from_bytes([1; 16])).await.unwrap().unwrap();
    // The size, the head, and then the body.
    zone.script([Fault::None, Fault::None, Fault::HalfUpload]);
    assert_eq!(scrubber.check(&row, &mut Pace::Free).await.unwrap(), []);
    zone.script([Fault::None, Fault::None, Fault::HalfUpload, Fault::HalfUpload]);
    let found = scrubber.check(&row, &mut Pace::Free).await.unwrap();
    assert!(found[0].words.contains("cannot read"), "{found:?}");
    zone.script([Fault::Unavailable]);
    assert!(
        scrubber.check(&row, &mut Pace::Free).await.is_err(),
        "a store that is away says nothing of bytes"
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_a_finding_and_those_behind_it_are_read_too() {
    let zone = Zone::start().await;
    let packs = [big(1), big(2), big(3)];
    for pack in &packs {
        zone.record(pack).await;
    }
    zone.installation.grpc.blobs.delete(&key_of(&packs[2])).await.unwrap();
    // Of the first the size cannot be read, of the second the head: each is tried twice.
    let (well, bad) = (Fault::None, Fault::BadSector);
    zone.script([bad, bad, well, bad, well, bad]);
    let found = zone.scrub().await;
    let expected = [FindingKind::BytesChanged, FindingKind::BytesChanged, FindingKind::ObjectMissing];
    assert_eq!(kinds(&found), expected, "{found:?}");
    for (finding, pack) in found.iter().zip(&packs) {
        assert_eq!(finding.object_key, key_of(pack).to_string());
    }
    assert!(found[..2].iter().all(|finding| finding.words.contains("cannot read")), "{found:?}");
    assert_eq!(zone.upkeep.store.totals().await.unwrap().damaged_packs, 3, "they are remembered");
    zone.script([bad]);
    let again = zone.scrub().await;
    assert_eq!(kinds(&again), [FindingKind::ObjectMissing], "once is no damage");
}

/// A store that lost the data of an object knows its size still.
#[tokio::test]
async fn an_object_that_has_a_size_and_cannot_be_read_is_a_finding_unless_the_others_cannot_be_read_either() {
    let zone = Zone::start().await;
    let packs = [big(1), big(2), big(3)];
    for pack in &packs {
        zone.record(pack).await;
    }
    let well = Fault::None;
    for fault in [Fault::Unavailable, Fault::ResetBefore] {
        zone.script([well, fault, well, fault]);
        let found = zone.scrub().await;
        assert_eq!(kinds(&found), [FindingKind::BytesChanged], "{found:?}");
        assert_eq!(found[0].object_key, key_of(&packs[0]).to_string());
        let scrubber = zone.upkeep.scrubber();
        let row = zone.upkeep.store.pack(packs[2].pack_id).await.unwrap().unwrap();
        zone.script([well, fault, well, fault, fault, well]);
        assert_eq!(
            scrubber.check(&row, &mut Pace::Free).await.unwrap().len(),
            1,
            "one of the others is enough"
        );
        zone.script([well, fault, well, fault, fault, fault]);
        assert!(scrubber.check(&row, &mut Pace::Free).await.is_err(), "the store is away");
        assert_eq!(zone.faults.left(), 0);
        assert_eq!(zone.scrub().await, []);
    }
}

#[tokio::test]
async fn a_disk_that_is_busy_says_nothing_of_bytes() {
    let (zone, pack) = recorded().await;
    let row = zone.upkeep.store.pack(pack.pack_id).await.unwrap().unwrap();
    let busy = Fault::Busy;
    for faults in [[busy, busy, busy], [Fault::None, busy, busy], [Fault::None, Fault::None, busy]] {
        zone.script(faults);
        assert!(zone.upkeep.scrubber().check(&row, &mut Pace::Free).await.is_err(), "{faults:?}");
    }
    assert_eq!(zone.upkeep.store.totals().await.unwrap().damaged_packs, 0);
}

#[tokio::test]
async fn the_sample_in_the_background_remembers_what_cannot_be_read() {
    let (zone, _) = recorded().await;
    zone.script([Fault::BadSector, Fault::BadSector]);
    let found = zone.upkeep.scrubber().sample(&mut Pace::Free).await.unwrap().unwrap();
    assert!(found[0].words.contains("cannot read"), "{found:?}");
    assert_eq!(zone.upkeep.store.totals().await.unwrap().damaged_packs, 1);
}

#[tokio::test]
async fn the_sample_in_the_background_reads_what_there_is() {
    let (zone, pack) = recorded().await;
    assert_eq!(zone.upkeep.scrubber().sample(&mut Pace::Free).await.unwrap(), Some(Vec::new()));
    assert!(zone.upkeep.store.chunk_sums(pack.pack_id).await.unwrap().is_some());
    flip(&zone, &pack, position(&pack, 0, 1)).await;
    let found = zone.upkeep.scrubber().sample(&mut Pace::Free).await.unwrap().unwrap();
    assert_eq!((found[0].segment, found[0].chunk), (Some(0), Some(1)));
    assert_eq!(Zone::start().await.upkeep.scrubber().sample(&mut Pace::Free).await.unwrap(), None);
}
