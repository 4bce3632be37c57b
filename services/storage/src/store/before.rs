//! The table of packs up to version 4, and how its rows come over.
//!
//! It had the whole head of each object, with LZ4 or, from before version 3, as it is:
//!
//! ```text
//! 0x01, then one LZ4 block             head_length is the length of the head
//! "OBSPACK" ...                        as it is in the object
//! ```
//!
//! Migrations are plain SQL, which cannot read a head. So that of version 5 sets the rows aside in `packs_before`, and
//! whoever opens the index takes them from there, some at a time, each step whole: cut short, the next start goes on.

use obscura_database::Database;
use obscura_ids::PackId;
use obscura_pack::{Directory, MAX_DIRECTORY_BYTES, object_key};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

use super::{Error, pack, partition};
use crate::index::PackRow;

const LZ4: u8 = 1;
/// Longest head that is unpacked: a row that was changed must not fill the memory.
const MAX_BYTES: usize = MAX_DIRECTORY_BYTES + 64;
/// Rows that come over together.
const TOGETHER: usize = 200;

/// The tables as version 1 made them.
pub(super) fn tables(backend: DbBackend) -> Vec<Statement> {
    let (bytes, text) =
        if backend == DbBackend::Postgres { ("bytea", "varchar") } else { ("blob", "varchar") };
    let columns = format!(
        "pack_id {bytes} NOT NULL, camera {bytes} NOT NULL, layer smallint NOT NULL, zone {text} NOT NULL, \
         object_key {text} NOT NULL, start_ns bigint NOT NULL, end_ns bigint NOT NULL, \"long\" boolean NOT NULL, \
         segments bigint NOT NULL, bytes bigint NOT NULL, head_length bigint NOT NULL, head {bytes} NOT NULL"
    );
    let statements = if backend == DbBackend::Postgres {
        vec![
            format!(
                "CREATE TABLE packs ({columns}, PRIMARY KEY (pack_id, \"long\", start_ns)) PARTITION BY LIST (\"long\")"
            ),
            "CREATE TABLE packs_long PARTITION OF packs FOR VALUES IN (TRUE)".to_owned(),
            "CREATE TABLE packs_of_days PARTITION OF packs FOR VALUES IN (FALSE) PARTITION BY RANGE (start_ns)"
                .to_owned(),
        ]
    } else {
        vec![format!("CREATE TABLE IF NOT EXISTS packs ({columns}, PRIMARY KEY (pack_id))")]
    };
    statements.into_iter().map(|sql| Statement::from_string(backend, sql)).collect()
}

/// Puts the rows where [`take_over`] finds them.
pub(super) fn set_aside(backend: DbBackend) -> Vec<Statement> {
    let statements = [
        "CREATE TABLE packs_before AS SELECT pack_id, head_length, head FROM packs",
        "CREATE INDEX packs_before_by_id ON packs_before (pack_id)",
        "DROP TABLE packs",
    ];
    statements.map(|sql| Statement::from_string(backend, sql)).into()
}

/// Brings the rows over where there are any. Several replicas may do so at the same time.
pub(super) async fn take_over(database: &Database) -> Result<(), Error> {
    while is_there(database.readers()).await? {
        let write = database.write().await?;
        if is_there(&*write).await? {
            step(&*write).await?;
        }
        write.commit().await?;
    }
    Ok(())
}

async fn is_there(database: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let backend = database.get_database_backend();
    let look = match backend {
        // From the catalogue itself: `to_regclass` alone goes on seeing a table that another replica has dropped
        // while this transaction waited for its turn.
        DbBackend::Postgres => "SELECT 1 FROM pg_catalog.pg_class WHERE oid = to_regclass('packs_before')",
        _ => "SELECT 1 FROM sqlite_master WHERE name = 'packs_before'",
    };
    Ok(database.query_one_raw(Statement::from_string(backend, look)).await?.is_some())
}

/// Brings some over; the table goes with the last ones.
async fn step(database: &impl ConnectionTrait) -> Result<(), Error> {
    let backend = database.get_database_backend();
    let take =
        format!("SELECT pack_id, head_length, head FROM packs_before ORDER BY pack_id LIMIT {TOGETHER}");
    let rows = database.query_all_raw(Statement::from_string(backend, take)).await?;
    if rows.is_empty() {
        database.execute_unprepared("DROP TABLE packs_before").await?;
        return Ok(());
    }
    let mut packs = Vec::with_capacity(rows.len());
    for row in rows {
        packs.push(read_row(&row.try_get_by_index::<Vec<u8>>(2)?, row.try_get_by_index(1)?)?);
    }
    for row in packs.iter().filter(|row| !pack::is_long(row)) {
        partition::make_day(database, row.span.start()).await?;
    }
    // Not among new ones, which are few: all packs of an installation may come here.
    pack::insert_into(database, "packs_of_days", packs.iter()).await?;
    forget(database, packs.iter().map(|row| row.pack)).await
}

async fn forget(database: &impl ConnectionTrait, packs: impl Iterator<Item = PackId>) -> Result<(), Error> {
    let values: Vec<Value> = packs.map(|pack| pack.as_bytes().to_vec().into()).collect();
    let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
    let sql = format!("DELETE FROM packs_before WHERE pack_id IN ({})", places.join(", "));
    let backend = database.get_database_backend();
    database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

fn read_row(stored: &[u8], length: i64) -> Result<PackRow, Error> {
    let unreadable = Error::Corrupt("the head of a pack that cannot be read");
    let head = read_head(stored, length)?;
    let directory = Directory::decode_head(&head).map_err(|_| unreadable.clone())?;
    let start = directory.span().start();
    let key = object_key(&directory.zone, directory.camera, directory.layer, start, directory.pack_id);
    let bytes = head.len() as u64 + directory.body_length();
    Ok(PackRow::of(directory, key.parse().map_err(|_| unreadable)?, bytes).0)
}

/// The head as it was, which has `length` bytes.
fn read_head(stored: &[u8], length: i64) -> Result<Vec<u8>, Error> {
    let corrupt = Error::Corrupt("the head of a pack that cannot be unpacked");
    let Some((LZ4, packed)) = stored.split_first().map(|(first, rest)| (*first, rest)) else {
        return Ok(stored.to_vec());
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_BYTES).ok_or(corrupt.clone())?;
    let head = lz4_flex::block::decompress(packed, length).map_err(|_| corrupt.clone())?;
    if head.len() == length { Ok(head) } else { Err(corrupt) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{pack, row};

    fn stored(head: &[u8]) -> Vec<u8> {
        [&[LZ4][..], &lz4_flex::block::compress(head)].concat()
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        let head = row(&pack(1, PackId::generate(), &[(0, 4_000), (4_000, 8_000)])).0.head();
        let (packed, length) = (stored(&head), i64::try_from(head.len()).unwrap());
        assert_eq!(read_head(&packed, length).unwrap(), head);
        assert_eq!(read_head(&head, length).unwrap(), head, "a row from before version 3");
        for wrong in [-1, 0, length - 1, length + 1, i64::MAX] {
            assert!(matches!(read_head(&packed, wrong), Err(Error::Corrupt(_))), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_row_makes_reading_panic(length in 0..2_000_000_i64, junk: Vec<u8>) {
            let _ = read_row(&[&[LZ4][..], &junk].concat(), length);
            let _ = read_row(&junk, length);
        }
    }
}
