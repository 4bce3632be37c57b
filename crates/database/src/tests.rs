//! Both databases, real ones.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use obscura_test_servers::postgres::{Postgres, shared};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait as _};
use tempfile::TempDir;

use super::*;

const FIRST: Migration = Migration {
    version: 1,
    name: "a counter",
    statements: |backend| {
        ["CREATE TABLE counter (value BIGINT NOT NULL)", "INSERT INTO counter (value) VALUES (0)"]
            .map(|sql| Statement::from_string(backend, sql))
            .to_vec()
    },
};
const SECOND: Migration = Migration {
    version: 2,
    name: "count from ten",
    statements: |backend| vec![Statement::from_string(backend, "UPDATE counter SET value = value + 10")],
};
const BROKEN: Migration = Migration {
    version: 3,
    name: "no SQL",
    statements: |backend| {
        ["UPDATE counter SET value = 99", "UPDATE nothing SET"]
            .map(|sql| Statement::from_string(backend, sql))
            .to_vec()
    },
};

fn sqlite() -> (TempDir, Location) {
    let directory = tempfile::tempdir().unwrap();
    // A name that would mean something else in a URL.
    let location = Location::Sqlite(directory.path().join("a?b%20#.sqlite"));
    (directory, location)
}

fn on(url: &str) -> Location {
    Location::Postgres { url: PostgresUrl::try_new(url).unwrap(), schema: "things" }
}

/// One empty place on each.
fn both() -> (TempDir, [Location; 2]) {
    let (directory, file) = sqlite();
    (directory, [file, on(&shared().new_database())])
}

async fn text(connection: &impl ConnectionTrait, sql: &str) -> String {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.unwrap().unwrap();
    let number = |_| row.try_get_by_index::<i64>(0).map(|number| number.to_string());
    row.try_get_by_index::<String>(0).or_else(number).unwrap()
}

async fn value(database: &Database) -> i64 {
    text(database.readers(), "SELECT value FROM counter").await.parse().unwrap()
}

/// Reads and writes in one transaction, with a pause for others to come between.
async fn add_one(database: &Database) -> Result<(), DbErr> {
    let write = database.write().await?;
    let before: i64 = text(&*write, "SELECT value FROM counter").await.parse().unwrap();
    tokio::task::yield_now().await;
    write.execute_unprepared(&format!("UPDATE counter SET value = {}", before + 1)).await?;
    write.commit().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_open_at_the_same_time_one_migrates() {
    let (_directory, locations) = both();
    for location in locations {
        let opened = (0..8).map(|_| {
            let location = location.clone();
            tokio::spawn(async move { Database::open(&location, &[FIRST, SECOND]).await })
        });
        let opened: Vec<_> = opened.collect();
        for database in opened {
            assert_eq!(value(&database.await.unwrap().unwrap()).await, 10, "{location:?}");
        }
    }
}

/// SQLite does not wait where two make a new file write ahead, which they do at the same time in few of many tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn many_that_open_a_new_file_at_the_same_time_wait_for_each_other() {
    for _ in 0..100 {
        let (_directory, location) = sqlite();
        let opened = [(); 8].map(|()| {
            let location = location.clone();
            tokio::spawn(async move { Database::open(&location, &[FIRST]).await })
        });
        for database in opened {
            database.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_somebody_keeps_locked_is_an_error_in_bounded_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kept.sqlite");
    let kept = Connector::connect(format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    kept.execute_unprepared("CREATE TABLE other (value BIGINT)").await.unwrap();
    let writing = kept.begin().await.unwrap();
    writing.execute_unprepared("INSERT INTO other (value) VALUES (1)").await.unwrap();
    let location = Location::Sqlite(path);
    let opened = tokio::time::timeout(Duration::from_secs(120), Database::open(&location, &[FIRST])).await;
    opened.unwrap().unwrap_err();
    writing.commit().await.unwrap();
    kept.close().await.unwrap();
    assert_eq!(value(&Database::open(&location, &[FIRST]).await.unwrap()).await, 0);
}

#[tokio::test]
async fn what_a_version_adds_comes_to_tables_that_have_rows() {
    let (_directory, locations) = both();
    for location in locations {
        let old = Database::open(&location, &[FIRST]).await.unwrap();
        add_one(&old).await.unwrap();
        old.close().await.unwrap();
        let new = Database::open(&location, &[FIRST, SECOND]).await.unwrap();
        assert_eq!(value(&new).await, 11);
    }
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_tables_as_they_were() {
    let (_directory, locations) = both();
    for location in locations {
        Database::open(&location, &[FIRST]).await.unwrap();
        assert!(Database::open(&location, &[FIRST, SECOND, BROKEN]).await.is_err());
        assert_eq!(value(&Database::open(&location, &[FIRST]).await.unwrap()).await, 0);
    }
}

#[tokio::test]
async fn tables_of_a_newer_program_are_left_alone() {
    let (_directory, locations) = both();
    for location in locations {
        Database::open(&location, &[FIRST, SECOND]).await.unwrap();
        let verdict = Database::open(&location, &[FIRST]).await;
        assert!(matches!(verdict, Err(Error::Newer { found: 2, known: 1 })), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_between_the_read_and_the_write_of_another() {
    let url = shared().new_database();
    let name = url.rsplit('/').next().unwrap();
    // Such a server gives a writer the state from before it waited for its turn.
    let isolation = "SET default_transaction_isolation = 'repeatable read'";
    shared().sql(&format!("ALTER DATABASE {name} {isolation}"));
    let (_directory, file) = sqlite();
    for location in [file, on(&url)] {
        let databases = [(); 4].map(|()| Database::open(&location, &[FIRST]));
        let databases: Vec<_> = futures::future::try_join_all(databases).await.unwrap();
        let writers = databases.into_iter().map(Arc::new).flat_map(|database| {
            [(); 2].map(|()| {
                let database = Arc::clone(&database);
                tokio::spawn(async move {
                    for _ in 0..5 {
                        add_one(&database).await.unwrap();
                    }
                })
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let database = Database::open(&location, &[FIRST]).await.unwrap();
        assert_eq!(value(&database).await, 40, "{location:?}");
    }
}

#[tokio::test]
async fn a_write_that_is_dropped_leaves_nothing_and_lets_the_next_one_in() {
    let (_directory, locations) = both();
    for location in locations {
        let database = Database::open(&location, &[FIRST]).await.unwrap();
        let write = database.write().await.unwrap();
        write.execute_unprepared("UPDATE counter SET value = 7").await.unwrap();
        drop(write);
        add_one(&database).await.unwrap();
        assert_eq!(value(&database).await, 1);
    }
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer_and_see_what_is_committed() {
    let (_directory, locations) = both();
    for location in locations {
        let database = Database::open(&location, &[FIRST]).await.unwrap();
        let write = database.write().await.unwrap();
        write.execute_unprepared("UPDATE counter SET value = 7").await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(60), value(&database)).await;
        assert_eq!(read.unwrap(), 0, "{location:?}");
        write.commit().await.unwrap();
        assert_eq!(value(&database).await, 7);
    }
}

#[tokio::test]
async fn others_wait_until_what_was_committed_has_been_shown() {
    let (_directory, locations) = both();
    for location in locations {
        let database = Database::open(&location, &[FIRST]).await.unwrap();
        let mut shown = false;
        let write = database.write().await.unwrap();
        let next = database.write();
        futures::pin_mut!(next);
        assert!(futures::poll!(&mut next).is_pending());
        write.commit_then(|| shown = true).await.unwrap();
        assert!(shown);
        next.await.unwrap();
    }
}

const NAMES: Migration = Migration {
    version: 1,
    name: "names",
    statements: |backend| vec![Statement::from_string(backend, "CREATE TABLE names (name TEXT NOT NULL)")],
};

/// Files that have this name somewhere.
fn files_with(directory: &TempDir, name: &str) -> usize {
    let has = |path| fs::read(path).unwrap().windows(name.len()).any(|window| window == name.as_bytes());
    fs::read_dir(directory.path()).unwrap().filter(|entry| has(entry.as_ref().unwrap().path())).count()
}

#[tokio::test]
async fn what_was_deleted_is_in_no_file_once_they_are_scrubbed_which_waits_for_readers() {
    let (directory, location) = sqlite();
    let database = Database::open(&location, &[NAMES]).await.unwrap();
    let write = database.write().await.unwrap();
    for number in 0..500 {
        // Some on pages of their own.
        let long = "x".repeat(number % 7 * 1_000);
        let sql = format!("INSERT INTO names (name) VALUES ('Erika Mustermann {number} {long}')");
        write.execute_unprepared(&sql).await.unwrap();
    }
    write.commit().await.unwrap();
    let reader = database.readers().begin().await.unwrap();
    assert_eq!(text(&reader, "SELECT COUNT(*) FROM names").await, "500");
    let write = database.write().await.unwrap();
    write.execute_unprepared("DELETE FROM names WHERE name LIKE '%Mustermann%'").await.unwrap();
    write.commit().await.unwrap();
    assert!(!database.scrub().await.unwrap(), "somebody still reads them");
    assert!(files_with(&directory, "Mustermann") > 0);
    reader.rollback().await.unwrap();
    assert!(database.scrub().await.unwrap());
    assert_eq!(files_with(&directory, "Mustermann"), 0);
    let write = database.write().await.unwrap();
    write.execute_unprepared("INSERT INTO names (name) VALUES ('Otto')").await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(text(database.readers(), "SELECT name FROM names").await, "Otto");
}

#[tokio::test]
async fn a_commit_after_a_failed_statement_never_claims_success_for_nothing() {
    let (_directory, locations) = both();
    for location in locations {
        let database = Database::open(&location, &[FIRST]).await.unwrap();
        let write = database.write().await.unwrap();
        write.execute_unprepared("UPDATE counter SET value = 7").await.unwrap();
        assert!(write.execute_unprepared("INSERT INTO counter (value) VALUES (NULL)").await.is_err());
        let committed = write.commit().await.is_ok();
        assert_eq!(value(&database).await, if committed { 7 } else { 0 }, "{location:?}");
    }
}

#[tokio::test]
async fn every_connection_of_sqlite_writes_ahead_and_waits_for_the_disk() {
    let (directory, location) = sqlite();
    let database = Database::open(&location, &[FIRST]).await.unwrap();
    add_one(&database).await.unwrap();
    for connection in [&database.writer, &database.readers, &database.readers] {
        assert_eq!(text(connection, "PRAGMA journal_mode").await, "wal");
        assert_eq!(text(connection, "PRAGMA synchronous").await, "2");
    }
    // 1 is in files, 2 is in memory.
    assert_eq!(text(&database.writer, "PRAGMA temp_store").await, "2");
    assert_eq!(
        text(&database.readers, "PRAGMA temp_store").await,
        "1",
        "what is read may be sorted, and large"
    );
    for entry in fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn commits_wait_for_the_disk_whatever_the_role_and_the_url_say() {
    let url = shared().new_database();
    let name = url.rsplit('/').next().unwrap();
    shared().sql(&format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let url = format!("{url}?options=-c%20synchronous_commit%3Doff");
    let database = Database::open(&on(&url), &[FIRST]).await.unwrap();
    assert_eq!(text(&database.writer, "SHOW synchronous_commit").await, "on");
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let postgres = Postgres::own();
    postgres.sql("ALTER SYSTEM SET fsync = off");
    postgres.restart();
    let verdict = Database::open(&on(&postgres.new_database()), &[FIRST]).await;
    assert!(matches!(verdict, Err(Error::NotDurable { setting: "fsync", .. })), "{verdict:?}");
}

#[tokio::test]
async fn a_role_that_may_not_make_schemas_uses_the_one_it_was_given() {
    let url = shared().new_database();
    let limited = url.replace("obscura:", "limited:");
    let name = url.rsplit('/').next().unwrap().to_owned();
    shared().sql(&format!("CREATE ROLE limited LOGIN PASSWORD '{}'", shared().password()));
    let verdict = Database::open(&on(&limited), &[FIRST]).await;
    assert!(verdict.unwrap_err().to_string().contains("permission denied for database"), "{name}");
    let admin = Connector::connect(&url).await.unwrap();
    admin.execute_unprepared("CREATE SCHEMA things AUTHORIZATION limited").await.unwrap();
    let database = Database::open(&on(&limited), &[FIRST]).await.unwrap();
    add_one(&database).await.unwrap();
}

#[tokio::test]
async fn no_message_of_a_server_that_refuses_us_holds_the_password() {
    let url = shared().new_database();
    let wrong_password = url.replace(shared().password(), "wrongsecret");
    let wrong_database = format!("{url}_x");
    let nobody = url.replace(&format!(":{}/", shared().port()), ":1/");
    for (url, expected) in [
        (wrong_password, "password authentication failed"),
        (wrong_database, "does not exist"),
        (nobody, "127.0.0.1:1"),
    ] {
        let error = Database::open(&on(&url), &[FIRST]).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected) && shown.contains("127.0.0.1"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
    let database = Database::open(&on(&url), &[FIRST]).await.unwrap();
    assert!(!format!("{database:?}").contains(shared().password()));
}

#[tokio::test]
async fn after_a_restart_of_the_server_reading_and_writing_go_on() {
    let postgres = Postgres::own();
    let database = Database::open(&on(&postgres.new_database()), &[FIRST]).await.unwrap();
    for expected in 1..3 {
        postgres.restart();
        assert_eq!(value(&database).await, expected - 1);
        add_one(&database).await.unwrap();
        assert_eq!(value(&database).await, expected);
    }
}

#[tokio::test]
async fn a_write_that_a_crash_of_the_server_cuts_off_fails_and_leaves_nothing() {
    let postgres = Postgres::own();
    let database = Database::open(&on(&postgres.new_database()), &[FIRST]).await.unwrap();
    for expected in 1..3 {
        let write = database.write().await.unwrap();
        write.execute_unprepared("UPDATE counter SET value = 99").await.unwrap();
        postgres.stop_immediately();
        write.commit().await.unwrap_err();
        postgres.start();
        add_one(&database).await.unwrap();
        assert_eq!(value(&database).await, expected);
    }
}

#[tokio::test]
async fn while_the_server_only_reads_writing_says_so_and_reading_and_starting_work() {
    let postgres = Postgres::own();
    let location = on(&postgres.new_database());
    let database = Database::open(&location, &[FIRST]).await.unwrap();
    postgres.set_read_only(true);
    let error = add_one(&database).await.unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");
    assert_eq!(value(&database).await, 0);
    let another = Database::open(&location, &[FIRST]).await.unwrap();
    assert_eq!(value(&another).await, 0);
    postgres.set_read_only(false);
    add_one(&database).await.unwrap();
    add_one(&another).await.unwrap();
    assert_eq!(value(&database).await, 2);
}

#[tokio::test]
async fn while_the_server_is_away_callers_get_an_error_in_bounded_time() {
    let postgres = Postgres::own();
    let database = Database::open(&on(&postgres.new_database()), &[FIRST]).await.unwrap();
    postgres.stop_immediately();
    let waited = tokio::time::timeout(Duration::from_secs(120), database.write()).await;
    waited.unwrap().unwrap_err();
    postgres.start();
    add_one(&database).await.unwrap();
}
