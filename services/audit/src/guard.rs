//! Distrust of the own clock: a wrong clock destroys the log early, and nothing brings it back.
//!
//! The wall clock is believed
//!
//! 1. while it agrees within five minutes with the time that passed, by a clock that nobody sets, since it was first
//!    believed in this process;
//! 2. at a start, where it is not before the moment at which it was last believed, and not later than an absence
//!    explains: a tenth of the retention, and never more than a day. That moment is in the database, and is written
//!    only while the clock is believed, so no number of restarts makes a wrong clock right. Where it was never
//!    written, the newest entry counts;
//! 3. else, where the kernel says that a time server keeps the clock. Setting the clock by hand ends that;
//! 4. else, at a start, where a person wrote the time into `clock_confirmed` within the last day.
//!
//! Beside all of these it must agree within five minutes with the clock of the database server, where there is one.
//! A machine that was off for a month prunes again once its clock follows a time server, or once somebody has
//! confirmed it. Until then entries are kept for too long, which can be made good, unlike the opposite.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obscura_clock::{Machine, Monotonic, SharedClock, Timestamp, in_words};

use crate::{
    error::Error,
    store::{self, Store},
};

/// Differences up to this are no reason for doubt.
const TOLERANCE: Duration = Duration::from_mins(5);
/// The longest absence that needs no proof, and how long the word of a person counts.
const DAY: Duration = Duration::from_hours(24);
/// This part of the retention may be lost to a wrong clock at most.
const PART_OF_RETENTION: u32 = 10;

/// Why the clock is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was set while this process ran: by so much, and whether it is ahead.
    Stepped(Duration, bool),
    /// It is so much later than when it was last believed.
    Ahead(Duration),
    /// It is so much earlier than when it was last believed.
    Behind(Duration),
    /// It differs by so much from the clock of the database server.
    Server(Duration),
}

/// Where the guard looks beside the wall clock.
#[derive(Debug)]
pub struct Witnesses {
    /// The machine, whose clock a time server may keep.
    pub machine: Arc<dyn Machine>,
    /// Whether the clock of the database server counts.
    pub server: bool,
    /// When a person looked at the clock, by the settings.
    pub confirmed: Option<Timestamp>,
}

/// Decides whether the wall clock is believed.
#[derive(Debug)]
pub struct Guard {
    store: Arc<Store>,
    clock: SharedClock,
    witnesses: Witnesses,
    known: Mutex<Known>,
}

/// What is known about time.
#[derive(Clone, Debug)]
struct Known {
    /// When this process began.
    began: Monotonic,
    /// When the clock was last believed before; `None` for an empty log.
    last: Option<Timestamp>,
    /// How long nobody has to have been there.
    absence: Duration,
    /// When a person looked at the clock.
    confirmed: Option<Timestamp>,
    /// When it was first believed in this process.
    anchor: Option<(Timestamp, Monotonic)>,
}

/// The clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    monotonic: Monotonic,
    is_kept: bool,
    server: Option<Timestamp>,
}

impl Guard {
    /// Reads when the clock was last believed; to be called before this process appends anything.
    ///
    /// # Errors
    /// Those of the tables.
    pub async fn begin(
        store: Arc<Store>,
        clock: SharedClock,
        retention: Duration,
        witnesses: Witnesses,
    ) -> Result<Self, store::Error> {
        let known = Known {
            began: clock.monotonic(),
            last: last_believed(&store).await?,
            absence: (retention / PART_OF_RETENTION).min(DAY),
            confirmed: witnesses.confirmed,
            anchor: None,
        };
        Ok(Self { store, clock, witnesses, known: Mutex::new(known) })
    }

    /// The wall time, where it is believed; then that is written down.
    ///
    /// # Errors
    /// [`Error::ClockDisagrees`] where it is not; those of the tables.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let now = self.reading().await?;
        self.known().check(&now).map_err(Error::ClockDisagrees)?;
        self.store.believe(now.wall).await?;
        Ok(now.wall)
    }

    async fn reading(&self) -> Result<Reading, Error> {
        let server = if self.witnesses.server { self.store.server_time().await? } else { None };
        let is_kept = self.witnesses.machine.uptime().is_some_and(|machine| machine.synchronised);
        Ok(Reading { wall: self.clock.wall(), monotonic: self.clock.monotonic(), is_kept, server })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where nothing was written down, the newest entry is, before a wrong clock makes a newer one.
async fn last_believed(store: &Store) -> Result<Option<Timestamp>, store::Error> {
    let (believed, head) = (store.believed().await?, store.head().await?);
    if believed.is_some() || head.size == 0 {
        return Ok(believed);
    }
    store.believe(head.committed).await?;
    Ok(Some(head.committed))
}

impl Known {
    fn check(&mut self, now: &Reading) -> Result<(), Doubt> {
        if let Some(server) = now.server {
            let apart = now.wall.since(server).max(server.since(now.wall));
            if apart > TOLERANCE {
                return Err(Doubt::Server(apart));
            }
        }
        let doubt = match self.anchor {
            Some(anchor) => check_running(anchor, now).err(),
            None => self.check_start(now).err(),
        };
        match doubt {
            Some(doubt) if !now.is_kept => return Err(doubt),
            // The first anchor stays, so that a clock that is moved again and again by little is found.
            None if self.anchor.is_some() => {}
            _ => self.anchor = Some((now.wall, now.monotonic)),
        }
        Ok(())
    }

    fn check_start(&self, now: &Reading) -> Result<(), Doubt> {
        let is_confirmed =
            |moment: Timestamp| moment.since(now.wall) <= TOLERANCE && now.wall.since(moment) <= DAY;
        let Some(last) = self.last.filter(|_| !self.confirmed.is_some_and(is_confirmed)) else {
            return Ok(());
        };
        let running = now.monotonic.since(self.began);
        let (ahead, behind) = (now.wall.since(last), last.since(now.wall));
        if behind > TOLERANCE {
            return Err(Doubt::Behind(behind));
        }
        if ahead > self.absence.saturating_add(running) {
            return Err(Doubt::Ahead(ahead));
        }
        Ok(())
    }
}

fn check_running((then, since): (Timestamp, Monotonic), now: &Reading) -> Result<(), Doubt> {
    let expected = then + now.monotonic.since(since);
    let (ahead, behind) = (now.wall.since(expected), expected.since(now.wall));
    if ahead.max(behind) > TOLERANCE {
        return Err(Doubt::Stepped(ahead.max(behind), ahead > behind));
    }
    Ok(())
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CONFIRM: &str = "where it is right, let a time server keep it, or write the time now, like \
             `clock_confirmed = \"2026-11-23T10:00:00Z\"`, under `[settings]` in the audit service's config.toml and \
             start it again; to start it again alone changes nothing";
        f.write_str("nothing is pruned: the clock ")?;
        match self {
            Self::Stepped(by, ahead) => {
                let way = if *ahead { "ahead" } else { "behind" };
                write!(f, "was set while the service ran and is {} {way}", in_words(*by))?;
            }
            Self::Ahead(by) => write!(
                f,
                "is {} after the moment at which it was last believed, longer than an absence explains",
                in_words(*by)
            )?,
            Self::Behind(by) => {
                write!(f, "is {} before the moment at which it was last believed", in_words(*by))?;
            }
            Self::Server(by) => {
                let apart = in_words(*by);
                return write!(
                    f,
                    "and that of the database server are {apart} apart; put the wrong one right, and pruning goes on"
                );
            }
        }
        write!(f, ". Compare it with another clock and put it right; {CONFIRM}")
    }
}

#[cfg(test)]
mod tests;
