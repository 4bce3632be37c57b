//! The recorder's clock is set while it records: by minutes and by a year, in both directions.

use std::time::Duration;

use obscura_clock::{Clock as _, ClockQuality, Timestamp};
use obscura_proto::footage::v1::GapReason;

use super::{
    account::account,
    plug::Unsynced,
    world::{Setup, World},
};

const MINUTES: Duration = Duration::from_secs(5 * 60);
const YEAR: Duration = Duration::from_hours(365 * 24);

#[derive(Clone, Copy, Debug)]
enum Step {
    Forward(Duration),
    Back(Duration),
}

const STEPS: [Step; 4] = [Step::Forward(MINUTES), Step::Back(MINUTES), Step::Forward(YEAR), Step::Back(YEAR)];

impl Step {
    fn of(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Forward(by) => now + by,
            Self::Back(by) => now - by,
        }
    }
}

#[tokio::test]
async fn a_step_starts_a_new_segment_and_loses_no_frame() {
    for step in STEPS {
        let mut world = World::new(Setup::default()).await;
        world.record(110).await; // In the middle of a group of pictures and of a segment.
        let before = world.clock.wall();
        world.clock.step_wall(step.of(before));
        world.record(110).await;
        assert!(
            world.run.pressure.forecast().oldest < Duration::from_secs(60),
            "nothing waits since {step:?}"
        );
        world.finish().await;
        account(&world);

        let stored = world.peers.stored();
        let entries: Vec<_> = stored.index.values().map(|indexed| indexed.entry.clone()).collect();
        let sequences: Vec<u64> = entries.iter().map(|entry| entry.header.sequence.0).collect();
        assert!(sequences.iter().copied().eq(0..sequences.len() as u64), "{sequences:?}");
        assert!(entries.iter().all(|entry| entry.span.duration() < Duration::from_secs(11)), "{step:?}");
        assert!(entries.iter().any(|entry| entry.clock_quality == ClockQuality::Stepped));
        let frames: u32 = entries.iter().map(|entry| entry.frames).sum();
        assert_eq!(frames, 220, "{step:?}");
        let gaps: Vec<_> = stored.gaps.values().collect();
        match step {
            Step::Back(_) => assert!(gaps.is_empty(), "time that came twice is no hole: {gaps:?}"),
            Step::Forward(by) => {
                assert_eq!((gaps.len(), gaps[0].reason()), (1, GapReason::ClockStep));
                let length = gaps[0].end_unix_ns - gaps[0].start_unix_ns;
                assert_eq!(length, i64::try_from(by.as_nanos()).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_crash_after_a_step_loses_nothing_acknowledged_in_either_direction() {
    for step in STEPS {
        let mut world = World::new(Setup::default()).await;
        world.peers.stored().away = true;
        world.record(110).await;
        world.clock.step_wall(step.of(world.clock.wall()));
        world.record(110).await;
        world.restart(Unsynced::Vanish).await;
        world.peers.stored().away = false;
        world.record(110).await;
        world.finish().await;
        let stored = world.peers.stored();
        let found = super::account::frames(&world, &stored, 0);
        let lost: Vec<_> = world.reels[0].acknowledged.keys().filter(|n| !found.contains(n)).collect();
        assert!(lost.is_empty(), "{step:?}: {lost:?}");
        let stopped = stored.gaps.values().filter(|gap| gap.reason() == GapReason::RecorderStopped);
        let longest = stopped.map(|gap| gap.end_unix_ns - gap.start_unix_ns).max().unwrap();
        assert!(longest < 5_000_000_000, "{step:?}: the gap of a second is {longest} ns long");
    }
}
