//! An index that an older program left.

use sea_orm::{DbBackend, Statement};

use super::*;

/// The index of an older version on each database.
async fn older(migrations: usize) -> (TempDir, [Location; 2], [Database; 2]) {
    let directory = TempDir::new().unwrap();
    let locations = [Location::Sqlite(directory.path().join("index.sqlite")), on(shared())];
    let migrations = &schema::MIGRATIONS[..migrations];
    let [one, two] = &locations;
    let databases =
        [Database::open(one, migrations).await.unwrap(), Database::open(two, migrations).await.unwrap()];
    (directory, locations, databases)
}

/// A row as programs before version 5 wrote it.
async fn insert_before(database: &Database, row: &PackRow, packed: bool) {
    let head = row.head();
    let stored = if packed { [&[1][..], &lz4_flex::block::compress(&head)].concat() } else { head.clone() };
    let is_postgres = database.backend() == DbBackend::Postgres;
    if is_postgres && !pack::is_long(row) {
        let name = partition::name(row.span.start());
        let start = obscura_pack::Day::of(row.span.start()).start().unix_nanos();
        let end = start + 86_400_000_000_000;
        let make = format!(
            "CREATE TABLE IF NOT EXISTS {name} PARTITION OF packs_of_days FOR VALUES FROM ({start}) TO ({end})"
        );
        database.readers().execute_unprepared(&make).await.unwrap();
    }
    let sql = "INSERT INTO packs VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let values: [sea_orm::Value; 12] = [
        row.pack.as_bytes().to_vec().into(),
        row.camera.as_bytes().to_vec().into(),
        i16::from(row.layer.code()).into(),
        row.zone.to_string().into(),
        row.key.to_string().into(),
        row.span.start().unix_nanos().into(),
        row.span.end().unix_nanos().into(),
        pack::is_long(row).into(),
        i64::from(row.segments).into(),
        signed(row.bytes).into(),
        signed(head.len() as u64).into(),
        stored.into(),
    ];
    let statement = Statement::from_sql_and_values(database.backend(), sql, values);
    database.readers().execute_raw(statement).await.unwrap();
}

#[tokio::test]
async fn packs_from_before_they_were_compact_come_over_as_they_were() {
    let (_directory, locations, databases) = older(4).await;
    let day = 86_400_000;
    for (location, database) in locations.iter().zip(databases) {
        // More than come over together, on two days, and a long one.
        let mut rows: Vec<PackRow> = (0..=220_u8)
            .map(|number| {
                let start = i64::from(number) * 800_000;
                row(&make_pack(number % 3, id(number), &[(start, start + 4_000)])).0
            })
            .collect();
        rows.push(row(&make_pack(1, id(250), &[(0, 4_000), (day, day + 4_000)])).0);
        for (number, row) in rows.iter().enumerate() {
            insert_before(&database, row, number % 5 != 0).await;
        }
        database.close().await.unwrap();
        let (store, other) = tokio::join!(Store::open(location), Store::open(location));
        for row in &rows {
            assert_eq!(store.as_ref().unwrap().pack(row.pack).await.unwrap().as_ref(), Some(row));
        }
        let other = other.unwrap();
        assert_eq!(other.totals().await.unwrap().packs, 222, "each once");
        assert_eq!(other.settle(at(30 * day)).await.unwrap(), 0, "they are where they belong");
    }
}

/// A row as programs of version 6 wrote it.
async fn insert_of_6(database: &Database, row: &PackRow) {
    let write = database.write().await.unwrap();
    let numbered = stream::assign(&*write, &[row]).await.unwrap().remove(0);
    partition::make_day(&*write, row.span.start()).await.unwrap();
    let sql = format!(
        "INSERT INTO packs_of_days (start_ns, end_ns, stream, pack_id, directory) VALUES ($1, $2, $3, {}, $5)",
        pack::id_value(database.backend(), 4)
    );
    let values: [sea_orm::Value; 5] = [
        row.span.start().unix_nanos().into(),
        row.span.end().unix_nanos().into(),
        numbered.number.into(),
        row.pack.as_bytes().to_vec().into(),
        row.directory.to_compact(&numbered.stream).into(),
    ];
    write.execute_raw(Statement::from_sql_and_values(database.backend(), sql, values)).await.unwrap();
    write.commit().await.unwrap();
}

#[tokio::test]
async fn packs_from_before_new_ones_had_a_table_stay_where_they_are_and_are_found() {
    let (_directory, locations, databases) = older(6).await;
    for (location, database) in locations.iter().zip(databases) {
        let (old, _) = row(&make_pack(1, id(1), &[(0, 4_000)]));
        insert_of_6(&database, &old).await;
        database.close().await.unwrap();
        let store = Store::open(location).await.unwrap();
        insert(&store, 2, &[(4_000, 8_000)]).await.unwrap();
        for moved in [u64::from(store.settles()), 0] {
            assert_eq!(store.pack(id(1)).await.unwrap().as_ref(), Some(&old));
            assert_eq!(ids(&store, slice(0, 10_000)).await, [id(1), id(2)]);
            assert_eq!(store.settle(at(7_200_000)).await.unwrap(), moved, "only the new one");
        }
    }
}

/// Where it could go on, it would find nothing that is new, and say that it is not there.
#[tokio::test]
async fn what_programs_of_version_6_read_and_remove_fails_once_new_packs_have_a_table() {
    let (_directory, stores) = both().await;
    for store in stores {
        let readers = store.database.readers();
        for sql in ["SELECT COUNT(*) FROM packs_long", "DELETE FROM packs_long WHERE start_ns = 0"] {
            assert!(readers.execute_unprepared(sql).await.is_err(), "{sql}");
        }
        readers.execute_unprepared("SELECT COUNT(*) FROM packs").await.unwrap();
    }
}

#[tokio::test]
async fn an_index_from_before_versions_were_counted_is_taken_over() {
    let (_directory, [location, _], [database, _]) = older(1).await;
    insert_before(&database, &row(&make_pack(1, id(1), &[(0, 4_000)])).0, false).await;
    database.readers().execute_unprepared("DROP TABLE schema_version").await.unwrap();
    database.close().await.unwrap();
    let store = Store::open(&location).await.unwrap();
    assert!(store.pack(id(1)).await.unwrap().is_some());
    assert_eq!(insert(&store, 2, &[(4_000, 8_000)]).await.unwrap(), Inserted::New);
    assert_eq!(store.packs(&slice(0, 10_000)).await.unwrap().len(), 2);
}
