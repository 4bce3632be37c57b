//! What every back end of the key-encryption key must do, for its tests.

use obscura_ids::ZoneId;

use super::{Error, KeyEncryption, KeyVersion, Row, RowKind, WrappedSecret};

const SECRET: &[u8] = b"thirty-two bytes of key material";

/// Runs the whole suite against a back end. Rotates it and retires its older versions.
///
/// # Panics
/// At the first thing the back end does wrong, with the rule it breaks.
#[expect(clippy::expect_used, reason = "the suite runs in tests, where a panic is a failed test")]
pub async fn run(back_end: &dyn KeyEncryption) {
    let zone: ZoneId = "eea".parse().expect("a zone");
    let row = Row { kind: RowKind::EpochKey, id: "20780", zone: &zone };
    reads_back_in_its_own_row_only(back_end, row).await;
    refuses_changed_bytes(back_end, row).await;
    rotates_without_losing_anything(back_end, row).await;
}

#[expect(clippy::expect_used, reason = "see `run`")]
async fn reads_back_in_its_own_row_only(back_end: &dyn KeyEncryption, row: Row<'_>) {
    let wrapped = back_end.wrap(row, SECRET).await.expect("wraps");
    let opened = back_end.unwrap(row, &wrapped).await.expect("opens what it wrapped");
    assert_eq!(&opened[..], SECRET, "gives back the secret");
    assert!(!contains(&wrapped.bytes, SECRET), "the wrapped form does not show the secret");
    let again = back_end.wrap(row, SECRET).await.expect("wraps");
    assert_ne!(wrapped.bytes, again.bytes, "the same secret looks different each time");
    let elsewhere: ZoneId = "uk".parse().expect("a zone");
    let others = [
        Row { kind: RowKind::IntakeKey, ..row },
        Row { id: "20781", ..row },
        Row { zone: &elsewhere, ..row },
    ];
    for other in others {
        let opened = back_end.unwrap(other, &wrapped).await;
        assert!(matches!(opened, Err(Error::DoesNotOpen(_))), "opens in another row: {other:?}");
    }
}

#[expect(clippy::expect_used, reason = "see `run`")]
async fn refuses_changed_bytes(back_end: &dyn KeyEncryption, row: Row<'_>) {
    let wrapped = back_end.wrap(row, SECRET).await.expect("wraps");
    for at in 0..wrapped.bytes.len() {
        let mut bytes = wrapped.bytes.clone();
        bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        let opened = back_end.unwrap(row, &WrappedSecret { bytes, ..wrapped.clone() }).await;
        assert!(matches!(opened, Err(Error::DoesNotOpen(_))), "opens with byte {at} changed");
    }
    for length in [0, 1, wrapped.bytes.len().saturating_sub(1)] {
        let bytes = wrapped.bytes.iter().copied().take(length).collect();
        let opened = back_end.unwrap(row, &WrappedSecret { bytes, ..wrapped.clone() }).await;
        assert!(matches!(opened, Err(Error::DoesNotOpen(_))), "opens when cut to {length} bytes");
    }
}

#[expect(clippy::expect_used, reason = "see `run`")]
async fn rotates_without_losing_anything(back_end: &dyn KeyEncryption, row: Row<'_>) {
    let old = back_end.wrap(row, SECRET).await.expect("wraps");
    assert_eq!(old.version, back_end.current().await.expect("has a version"), "wraps under the newest");
    let newer = back_end.rotate().await.expect("rotates");
    assert!(newer > old.version, "versions grow");
    assert_eq!(back_end.current().await.expect("has a version"), newer, "the new version is in use");
    let fresh = back_end.wrap(row, SECRET).await.expect("wraps");
    assert_eq!(fresh.version, newer, "wraps under the newest");
    assert!(back_end.unwrap(row, &old).await.is_ok(), "older versions go on opening");
    let swapped = WrappedSecret { version: newer, ..old.clone() };
    assert!(matches!(back_end.unwrap(row, &swapped).await, Err(Error::DoesNotOpen(_))), "binds the version");
    retires(back_end, row, &old, &fresh).await;
}

#[expect(clippy::expect_used, reason = "see `run`")]
async fn retires(back_end: &dyn KeyEncryption, row: Row<'_>, old: &WrappedSecret, fresh: &WrappedSecret) {
    let in_use = back_end.retire(fresh.version).await;
    assert!(matches!(in_use, Err(Error::InUse(_))), "keeps the version in use");
    for version in back_end.versions().await.expect("lists versions") {
        if version < fresh.version {
            back_end.retire(version).await.expect("retires an old version");
        }
    }
    back_end.retire(old.version).await.expect("retiring twice is harmless");
    assert_eq!(back_end.versions().await.expect("lists versions"), [fresh.version], "one version is left");
    let opened = back_end.unwrap(row, old).await;
    assert!(matches!(opened, Err(Error::UnknownVersion(_))), "a retired version opens nothing");
    assert!(back_end.unwrap(row, fresh).await.is_ok(), "the version in use goes on opening");
    let never = WrappedSecret { version: KeyVersion(u32::MAX), ..fresh.clone() };
    let opened = back_end.unwrap(row, &never).await;
    assert!(matches!(opened, Err(Error::UnknownVersion(_))), "knows which versions it has");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
