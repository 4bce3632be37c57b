use obscura_blob::Fault;
use obscura_ids::PackId;
use obscura_pack::Directory;
use proptest::prelude::*;

use crate::{
    test_support::{key_of, object},
    zone_bench::{Zone, key, pack, pack_under},
};

#[tokio::test]
async fn a_lost_index_comes_back_with_the_same_runs() {
    let zone = Zone::start().await;
    let packs = [pack(1, 1, 0), pack(1, 2, 16), pack(2, 3, 0), pack(1, 4, 100)];
    for pack in &packs {
        zone.record(pack).await;
    }
    let before = zone.runs().await;
    let zone = zone.lose_index().await;
    assert!(zone.runs().await.is_empty());
    let (indexed, findings) = zone.reindex().await.unwrap();
    assert_eq!((indexed, findings.len()), (4, 0));
    assert_eq!(zone.runs().await, before);
    assert_eq!(zone.reindex().await.unwrap().0, 0, "doing it again changes nothing");
    assert_eq!(zone.runs().await, before);
    zone.assert_accounted().await;
}

#[tokio::test]
async fn what_was_shredded_and_not_yet_deleted_does_not_come_back_to_life() {
    let zone = Zone::start().await;
    let packs = [pack(1, 1, 0), pack(1, 2, 16), pack(2, 3, 0)];
    for pack in &packs {
        zone.record(pack).await;
    }
    zone.custody.shred(key(1), &[(0, 9)]);
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    let before = zone.runs().await;
    assert!(!zone.has_object(&packs[0]).await && zone.has_object(&packs[1]).await);
    for receipts_first in [true, false] {
        let zone = Zone::start().await;
        for pack in &packs {
            zone.record(pack).await;
        }
        zone.custody.shred(key(1), &[(0, 9)]);
        zone.upkeep.follower().unwrap().catch_up().await.unwrap();
        let zone = zone.lose_index().await;
        if receipts_first {
            zone.upkeep.follower().unwrap().catch_up().await.unwrap();
        }
        zone.reindex().await.unwrap();
        zone.upkeep.follower().unwrap().catch_up().await.unwrap();
        assert_eq!(zone.runs().await, before, "{receipts_first}");
        zone.assert_accounted().await;
    }
}

#[tokio::test]
async fn it_goes_on_where_a_crash_cut_it_short() {
    let mut zone = Zone::start().await;
    // More than a page, so that there is a place to go on from.
    for number in 0..700_u32 {
        let mut pack =
            pack_under(1, 1, 1, &[(i64::from(number) * 4_000, i64::from(number) * 4_000 + 4_000)], 16);
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        pack.pack_id = PackId::from_bytes(id);
        zone.custody.import(&pack, zone.far());
        zone.installation.place(&key_of(&pack), object(&pack)).await;
    }
    for faults_after in [100, 1_500, 100] {
        let faults = (0..faults_after).map(|_| Fault::None).chain([Fault::Unavailable]);
        zone.script(faults);
        assert!(zone.reindex().await.is_err());
        zone = zone.restart().await;
    }
    zone.reindex().await.unwrap();
    assert_eq!(zone.assert_accounted().await.live, 700);
    assert_eq!(zone.runs().await.len(), 1);
}

#[tokio::test]
async fn an_object_that_is_not_a_pack_is_named_and_the_others_come_back() {
    let zone = Zone::start().await;
    zone.record(&pack(1, 1, 0)).await;
    zone.installation.place(&key_of(&pack(1, 2, 16)), b"garbage".to_vec()).await;
    let zone = zone.lose_index().await;
    let (indexed, findings) = zone.reindex().await.unwrap();
    assert_eq!((indexed, findings.len()), (1, 1));
    assert!(findings[0].words.contains("belongs to nothing"), "{}", findings[0].words);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_runs_of_a_rebuilt_index_are_those_of_the_lost_one(
        packs in prop::collection::vec((1..3_u8, 0..90_i64, prop::collection::vec((0..3_i64, 1..5_i64), 1..4)), 1..10),
    ) {
        let packs: Vec<Directory> = (1..).zip(&packs).map(|(id, (camera, start, segments))| {
            let mut end = start * 1_000;
            let place = |&(pause, length): &(i64, i64)| {
                let start = end + pause * 700;
                end = start + length * 1_000;
                (start, end)
            };
            pack_under(*camera, *camera, id, &segments.iter().map(place).collect::<Vec<_>>(), 100)
        }).collect();
        let (before, after) = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let zone = Zone::start().await;
            for pack in &packs {
                zone.record(pack).await;
            }
            let before = zone.runs().await;
            let zone = zone.lose_index().await;
            zone.reindex().await.unwrap();
            (before, zone.runs().await)
        });
        prop_assert_eq!(before, after);
    }
}
