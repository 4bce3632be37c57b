//! Packs that arrive together.

use super::*;

fn arriving(number: u8, start: i64) -> (PackRow, Vec<Run>) {
    row(&make_pack(number % 3, id(number), &[(start, start + 4_000)]))
}

#[tokio::test]
async fn packs_that_arrive_together_are_each_inserted_once_and_answered_by_themselves() {
    let (_directory, stores) = both().await;
    for store in stores {
        let buried = arriving(200, 0);
        store.insert_pack(&buried.0, &buried.1, at(0)).await.unwrap();
        store.bury(&[(id(200), 1)], at(0)).await.unwrap();
        // Every pack twice, on two days, and one that was deleted long ago.
        let packs: Vec<_> =
            (0..150_u8).map(|number| arriving(number, i64::from(number) * 1_000_000)).collect();
        let twice = packs.iter().chain(&packs).chain([&buried]);
        let outcomes = twice.map(|(row, runs)| store.insert_pack(row, runs, at(0)));
        let outcomes = futures::future::join_all(outcomes).await;
        let count = |wanted: fn(&Inserted) -> bool| {
            outcomes.iter().filter(|outcome| wanted(outcome.as_ref().unwrap())).count()
        };
        assert_eq!(count(|outcome| matches!(outcome, Inserted::New)), 150);
        assert_eq!(count(|outcome| matches!(outcome, Inserted::Before(_))), 150);
        assert_eq!(count(|outcome| matches!(outcome, Inserted::Buried(_))), 1);
        let runs = store.runs(None, None, 1_000).await.unwrap();
        assert_eq!(
            runs.iter().map(|run| run.run.segments).sum::<u64>(),
            151,
            "a buried one keeps its run here"
        );
        let notices = store.open_notices(Subject::Arrivals, 1_000).await.unwrap();
        let mut positions: Vec<_> = notices.iter().map(|notice| notice.position).collect();
        positions.dedup();
        assert_eq!(positions.len(), 151, "each is told once and in its own place");
        for (row, _) in &packs {
            assert_eq!(store.pack(row.pack).await.unwrap().as_ref(), Some(row), "bit for bit");
        }
    }
}

#[tokio::test]
async fn one_that_cannot_be_inserted_does_not_take_others_with_it() {
    let (_directory, stores) = both().await;
    for store in stores {
        let mut packs: Vec<_> =
            (0..20_u8).map(|number| arriving(number, i64::from(number) * 10_000)).collect();
        packs[7].0.directory.entries.clear();
        let inserts = packs.iter().map(|(row, runs)| store.insert_pack(row, runs, at(0)));
        let outcomes = futures::future::join_all(inserts).await;
        let refused: Vec<_> = (0..20).filter(|number| outcomes[*number].is_err()).collect();
        assert_eq!(refused, [7]);
        assert_eq!(store.runs(None, None, 100).await.unwrap().len(), 19);
        assert_eq!(store.pack(id(7)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_neither_stops_others_nor_loses_the_next() {
    let (_directory, stores) = both().await;
    for store in stores {
        for round in 0..10_u8 {
            let (gone, (row, runs)) = (arriving(2 * round, 0), arriving(2 * round + 1, 0));
            let leaving = store.insert_pack(&gone.0, &gone.1, at(0));
            let _ = futures::future::select(Box::pin(leaving), Box::pin(tokio::task::yield_now())).await;
            assert_eq!(store.insert_pack(&row, &runs, at(0)).await.unwrap(), Inserted::New);
            let again = store.insert_pack(&gone.0, &gone.1, at(0)).await.unwrap();
            assert!(matches!(again, Inserted::New | Inserted::Before(_)));
        }
    }
}
