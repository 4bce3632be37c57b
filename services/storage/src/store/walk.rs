//! Walking over the packs of the index: by the bytes of their keys, as a bucket lists its objects.
//!
//! No index has the keys: they would take more room than the rows. A key is zone, camera, layer, day and id, so the
//! walk goes from stream to stream, from day to day on which something is, and puts each day in the order of ids.

use std::collections::BTreeMap;

use obscura_blob::BlobKey;
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, PackId};
use obscura_pack::{Day, Stream, parse_object_key};
use sea_orm::{ConnectionTrait, Statement, Value};

use super::{
    Error, Slice, pack, partition, run,
    stream::{self, Numbered},
};
use crate::index::PackRow;

const NANOS_OF_DAY: i64 = 86_400_000_000_000;
/// Runs that are weighed: more than an installation has on most days.
const RUNS: u64 = 100_000;

/// A walk over the index.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Only packs of this camera.
    pub camera: Option<CameraId>,
    /// Only packs that overlap this span.
    pub span: Option<Span>,
    /// Only packs behind this key.
    pub after: Option<BlobKey>,
    /// At most so many.
    pub limit: u16,
}

impl Walk {
    /// The same walk behind these packs; `None` where they were the last.
    #[must_use]
    pub fn behind(&self, rows: &[PackRow]) -> Option<Self> {
        let last = rows.last().filter(|_| rows.len() >= usize::from(self.limit))?;
        Some(Self { after: Some(last.key.clone()), ..self.clone() })
    }

    /// Only packs that start before this one and end behind that one, nanoseconds since the Unix epoch.
    fn bounds(&self) -> (i64, i64) {
        let bounds = self.span.map(|span| (span.end().unix_nanos(), span.start().unix_nanos()));
        bounds.unwrap_or((i64::MAX, i64::MIN))
    }
}

impl Slice {
    /// The same slice behind these packs; `None` where they were the last.
    #[must_use]
    pub fn behind(&self, rows: &[PackRow]) -> Option<Self> {
        let last = rows.last().filter(|_| rows.len() >= usize::from(self.limit))?;
        Some(Self { after: Some((last.span.start(), last.pack)), ..*self })
    }
}

/// Streams whose keys start alike: zone, camera and layer.
#[derive(Debug)]
struct Group {
    numbers: Vec<i32>,
    streams: BTreeMap<i32, Stream>,
}

/// Where in a group a walk goes on: behind a pack of a day.
#[derive(Clone, Copy, Debug)]
struct Place {
    day: i64,
    behind: Option<PackId>,
}

pub(super) async fn walk(database: &impl ConnectionTrait, walk: &Walk) -> Result<Vec<PackRow>, Error> {
    let mut rows = Vec::new();
    for (prefix, group) in groups(database, walk).await? {
        let Some(mut place) = first_place(&prefix, walk.after.as_ref()) else { continue };
        while let Some(left) = usize::from(walk.limit).checked_sub(rows.len()).filter(|left| *left > 0) {
            let Some(start) = next_start(database, walk, &group, place.day).await? else { break };
            let day = Day::of(Timestamp::from_unix_nanos(start)).start().unix_nanos();
            let behind = place.behind.filter(|_| day == place.day);
            let found = of_day(database, walk, &group, Place { day, behind }, left).await?;
            let is_over = found.len() < left;
            rows.extend(found);
            place = Place { day: day.saturating_add(if is_over { NANOS_OF_DAY } else { 0 }), behind: None };
            if !is_over || place.day == day {
                break;
            }
        }
        if rows.len() >= usize::from(walk.limit) {
            break;
        }
    }
    Ok(rows)
}

/// Those of the walk by what their keys start with, in the order of bytes.
async fn groups(database: &impl ConnectionTrait, walk: &Walk) -> Result<BTreeMap<String, Group>, Error> {
    let streams = match walk.camera {
        Some(camera) => stream::of_cameras(database, [camera]).await?,
        None => stream::all(database).await?,
    };
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for Numbered { number, stream } in streams {
        let prefix = format!("{}/{}/{}/", stream.zone, stream.camera, stream.layer);
        let group =
            groups.entry(prefix).or_insert_with(|| Group { numbers: Vec::new(), streams: BTreeMap::new() });
        group.numbers.push(number);
        group.streams.insert(number, stream);
    }
    Ok(groups)
}

/// Where the walk begins in the group; `None` where it is past it.
fn first_place(prefix: &str, after: Option<&BlobKey>) -> Option<Place> {
    let whole = Place { day: i64::MIN, behind: None };
    let Some(after) = after else { return Some(whole) };
    match parse_object_key(after.as_str()) {
        Ok(name) if after.as_str().starts_with(prefix) => {
            Some(Place { day: name.day.start().unix_nanos(), behind: Some(name.pack) })
        }
        _ => (prefix > after.as_str()).then_some(whole),
    }
}

/// The first start of a pack of the walk on this day or later.
async fn next_start(
    database: &impl ConnectionTrait,
    walk: &Walk,
    group: &Group,
    day: i64,
) -> Result<Option<i64>, Error> {
    let (before, behind) = walk.bounds();
    let from_day = pack::earliest_of_days(behind).max(day);
    // Each stream by itself: the first entry of its part of an index, where that of several would be all entries.
    let tables = partition::tables_by_start(database.get_database_backend()).iter().map(|table| (*table, 1));
    let tables = tables.chain([("packs_over_an_hour", 2)]);
    let firsts =
        tables.flat_map(|(table, place)| group.numbers.iter().map(move |stream| (table, place, stream)));
    let firsts = firsts.map(|(table, place, stream)| {
        format!(
            "SELECT MIN(start_ns) AS first FROM {table} WHERE stream = {stream} AND start_ns >= ${place} \
             AND start_ns < $3 AND end_ns > $4"
        )
    });
    let firsts = firsts.collect::<Vec<_>>().join(" UNION ALL ");
    let sql = format!("SELECT MIN(first) FROM ({firsts}) AS firsts");
    let values: [Value; 4] = [from_day.into(), day.into(), before.into(), behind.into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let row = database.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.flatten())
}

/// The first packs of a day, by their ids.
async fn of_day(
    database: &impl ConnectionTrait,
    walk: &Walk,
    group: &Group,
    place: Place,
    limit: usize,
) -> Result<Vec<PackRow>, Error> {
    let backend = database.get_database_backend();
    let (before, behind) = walk.bounds();
    let end = place.day.saturating_add(NANOS_OF_DAY).min(before);
    let mut values: Vec<Value> = vec![place.day.into(), end.into(), behind.into()];
    let mut sql = format!(
        "SELECT {} FROM packs WHERE stream IN ({}) AND start_ns >= $1 AND start_ns < $2 AND end_ns > $3",
        pack::columns(backend),
        numbers(&group.numbers)
    );
    if let Some(pack) = place.behind {
        values.push(pack.as_bytes().to_vec().into());
        sql = format!("{sql} AND pack_id > {}", pack::id_value(backend, 4));
    }
    let sql = format!("{sql} ORDER BY id LIMIT {limit}");
    let read = |model: pack::Model| {
        let stream = group.streams.get(&model.stream()).ok_or(Error::Corrupt("a stream that is none"))?;
        model.row(stream)
    };
    pack::query(database, sql, values).await?.into_iter().map(read).collect()
}

fn numbers(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Sealed bytes of the whole walk, from its runs; of those that reach beyond its span a share.
pub(super) async fn weigh(database: &impl ConnectionTrait, walk: &Walk) -> Result<u64, Error> {
    let runs = run::list(database, walk.camera, walk.span, RUNS).await?;
    let share = |span: Span, bytes: u64| {
        let within = walk.span.map_or(span, |asked| {
            let (start, end) = (span.start().max(asked.start()), span.end().min(asked.end()));
            Span::try_new(start, end).unwrap_or(span)
        });
        let (part, whole) = (within.duration().as_nanos(), span.duration().as_nanos().max(1));
        u64::try_from(u128::from(bytes).saturating_mul(part) / whole).unwrap_or(u64::MAX)
    };
    Ok(runs.iter().map(|run| share(run.run.span, run.run.bytes)).fold(0, u64::saturating_add))
}

pub(super) async fn count(database: &impl ConnectionTrait) -> Result<u64, Error> {
    let count = "SELECT COUNT(*) FROM packs";
    let statement = Statement::from_string(database.get_database_backend(), count);
    let row = database.query_one_raw(statement).await?;
    let count: i64 = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
    super::unsigned(count, "a negative number of packs")
}
