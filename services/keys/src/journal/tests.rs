use futures::{FutureExt as _, future::join_all};
use obscura_outbox::event;
use obscura_proto::audit::v1::{Outcome, Test, event::Body};
use sea_orm::{ConnectionTrait as _, QueryOrder as _};

use super::*;
use crate::test_support::Bench;

fn told(bench: &Bench, text: &str) -> Event {
    let clock: obscura_clock::SharedClock = bench.clock.clone();
    event(&clock, Outcome::Success, Body::Test(Test { text: text.to_owned() }))
}

async fn staged_ids(custody: &crate::custody::Custody) -> Vec<String> {
    let query = staged::Entity::find().order_by_asc(staged::Column::EventId);
    let rows = query.all(custody.parts.store.reader()).await.unwrap();
    rows.into_iter().map(|row| row.event_id).collect()
}

#[tokio::test]
async fn whatever_was_told_is_in_the_database_before_the_answer_and_shares_commits() {
    for bench in [Bench::new(), Bench::on_postgres()] {
        let custody = bench.open().await;
        let events: Vec<_> = (0..1_200).map(|_| told(&bench, "x")).collect();
        let mut ids: Vec<_> = events.iter().map(|event| event.event_id.clone()).collect();
        let answers = join_all(events.into_iter().map(|event| custody.tell(event))).await;
        assert!(answers.iter().all(Result::is_ok));
        ids.sort();
        let stored = staged_ids(&custody).await;
        assert!(ids.iter().all(|id| stored.contains(id)), "{} of 1200", stored.len());
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_not_told_and_the_next_one_is() {
    let bench = Bench::new();
    let custody = bench.open().await;
    bench
        .run("CREATE TRIGGER fault BEFORE INSERT ON staged_events BEGIN SELECT RAISE(ABORT, 'injected'); END")
        .await;
    for _ in 0..2 {
        assert!(matches!(custody.tell(told(&bench, "x")).await, Err(Error::Untold)));
    }
    bench.run("DROP TRIGGER fault").await;
    custody.tell(told(&bench, "x")).await.unwrap();
    assert_eq!(staged_ids(&custody).await.len(), 1);
}

#[tokio::test]
async fn an_event_whose_caller_hangs_up_is_told_all_the_same() {
    let bench = Bench::new();
    let custody = bench.open().await;
    // Once somebody has counted what is staged, an event is on its way when telling it is begun.
    custody.tell(told(&bench, "first")).await.unwrap();
    let turn = custody.parts.store.write().await.unwrap();
    assert!(custody.tell(told(&bench, "x")).now_or_never().is_none(), "it waits for its turn");
    drop(turn);
    custody.tell(told(&bench, "y")).await.unwrap();
    assert_eq!(staged_ids(&custody).await.len(), 3);
}

#[tokio::test]
async fn with_too_much_that_nobody_fetches_nothing_more_is_told() {
    let bench = Bench::new();
    let custody = bench.open().await;
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_STAGED}) \
         INSERT INTO staged_events SELECT 'z' || i, x'00' FROM n"
    );
    let writer = custody.parts.store.write().await.unwrap();
    writer.tx().execute_unprepared(&fill).await.unwrap();
    writer.commit().await.unwrap();
    assert!(matches!(custody.tell(told(&bench, "x")).await, Err(Error::Unheard)));
    bench.run("DELETE FROM staged_events WHERE event_id = 'z1'").await;
    custody.tell(told(&bench, "x")).await.unwrap();
    assert!(matches!(custody.tell(told(&bench, "x")).await, Err(Error::Unheard)));
}

#[test]
fn the_first_refusals_of_a_minute_are_told_and_the_others_counted() {
    let at = |seconds: u64| Monotonic::from_nanos(seconds * 1_000_000_000);
    let mut refusals = Refusals::default();
    let outcomes: Vec<_> = (0..1_000).map(|_| refusals.refuse(at(5))).collect();
    assert_eq!(outcomes.iter().filter(|refused| refused.told).count(), 20);
    assert_eq!(refusals.close(at(64)), 0, "the minute is not over");
    assert_eq!(refusals.refuse(at(65)), Refused { told: true, earlier: 980 });
    assert_eq!(refusals.close(at(130)), 0, "nothing was left untold");
    assert_eq!(refusals.close(at(1_000)), 0);
}
