use obscura_clock::{ClockQuality, Span, Timestamp};
use obscura_ids::{Digest, Layer, PackId, Sequence, WriterEpoch};
use obscura_pack::Entry;
use obscura_proto::{keys::v1::WrappedLayerKey, registry::v1::SignedPlacement};
use obscura_seal::{Hour, SegmentHeader};

use super::*;

const NOW: Monotonic = Monotonic::from_nanos(1_000_000_000_000);
const EVERYTHING: PackPolicy = PackPolicy { footage: Duration::from_hours(24), age: Duration::ZERO };

fn camera(number: u8) -> CameraId {
    CameraId::from_bytes([number; 16])
}

/// A segment of two seconds.
fn sealed(camera: CameraId, sequence: u64, length: u64) -> Sealed {
    let start = Timestamp::from_unix_nanos(1_795_428_000_000_000_000) + Duration::from_secs(2 * sequence);
    let (hour, slot) = Hour::of(start).unwrap();
    Sealed {
        serial: Serial(sequence),
        entry: Entry {
            header: SegmentHeader {
                key_id: LayerKeyId::from_bytes([7; 16]),
                hour,
                slot,
                zone: "eea".parse().unwrap(),
                camera,
                layer: Layer::Original,
                dependent: false,
                writer_epoch: WriterEpoch(1),
                sequence: Sequence(sequence),
                init_hash: Digest::ZERO,
                mask_set_hash: Digest::ZERO,
            },
            offset: 0,
            length,
            sha256: Digest::ZERO,
            span: Span::try_new(start, start + Duration::from_secs(2)).unwrap(),
            media_duration: Duration::from_secs(2),
            frames: 50,
            damaged: false,
            torn_after_chunks: None,
            clock_quality: ClockQuality::Synchronised,
        },
        extents: Vec::new(),
        placement: SignedPlacement::default(),
        end: Position::default(),
        since: NOW,
        waited_before: Duration::ZERO,
    }
}

fn pack(number: u8, serial: u64) -> Formed {
    let noted = (Serial(serial), Position::default());
    Formed::new(PackId::generate(), noted, vec![sealed(camera(number), serial, 1)], NOW)
}

fn order(outbox: &Outbox) -> Vec<(CameraId, u64)> {
    let next = || {
        let pack = outbox.take_pack(NOW, Position::default())?;
        outbox.pack_done(&pack);
        Some((pack.segments[0].entry.header.camera, pack.serial.0))
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn a_pack_stays_below_255_mebibytes_and_no_segment_is_left_out() {
    let outbox = Outbox::default();
    for sequence in 0..9 {
        outbox.add_segment(sealed(camera(1), sequence, 64 * 1024 * 1024), NOW);
    }
    let mut packs = Vec::new();
    while let Some(segments) = outbox.take_full(EVERYTHING, NOW, |_| false) {
        assert!(segments.iter().map(|sealed| sealed.entry.length).sum::<u64>() <= MAX_PACK_BYTES);
        packs.push(segments.iter().map(|sealed| sealed.entry.header.sequence.0).collect::<Vec<_>>());
    }
    assert_eq!(packs, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8]]);
}

#[test]
fn a_single_segment_that_is_larger_than_a_pack_should_be_goes_alone() {
    let outbox = Outbox::default();
    outbox.add_segment(sealed(camera(1), 0, MAX_PACK_BYTES + 1), NOW);
    outbox.add_segment(sealed(camera(1), 1, 1), NOW);
    assert_eq!(outbox.take_full(EVERYTHING, NOW, |_| false).unwrap().len(), 1);
}

#[test]
fn segments_under_another_placement_go_into_another_pack() {
    let outbox = Outbox::default();
    let newer = SignedPlacement { placement: vec![2].into(), signature: vec![2].into() };
    outbox.add_segment(sealed(camera(1), 0, 1), NOW);
    outbox.add_segment(Sealed { placement: newer.clone(), ..sealed(camera(1), 1, 1) }, NOW);
    let first = outbox.take_full(EVERYTHING, NOW, |_| false).unwrap();
    let second = outbox.take_full(EVERYTHING, NOW, |_| false).unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(second[0].placement, newer);
}

#[test]
fn a_segment_that_comes_late_takes_its_place_among_the_others() {
    let outbox = Outbox::default();
    [1, 3, 4, 2, 0].into_iter().for_each(|n| outbox.add_segment(sealed(camera(1), n, 1), NOW));
    let taken = outbox.take_full(EVERYTHING, NOW, |_| false).unwrap();
    let order: Vec<u64> = taken.iter().map(|sealed| sealed.entry.header.sequence.0).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[test]
fn cameras_take_turns_and_each_sends_its_oldest_first() {
    let outbox = Outbox::default();
    for serial in [5, 3, 1, 4, 2] {
        outbox.add_pack(pack(1, serial));
    }
    outbox.add_pack(pack(2, 6)); // Recorded just now, behind hours of the other camera.
    outbox.add_pack(pack(3, 7));
    let (one, two, three) = (camera(1), camera(2), camera(3));
    assert_eq!(order(&outbox), [(one, 1), (two, 6), (three, 7), (one, 2), (one, 3), (one, 4), (one, 5)]);
}

#[test]
fn a_camera_has_one_pack_on_its_way_and_one_that_failed_takes_its_old_place() {
    let outbox = Outbox::default();
    outbox.add_pack(pack(1, 1));
    outbox.add_pack(pack(1, 2));
    let first = outbox.take_pack(NOW, Position::default()).unwrap();
    assert!(outbox.take_pack(NOW, Position::default()).is_none());
    assert_eq!(outbox.waiting_segments(Some(camera(1))), 2);
    outbox.pack_failed(first);
    assert_eq!(order(&outbox), [(camera(1), 1), (camera(1), 2)]);
    assert_eq!(outbox.waiting_segments(None), 0);
}

#[test]
fn what_waits_at_one_moment_is_told_from_what_comes_later_and_from_what_is_refused() {
    let outbox = Outbox::default();
    outbox.add_segment(sealed(camera(1), 10, 1), NOW);
    outbox.add_segment(sealed(camera(2), 11, 1), NOW);
    outbox.add_pack(pack(1, 1));
    outbox.add_pack(Formed {
        refusals: MOST_REFUSALS,
        not_before: Monotonic::from_nanos(u64::MAX),
        ..pack(1, 2)
    });
    assert_eq!(outbox.waiting_now(Some(camera(3))).len(), 0);
    let awaited = outbox.waiting_now(Some(camera(1)));
    assert_eq!((awaited.len(), outbox.waiting_now(None).len()), (2, 3));

    // More is recorded, and does not count.
    outbox.add_segment(sealed(camera(1), 12, 1), NOW);
    let only_flushed = PackPolicy { age: Duration::from_hours(1), ..EVERYTHING };
    let queued = outbox.take_full(only_flushed, NOW, |id| id == camera(1)).unwrap();
    assert_eq!(outbox.still_waiting(&awaited), 2, "being noted as a pack");
    outbox.add_pack(Formed { serial: Serial(3), segments: queued[..1].to_vec(), ..pack(1, 3) });
    let first = outbox.take_pack(NOW, Position::default()).unwrap();
    assert_eq!(outbox.still_waiting(&awaited), 2, "on its way and in a pack");
    outbox.pack_done(&first);
    assert!(outbox.may_still_leave(&awaited));
    let second = outbox.take_pack(NOW, Position::default()).unwrap();
    let refused = Formed { refusals: MOST_REFUSALS, ..second };
    outbox.pack_failed(refused);
    assert!(!outbox.may_still_leave(&awaited), "nobody waits for a pack that was refused");
    assert_eq!(outbox.still_waiting(&awaited), 1, "and it has not left");
}

#[test]
fn a_pack_that_has_to_wait_for_a_reason_of_its_own_does_not_hold_up_the_next() {
    let outbox = Outbox::default();
    let later = Monotonic::from_nanos(NOW.as_nanos() + 1);
    outbox.add_pack(Formed { not_before: later, ..pack(1, 1) });
    outbox.add_pack(Formed { after: Position(1), ..pack(1, 2) });
    outbox.add_pack(pack(1, 3));
    assert_eq!(order(&outbox), [(camera(1), 3)]);
}

#[test]
fn a_refused_layer_key_is_set_aside_and_its_footage_keeps_waiting() {
    let outbox = Outbox::default();
    outbox.add_key(Serial(1), key(7));
    outbox.add_pack(pack(1, 2));
    let much_later = Monotonic::from_nanos(u64::MAX);
    for refusal in 1..=MOST_REFUSALS {
        assert_eq!(outbox.keys(much_later).len(), 1);
        assert_eq!(outbox.key_refused(Serial(1), NOW), refusal == MOST_REFUSALS);
        assert!(outbox.keys(NOW).is_empty(), "it is not offered again at once");
    }
    assert!(outbox.keys(much_later).is_empty(), "it is not offered any more");
    assert_eq!((outbox.waiting_keys(), outbox.refused_keys()), (1, 1));
    assert!(outbox.take_pack(NOW, Position::default()).is_none());
    outbox.key_done(Serial(1));
    assert!(outbox.take_pack(NOW, Position::default()).is_some());
}

fn key(number: u8) -> ImportLayerKeyRequest {
    let key_id = LayerKeyId::from_bytes([number; 16]).to_string();
    let key = Some(WrappedLayerKey { key_id, ..WrappedLayerKey::default() });
    ImportLayerKeyRequest { key, ..ImportLayerKeyRequest::default() }
}

#[test]
fn keys_that_failed_less_often_go_first_and_none_waits_longer_than_a_bound() {
    let outbox = Outbox::default();
    (1..=3).for_each(|number| outbox.add_key(Serial(number.into()), key(number)));
    let after = |seconds: u64| Monotonic::from_nanos(NOW.as_nanos() + seconds * 1_000_000_000);
    let due = |now| outbox.keys(now).into_iter().map(|(serial, _)| serial.0).collect::<Vec<_>>();
    let told: Vec<bool> = (0..20).map(|_| outbox.key_failed(Serial(1), NOW, true)).collect();
    assert_eq!(told.iter().filter(|news| **news).count(), 1, "it is news once");
    outbox.key_failed(Serial(2), NOW, false);
    assert_eq!(due(NOW), [3]);
    assert_eq!(due(after(8)), [3, 2, 1]);
}

#[test]
fn a_key_is_no_burden_of_its_own_unless_others_go_through_and_custody_says_no() {
    for (another_goes, answered, expected) in [(true, true, true), (false, true, false), (true, false, false)]
    {
        let outbox = Outbox::default();
        outbox.add_key(Serial(1), key(7));
        outbox.add_pack(pack(1, 2));
        outbox.add_key(Serial(3), key(8));
        outbox.key_failed(Serial(1), NOW, answered);
        if another_goes {
            outbox.key_done(Serial(3));
        }
        for _ in 0..20 {
            let _ = outbox.key_failed(Serial(1), NOW, answered);
        }
        assert_eq!(outbox.refused_bytes() > 0, expected, "{another_goes} {answered}");
        assert_eq!(outbox.refused_at(Serial(1)).is_some(), expected);
    }
}

#[test]
fn a_pack_is_singled_out_only_by_a_refusal_after_another_got_through() {
    let at = |nanos: u64| Monotonic::from_nanos(NOW.as_nanos() + nanos);
    let outbox = Outbox::default();
    let mut refused = Formed { refusals: MOST_REFUSALS, ..pack(1, 1) };
    refused.note_refusal(at(10), Some(at(9)));
    refused.note_refusal(at(20), Some(at(9)));
    assert!(!outbox.is_singled_out(&refused, at(9)), "others got through before it all began");
    assert!(!outbox.is_singled_out(&refused, at(21)), "it was not tried since another got through");
    refused.note_refusal(at(30), Some(at(21)));
    assert!(outbox.is_singled_out(&refused, at(21)));
    refused.note_refusal(at(40), Some(at(21)));
    assert!(!outbox.is_singled_out(&refused, at(21)), "nobody gets through any more");
}

#[test]
fn a_pack_whose_key_is_refused_is_singled_out_only_once_another_key_got_through() {
    let after = Monotonic::from_nanos(NOW.as_nanos() + 1);
    let outbox = Outbox::default();
    (7..=8).for_each(|number| outbox.add_key(Serial(number.into()), key(number)));
    for _ in 0..MOST_REFUSALS {
        let _ = outbox.key_refused(Serial(7), NOW);
    }
    assert!(!outbox.is_singled_out(&pack(1, 1), after), "packs under older keys arrive, and no key");
    outbox.key_done(Serial(8));
    assert!(!outbox.is_singled_out(&pack(1, 1), NOW), "no pack arrived since");
    assert!(outbox.is_singled_out(&pack(1, 1), after));
}

#[test]
fn the_oldest_segment_is_found_wherever_it_waits() {
    let outbox = Outbox::default();
    let later = |seconds: u64| Monotonic::from_nanos(NOW.as_nanos() + seconds * 1_000_000_000);
    assert_eq!(outbox.oldest(NOW), Duration::ZERO);
    let recovered = Sealed { waited_before: Duration::from_secs(100), ..sealed(camera(1), 1, 1) };
    outbox.add_pack(Formed { segments: vec![recovered], ..pack(1, 1) });
    outbox.add_segment(sealed(camera(2), 2, 1), later(3));
    assert_eq!(outbox.oldest(later(5)), Duration::from_secs(105));
    let flying = outbox.take_pack(NOW, Position::default()).unwrap();
    assert_eq!(outbox.oldest(later(5)), Duration::from_secs(105));
    outbox.pack_done(&flying);
    assert_eq!(outbox.oldest(later(5)), Duration::from_secs(2));
}
