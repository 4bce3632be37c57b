//! The store on a real file.

use obscura_ids::SiteId;
use sea_orm::{ActiveValue::Set, ConnectionTrait as _};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

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
    let dir = tempfile::tempdir().unwrap();
    let (b, a) = (site("b"), Site { country: None, ..site("A") });
    let store = Store::open(dir.path()).await.unwrap();
    store.add_site(&b).await.unwrap();
    store.add_site(&a).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.sites().await.unwrap(), [a, b.clone()]);
    assert_eq!(store.site(&Name::read("name", "B").unwrap()).await.unwrap(), b);
}

#[tokio::test]
async fn a_second_site_or_live_camera_of_the_same_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    store.add_site(&site("Shop")).await.unwrap();
    let again = store.add_site(&site("SHOP")).await;
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

#[tokio::test]
async fn a_change_that_is_dropped_leaves_nothing_and_lets_the_next_one_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (name, message) = camera("Door");
    let change = store.begin().await.unwrap();
    change.add_camera(&name, &message).await.unwrap();
    change.put_snapshot(1, &SignedSnapshot::default()).await.unwrap();
    drop(change);
    assert!(store.cameras(true).await.unwrap().is_empty());
    assert!(store.snapshot().await.unwrap().is_none());
    add(&store, "Door").await.unwrap();
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept_and_a_version_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let signed = |byte: u8| SignedSnapshot { snapshot: vec![byte].into(), signature: vec![byte; 64].into() };
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

#[tokio::test]
async fn the_file_is_private_and_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    add(&store, "Door").await.unwrap();
    for file in [FILE, "registry.sqlite-wal"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let pragma = async |name: &str| {
        let row = store.database.query_one_raw(sea_orm::Statement::from_string(
            store.database.get_database_backend(),
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
    let store = Store::open(dir.path()).await.unwrap();
    let newer = schema::version::ActiveModel { version: Set(99) };
    schema::version::Entity::insert(newer).exec(&store.database).await.unwrap();
    drop(store);
    let verdict = Store::open(dir.path()).await;
    assert!(matches!(verdict, Err(Error::NewerSchema { found: 99, known: 1 })), "{verdict:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_and_a_directory_that_is_missing_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), vec![7; 8192]).unwrap();
    assert!(matches!(Store::open(dir.path()).await, Err(Error::Store(_))));
    let missing = Store::open(&dir.path().join("missing")).await;
    assert!(matches!(missing, Err(Error::File { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_damaged_row_is_named_as_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let row = schema::camera::ActiveModel {
        camera_id: Set("x".into()),
        name: Set("x".into()),
        live_name_key: Set(Some("x".into())),
        record: Set(vec![0xff; 9]),
    };
    schema::camera::Entity::insert(row).exec(&store.database).await.unwrap();
    assert!(matches!(store.cameras(false).await, Err(Error::Damaged("camera"))));
}
