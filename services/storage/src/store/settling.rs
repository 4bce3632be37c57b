//! Settling: packs of an hour that is over move from the table of new ones to that of their day, in order.
//!
//! Cameras write in turn, so the packs of one camera lie a page or more apart where they arrive: a minute of all
//! cameras is between two of them. An hour of a camera that is over is asked for again and again, and once an index is
//! larger than the memory each of its 60 pages is read from the disk. Settled, the hour lies on a few neighbouring ones.
//!
//! Each step is one statement, which takes rows out of one table and puts them into the other. Whoever reads sees
//! either all of it or nothing, so each pack is there once, whatever the statement reads that asks for it. A step is
//! a transaction of the one writer, so whoever removes a pack or looks for its id never comes between. Cut short,
//! the next round goes on. A pack that comes late is moved by a later round, to behind what is settled.
//!
//! SQLite has nothing to settle: there rows lie in order from the start.

use std::time::Duration;

use obscura_clock::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::{Error, Store};

/// How long after its end an hour settles. Packs of its last minute end and are uploaded after it; those that come
/// later than this are settled too, and then lie apart from the others of their hour.
const GRACE: Duration = Duration::from_secs(300);
/// Packs that move together: their transaction keeps arrivals waiting, for less than a tenth of a second.
pub(super) const TOGETHER: u32 = 2_000;
const NANOS_OF_HOUR: i64 = 3_600_000_000_000;

/// Moves the first packs of an hour, `$2` to before `$3`, from stream `$1` on, at most `$4`. They are chosen by where
/// they lie, which no other writer changes meanwhile.
const MOVE: &str = "\
    WITH moved AS (DELETE FROM packs_recent WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM packs_recent WHERE stream >= $1 AND start_ns >= $2 AND start_ns < $3 \
            ORDER BY stream, start_ns LIMIT $4)) \
        RETURNING start_ns, end_ns, stream, pack_id, directory), \
    settled AS (INSERT INTO packs_of_days (start_ns, end_ns, stream, pack_id, directory) \
        SELECT start_ns, end_ns, stream, pack_id, directory FROM moved ORDER BY stream, start_ns, pack_id \
        RETURNING stream) \
    SELECT COUNT(*), MAX(stream) FROM settled";

/// What one step moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// So many packs.
    pub moved: u64,
    /// The last stream of which it moved some; the next step goes on with it.
    pub last: Option<i32>,
}

impl Store {
    /// Whether new packs have a table of their own, from which they have to be moved.
    #[must_use]
    pub fn settles(&self) -> bool {
        self.database.backend() == DbBackend::Postgres
    }

    /// Moves the packs of all hours that are over by now to the tables of their days, hour by hour, in transactions
    /// between which others write. Returns how many it moved.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Corrupt`]; what was moved before stays so.
    pub async fn settle(&self, now: Timestamp) -> Result<u64, Error> {
        let mut moved = 0_u64;
        if self.settles() {
            for hour in hours_before(self.database.readers(), over(now)).await? {
                moved = moved.saturating_add(self.settle_hour(hour).await?);
            }
        }
        Ok(moved)
    }

    async fn settle_hour(&self, hour: i64) -> Result<u64, Error> {
        let (mut moved, mut from) = (0_u64, i32::MIN);
        loop {
            let write = self.database.write().await?;
            let step = step(&*write, hour, from, TOGETHER).await?;
            write.commit().await?;
            moved = moved.saturating_add(step.moved);
            match step.last.filter(|_| step.moved >= TOGETHER.into()) {
                Some(last) => from = last,
                None => return Ok(moved),
            }
        }
    }
}

/// Packs that start before this moment are of hours that are over, nanoseconds since the Unix epoch.
fn over(now: Timestamp) -> i64 {
    let graced = (now - GRACE).unix_nanos();
    graced.saturating_sub(graced.rem_euclid(NANOS_OF_HOUR))
}

/// Starts of the hours before a moment that have new packs, nanoseconds since the Unix epoch, in order.
async fn hours_before(database: &impl ConnectionTrait, moment: i64) -> Result<Vec<i64>, DbErr> {
    let look = format!(
        "SELECT DISTINCT start_ns - (start_ns % {NANOS_OF_HOUR} + {NANOS_OF_HOUR}) % {NANOS_OF_HOUR} \
         FROM packs_recent WHERE start_ns < $1 ORDER BY 1"
    );
    let look = Statement::from_sql_and_values(DbBackend::Postgres, look, [moment.into()]);
    database.query_all_raw(look).await?.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Moves the first packs of an hour from this stream on, at most `limit`. Call it within a transaction of the writer.
pub(super) async fn step(
    database: &impl ConnectionTrait,
    hour: i64,
    from: i32,
    limit: u32,
) -> Result<Step, Error> {
    let end = hour.saturating_add(NANOS_OF_HOUR);
    let values = [from.into(), hour.into(), end.into(), i64::from(limit).into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, MOVE, values);
    let Some(row) = database.query_one_raw(statement).await? else {
        return Ok(Step { moved: 0, last: None });
    };
    let moved = super::unsigned(row.try_get_by_index(0)?, "a negative number of packs")?;
    Ok(Step { moved, last: row.try_get_by_index(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_over_some_minutes_after_its_end() {
        let at = |moment: &str| moment.parse::<Timestamp>().unwrap();
        for (now, before) in [
            ("2026-11-23T11:04:59Z", "2026-11-23T10:00:00Z"),
            ("2026-11-23T11:05:00Z", "2026-11-23T11:00:00Z"),
            ("1969-12-31T23:06:00Z", "1969-12-31T23:00:00Z"),
        ] {
            assert_eq!(over(at(now)), at(before).unix_nanos(), "{now}");
        }
    }
}
