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
            erasing().run(&bench.log).await.unwrap();
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
            bench.log.parts.persons.forget_erased(now + std::time::Duration::from_secs(1)).await.unwrap();
            assert!(bench.log.parts.store.erased().await.unwrap().is_empty());
        }
    }
}
