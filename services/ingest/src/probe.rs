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

/// How often a source is tried whose connection broke, that is starting or that sent nonsense.
const ATTEMPTS: u32 = 3;
/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// Connects, waits for a key frame, and reports.
pub async fn test(source: Result<Source, Failure>, clock: SharedClock) -> TestSourceResponse {
    let found = match source {
        Ok(source) => patiently(|| try_source(&source, clock.clone())).await,
        Err(failure) => Err(failure),
    };
    match found {
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

/// A lost packet or a broken connection says nothing about a camera yet. What a person has to change is
/// reported at once: a password that is tried again may lock the account.
async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Failure> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(failure) if may_pass(failure.reason) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    attempt().await
}

const fn may_pass(reason: GapReason) -> bool {
    matches!(reason, GapReason::ProtocolError | GapReason::ConnectionLost | GapReason::NotReady)
}

async fn try_source(source: &Source, clock: SharedClock) -> Result<TestSourceResponse, Failure> {
    let started = clock.monotonic();
    let mut session = Session::open(source, clock.clone()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a source was tried whose attempts end like this, the last one again and again.
    async fn attempts(outcomes: &[Result<(), Failure>]) -> (u32, Result<(), Failure>) {
        let mut tried = 0;
        let found = patiently(|| {
            let outcome = outcomes.get(tried).or(outcomes.last()).unwrap().clone();
            tried += 1;
            async move { outcome }
        })
        .await;
        (u32::try_from(tried).unwrap(), found)
    }

    #[tokio::test]
    async fn a_lost_packet_is_no_verdict_about_a_camera() {
        let lost = || Err(Failure::protocol("a packet was lost".into()));
        let (tried, found) = attempts(&[lost(), Err(Failure::ended()), Ok(())]).await;
        assert!(found.is_ok());
        assert_eq!(tried, 3);
        let (tried, found) = attempts(&[lost()]).await;
        assert_eq!((tried, found.unwrap_err().reason), (ATTEMPTS, GapReason::ProtocolError));
    }

    #[tokio::test]
    async fn what_a_person_has_to_change_is_tried_once() {
        let (tried, found) = attempts(&[Err(Failure::unsupported_codec(&[]))]).await;
        assert_eq!((tried, found.unwrap_err().reason), (1, GapReason::UnsupportedCodec));
    }
}
