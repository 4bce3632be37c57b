//! What a store answers, and what that means.

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::{BlobKey, Error};

/// Bytes of an answer in words that are read; the rest does not matter.
const WORDS: usize = 16 * 1024;
/// Longest code of an error.
const CODE: usize = 64;

/// The stated length of the body.
pub(super) fn content_length(response: &Response<Incoming>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An answer that no S3 store gives.
pub(super) fn nonsense(doing: &'static str) -> Error {
    Error::Refused { doing, why: "its answer is not that of an S3 store: compare `endpoint`".into() }
}

/// The body of an answer, if it has at most `limit` bytes.
pub(super) async fn text(
    doing: &'static str,
    response: Response<Incoming>,
    limit: usize,
) -> Result<Bytes, Error> {
    let (bytes, whole) = up_to(doing, response, limit).await?;
    if whole { Ok(bytes) } else { Err(nonsense(doing)) }
}

/// The first bytes of the body, and whether those are all.
async fn up_to(
    doing: &'static str,
    response: Response<Incoming>,
    limit: usize,
) -> Result<(Bytes, bool), Error> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Unanswered { doing, why: error.to_string() })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Ok((bytes.freeze(), false));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), true))
}

/// A refusal of what was asked of this object.
pub(super) async fn refusal_of(key: &BlobKey, doing: &'static str, response: Response<Incoming>) -> Error {
    let status = response.status();
    let code = code(doing, response).await;
    match (status, code.as_str()) {
        (StatusCode::NOT_FOUND, "NoSuchKey" | "") => Error::NotFound(key.clone()),
        (StatusCode::PRECONDITION_FAILED, _) => Error::AlreadyExists(key.clone()),
        _ => in_words(doing, status, &code),
    }
}

/// A refusal that is not about one object.
pub(super) async fn refusal(doing: &'static str, response: Response<Incoming>) -> Error {
    let status = response.status();
    in_words(doing, status, &code(doing, response).await)
}

/// The code in an answer: `<Error><Code>SlowDown</Code>…`. Nothing else of it is passed on: some stores
/// repeat the access key and the signed text there.
async fn code(doing: &'static str, response: Response<Incoming>) -> String {
    let Ok((bytes, _)) = up_to(doing, response, WORDS).await else { return String::new() };
    code_in(&String::from_utf8_lossy(&bytes)).to_owned()
}

fn code_in(text: &str) -> &str {
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let is_code = |code: &&str| code.len() <= CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    code.filter(is_code).unwrap_or_default()
}

fn in_words(doing: &'static str, status: StatusCode, code: &str) -> Error {
    let words = explanation(code).unwrap_or_else(|| by_status(status));
    let why = format!("{words} ({} {code})", status.as_u16()).replace(" )", ")");
    match status.as_u16() {
        409 | 429 | 503 => Error::Unavailable { doing, why },
        408 | 500..=599 => Error::Unanswered { doing, why },
        _ if code == "RequestTimeout" => Error::Unanswered { doing, why },
        _ => Error::Refused { doing, why },
    }
}

fn explanation(code: &str) -> Option<&'static str> {
    Some(match code {
        "InvalidAccessKeyId" => "it does not know the access key: compare `access_key_file`",
        "SignatureDoesNotMatch" => {
            "the secret key does not belong to the access key: compare `secret_key_file`"
        }
        "AccessDenied" => "the access key may not do this in the bucket: look at its policy",
        "NoSuchBucket" => "there is no such bucket: compare `bucket`, or create it",
        "RequestTimeTooSkewed" => "its clock and ours differ by too much: set them",
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "PermanentRedirect" => {
            "it does not accept the signature: compare `region` and `endpoint`"
        }
        "SlowDown" | "ServiceUnavailable" => "it has too much to do",
        "QuotaExceeded" | "XMinioStorageFull" => "it is full",
        "ConditionalRequestConflict" | "OperationAborted" => "another upload of the object is under way",
        _ => return None,
    })
}

const fn by_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "it sends us elsewhere, and nobody follows: compare `endpoint` and `region`",
        401 | 403 => "it does not accept the access key: look at the key and its policy",
        501 => "it does not support this",
        500..=599 => "it has a fault",
        _ => "it does not accept the request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_found_and_nothing_else_is_told() {
        let text =
            "<?xml?><Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        assert_eq!(code_in(text), "SignatureDoesNotMatch");
        for text in ["", "<Code>", "<Code>a b</Code>", "<Code><x></Code>", "</Code><Code>"] {
            assert_eq!(code_in(text), "", "{text}");
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_somebody_must_change() {
        let error = |status: u16, code| in_words("storing", StatusCode::from_u16(status).unwrap(), code);
        assert!(matches!(error(503, "SlowDown"), Error::Unavailable { .. }));
        assert!(matches!(error(429, ""), Error::Unavailable { .. }));
        assert!(matches!(error(500, "InternalError"), Error::Unanswered { .. }), "it may have happened");
        assert!(matches!(error(403, "AccessDenied"), Error::Refused { .. }));
        assert!(matches!(error(307, ""), Error::Refused { .. }), "redirects are not followed");
        let words = error(404, "NoSuchBucket").to_string();
        assert!(words.ends_with("compare `bucket`, or create it (404 NoSuchBucket)"), "{words}");
    }
}
