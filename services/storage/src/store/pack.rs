//! The tables of packs: one row per object, as small as it can be, because there are tens of millions.
//!
//! ```text
//! stream     what the packs of a camera have in common: zone, camera, layer ([`stream`])
//! start_ns   first frame, nanoseconds since the Unix epoch
//! end_ns     end of the last frame
//! pack_id    16 bytes
//! directory  the rest of the directory, compact ([`Directory::to_compact`])
//! ```
//!
//! The key of the object, its size, its head and the number of its segments follow from these. Packs that are
//! [long](LONG) have a table of their own; the view `packs` shows both.

use std::{collections::BTreeSet, time::Duration};

use obscura_blob::BlobKey;
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer, PackId};
use obscura_pack::{Directory, Stream, object_key};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};

use super::{Error, partition, stream};
use crate::index::PackRow;

/// A pack that is longer has its own corner of the index, so that a search for packs that reach into a
/// span need not look further back than this. Packs are about a minute long; only a step of the clock
/// in the middle of one makes it longer.
const LONG: Duration = Duration::from_secs(3_600);
/// What a pack lasts, as recorders are set: a search takes about as many at once as it may give.
const USUAL_NANOS: i64 = 60_000_000_000;

/// A row as it is read.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Model {
    stream: i32,
    start_ns: i64,
    end_ns: i64,
    id: Vec<u8>,
    directory: Vec<u8>,
}

/// A pack without its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackSummary {
    /// The pack.
    pub pack: PackId,
    /// Its object.
    pub key: BlobKey,
    /// From the first frame to the end of the last one.
    pub span: Span,
    /// Bytes of the object.
    pub bytes: u64,
}

/// Which packs to look for.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The camera.
    pub camera: CameraId,
    /// The layer.
    pub layer: Layer,
    /// Only packs that end at this moment or later.
    pub from: Timestamp,
    /// Only packs that start before this moment.
    pub to: Timestamp,
    /// Only packs behind this one in the order of start and id.
    pub after: Option<(Timestamp, PackId)>,
    /// At most so many.
    pub limit: u16,
}

pub(super) async fn by_id(database: &impl ConnectionTrait, id: PackId) -> Result<Option<PackRow>, Error> {
    Ok(by_ids(database, &[id]).await?.pop())
}

pub(super) async fn by_ids(database: &impl ConnectionTrait, ids: &[PackId]) -> Result<Vec<PackRow>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let backend = database.get_database_backend();
    let places: Vec<String> = (1..=ids.len()).map(|number| id_value(backend, number)).collect();
    let sql = format!("SELECT {} FROM packs WHERE pack_id IN ({})", columns(backend), places.join(", "));
    let ids = ids.iter().map(|id| Value::from(id.as_bytes().to_vec()));
    let models = query(database, sql, ids.collect()).await?;
    let streams = models.iter().map(|model| model.stream).collect::<BTreeSet<_>>();
    let streams = stream::by_numbers(database, streams).await?;
    let read = |model: Model| {
        let stream = streams.get(&model.stream).ok_or(Error::Corrupt("a stream that is none"))?;
        model.row(stream)
    };
    models.into_iter().map(read).collect()
}

pub(super) async fn summaries(
    database: &impl ConnectionTrait,
    ids: &[PackId],
) -> Result<Vec<PackSummary>, Error> {
    let rows = by_ids(database, ids).await?.into_iter();
    Ok(rows.map(|PackRow { pack, key, span, bytes, .. }| PackSummary { pack, key, span, bytes }).collect())
}

/// Packs of one stream from all tables, in one round trip and as they are at one moment: `$1` the stream, from `$2`
/// (those that are not long) to before `$3`, that end at `$4` or later, behind the start `$5` and the id `$6`, at most
/// `$7`.
const STRETCH: &str = "\
    BY_START \
    SELECT * FROM (SELECT COLUMNS FROM packs_over_an_hour WHERE stream = $1 AND start_ns < $3 AND end_ns >= $4 \
        AND BEHIND ORDER BY start_ns, pack_id LIMIT $7) AS of_long \
    ORDER BY start_ns, id LIMIT $7";
/// With a plus before a column SQLite does not take it for where to begin: that is what `$2` says, which is never
/// before `$5`. It had begun with the first pack of the stream, and read on to the one that was asked for.
const BEHIND: &str = "(+start_ns > $5 OR (+start_ns = $5 AND pack_id > AFTER_ID))";
const OF_TABLE: &str = "\
    SELECT * FROM (SELECT COLUMNS FROM (\
            SELECT * FROM TABLE WHERE stream = $1 AND start_ns >= $2 AND start_ns < $3 AND end_ns >= $4FENCE\
        ) AS found WHERE BEHIND ORDER BY start_ns, pack_id LIMIT $7) AS of_TABLE \
    UNION ALL ";

/// How PostgreSQL shall read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// All of the stretch at once and then put in order (`OFFSET 0` lets it not see that this is wanted). This way it
    /// finds all pages first, in the index, and asks the disk for many at a time, instead of for each after the one
    /// before. Few pages are asked for where packs have settled; those of before there was settling, and those that came
    /// late, lie a page apart.
    AtOnce,
    /// In order, so that it can stop: for stretches of which nobody knows how many packs they hold.
    InOrder,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: i64,
    start: i64,
    to: i64,
    after: (i64, PackId),
    limit: i64,
}

/// Packs of the slice, in the order of start and id.
pub(super) async fn slice(database: &impl ConnectionTrait, slice: &Slice) -> Result<Vec<PackRow>, Error> {
    let limit = usize::from(slice.limit);
    let mut rows: Vec<PackRow> = Vec::new();
    for numbered in stream::of_layer(database, slice.camera, slice.layer).await? {
        let models = of_stream(database, slice, numbered.number).await?;
        for model in models {
            rows.push(model.row(&numbered.stream)?);
        }
    }
    rows.sort_by_key(|row| (row.span.start(), row.pack));
    rows.truncate(limit);
    Ok(rows)
}

async fn of_stream(database: &impl ConnectionTrait, slice: &Slice, number: i32) -> Result<Vec<Model>, Error> {
    let nowhere = (Timestamp::from_unix_nanos(i64::MIN), PackId::from_bytes([0; 16]));
    let (after, pack) = slice.after.unwrap_or(nowhere);
    let whole = Stretch {
        from: slice.from.unix_nanos(),
        start: (slice.from - LONG).max(after).unix_nanos(),
        to: slice.to.unix_nanos(),
        after: (after.unix_nanos(), pack),
        limit: slice.limit.into(),
    };
    if database.get_database_backend() != DbBackend::Postgres {
        return stretch(database, number, whole, Way::InOrder).await;
    }
    let usual = whole.limit.saturating_mul(USUAL_NANOS);
    let end = whole.from.max(whole.after.0).saturating_add(usual).min(whole.to);
    let mut models = stretch(database, number, Stretch { to: end, ..whole }, Way::AtOnce).await?;
    let left = whole.limit.saturating_sub(i64::try_from(models.len()).unwrap_or(i64::MAX));
    if left > 0 && end < whole.to {
        let after = (end.saturating_sub(1), PackId::from_bytes([0xff; 16]));
        let rest = Stretch { start: end, after, limit: left, ..whole };
        models.extend(stretch(database, number, rest, Way::InOrder).await?);
    }
    Ok(models)
}

async fn stretch(
    database: &impl ConnectionTrait,
    number: i32,
    stretch: Stretch,
    way: Way,
) -> Result<Vec<Model>, Error> {
    let sql = stretch_sql(database.get_database_backend(), way);
    let Stretch { from, start, to, after: (after, pack), limit } = stretch;
    let pack = pack.as_bytes().to_vec();
    let values =
        vec![number.into(), start.into(), to.into(), from.into(), after.into(), pack.into(), limit.into()];
    query(database, sql, values).await
}

/// One statement for all tables: a pack that moves from one to the other meanwhile is in it once.
pub(super) fn stretch_sql(backend: DbBackend, way: Way) -> String {
    let fence = if way == Way::AtOnce { " OFFSET 0" } else { "" };
    let tables = partition::tables_by_start(backend);
    let by_start: String = tables.iter().map(|table| OF_TABLE.replace("TABLE", table)).collect();
    STRETCH
        .replace("BY_START", &by_start)
        .replace("FENCE", fence)
        .replace("BEHIND", BEHIND)
        .replace("AFTER_ID", &id_value(backend, 6))
        .replace("COLUMNS", columns(backend))
}

/// No pack of a day that ends behind this moment starts earlier, nanoseconds since the Unix epoch.
pub(super) fn earliest_of_days(end: i64) -> i64 {
    (Timestamp::from_unix_nanos(end) - LONG).unix_nanos()
}

/// Whether it rests in the corner of long packs instead of among those by start.
pub(super) fn is_long(row: &PackRow) -> bool {
    row.span.duration() > LONG
}

/// Inserts new packs. The tables of their days are there.
pub(super) async fn insert_many<'a>(
    database: &impl ConnectionTrait,
    rows: impl Iterator<Item = &'a PackRow>,
) -> Result<(), Error> {
    insert_into(database, partition::table_of_new(database.get_database_backend()), rows).await
}

/// Inserts packs: those that are not long into this table. The tables of their days are there.
pub(super) async fn insert_into<'a>(
    database: &impl ConnectionTrait,
    by_start: &str,
    rows: impl Iterator<Item = &'a PackRow>,
) -> Result<(), Error> {
    let rows: Vec<&PackRow> = rows.collect();
    let streams = stream::assign(database, &rows).await?;
    for (table, long) in [(by_start, false), ("packs_over_an_hour", true)] {
        let here = rows.iter().zip(&streams).filter(|(row, _)| is_long(row) == long);
        let values = here.map(|(row, numbered)| values(row, numbered)).collect::<Result<_, _>>()?;
        insert(database, table, values).await?;
    }
    Ok(())
}

async fn insert(database: &impl ConnectionTrait, table: &str, rows: Vec<[Value; 5]>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let backend = database.get_database_backend();
    let places: Vec<String> = (0..rows.len())
        .map(|row| {
            let place = |column: usize| row * 5 + column;
            let id = id_value(backend, place(4));
            format!("(${}, ${}, ${}, {id}, ${})", place(1), place(2), place(3), place(5))
        })
        .collect();
    let sql = format!(
        "INSERT INTO {table} (stream, start_ns, end_ns, pack_id, directory) VALUES {}",
        places.join(", ")
    );
    let values: Vec<Value> = rows.into_iter().flatten().collect();
    database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

/// The index takes only what it can give back.
fn values(row: &PackRow, numbered: &stream::Numbered) -> Result<[Value; 5], Error> {
    let directory = row.directory.to_compact(&numbered.stream);
    let start = row.span.start();
    if Directory::from_compact(row.pack, start, &numbered.stream, &directory).as_ref() != Ok(&row.directory) {
        return Err(Error::Corrupt("a pack that could not be read again"));
    }
    Ok([
        numbered.number.into(),
        start.unix_nanos().into(),
        row.span.end().unix_nanos().into(),
        row.pack.as_bytes().to_vec().into(),
        directory.into(),
    ])
}

/// Call it within a transaction of the writer: then the pack does not move meanwhile.
pub(super) async fn remove(database: &impl ConnectionTrait, pack: PackId) -> Result<(), Error> {
    let backend = database.get_database_backend();
    for table in partition::tables_by_start(backend).iter().chain(&["packs_over_an_hour"]) {
        let sql = format!("DELETE FROM {table} WHERE pack_id = {}", id_value(backend, 1));
        let values = [Value::from(pack.as_bytes().to_vec())];
        database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

pub(super) async fn query(
    database: &impl ConnectionTrait,
    sql: String,
    values: Vec<Value>,
) -> Result<Vec<Model>, Error> {
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    Ok(Model::find_by_statement(statement).all(database).await?)
}

/// What a [`Model`] is read from. PostgreSQL keeps ids as `uuid`, which takes less room in an index than bytes do.
pub(super) const fn columns(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "stream, start_ns, end_ns, uuid_send(pack_id) AS id, directory",
        _ => "stream, start_ns, end_ns, pack_id AS id, directory",
    }
}

/// The id of a pack that is bound as bytes at this place.
pub(super) fn id_value(backend: DbBackend, place: usize) -> String {
    match backend {
        DbBackend::Postgres => format!("encode(${place}, 'hex')::uuid"),
        _ => format!("${place}"),
    }
}

impl Model {
    /// The number of the stream.
    pub(super) const fn stream(&self) -> i32 {
        self.stream
    }

    /// The pack beside its stream.
    pub(super) fn row(self, stream: &Stream) -> Result<PackRow, Error> {
        let (pack, span) = (pack_id(self.id)?, span(self.start_ns, self.end_ns)?);
        let directory = Directory::from_compact(pack, span.start(), stream, &self.directory)
            .map_err(|_| Error::Corrupt("the directory of a pack that cannot be read"))?;
        if directory.span() != span {
            return Err(Error::Corrupt("a pack that ends when none of its segments does"));
        }
        let key = object_key(&stream.zone, stream.camera, stream.layer, span.start(), pack);
        let key = key.parse().map_err(|_| Error::Corrupt("an object key that is none"))?;
        let bytes = directory.encoded_head_length() as u64 + directory.body_length();
        Ok(PackRow::of(directory, key, bytes).0)
    }
}

pub(super) fn pack_id(bytes: Vec<u8>) -> Result<PackId, Error> {
    bytes.try_into().map(PackId::from_bytes).map_err(|_| Error::Corrupt("a pack id that is none"))
}

pub(super) fn camera_id(bytes: Vec<u8>) -> Result<CameraId, Error> {
    bytes.try_into().map(CameraId::from_bytes).map_err(|_| Error::Corrupt("a camera id that is none"))
}

pub(super) fn layer(code: i16) -> Result<Layer, Error> {
    u8::try_from(code).ok().and_then(Layer::from_code).ok_or(Error::Corrupt("a layer that is none"))
}

pub(super) fn span(start: i64, end: i64) -> Result<Span, Error> {
    Span::try_new(Timestamp::from_unix_nanos(start), Timestamp::from_unix_nanos(end))
        .ok_or(Error::Corrupt("a span that runs backwards"))
}
