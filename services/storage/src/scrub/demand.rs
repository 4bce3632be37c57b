//! A scrub that somebody asked for: all packs of a camera or span, or a part of them drawn by lot.

use obscura_clock::Span;
use obscura_ids::{CameraId, PackId};
use obscura_proto::storage::v1::ScrubResponse;

use super::{Pace, Scrubber};
use crate::{
    Error,
    index::PackRow,
    inspection::sha256,
    report::{Findings, Reporter},
    store::Walk,
};

/// Packs that are read from the index together.
const PAGE: u16 = 100;

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Only packs of this camera.
    pub camera: Option<CameraId>,
    /// Only packs that overlap this span.
    pub span: Option<Span>,
    /// So many of a hundred.
    pub percent: u8,
    /// Makes another lot each time.
    pub salt: [u8; 16],
}

impl Demand {
    fn draws(&self, pack: PackId) -> bool {
        let lot = sha256(&[&self.salt[..], pack.as_bytes()].concat());
        let number = lot.as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        number % 100 < u32::from(self.percent)
    }
}

/// How far it is.
#[derive(Clone, Debug, Default)]
struct Progress {
    done: u64,
    total: u64,
    packs: u64,
    findings: Findings,
}

impl Progress {
    fn message(&mut self, is_last: bool) -> ScrubResponse {
        self.total = if is_last { self.done } else { self.total.max(self.done) };
        ScrubResponse {
            done_bytes: self.done,
            total_bytes: self.total,
            findings: if is_last { self.findings.take_last() } else { self.findings.take() },
            packs: self.packs,
        }
    }
}

impl Scrubber {
    /// Reads what is asked for and reports each pack.
    ///
    /// # Errors
    /// As [`Scrubber::check`]; [`Error::GoneAway`].
    pub async fn scrub(&self, demand: &Demand, reporter: &Reporter<ScrubResponse>) -> Result<(), Error> {
        let mut walk = Walk { camera: demand.camera, span: demand.span, after: None, limit: PAGE };
        let bytes = self.store.weigh(&walk).await?;
        let total = bytes / 100 * u64::from(demand.percent);
        let mut progress = Progress { total, ..Progress::default() };
        loop {
            let rows = self.store.walk(&walk).await?;
            for row in rows.iter().filter(|row| demand.draws(row.pack)) {
                self.scrub_one(row, &mut progress).await?;
                reporter.send(progress.message(false)).await?;
            }
            match walk.behind(&rows) {
                Some(next) => walk = next,
                None => return reporter.send(progress.message(true)).await,
            }
        }
    }

    async fn scrub_one(&self, row: &PackRow, progress: &mut Progress) -> Result<(), Error> {
        let found = self.check(row, &mut Pace::Free).await?;
        found.into_iter().for_each(|finding| progress.findings.add(finding));
        progress.done = progress.done.saturating_add(row.bytes);
        progress.packs = progress.packs.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lot_draws_about_as_many_as_it_should_and_others_the_next_time() {
        let drawn = |percent, salt| {
            let demand = Demand { camera: None, span: None, percent, salt: [salt; 16] };
            let packs = (0..10_000_u128).map(|number| PackId::from_bytes(number.to_be_bytes()));
            packs.filter(|pack| demand.draws(*pack)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(100, 1).len(), 10_000);
        assert!((800..1_200).contains(&drawn(10, 1).len()));
        assert_ne!(drawn(10, 1), drawn(10, 2));
    }
}
