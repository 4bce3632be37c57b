//! `Scrub`.

use std::sync::Arc;

use aws_lc_rs::rand;
use obscura_proto::storage::v1::{ScrubRequest, ScrubResponse};

use super::{Grpc, span};
use crate::{
    Error,
    report::{Reporter, Reports},
    scrub::demand::Demand,
};

impl Grpc {
    pub(super) fn scrubbed(&self, request: &ScrubRequest) -> Result<Reports<ScrubResponse>, Error> {
        let demand = demand(request)?;
        let turn = Arc::clone(&self.upkeep.scrubbing).try_lock_owned();
        let turn = turn.map_err(|_| Error::UnderWay("a scrub"))?;
        let scrubber = self.upkeep.scrubber();
        let (reporter, reports) = Reporter::stream();
        tokio::spawn(async move {
            let outcome = scrubber.scrub(&demand, &reporter).await;
            reporter.end(outcome).await;
            drop(turn);
        });
        Ok(reports)
    }
}

fn demand(request: &ScrubRequest) -> Result<Demand, Error> {
    let percent = match request.percent {
        0 => 100,
        percent => u8::try_from(percent)
            .ok()
            .filter(|percent| *percent <= 100)
            .ok_or_else(|| Error::invalid("percent", format!("it is from 1 to 100, not {percent}")))?,
    };
    let camera = match request.camera_id.as_str() {
        "" => None,
        camera => Some(camera.parse()?),
    };
    let mut salt = [0; 16];
    // Without randomness the lot is the same each time.
    let _ = rand::fill(&mut salt);
    Ok(Demand { camera, span: request.span.map(span).transpose()?, percent, salt })
}
