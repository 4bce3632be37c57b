//! Objects on their way out. A range is answered with exactly its bytes, or refused.

use std::{io, ops::Range};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{S3Bucket, answer};
use crate::{BlobKey, ByteStream, Error};

const DOING: &str = "reading an object";

impl S3Bucket {
    pub(super) async fn get_range(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        if range.start >= range.end {
            // HTTP has no empty ranges (RFC 9110, section 14.1.2).
            let size = self.head(key).await?;
            let lies_within = range.start == range.end && range.end <= size;
            return if lies_within {
                Ok(Box::pin(stream::empty()))
            } else {
                Err(Error::OutOfBounds { range, size })
            };
        }
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        let action = self.bucket.get_object(Some(&self.credentials), key.as_str());
        let response =
            self.ask(DOING, Request::get(self.sign(&action).as_str()).header(header::RANGE, asked)).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => part(range, response),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Error::OutOfBounds { range, size: self.head(key).await? })
            }
            StatusCode::OK => Err(no_ranges()),
            _ => Err(answer::refusal_of(key, DOING, response).await),
        }
    }

    pub(super) async fn get_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        let action = self.bucket.get_object(Some(&self.credentials), key.as_str());
        let response = self.ask(DOING, Request::get(self.sign(&action).as_str())).await?;
        if response.status() != StatusCode::OK {
            return Err(answer::refusal_of(key, DOING, response).await);
        }
        let bytes = answer::content_length(&response).ok_or_else(|| answer::nonsense(DOING))?;
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let mut pieces = exactly(bytes, response);
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece.map_err(|error| broken(&error))?);
        }
        Ok(whole.freeze())
    }
}

fn no_ranges() -> Error {
    Error::Refused { doing: DOING, why: "it does not answer ranged reads, which are needed".into() }
}

fn broken(error: &io::Error) -> Error {
    Error::Unanswered { doing: DOING, why: error.to_string() }
}

/// The body of a range, if it is the range that was asked for. A store cuts a range that ends behind
/// the object; here such a range is refused.
fn part(range: Range<u64>, response: Response<Incoming>) -> Result<ByteStream, Error> {
    let stated = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let (sent, size) = stated.and_then(content_range).ok_or_else(|| answer::nonsense(DOING))?;
    if range.end > size {
        return Err(Error::OutOfBounds { range, size });
    }
    if sent != range {
        return Err(no_ranges());
    }
    Ok(exactly(range.end - range.start, response))
}

/// `bytes 2-4/10` is `2..5` of 10 (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?, size.parse().ok()?))
}

/// The body, never more than `length` bytes of it; one that is shorter ends with an error.
fn exactly(length: u64, response: Response<Incoming>) -> ByteStream {
    let body = response.into_body().into_data_stream();
    Box::pin(stream::try_unfold((body, length), |(mut body, left)| async move {
        let Some(piece) = body.next().await else {
            return if left == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        let piece = piece.map_err(io::Error::other)?;
        match left.checked_sub(piece.len() as u64) {
            Some(left) => Ok(Some((piece, (body, left)))),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the store sent more than was asked for")),
        }
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_content_range_is_read_as_rfc_9110_says() {
        assert_eq!(content_range("bytes 2-4/10"), Some((2..5, 10)));
        for text in [
            "",
            "bytes",
            "bytes 2-4",
            "bytes */10",
            "bytes 2-4/*",
            "lines 2-4/10",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_content_range_or_a_range(text in "(bytes )?[0-9*/ -]{0,30}") {
            if let Some((range, _)) = content_range(&text) {
                prop_assert!(range.end > 0);
            }
        }
    }
}
