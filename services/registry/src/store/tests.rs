//! The store on both databases, real ones.

use obscura_database::PostgresUrl;
use obscura_ids::SiteId;
use obscura_test_servers::postgres::{Postgres, shared};
use sea_orm::{ActiveValue::Set, ConnectionTrait as _};
use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};
use tempfile::TempDir;

use super::*;

fn event() -> Event {
    let body = obscura_proto::audit::v1::event::Body::Change(obscura_proto::audit::v1::Change::default());
    obscura_outbox::event(
        &obscura_clock::SystemClock::shared(),
        obscura_proto::audit::v1::Outcome::Success,
        body,
    )
}

fn at(directory: &Path) -> Location {
    Location::Sqlite(directory.join(FILE))
}

fn on(postgres: &Postgres) -> Location {
    Location::Postgres { url: PostgresUrl::try_new(&postgres.new_database()).unwrap(), schema: SCHEMA }
}

/// One empty place on each.
fn both() -> (TempDir, [Location; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let file = at(directory.path());
    (directory, [file, on(shared())])
}

fn site(name: &str) -> Site {
    Site {
        id: SiteId::generate(),
        name: Name::read("name", name).unwrap(),
        attestation: Attestation {
            coordinates: Coordinates::new(52.520_008_123, -13.404_954_7).unwrap(),
            attested_by: "Ada".into(),
            attested: Timestamp::from_unix_nanos(1_800_000_000_123_456_789),
        },
        country: Some("DE".parse().unwrap()),
    }
}

fn camera(name: &str) -> (Name, Camera) {
    let camera_id = CameraId::generate().to_string();
    (Name::read("name", name).unwrap(), Camera { camera_id, name: name.into(), ..Camera::default() })
}

async fn add(store: &Store, name: &str) -> Result<Camera, Error> {
    let (name, camera) = camera(name);
    let change = store.begin().await?;
    change.add_camera(&name, &camera).await?;
    change.commit(|| {}).await?;
    Ok(camera)
}

#[tokio::test]
async fn sites_survive_a_restart_bit_for_bit_and_come_by_name() {
    let (_directory, locations) = both();
    for location in locations {
        let (b, a) = (site("b"), Site { country: None, ..site("A") });
        let store = Store::open(&location).await.unwrap();
        store.add_site(&b, &event()).await.unwrap();
        store.add_site(&a, &event()).await.unwrap();
        drop(store);
        let store = Store::open(&location).await.unwrap();
        assert_eq!(store.sites().await.unwrap(), [a, b.clone()]);
        assert_eq!(store.site(&Name::read("name", "B").unwrap()).await.unwrap(), b);
    }
}

#[tokio::test]
async fn a_second_site_or_live_camera_of_the_same_name_is_refused() {
    let (_directory, locations) = both();
    for location in locations {
        let store = Store::open(&location).await.unwrap();
        store.add_site(&site("Shop"), &event()).await.unwrap();
        let again = store.add_site(&site("SHOP"), &event()).await;
        assert!(matches!(again, Err(Error::Exists { kind: "site", .. })), "{again:?}");
        let first = add(&store, "Door").await.unwrap();
        assert!(matches!(add(&store, "door").await, Err(Error::Exists { kind: "camera", .. })));
        let change = store.begin().await.unwrap();
        change.remove_camera(&Camera { removed: true, ..first }).await.unwrap();
        change.commit(|| {}).await.unwrap();
        add(&store, "door").await.unwrap();
        assert_eq!(store.cameras(false).await.unwrap().len(), 1);
        assert_eq!(store.cameras(true).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_change_that_is_dropped_leaves_nothing_and_lets_the_next_one_in() {
    let (_directory, locations) = both();
    for location in locations {
        let store = Store::open(&location).await.unwrap();
        let (name, message) = camera("Door");
        let change = store.begin().await.unwrap();
        change.add_camera(&name, &message).await.unwrap();
        change.put_snapshot(1, &SignedSnapshot::default()).await.unwrap();
        drop(change);
        assert!(store.cameras(true).await.unwrap().is_empty());
        assert!(store.snapshot().await.unwrap().is_none());
        add(&store, "Door").await.unwrap();
    }
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept_and_a_version_is_made_once() {
    let (_directory, locations) = both();
    for location in locations {
        let store = Store::open(&location).await.unwrap();
        let signed =
            |byte: u8| SignedSnapshot { snapshot: vec![byte].into(), signature: vec![byte; 64].into() };
        for version in [1, 2] {
            let change = store.begin().await.unwrap();
            let byte = u8::try_from(version).unwrap();
            change.put_snapshot(version, &signed(byte)).await.unwrap();
            change.commit(|| {}).await.unwrap();
        }
        assert_eq!(store.snapshot().await.unwrap(), Some(signed(2)));
        let change = store.begin().await.unwrap();
        assert!(change.put_snapshot(2, &signed(9)).await.is_err());
        drop(change);
        assert_eq!(store.snapshot().await.unwrap(), Some(signed(2)));
    }
}

#[tokio::test]
async fn the_file_is_private_and_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&at(dir.path())).await.unwrap();
    add(&store, "Door").await.unwrap();
    for file in [FILE, "registry.sqlite-wal"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let pragma = async |name: &str| {
        let row = store.database.readers().query_one_raw(sea_orm::Statement::from_string(
            store.database.backend(),
            format!("PRAGMA {name}"),
        ));
        row.await.unwrap().unwrap()
    };
    assert_eq!(pragma("journal_mode").await.try_get_by_index::<String>(0).unwrap(), "wal");
    assert_eq!(pragma("synchronous").await.try_get_by_index::<i32>(0).unwrap(), 2);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&at(dir.path())).await.unwrap();
    let newer = "INSERT INTO schema_version (version) VALUES (99)";
    store.database.readers().execute_unprepared(newer).await.unwrap();
    drop(store);
    let verdict = Store::open(&at(dir.path())).await;
    assert!(matches!(verdict, Err(obscura_database::Error::Newer { found: 99, .. })), "{verdict:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_and_a_directory_that_is_missing_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), vec![7; 8192]).unwrap();
    assert!(matches!(Store::open(&at(dir.path())).await, Err(obscura_database::Error::Database(_))));
    let missing = Store::open(&at(&dir.path().join("missing"))).await;
    assert!(matches!(missing, Err(obscura_database::Error::File { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_damaged_row_is_named_as_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&at(dir.path())).await.unwrap();
    let row = schema::camera::ActiveModel {
        camera_id: Set("x".into()),
        name: Set("x".into()),
        live_name_key: Set(Some("x".into())),
        record: Set(vec![0xff; 9]),
    };
    schema::camera::Entity::insert(row).exec(store.database.readers()).await.unwrap();
    assert!(matches!(store.cameras(false).await, Err(Error::Damaged("camera"))));
}

#[tokio::test]
async fn a_database_from_before_this_page_counted_its_versions_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&at(dir.path())).await.unwrap();
    add(&store, "Door").await.unwrap();
    for statement in ["DROP TABLE schema_version", OLD_VERSION_TABLE, "INSERT INTO schema_version VALUES (1)"]
    {
        store.database.readers().execute_unprepared(statement).await.unwrap();
    }
    drop(store);
    let store = Store::open(&at(dir.path())).await.unwrap();
    assert_eq!(store.cameras(false).await.unwrap().len(), 1);
    add(&store, "Gate").await.unwrap();
}

const OLD_VERSION_TABLE: &str = r#"CREATE TABLE "schema_version" ( "version" integer NOT NULL PRIMARY KEY )"#;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_add_cameras_at_the_same_time_lose_none_and_share_the_names() {
    let location = on(shared());
    let stores = [(); 2].map(|()| Store::open(&location));
    let stores = futures::future::try_join_all(stores).await.unwrap();
    let stores: Vec<_> = stores.into_iter().map(Arc::new).collect();
    let added = (0..20).map(|number| {
        let store = Arc::clone(&stores[number % 2]);
        // Each name twice, one of them on each replica.
        tokio::spawn(async move { add(&store, &format!("Door {}", number / 2)).await })
    });
    let added: Vec<_> = futures::future::try_join_all(added).await.unwrap();
    let taken = added.iter().filter(|added| matches!(added, Err(Error::Exists { .. }))).count();
    assert_eq!((added.iter().filter(|added| added.is_ok()).count(), taken), (10, 10));
    assert_eq!(stores[0].cameras(false).await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_change_that_a_crash_of_the_server_cuts_off_leaves_nothing_and_can_be_repeated() {
    let postgres = Postgres::own();
    let store = Store::open(&on(&postgres)).await.unwrap();
    for cameras in 1..3 {
        let (name, message) = camera(&format!("Door {cameras}"));
        let change = store.begin().await.unwrap();
        change.add_camera(&name, &message).await.unwrap();
        postgres.stop_immediately();
        let mut shown = false;
        assert!(change.commit(|| shown = true).await.is_err());
        assert!(!shown);
        postgres.start();
        add(&store, name.as_str()).await.unwrap();
        assert_eq!(store.cameras(true).await.unwrap().len(), cameras);
    }
}

#[tokio::test]
async fn while_the_server_only_reads_a_change_fails_and_what_is_there_is_served() {
    let postgres = Postgres::own();
    let store = Store::open(&on(&postgres)).await.unwrap();
    store.add_site(&site("Shop"), &event()).await.unwrap();
    postgres.set_read_only(true);
    let refused = store.add_site(&site("Depot"), &event()).await.unwrap_err();
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    assert_eq!(store.sites().await.unwrap().len(), 1);
    postgres.set_read_only(false);
    store.add_site(&site("Depot"), &event()).await.unwrap();
    assert_eq!(store.sites().await.unwrap().len(), 2);
}
