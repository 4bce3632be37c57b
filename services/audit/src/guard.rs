//! Distrust of the own clock: a wrong clock destroys the log early, and nothing brings it back.
//!
//! The wall clock is believed
//!
//! 1. while it agrees within five minutes with the time that passed, by a clock that nobody sets, since it was first
//!    believed in this process;
//! 2. at a start, where it is not before the moment at which it was last believed, and not later than an absence
//!    explains: a tenth of the retention, and never more than a day. That moment is in the database, and is written
//!    only while the clock is believed, so no number of restarts makes a clock right that is ahead by more. What is
//!    within the bound adds up: a clock that gains up to a day at each of many starts is found only where a time
//!    server, a person or the database server is there to compare. Where that moment was never written, the newest
//!    entry counts;
//! 3. else, where the kernel says that a time server keeps the clock. Setting the clock by hand ends that;
//! 4. else, at a start, where a person wrote the time into `clock_confirmed` within the last day.
//!
//! What was written while the clock may have been wrong has times that prove nothing: by a clock that was behind,
//! entries of this minute look years old. So where the clock is believed after a doubt, or has gone forward by more
//! than the time that passed explains, what was written since somebody last vouched for it (in a doubt without such
//! a step: since it was last believed) is remembered as *undated*, and counts as written at this moment. Entries of
//! before keep their times, so a machine that is off every weekend prunes as any other.
//!
//! An erasure is not refused by a wrong clock, but its moment must not lie in the future: what happens to the person
//! until then would be sealed under keys that nobody keeps. So it has that of [`Guard::moment`].
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
    store::{self, Store, Undated},
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
    /// The clocks when this process began.
    began: (Timestamp, Monotonic),
    /// When the clock was last believed before; `None` for an empty log.
    last: Option<Timestamp>,
    /// When the newest entry was committed before; `None` for an empty log.
    newest: Option<Timestamp>,
    /// How long the log was when the clock was last believed, or this process began.
    believed_size: u64,
    /// Whether the clock was not believed since.
    was_refused: bool,
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
    /// How long the log was just before.
    size: u64,
}

/// What follows where the clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Belief {
    /// Whether a time server or a person vouches for it.
    is_vouched: bool,
    /// Since when what was written has times that prove nothing.
    undated: Option<Since>,
}

/// Since when something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Somebody last vouched for the clock.
    Vouched,
    /// The log had this size.
    Size(u64),
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
        let (last, head) = (last_believed(&store).await?, store.head().await?);
        let known = Known {
            began: (clock.wall(), clock.monotonic()),
            last,
            newest: (head.size > 0).then_some(head.committed),
            believed_size: head.size,
            was_refused: false,
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
        let belief = self.known().check(&now).map_err(Error::ClockDisagrees)?;
        let undated = match belief.undated {
            Some(since) => self.undated(since, now.wall).await?,
            None => None,
        };
        let vouched = belief.is_vouched.then_some(now.size);
        self.store.believe(now.wall, vouched, undated.as_ref()).await?;
        self.known().believed(&now);
        Ok(now.wall)
    }

    /// The time of something that must be done whether the clock is believed or not. Where it is not: the moment at
    /// which it was last believed and the time that passed since, as far as this process knows that.
    ///
    /// # Errors
    /// Those of the tables.
    pub async fn moment(&self) -> Result<Timestamp, Error> {
        match self.now().await {
            Err(Error::ClockDisagrees(_)) => {
                let (wall, monotonic) = (self.clock.wall(), self.clock.monotonic());
                Ok(self.known().expected(monotonic).unwrap_or(wall))
            }
            moment => moment,
        }
    }

    /// What was written up to now and since then.
    async fn undated(&self, since: Since, now: Timestamp) -> Result<Option<Undated>, Error> {
        let from = match since {
            Since::Vouched => self.store.vouched().await?,
            Since::Size(size) => size,
        };
        let to = self.store.head().await?.size;
        let oldest = self.store.oldest_within(from, to).await?;
        Ok(oldest.map(|oldest| Undated { from, to, oldest, written_before: now }))
    }

    async fn reading(&self) -> Result<Reading, Error> {
        let size = self.store.head().await?.size;
        let server = if self.witnesses.server { self.store.server_time().await? } else { None };
        let is_kept = self.witnesses.machine.uptime().is_some_and(|machine| machine.synchronised);
        Ok(Reading { wall: self.clock.wall(), monotonic: self.clock.monotonic(), is_kept, server, size })
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
    store.believe(head.committed, None, None).await?;
    Ok(Some(head.committed))
}

impl Known {
    fn check(&mut self, now: &Reading) -> Result<Belief, Doubt> {
        let belief = self.judge(now);
        self.was_refused |= belief.is_err();
        belief
    }

    fn judge(&self, now: &Reading) -> Result<Belief, Doubt> {
        if let Some(server) = now.server {
            let apart = now.wall.since(server).max(server.since(now.wall));
            if apart > TOLERANCE {
                return Err(Doubt::Server(apart));
            }
        }
        let is_confirmed = self.anchor.is_none() && self.is_confirmed(now.wall);
        let is_vouched = now.is_kept || is_confirmed;
        let doubt = match self.anchor {
            Some(anchor) => check_running(anchor, now).err(),
            None => self.check_start(now).err(),
        };
        match doubt {
            Some(doubt) if !is_vouched => Err(doubt),
            doubt => Ok(Belief { is_vouched, undated: self.undated(now, doubt.is_some()) }),
        }
    }

    /// The clock is believed, and that is written down.
    fn believed(&mut self, now: &Reading) {
        (self.believed_size, self.was_refused) = (now.size, false);
        // The first anchor stays, so that a clock that is moved again and again by little is found.
        if self.anchor.is_none_or(|anchor| check_running(anchor, now).is_err()) {
            self.anchor = Some((now.wall, now.monotonic));
        }
    }

    /// Since when entries may have been written by a clock that was wrong.
    fn undated(&self, now: &Reading, is_doubted: bool) -> Option<Since> {
        if self.is_ahead_of_what_passed(now) {
            return Some(Since::Vouched);
        }
        (is_doubted || self.was_refused).then_some(Since::Size(self.believed_size))
    }

    /// Whether the clock has gone forward by more than the time that passed, or than an absence, explains: then it
    /// may have been behind. Entries that were written while it was not believed count as well.
    fn is_ahead_of_what_passed(&self, now: &Reading) -> bool {
        let (then, since) = self.anchor.unwrap_or(self.began);
        let is_stepped = now.wall.since(then + now.monotonic.since(since)) > TOLERANCE;
        let newest = self.last.into_iter().chain(self.newest).min().filter(|_| self.anchor.is_none());
        is_stepped || newest.is_some_and(|newest| now.wall.since(newest) > self.explained(now))
    }

    /// What the clock should say; `None` where it was never believed.
    fn expected(&self, now: Monotonic) -> Option<Timestamp> {
        let last = self.last.map(|last| (last, self.began.1));
        self.anchor.or(last).map(|(then, since)| then + now.since(since))
    }

    /// How much later than before this process it may be.
    fn explained(&self, now: &Reading) -> Duration {
        self.absence.saturating_add(now.monotonic.since(self.began.1))
    }

    fn is_confirmed(&self, wall: Timestamp) -> bool {
        let is_near = |moment: Timestamp| moment.since(wall) <= TOLERANCE && wall.since(moment) <= DAY;
        self.confirmed.is_some_and(is_near)
    }

    fn check_start(&self, now: &Reading) -> Result<(), Doubt> {
        let Some(last) = self.last else { return Ok(()) };
        let (ahead, behind) = (now.wall.since(last), last.since(now.wall));
        if behind > TOLERANCE {
            return Err(Doubt::Behind(behind));
        }
        if ahead > self.explained(now) {
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
