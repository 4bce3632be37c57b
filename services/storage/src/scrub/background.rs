//! The scrub in the background: packs drawn at random by time, so that each minute of footage has the
//! same chance whatever its camera, at a set rate.

use aws_lc_rs::rand;
use obscura_clock::{Span, Timestamp};

use super::{Pace, Scrubber};
use crate::{
    Error,
    finding::Finding,
    index::PackRow,
    store::{CameraRun, Slice},
};

/// Runs among which a moment is drawn; more than an installation has on most days.
const RUNS: u64 = 100_000;

impl Scrubber {
    /// Reads one pack drawn at random and says what was found; `None` where there was none to read.
    ///
    /// # Errors
    /// As [`Scrubber::check`].
    pub async fn sample(&self, pace: &mut Pace) -> Result<Option<Vec<Finding>>, Error> {
        let runs = self.store.runs(None, None, RUNS).await?;
        let Some((run, at)) = draw(&runs, random()) else { return Ok(None) };
        let Some(pack) = self.pack_at(run, at).await? else { return Ok(None) };
        self.check(&pack, pace).await.map(Some)
    }

    async fn pack_at(&self, run: &CameraRun, at: Timestamp) -> Result<Option<PackRow>, Error> {
        let to = run.run.span.end() + std::time::Duration::from_nanos(1);
        let slice = Slice { camera: run.camera, layer: run.layer, from: at, to, after: None, limit: 1 };
        Ok(self.store.packs(&slice).await?.pop())
    }
}

/// A run and a moment in it, by a number that may be any: longer runs have more moments.
fn draw(runs: &[CameraRun], number: u64) -> Option<(&CameraRun, Timestamp)> {
    let length = |span: Span| u64::try_from(span.duration().as_nanos()).unwrap_or(u64::MAX).max(1);
    let total = runs.iter().map(|run| length(run.run.span)).fold(0, u64::saturating_add);
    let mut left = number.checked_rem(total)?;
    for run in runs {
        match left.checked_sub(length(run.run.span)) {
            Some(rest) => left = rest,
            None => return Some((run, run.run.span.start() + std::time::Duration::from_nanos(left))),
        }
    }
    None
}

/// Any number; without randomness always the same, which costs coverage and nothing else.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = rand::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use obscura_ids::Layer;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        run::Run,
        test_support::{camera, span},
    };

    proptest! {
        #[test]
        fn a_drawn_moment_lies_in_its_run(
            runs in prop::collection::vec((0..100_i64, 0..50_i64), 0..6), number: u64,
        ) {
            let runs: Vec<CameraRun> = runs.into_iter().map(|(start, length)| CameraRun {
                camera: camera(1),
                layer: Layer::Original,
                run: Run { span: span(start, start + length), segments: 1, bytes: 1 },
            }).collect();
            let drawn = draw(&runs, number);
            prop_assert_eq!(drawn.is_none(), runs.is_empty());
            if let Some((run, at)) = drawn {
                prop_assert!(run.run.span.start() <= at && at <= run.run.span.end());
            }
        }
    }
}
