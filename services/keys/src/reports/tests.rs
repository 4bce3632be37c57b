use std::time::Duration;

use obscura_clock::Clock as _;
use obscura_proto::keys::v1::{ReleaseNodesRequest, ReleasedKey};
use obscura_seal::SlotSet;

use super::*;
use crate::{
    custody::Custody,
    error::Error,
    rotation::Rotation,
    test_support::{Bench, caller},
};

fn ada() -> Option<Person> {
    Some(Person { id: "user:ada".to_owned(), ..Person::default() })
}

/// Acts on keys that were told, with who did them, whether it was done, and the words.
async fn acts(bench: &Bench, custody: &Custody) -> Vec<(Act, Option<String>, bool, String)> {
    let told = bench.told(custody).await.into_iter();
    let acts = told.filter_map(|event| match &event.body {
        Some(Body::Key(act)) => {
            let done = event.outcome() == Outcome::Success;
            Some((act.act(), event.actor.map(|actor| actor.id), done, act.detail.clone()))
        }
        _ => None,
    });
    acts.collect()
}

#[tokio::test]
async fn nothing_is_released_that_is_not_written_down_first() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let request = bench.release_of(&[&key], bench.hour_of(&key));
    bench.silence(true).await;
    for _ in 0..2 {
        let refused = custody.release(&caller(), &request, ada()).await.unwrap_err();
        assert!(matches!(refused, Error::Untold), "{refused}");
    }
    bench.silence(false).await;
    let released = custody.release(&caller(), &request, ada()).await.unwrap();
    drop(custody);
    // As after a crash behind the answer.
    let custody = bench.open().await;
    let told = bench.told(&custody).await;
    let Some(Body::Key(act)) = &told[0].body else { panic!("{told:?}") };
    assert_eq!((told.len(), act.act(), told[0].actor.clone()), (1, Act::Released, ada()));
    assert_eq!(act.key_ids, [key.context.key_id.to_string()]);
    assert_eq!(act.released, [released[0].released.unwrap()]);
    assert!(!act.grant_id.is_empty());
}

#[tokio::test]
async fn what_was_destroyed_in_the_middle_of_an_hour_is_not_told_as_released() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    custody.shred(&bench.shred(&key, 100, 199)).await.unwrap();
    let request = bench.release_of(&[&key], bench.hour_of(&key));
    let released = custody.release(&caller(), &request, ada()).await.unwrap();
    let told = bench.told(&custody).await;
    let act = told.iter().rev().find_map(released_act).unwrap();
    assert_eq!(act.released, [bench.span(&key, 0, 99), bench.span(&key, 200, 1_799)]);
    let told: u64 = act.released.iter().map(slots).sum();
    let opens = crate::test_support::node_set(&released[0]).slots();
    assert_eq!(told, u64::from(opens.len()), "what opens and nothing else");
}

fn released_act(event: &Event) -> Option<&KeyAct> {
    match &event.body {
        Some(Body::Key(act)) if act.act() == Act::Released => Some(act),
        _ => None,
    }
}

fn slots(span: &Span) -> u64 {
    u64::try_from(span.end_unix_ns - span.start_unix_ns).unwrap() / 2_000_000_000
}

#[test]
fn more_spans_than_an_event_takes_go_into_several_with_their_keys() {
    let clock = obscura_clock::SystemClock::shared();
    let part = |number: usize, spans: i64| ReleasedPart {
        key: ReleasedKey { key_id: format!("{number:032x}"), ..ReleasedKey::default() },
        spans: (0..spans).map(|span| Span { start_unix_ns: 2 * span, end_unix_ns: 2 * span + 1 }).collect(),
    };
    let grant = "01930000-0000-7000-8000-00000000000a";
    let parts = [part(1, 300), part(2, 0), part(3, 900), part(4, 1)];
    let events = release_events(&clock, ada().as_ref(), grant, &parts);
    let acts: Vec<_> = events.iter().filter_map(released_act).collect();
    let lengths: Vec<_> = acts.iter().map(|act| act.released.len()).collect();
    assert_eq!(lengths, [300, 400, 400, 101]);
    let spans: Vec<_> = acts.iter().flat_map(|act| act.released.clone()).collect();
    assert_eq!(spans, parts.iter().flat_map(|part| part.spans.clone()).collect::<Vec<_>>());
    assert_eq!((acts[0].key_ids.len(), acts[3].key_ids.len()), (2, 2));
    assert!(acts.iter().all(|act| act.grant_id == grant));
    let none = release_events(&clock, None, grant, &[]);
    assert_eq!(none.len(), 1, "a release of nothing is told too");
}

#[tokio::test]
async fn what_is_destroyed_while_a_release_is_written_down_is_not_released() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    let request = bench.release_of(&[&key], bench.hour_of(&key));
    let turn = custody.parts.store.write().await.unwrap();
    let caller = caller();
    let release = custody.release(&caller, &request, None);
    let destroy = async {
        // The release has read its keys and waits for the writer; then comes the destruction.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(turn);
        custody.shred(&bench.shred(&key, 0, 1_799)).await.unwrap();
    };
    let (released, ()) = tokio::join!(release, destroy);
    let opens = crate::test_support::node_set(&released.unwrap()[0]).slots();
    // Whichever came first: after both nothing opens, and what was released before is written down.
    let told = bench.told(&custody).await;
    let spans = |event: &Event| match &event.body {
        Some(Body::Key(act)) if act.act() == Act::Released => Some(act.released.len()),
        _ => None,
    };
    let last = told.iter().filter_map(spans).next_back().unwrap();
    assert_eq!(last > 0, !opens.is_empty());
    assert!(bench.opens(&custody, &key).await.is_empty());
}

#[tokio::test]
async fn refusals_are_told_and_a_flood_of_them_is_bounded() {
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    let nonsense =
        ReleaseNodesRequest { key_ids: vec!["x".repeat(100_000)], ..ReleaseNodesRequest::default() };
    for _ in 0..100 {
        assert!(custody.release(&caller(), &nonsense, ada()).await.is_err());
    }
    let told = acts(&bench, &custody).await;
    assert_eq!(told.len(), 20);
    assert!(told.iter().all(|(act, by, done, words)| {
        *act == Act::Released && by.as_deref() == Some("user:ada") && !done && words.len() <= 512
    }));
    custody.tell_refusals().await;
    assert_eq!(acts(&bench, &custody).await.len(), 20, "the minute is not over");
    bench.wait(Duration::from_secs(61));
    for _ in 0..2 {
        custody.tell_refusals().await;
        let told = acts(&bench, &custody).await;
        assert_eq!((told.len(), &*told[20].3), (21, "80 more requests were refused within a minute"));
    }
    bench.silence(true).await;
    assert!(matches!(custody.release(&caller(), &nonsense, None).await, Err(Error::Malformed { .. })));
}

#[tokio::test]
async fn an_early_destruction_tells_who_asked_and_who_approved_in_one_piece() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    // The transaction of the receipt takes both events or none.
    bench.run("CREATE TRIGGER second BEFORE INSERT ON staged_events WHEN (SELECT COUNT(*) FROM staged_events) = 1 BEGIN SELECT RAISE(ABORT, 'injected'); END").await;
    custody.shred(&bench.shred(&key, 0, 9)).await.unwrap_err();
    assert!(bench.told(&custody).await.is_empty());
    bench.run("DROP TRIGGER second").await;
    custody.expire().await.unwrap();
    let told = bench.told(&custody).await;
    let find = |of: fn(&Body) -> bool| told.iter().find(|event| event.body.as_ref().is_some_and(of)).unwrap();
    let destruction = find(|body| matches!(body, Body::Destruction(_)));
    let approval = find(|body| matches!(body, Body::Change(_)));
    let by = |event: &Event| event.actor.clone().unwrap().id;
    assert_eq!((told.len(), by(destruction), by(approval)), (2, "u-1".to_owned(), "u-2".to_owned()));
    let Some(Body::Change(change)) = &approval.body else { panic!() };
    assert_eq!((&*change.object_kind, &change.object_id), ("destruction", &destruction.event_id));
    assert_eq!(change.changed_fields, ["approval"]);
    bench.invariant_every_slot_is_accounted_for(&custody, &[&key]).await;
    // An expiry has no approver.
    bench.wait_hours(80);
    custody.resume_destruction("Ada Ventura", None).await.unwrap();
    let changes = bench.told(&custody).await.into_iter();
    assert_eq!(changes.filter(|event| matches!(event.body, Some(Body::Change(_)))).count(), 1);
}

#[tokio::test]
async fn a_rotation_is_told_before_it_begins_and_with_its_end_whatever_crashes() {
    let told_acts = |acts: Vec<(Act, Option<String>, bool, String)>| {
        acts.into_iter().map(|(_, by, _, words)| (by.unwrap_or_default(), words)).collect::<Vec<_>>()
    };
    let words = |by: &str, words: &str| (by.to_owned(), words.to_owned());
    // Nothing begins that cannot be told.
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    bench.silence(true).await;
    assert!(matches!(Rotation::begin(&custody, 1, ada()).await, Err(Error::Untold)));
    assert_eq!(custody.parts.encryption.versions().await.unwrap().len(), 1);
    bench.silence(false).await;
    Rotation::begin(&custody, 1, ada()).await.unwrap().run(|_| {}).await.unwrap();
    let both = [words("user:ada", "begins"), words("user:ada", "complete")];
    assert_eq!(told_acts(acts(&bench, &custody).await), both);

    // A crash in the middle.
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    drop(Rotation::begin(&custody, 1, ada()).await.unwrap());
    drop(custody);
    let custody = bench.open().await;
    Rotation::resume(&custody, 1).await.unwrap().unwrap().run(|_| {}).await.unwrap();
    assert_eq!(told_acts(acts(&bench, &custody).await), [words("user:ada", "begins"), words("", "complete")]);

    // A crash between the end and its commit.
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    let mut rotation = Rotation::begin(&custody, 1, ada()).await.unwrap();
    bench.silence(true).await;
    rotation.run(|_| {}).await.unwrap_err();
    drop(rotation);
    drop(custody);
    bench.silence(false).await;
    for _ in 0..2 {
        let custody = bench.open().await;
        let expected = [words("user:ada", "begins"), words("", "completed before a crash")];
        assert_eq!(told_acts(acts(&bench, &custody).await), expected);
    }
}

#[tokio::test]
async fn shares_are_told_before_they_are_shown_and_rehearsals_also_when_they_fail() {
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    bench.silence(true).await;
    assert!(matches!(custody.recovery_shares(2, 3, ada()).await, Err(Error::Untold)));
    bench.silence(false).await;
    let shares = custody.recovery_shares(2, 3, ada()).await.unwrap();
    bench.wait(Duration::from_secs(5));
    assert!(custody.rehearse_recovery(&shares[..1], ada()).await.is_err());
    bench.wait(Duration::from_secs(5));
    custody.rehearse_recovery(&shares, ada()).await.unwrap();
    let told = acts(&bench, &custody).await;
    let kinds: Vec<_> = told.iter().map(|(act, _, done, _)| (*act, *done)).collect();
    let expected = [(Act::SharesMade, true), (Act::SharesRehearsed, false), (Act::SharesRehearsed, true)];
    assert_eq!(kinds, expected);
    assert!(told.iter().all(|(_, by, ..)| by.as_deref() == Some("user:ada")));
    let said: String = told.into_iter().map(|(.., words)| words).collect();
    assert!(
        shares.iter().all(|share| share.split('-').all(|group| group.len() < 5 || !said.contains(group)))
    );
}

#[tokio::test]
async fn going_on_with_destruction_is_told_before_anything_is_destroyed() {
    let bench = Bench::new();
    let (custody, key) = bench.with_key().await;
    bench.wait_hours(80);
    bench.silence(true).await;
    assert!(matches!(custody.resume_destruction("Ada Ventura", ada()).await, Err(Error::Untold)));
    assert_eq!(bench.describes(&custody, &key).await, SlotSet::whole_hour());
    bench.silence(false).await;
    custody.resume_destruction("Ada Ventura", ada()).await.unwrap();
    let told = acts(&bench, &custody).await;
    let resumed = told.iter().filter(|(act, ..)| *act == Act::DestructionResumed);
    assert_eq!(resumed.map(|(_, by, ..)| by.as_deref()).collect::<Vec<_>>(), [Some("user:ada")]);
}

#[tokio::test]
async fn a_stop_of_destruction_is_told_once_with_its_reason_and_again_when_it_comes_back() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let bench = Bench::new();
    let (custody, _) = bench.with_key().await;
    let right = bench.clock.wall();
    for _ in 0..2 {
        bench.clock.step_wall(right + DAY);
        for _ in 0..3 {
            custody.expire().await.unwrap_err();
        }
        bench.clock.step_wall(right);
        custody.expire().await.unwrap();
    }
    bench.clock.step_wall(right + DAY);
    bench.silence(true).await;
    custody.expire().await.unwrap_err();
    bench.silence(false).await;
    custody.expire().await.unwrap_err();
    custody.resume_destruction("Ada Ventura", ada()).await.unwrap();
    let told = acts(&bench, &custody).await;
    let kinds: Vec<_> = told.iter().map(|(act, by, ..)| (*act, by.as_deref())).collect();
    let stopped = (Act::DestructionStopped, None);
    assert_eq!(kinds, [stopped, stopped, stopped, (Act::DestructionResumed, Some("user:ada"))]);
    assert!(told.iter().take(3).all(|(.., words)| words.contains("clock")), "{told:?}");
}
