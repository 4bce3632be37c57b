//! Tries a source and says in words what it found. Stores nothing.

use std::time::Duration;

use obscura_clock::SharedClock;
use obscura_proto::{footage::v1::GapReason, ingest::v1::TestSourceResponse};

use crate::{
    failure::Failure,
    frame::{Release, Released},
    session::{Event, Session},
    source::Source,
};

/// How long a key frame may take to come.
const KEY_FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects, waits for a key frame, and reports.
pub async fn test(source: Result<Source, Failure>, clock: SharedClock) -> TestSourceResponse {
    match try_source(source, clock).await {
        Ok(found) => found,
        Err(failure) => TestSourceResponse {
            ok: false,
            reason: failure.reason.into(),
            finding: failure.finding,
            next_step: failure.next_step.to_owned(),
            plaintext: true,
            ..TestSourceResponse::default()
        },
    }
}

async fn try_source(
    source: Result<Source, Failure>,
    clock: SharedClock,
) -> Result<TestSourceResponse, Failure> {
    let source = source?;
    let started = clock.monotonic();
    let mut session = Session::open(&source, clock.clone()).await?;
    let frame = tokio::time::timeout(KEY_FRAME_TIMEOUT, key_frame(&mut session))
        .await
        .unwrap_or_else(|_| Err(Failure::frame_timeout(KEY_FRAME_TIMEOUT, true)))?;
    let took = clock.monotonic().since(started);
    let parameters = &frame.picture().parameters;
    let (width, height) = (u32::from(parameters.width), u32::from(parameters.height));
    Ok(TestSourceResponse {
        ok: true,
        reason: GapReason::Unspecified.into(),
        finding: format!("{width}x{height} H.264 ({})", parameters.codec),
        next_step: String::new(),
        codec: parameters.codec.clone(),
        width,
        height,
        first_key_frame_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        plaintext: true,
    })
}

/// Only the parameters of the frame are looked at, never its picture.
async fn key_frame(session: &mut Session) -> Result<crate::frame::Frame<Released>, Failure> {
    loop {
        if let Event::Frame(frame) = session.next().await?
            && let Some(frame) = Release::Unmasked.release(frame)
            && frame.picture().random_access
        {
            return Ok(frame);
        }
    }
}
