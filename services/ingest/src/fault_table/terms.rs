//! The registry changes a camera's retention while it is recorded.

use obscura_proto::registry::v1::SignedPlacement;

use super::{
    account::account,
    world::{Setup, World},
};
use crate::{pressure::Priority, recorder::Terms};

fn newer() -> SignedPlacement {
    SignedPlacement { placement: vec![2].into(), signature: vec![2].into() }
}

#[tokio::test]
async fn another_retention_takes_effect_at_the_next_key_frame_and_no_frame_is_lost() {
    let mut world = World::new(Setup::default()).await;
    world.record(110).await;
    let terms = Terms { placement: newer(), priority: Priority::of(None) };
    world.run.lanes[0].terms.send_replace(terms);
    world.record(110).await;
    world.finish().await;
    account(&world);

    let stored = world.peers.stored();
    assert!(stored.gaps.is_empty(), "{:?}", stored.gaps);
    let sequences: Vec<u64> = stored.index.keys().map(|(_, _, sequence)| sequence.0).collect();
    assert!(sequences.iter().copied().eq(0..sequences.len() as u64), "{sequences:?}");
    for indexed in stored.index.values() {
        let after = indexed.entry.span.start() >= world.when(125);
        let expected = if after { newer() } else { SignedPlacement::default() };
        assert_eq!(indexed.placement, expected, "at {}", indexed.entry.span.start());
        let key = &stored.keys[&indexed.entry.header.key_id];
        assert_eq!(key.placement.clone().unwrap(), expected, "custody counts from the same placement");
    }
}
