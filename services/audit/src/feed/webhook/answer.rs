//! What an answer means.

use std::{error::Error as _, time::Duration};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use reqwest::Response;

use crate::feed::sink::Trouble;

/// What is read of an answer, so that the connection can be used again.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Whether the events were received.
pub async fn received(answer: Result<Response, reqwest::Error>) -> Result<(), Trouble> {
    let mut response = answer.map_err(|error| unanswered(&error.without_url()))?;
    judge(response.status(), response.headers())?;
    let mut bytes = 0_usize;
    // An answer cut off after its status is an answer.
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes = bytes.saturating_add(chunk.len());
        if bytes > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(())
}

fn unanswered(error: &reqwest::Error) -> Trouble {
    // The innermost cause says what happened: refused, no such name, wrong certificate.
    let mut cause = error.source();
    let mut words = error.to_string();
    while let Some(inner) = cause {
        words = inner.to_string();
        cause = inner.source();
    }
    Trouble::Again(format!("the webhook does not answer: {words}"))
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Trouble> {
    if status.is_success() {
        return Ok(());
    }
    let said = format!("the webhook answered {status}");
    let passing =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if !passing && !status.is_server_error() {
        let hint = "nothing is skipped, so it has to accept this event before others follow";
        return Err(Trouble::Parked(format!("{said}: {hint}")));
    }
    match retry_after(headers) {
        Some(wait) => Err(Trouble::Later(said, wait)),
        None => Err(Trouble::Again(said)),
    }
}

/// Seconds only: a date would need the other's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: u16) -> Result<(), Trouble> {
        judge(StatusCode::from_u16(code).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn only_2xx_is_received() {
        for code in [200, 202, 204] {
            assert_eq!(judged(code), Ok(()));
        }
        for code in [408, 425, 429, 500, 503] {
            assert!(matches!(judged(code), Err(Trouble::Again(_))), "{code}");
        }
        for code in [301, 307, 400, 401, 404, 410, 413] {
            assert!(matches!(judged(code), Err(Trouble::Parked(_))), "{code}");
        }
    }

    #[test]
    fn a_receiver_that_says_when_is_asked_then() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let busy = judge(StatusCode::SERVICE_UNAVAILABLE, &headers);
        assert!(matches!(busy, Err(Trouble::Later(_, wait)) if wait == Duration::from_secs(7)));
    }
}
