//! How the tables came to be.

use obscura_database::Migration;
use sea_orm::{
    DbBackend, EntityTrait, Schema, Statement,
    sea_query::{ColumnDef, Index, IndexCreateStatement, Table, TableCreateStatement},
};

use super::{entry, erased, head, pending, person_key, producer, term, tile, told, undated};

/// All steps, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "the log, its persons, producers and feeds", statements: first },
    Migration { version: 2, name: "the term of the one who writes", statements: second },
    Migration { version: 3, name: "whom entries name beside who acted", statements: third },
    Migration { version: 4, name: "outboxes belong to their producers", statements: fourth },
    Migration { version: 5, name: "feeds remember what they lost", statements: fifth },
    Migration { version: 6, name: "when the clock was last believed", statements: sixth },
    Migration { version: 7, name: "what the log was told of its settings", statements: seventh },
    Migration { version: 8, name: "who was erased and when", statements: eighth },
    Migration { version: 9, name: "which entries were written by a clock that was wrong", statements: ninth },
];

fn first(backend: DbBackend) -> Vec<Statement> {
    let mut statements = vec![backend.build(&entries(backend))];
    statements.extend([
        table(backend, head::Entity),
        table(backend, entry::camera::Entity),
        table(backend, tile::Entity),
        table(backend, person_key::Entity),
        Statement::from_string(backend, outboxes_alone(backend)),
        Statement::from_string(backend, FIRST_CURSORS),
        table(backend, pending::Entity),
    ]);
    statements.extend(indexes().iter().map(|index| backend.build(index)));
    statements
}

fn second(backend: DbBackend) -> Vec<Statement> {
    vec![table(backend, term::Entity)]
}

fn third(backend: DbBackend) -> Vec<Statement> {
    let by_index = Index::create()
        .name("entry_named_by_index")
        .table(entry::named::Entity)
        .col(entry::named::Column::LeafIndex)
        .to_owned();
    vec![table(backend, entry::named::Entity), backend.build(&by_index)]
}

/// Whose the known outboxes are nobody wrote down: the first to report one has it ([`producer::bind`]).
fn fourth(backend: DbBackend) -> Vec<Statement> {
    let text = |text: &str| Statement::from_string(backend, text);
    vec![
        text("ALTER TABLE producers RENAME TO producers_before"),
        table(backend, producer::Entity),
        text(
            "INSERT INTO producers (producer, outbox, through, dropped, reported_ns) \
             SELECT '', outbox, through, dropped, reported_ns FROM producers_before",
        ),
        text("DROP TABLE producers_before"),
    ]
}

fn fifth(backend: DbBackend) -> Vec<Statement> {
    ["lost_first", "lost_last"]
        .map(|column| format!("ALTER TABLE feed_cursors ADD COLUMN {column} bigint"))
        .map(|text| Statement::from_string(backend, text))
        .into()
}

/// The table `feed_cursors` as it was up to version 4.
const FIRST_CURSORS: &str = "CREATE TABLE feed_cursors (feed varchar NOT NULL PRIMARY KEY, next_index bigint NOT NULL, \
     trouble varchar NOT NULL)";

/// The table `producers` as it was up to version 3.
fn outboxes_alone(backend: DbBackend) -> String {
    let bytes = match backend {
        DbBackend::Sqlite => "blob",
        _ => "bytea",
    };
    format!(
        "CREATE TABLE producers (outbox {bytes} NOT NULL PRIMARY KEY, through bigint NOT NULL, \
         dropped bigint NOT NULL, reported_ns bigint NOT NULL)"
    )
}

/// The table `believed` as it was up to version 8.
const FIRST_BELIEVED: &str =
    "CREATE TABLE believed (id smallint NOT NULL PRIMARY KEY, wall_ns bigint NOT NULL)";

fn sixth(backend: DbBackend) -> Vec<Statement> {
    vec![Statement::from_string(backend, FIRST_BELIEVED)]
}

fn seventh(backend: DbBackend) -> Vec<Statement> {
    vec![table(backend, told::Entity)]
}

fn eighth(backend: DbBackend) -> Vec<Statement> {
    vec![table(backend, erased::Entity)]
}

fn ninth(backend: DbBackend) -> Vec<Statement> {
    let column = "ALTER TABLE believed ADD COLUMN vouched_size bigint";
    vec![Statement::from_string(backend, column), table(backend, undated::Entity)]
}

fn table(backend: DbBackend, entity: impl EntityTrait) -> Statement {
    backend.build(&Schema::new(backend).create_table_from_entity(entity))
}

/// Written out, because in SQLite only a key of the type `integer` is the row's own number, and any other
/// costs a second tree on the path of every append.
fn entries(backend: DbBackend) -> TableCreateStatement {
    use entry::Column::{ClaimsHash, CommittedNs, EventId, Kind, Leaf, LeafIndex, Pseudonym};

    let mut index = ColumnDef::new(LeafIndex);
    match backend {
        DbBackend::Sqlite => index.integer(),
        _ => index.big_integer(),
    };
    Table::create()
        .table(entry::Entity)
        .col(index.not_null().primary_key())
        .col(ColumnDef::new(EventId).binary().not_null())
        .col(ColumnDef::new(CommittedNs).big_integer().not_null())
        .col(ColumnDef::new(Kind).string().not_null())
        .col(ColumnDef::new(Pseudonym).string())
        .col(ColumnDef::new(ClaimsHash).binary())
        .col(ColumnDef::new(Leaf).binary().not_null())
        .to_owned()
}

fn indexes() -> [IndexCreateStatement; 5] {
    let on = |name: &str| Index::create().name(name).to_owned();
    [
        on("entries_by_event").unique().table(entry::Entity).col(entry::Column::EventId).to_owned(),
        on("entries_by_time")
            .table(entry::Entity)
            .col(entry::Column::CommittedNs)
            .col(entry::Column::LeafIndex)
            .to_owned(),
        on("entries_by_person")
            .table(entry::Entity)
            .col(entry::Column::Pseudonym)
            .col(entry::Column::LeafIndex)
            .to_owned(),
        on("entry_cameras_by_index")
            .table(entry::camera::Entity)
            .col(entry::camera::Column::LeafIndex)
            .to_owned(),
        on("person_keys_by_tag")
            .unique()
            .table(person_key::Entity)
            .col(person_key::Column::Tag)
            .col(person_key::Column::Period)
            .to_owned(),
    ]
}
