//! What comes late about somebody who was erased.

use obscura_proto::audit::v1::Event;

use super::*;

/// The event happened before the erasure and waited in an outbox, perhaps over a restart.
#[tokio::test]
async fn what_comes_late_does_not_bring_an_erased_person_back_and_what_is_new_is_theirs() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        for was_known in [false, true] {
            let bench = Place::new(backend).start(Arc::new(NoFaults)).await;
            if was_known {
                bench.append(&search_by(ID, NAME, QUERY)).await;
            }
            let late = search_by(ID, NAME, QUERY);
            assert!(late.time_unix_ns < bench.log.parts.clock.wall().unix_nanos());
            erasing().run(&bench.log, &*bench.any_guard().await).await.unwrap();
            bench.append(&search_by(ID, NAME, QUERY)).await;
            let bench = bench.stop().await.start(Arc::new(NoFaults)).await;
            let index = bench.append(&late).await;
            assert!(bench.log.parts.persons.pseudonyms(ID).await.unwrap().is_empty(), "{backend:?}");
            let leaf = bench.leaf(index).await;
            let entry = obscura_ocsf::read(leaf.as_bytes()).unwrap();
            let pseudonym = entry.pseudonym.unwrap();
            assert!(bench.log.parts.persons.key_of(&pseudonym).await.unwrap().is_none());
            assert!(!leaf.contains(NAME) && !leaf.contains(QUERY));
            let now = bench.log.parts.clock.wall();
            bench.append(&Event { time_unix_ns: now.unix_nanos(), ..search_by(ID, NAME, QUERY) }).await;
            assert_eq!(bench.log.parts.persons.pseudonyms(ID).await.unwrap().len(), 1);
            assert!(names(&bench, ID).await.iter().any(|name| name == QUERY), "what is new is theirs");
            bench.log.parts.persons.forget_erased(now + Duration::from_secs(1)).await.unwrap();
            assert!(bench.log.parts.store.erased().await.unwrap().is_empty());
        }
    }
}

/// The moment of an erasure in the future would take the words of all that happens until then.
#[tokio::test]
async fn an_erasure_by_a_clock_that_is_ahead_does_not_reach_into_the_future() {
    for is_restarted in [false, true] {
        let mut bench = Bench::sqlite().await;
        let mut guard = bench.any_guard().await;
        bench.append(&search_by(ID, NAME, QUERY)).await;
        guard.now().await.unwrap();
        let right = bench.log.parts.clock.wall();
        bench.place.clock.step_wall(right + RETENTION);
        if is_restarted {
            bench = bench.stop().await.start(Arc::new(NoFaults)).await;
            guard = bench.any_guard().await;
        }
        bench.place.clock.advance(Duration::from_hours(1));
        assert_eq!(erasing().run(&bench.log, &guard).await.unwrap().0, 1, "it is not refused");
        let happens = async |after: Duration| {
            let time_unix_ns = (right + after).unix_nanos();
            bench.append(&Event { time_unix_ns, ..search_by(ID, NAME, QUERY) }).await;
            bench.log.parts.persons.pseudonyms(ID).await.unwrap().len()
        };
        assert_eq!(happens(Duration::from_mins(59)).await, 0, "that waited somewhere");
        assert_eq!(happens(Duration::from_mins(61)).await, 1, "that is new");
    }
}
