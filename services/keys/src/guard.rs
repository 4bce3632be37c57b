//! Distrust of the own clock: a wrong clock destroys footage early, and nothing brings it back.
//!
//! The wall clock is believed as long as it agrees within five minutes with
//!
//! 1. the time that passed since this process began, by a clock that nobody sets;
//! 2. the last moment at which it was believed, written down before the process ended: while the machine
//!    is the same and was not restarted, its uptime says how much time passed in between. After a
//!    restart of the machine only a gap of five minutes, or a clock that follows a time server, counts;
//! 3. the clocks of others: the database server, those who sign status notes, recorders.
//!
//! Then the volume is looked at: what is due must not be more than twice what usually expires in the
//! time that demonstrably passed. Each doubt ends when its cause is gone; a named person can end it too.

use std::{collections::BTreeMap, fmt, time::Duration};

use obscura_clock::{Monotonic, Timestamp, Uptime, in_words};
use serde::{Deserialize, Serialize};

use crate::expiry_hour::ExpiryHour;

/// Differences up to this are no reason for doubt.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// How long what another clock said counts.
const MEMORY: Duration = Duration::from_secs(3_600);
/// As many layer keys are never too many at once: on a small site the norm says little.
pub const VOLUME_FLOOR: u64 = 32;
/// Hours that must have gone into the norm before it counts.
pub const NORM_HOURS: u32 = 48;
/// How fast the norm follows: this many hours.
const NORM_WINDOW: f64 = 24.0;

/// All clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock, which is in doubt.
    pub wall: Timestamp,
    /// Since this process began.
    pub monotonic: Monotonic,
    /// The machine, where it says.
    pub machine: Option<Uptime>,
}

/// When the wall clock was last believed; kept outside the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// The newest such moment.
    wall: Timestamp,
    /// The first such moment since the machine was started: a clock that is moved again and again by
    /// less than the tolerance is compared with this one.
    anchor: Timestamp,
    /// Uptime at the first moment.
    up: Duration,
    /// Which start of the machine it was.
    boot: Option<String>,
}

/// Whose clock it was, and what it can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// The server of the database: its time now.
    Database,
    /// The signer of a status note: its time a few seconds ago.
    StatusNote,
    /// A recorder: its time is not before the hour of its newest key.
    Recorder,
}

/// Why the clock or the volume is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The wall clock was set while this process ran.
    Stepped(Step),
    /// The wall clock was set while this process did not run.
    SteppedMeanwhile(Step),
    /// The machine was restarted, and nothing shows how long it was away.
    Unproven(Duration),
    /// Another clock says otherwise.
    Disagrees(Witness, Step),
    /// More is due than usually expires.
    Volume {
        /// Layer keys that are due.
        due: u64,
        /// As many would be believed.
        believed: u64,
    },
}

/// How far the wall clock is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    by: Duration,
    ahead: bool,
}

/// What is known about time.
#[derive(Debug)]
pub struct Guard {
    start: Reading,
    last: Option<Trusted>,
    /// Whether there was anything in custody when this process began.
    had_keys: bool,
    witnesses: BTreeMap<Witness, (Timestamp, Monotonic)>,
}

impl Guard {
    /// A process begins. `last` is what was written down; `had_keys` says whether there is anything that
    /// a wrong clock could destroy.
    pub const fn begin(now: Reading, last: Option<Trusted>, had_keys: bool) -> Self {
        Self { start: now, last, had_keys, witnesses: BTreeMap::new() }
    }

    /// Another clock was seen.
    pub fn witness(&mut self, witness: Witness, theirs: Timestamp, now: Monotonic) {
        if witness == Witness::Recorder {
            // Late keys come in any order: the newest says most.
            let known = self.witnesses.get(&witness).map(|(known, at)| *known + now.since(*at));
            if known.is_some_and(|known| known >= theirs) {
                return;
            }
        }
        self.witnesses.insert(witness, (theirs, now));
    }

    /// Whether the wall clock is believed; then, since when time demonstrably passed.
    pub fn check(&self, now: &Reading) -> Result<Timestamp, Doubt> {
        let proven = match self.anchor(now) {
            Some(anchor) => self.check_anchor(anchor, now)?,
            None => {
                self.check_running(now)?;
                self.check_restart(now)?
            }
        };
        self.check_witnesses(now)?;
        Ok(proven)
    }

    /// The clock was believed at this moment: what to write down.
    pub fn trusted(&mut self, now: &Reading) -> Trusted {
        let boot = now.machine.as_ref().map(|machine| machine.boot.clone());
        let kept = self.last.clone().filter(|last| last.boot.is_some() && last.boot == boot);
        let up = self.start.machine.as_ref().map(|machine| machine.up).unwrap_or_default();
        let fresh = Trusted { wall: now.wall, anchor: self.start.wall, up, boot };
        let trusted = kept.map_or(fresh, |last| Trusted { wall: now.wall, ..last });
        if now.machine.is_some() {
            self.last = Some(trusted.clone());
        }
        trusted
    }

    /// A named person says that the clock is right: everything is compared with this moment from now on.
    pub fn confirm(&mut self, now: &Reading) -> Trusted {
        self.witnesses.clear();
        self.start = now.clone();
        (self.last, self.had_keys) = (None, false);
        self.trusted(now)
    }

    /// What was believed since the machine was started, with the time that passed since then.
    fn anchor(&self, now: &Reading) -> Option<(Timestamp, Duration)> {
        let (last, machine) = (self.last.as_ref()?, now.machine.as_ref()?);
        let same = last.boot.as_ref() == Some(&machine.boot);
        same.then(|| (last.anchor, machine.up.saturating_sub(last.up)))
    }

    fn check_anchor(
        &self,
        (anchor, passed): (Timestamp, Duration),
        now: &Reading,
    ) -> Result<Timestamp, Doubt> {
        let was_right = self
            .anchor(&self.start)
            .is_some_and(|(anchor, passed)| check_step(anchor, passed, self.start.wall).is_ok());
        let doubt = if was_right { Doubt::Stepped } else { Doubt::SteppedMeanwhile };
        check_step(anchor, passed, now.wall).map_err(doubt)?;
        Ok(anchor)
    }

    fn check_running(&self, now: &Reading) -> Result<(), Doubt> {
        let passed = now.monotonic.since(self.start.monotonic);
        check_step(self.start.wall, passed, now.wall).map_err(Doubt::Stepped)
    }

    fn check_restart(&self, now: &Reading) -> Result<Timestamp, Doubt> {
        let synchronised = now.machine.as_ref().is_some_and(|machine| machine.synchronised);
        let Some(last) = &self.last else {
            let believed = synchronised || !self.had_keys;
            return if believed { Ok(self.start.wall) } else { Err(Doubt::Unproven(Duration::ZERO)) };
        };
        let (gap, back) = (self.start.wall.since(last.wall), last.wall.since(self.start.wall));
        if back > TOLERANCE {
            return Err(Doubt::SteppedMeanwhile(Step { by: back, ahead: false }));
        }
        if gap > TOLERANCE && !synchronised {
            return Err(Doubt::Unproven(gap));
        }
        Ok(self.start.wall)
    }

    fn check_witnesses(&self, now: &Reading) -> Result<(), Doubt> {
        for (witness, (theirs, at)) in &self.witnesses {
            let age = now.monotonic.since(*at);
            if age > MEMORY {
                continue;
            }
            match check_step(*theirs, age, now.wall) {
                // A late key says nothing about the recorder's clock now.
                Err(step) if *witness == Witness::Recorder && step.ahead => {}
                Err(step) => return Err(Doubt::Disagrees(*witness, step)),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Whether `then` and what passed since agree with `now`.
fn check_step(then: Timestamp, passed: Duration, now: Timestamp) -> Result<(), Step> {
    let expected = then + passed;
    let (ahead, behind) = (now.since(expected), expected.since(now));
    if ahead > TOLERANCE {
        return Err(Step { by: ahead, ahead: true });
    }
    if behind > TOLERANCE {
        return Err(Step { by: behind, ahead: false });
    }
    Ok(())
}

/// How many layer keys usually expire in an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norm {
    /// Moving average.
    pub per_hour: f64,
    /// Hours that went into it.
    pub hours: u32,
}

impl Norm {
    /// With what was destroyed over some hours.
    #[must_use]
    pub fn with(self, destroyed: u64, hours: u32) -> Self {
        let hours = hours.max(1);
        let each = as_float(destroyed) / f64::from(hours);
        let counted = hours.min(1_000);
        let per_hour = (0..counted).fold(self.per_hour, |norm, _| norm + (each - norm) / NORM_WINDOW);
        // The first hour is all there is to go by.
        let per_hour = if self.hours == 0 { each } else { per_hour };
        Self { per_hour, hours: self.hours.saturating_add(hours) }
    }

    /// Whether so many may be destroyed at once when `hours` demonstrably passed. `kept_per_hour` is the
    /// mean of those that are not due yet, which shows growth before it expires.
    ///
    /// # Errors
    /// [`Doubt::Volume`] where they are more than twice the norm.
    pub fn check(self, due: u64, hours: u32, kept_per_hour: f64) -> Result<(), Doubt> {
        let usual = self.per_hour.max(kept_per_hour) * f64::from(hours.max(1));
        let believed = rounded(2.0 * usual).max(VOLUME_FLOOR);
        if self.hours < NORM_HOURS || due <= believed { Ok(()) } else { Err(Doubt::Volume { due, believed }) }
    }
}

/// Hours that demonstrably passed since everything due was last destroyed.
pub fn proven_hours(proven: Timestamp, destroyed_up_to: Option<ExpiryHour>, now: Timestamp) -> u32 {
    let since = destroyed_up_to.map_or(ExpiryHour::now(proven), |up_to| up_to.max(ExpiryHour::now(proven)));
    ExpiryHour::now(now).since(since).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "an average needs no exact count")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive average; casts saturate"
)]
const fn rounded(average: f64) -> u64 {
    average.ceil() as u64
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", in_words(self.by), if self.ahead { "ahead" } else { "behind" })
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "the clock of the database server",
            Self::StatusNote => "the clock of whoever signs status notes",
            Self::Recorder => "the clock of a recorder",
        })
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CONFIRM: &str = "look at the clock, then run `obscura key resume-destruction`";
        match self {
            Self::Stepped(step) => {
                write!(
                    f,
                    "the clock was set while the key service ran and is {step}: put it right, or {CONFIRM}"
                )
            }
            Self::SteppedMeanwhile(step) => write!(
                f,
                "the clock was set while the key service was not running and is {step}: put it right, or {CONFIRM}"
            ),
            Self::Unproven(gap) => write!(
                f,
                "the machine was restarted or exchanged, the clock went on by {} meanwhile, and no time server \
                 vouches for it: {CONFIRM}",
                in_words(*gap)
            ),
            Self::Disagrees(witness, step) => {
                write!(f, "the clock is {step} of {witness}: put the wrong one right, or {CONFIRM}")
            }
            Self::Volume { due, believed } => write!(
                f,
                "{due} layer keys are due at once, and more than {believed} is more than twice what usually \
                 expires: was a retention set by mistake? If it is right, run `obscura key resume-destruction`"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
