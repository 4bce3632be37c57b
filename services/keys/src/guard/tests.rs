use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A machine whose wall clock can be wrong, and the true time beside it.
#[derive(Clone)]
struct World {
    truth: Timestamp,
    /// Nanoseconds that the wall clock is ahead of the truth.
    error: i64,
    booted: Timestamp,
    boots: u32,
    process: Timestamp,
    synchronised: bool,
}

impl World {
    fn new() -> Self {
        let truth = "2026-11-24T10:00:00Z".parse().unwrap();
        Self { truth, error: 0, booted: truth - 50 * HOUR, boots: 1, process: truth, synchronised: false }
    }

    fn wait(&mut self, by: Duration) {
        self.truth = self.truth + by;
    }

    fn step(&mut self, by: Duration, ahead: bool) {
        let nanos = i64::try_from(by.as_nanos()).unwrap();
        self.error += if ahead { nanos } else { -nanos };
    }

    fn read(&self) -> Reading {
        let nanos = |since: Timestamp| u64::try_from(self.truth.since(since).as_nanos()).unwrap();
        Reading {
            wall: Timestamp::from_unix_nanos(self.truth.unix_nanos() + self.error),
            monotonic: Monotonic::from_nanos(nanos(self.process)),
            machine: Some(Uptime {
                boot: self.boots.to_string(),
                up: self.truth.since(self.booted),
                synchronised: self.synchronised,
            }),
        }
    }

    /// The process ends and begins again.
    fn restart(&mut self, last: Trusted, away: Duration, boot: bool) -> Guard {
        self.wait(away);
        self.process = self.truth;
        if boot {
            (self.boots, self.booted) = (self.boots + 1, self.truth);
        }
        Guard::begin(self.read(), Some(last), true)
    }
}

/// A world in which the clock was believed once.
fn trusted() -> (World, Guard, Trusted) {
    let world = World::new();
    let mut guard = Guard::begin(world.read(), None, false);
    guard.check(&world.read()).unwrap();
    let trusted = guard.trusted(&world.read());
    (world, guard, trusted)
}

#[test]
fn a_clock_that_is_set_by_minutes_or_a_year_in_either_direction_is_doubted_until_it_is_right_again() {
    for by in [6 * MINUTE, HOUR, YEAR] {
        for ahead in [true, false] {
            let (mut world, guard, _) = trusted();
            world.wait(10 * HOUR);
            world.step(by, ahead);
            let doubt = guard.check(&world.read()).unwrap_err();
            assert_eq!(doubt, Doubt::Stepped(Step { by, ahead }), "{doubt}");
            world.step(by, !ahead);
            assert!(guard.check(&world.read()).is_ok());
        }
    }
}

#[test]
fn small_steps_that_add_up_are_noticed() {
    let (mut world, mut guard, mut last) = trusted();
    for (restart, passes) in [(false, true), (true, false), (false, false)] {
        world.step(4 * MINUTE, true);
        if restart {
            guard = world.restart(last.clone(), MINUTE, false);
        }
        assert_eq!(guard.check(&world.read()).is_ok(), passes);
        if passes {
            last = guard.trusted(&world.read());
        }
    }
}

#[test]
fn a_clock_that_was_set_while_the_process_was_away_is_doubted() {
    for by in [6 * MINUTE, YEAR] {
        for ahead in [true, false] {
            let (mut world, _, last) = trusted();
            world.step(by, ahead);
            let guard = world.restart(last, HOUR, false);
            let doubt = guard.check(&world.read()).unwrap_err();
            assert_eq!(doubt, Doubt::SteppedMeanwhile(Step { by, ahead }));
            world.step(by, !ahead);
            assert!(guard.check(&world.read()).is_ok(), "it is right again");
        }
    }
}

#[test]
fn time_that_passed_while_the_process_was_away_is_proven_by_the_uptime() {
    let (mut world, _, last) = trusted();
    let before = world.read().wall;
    let guard = world.restart(last, 90 * HOUR, false);
    assert_eq!(guard.check(&world.read()), Ok(before));
}

#[test]
fn after_a_restart_of_the_machine_a_gap_needs_a_time_server_or_a_person() {
    let (mut world, _, last) = trusted();
    let guard = world.restart(last.clone(), 4 * MINUTE, true);
    assert_eq!(guard.check(&world.read()), Ok(world.read().wall), "only a moment passed");
    let mut guard = world.restart(last.clone(), 90 * HOUR, true);
    assert!(matches!(guard.check(&world.read()), Err(Doubt::Unproven(gap)) if gap > 90 * HOUR));
    guard.confirm(&world.read());
    assert!(guard.check(&world.read()).is_ok());
    world.synchronised = true;
    let guard = world.restart(last.clone(), 90 * HOUR, true);
    assert_eq!(guard.check(&world.read()), Ok(world.read().wall));
    world.step(YEAR, false);
    let guard = world.restart(last, 90 * HOUR, true);
    assert!(matches!(guard.check(&world.read()), Err(Doubt::SteppedMeanwhile(Step { ahead: false, .. }))));
}

#[test]
fn keys_without_a_note_of_the_time_are_not_destroyed_by_an_unknown_clock() {
    let mut world = World::new();
    let guard = Guard::begin(world.read(), None, true);
    assert_eq!(guard.check(&world.read()), Err(Doubt::Unproven(Duration::ZERO)));
    world.synchronised = true;
    assert!(guard.check(&world.read()).is_ok());
}

#[test]
fn another_clock_is_listened_to_for_an_hour_or_until_it_says_otherwise() {
    let (mut world, mut guard, _) = trusted();
    for witness in [Witness::Database, Witness::StatusNote] {
        guard.witness(witness, world.read().wall + 6 * MINUTE, world.read().monotonic);
        let doubt = guard.check(&world.read()).unwrap_err();
        assert_eq!(doubt, Doubt::Disagrees(witness, Step { by: 6 * MINUTE, ahead: false }));
        guard.witness(witness, world.read().wall, world.read().monotonic);
        assert!(guard.check(&world.read()).is_ok());
        guard.witness(witness, world.read().wall - HOUR, world.read().monotonic);
        assert!(guard.check(&world.read()).is_err());
        world.wait(HOUR + MINUTE);
        assert!(guard.check(&world.read()).is_ok());
    }
}

#[test]
fn a_late_key_says_nothing_and_one_from_the_future_does() {
    let (world, mut guard, _) = trusted();
    let now = world.read();
    guard.witness(Witness::Recorder, now.wall - YEAR, now.monotonic);
    assert!(guard.check(&now).is_ok());
    guard.witness(Witness::Recorder, now.wall + HOUR, now.monotonic);
    guard.witness(Witness::Recorder, now.wall - YEAR, now.monotonic);
    assert!(matches!(guard.check(&now), Err(Doubt::Disagrees(Witness::Recorder, _))));
}

#[test]
fn twice_the_norm_passes_and_more_does_not() {
    let norm = (0..72).fold(Norm::default(), |norm, _| norm.with(100, 1));
    assert!(norm.check(200, 1, 0.0).is_ok());
    assert_eq!(norm.check(201, 1, 0.0), Err(Doubt::Volume { due: 201, believed: 200 }));
    assert!(norm.check(600, 3, 0.0).is_ok(), "three hours passed");
    assert!(norm.check(400, 1, 250.0).is_ok(), "what is kept shows that the site has grown");
    let young = (0..10).fold(Norm::default(), |norm, _| norm.with(100, 1));
    assert!(young.check(100_000, 1, 0.0).is_ok());
    let small = (0..72).fold(Norm::default(), |norm, _| norm.with(1, 1));
    assert!(small.check(VOLUME_FLOOR, 1, 0.0).is_ok() && small.check(VOLUME_FLOOR + 1, 1, 0.0).is_err());
}

#[test]
fn every_doubt_says_what_to_do() {
    let step = Step { by: 7 * MINUTE, ahead: true };
    let doubts = [
        Doubt::Stepped(step),
        Doubt::SteppedMeanwhile(step),
        Doubt::Unproven(HOUR * 30),
        Doubt::Disagrees(Witness::Database, step),
        Doubt::Volume { due: 9, believed: 4 },
    ];
    for doubt in doubts {
        assert!(doubt.to_string().contains("`obscura key resume-destruction`"), "{doubt}");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Step(u64, bool),
    Restart(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let seconds = prop_oneof![0..600_u64, 0..100_000_u64, 0..40_000_000_u64];
    let event = prop_oneof![
        seconds.clone().prop_map(Event::Wait),
        (seconds.clone(), any::<bool>()).prop_map(|(by, ahead)| Event::Step(by, ahead)),
        seconds.prop_map(Event::Restart),
    ];
    prop::collection::vec(event, 1..20)
}

proptest! {
    /// Whatever happens to the clock on a machine that is not restarted, a clock that is believed is
    /// never more than the tolerance ahead of the truth.
    #[test]
    fn a_believed_clock_is_right_within_the_tolerance(events in events()) {
        let (mut world, mut guard, mut last) = trusted();
        for event in events {
            match event {
                Event::Wait(seconds) => world.wait(Duration::from_secs(seconds)),
                Event::Step(seconds, ahead) => world.step(Duration::from_secs(seconds), ahead),
                Event::Restart(seconds) => guard = world.restart(last.clone(), Duration::from_secs(seconds), false),
            }
            if guard.check(&world.read()).is_ok() {
                prop_assert!(world.error.unsigned_abs() <= u64::try_from(TOLERANCE.as_nanos()).unwrap());
                last = guard.trusted(&world.read());
            }
        }
    }
}
