//! Large objects on their way in, in parts: a part that is lost on the way is sent again, which a
//! body that streams through could not be.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use rusty_s3::{
    S3Action as _,
    actions::{CompleteMultipartUploadResponse, CreateMultipartUpload},
};

use super::{S3Bucket, answer, signing::CONDITION};
use crate::{BlobKey, ByteStream, Error, RetryPolicy, retry::delays};

const DOING: &str = "storing an object in parts";
/// Parts of one object (Amazon S3, "Multipart upload limits").
const MAX_PARTS: u16 = 10_000;
/// Bytes of an answer in XML.
const ANSWER: usize = 64 * 1024;

impl S3Bucket {
    pub(super) async fn put_in_parts(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        self.refuse_existing(key, size).await?;
        let upload = self.begin(key).await?;
        let sent = match self.send_parts(key, &upload, body, size).await {
            Ok(etags) => self.complete(key, &upload, &etags, size).await,
            Err(error) => Err(error),
        };
        if sent.is_err() {
            self.abort(key, &upload).await;
        }
        sent
    }

    async fn begin(&self, key: &BlobKey) -> Result<String, Error> {
        let action = self.bucket.create_multipart_upload(Some(&self.credentials), key.as_str());
        let request = Request::post(self.sign(&action).as_str()).header(header::CONTENT_LENGTH, 0);
        let response = self.ask(DOING, request).await?;
        if response.status() != StatusCode::OK {
            return Err(answer::refusal(DOING, response).await);
        }
        let text = answer::text(DOING, response, ANSWER).await?;
        let parsed = CreateMultipartUpload::parse_response(&String::from_utf8_lossy(&text));
        Ok(parsed.map_err(|_| answer::nonsense(DOING))?.upload_id().to_owned())
    }

    /// The tags of the parts, in order.
    async fn send_parts(
        &self,
        key: &BlobKey,
        upload: &str,
        mut body: ByteStream,
        size: u64,
    ) -> Result<Vec<String>, Error> {
        let mut etags = Vec::new();
        let mut received = 0;
        for number in 1..=MAX_PARTS {
            let part = next_part(&mut body, &mut received, size, self.sizes.part).await?;
            if part.is_empty() {
                return if received == size {
                    Ok(etags)
                } else {
                    Err(Error::WrongSize { announced: size, received })
                };
            }
            etags.push(self.send_part_patiently(key, upload, number, &part).await?);
        }
        let limit = u64::from(MAX_PARTS).saturating_mul(self.sizes.part as u64);
        Err(Error::TooLarge { bytes: size, limit })
    }

    /// Sending a part again is harmless: it replaces itself.
    async fn send_part_patiently(
        &self,
        key: &BlobKey,
        upload: &str,
        number: u16,
        part: &[Bytes],
    ) -> Result<String, Error> {
        for delay in delays(RetryPolicy::default()) {
            match self.send_part(key, upload, number, part).await {
                Err(error) if error.may_pass() => tokio::time::sleep(delay).await,
                outcome => return outcome,
            }
        }
        self.send_part(key, upload, number, part).await
    }

    async fn send_part(
        &self,
        key: &BlobKey,
        upload: &str,
        number: u16,
        part: &[Bytes],
    ) -> Result<String, Error> {
        let mut action = self.bucket.upload_part(Some(&self.credentials), key.as_str(), number, upload);
        let length: usize = part.iter().map(Bytes::len).sum();
        action.headers_mut().insert("content-length", length.to_string());
        let request = Request::put(self.sign(&action).as_str()).header(header::CONTENT_LENGTH, length);
        let pieces = stream::iter(part.to_vec()).map(|piece| Ok(Frame::data(piece)));
        let response = self.send(DOING, request, StreamBody::new(pieces).boxed_unsync()).await?;
        if response.status() != StatusCode::OK {
            return Err(answer::refusal(DOING, response).await);
        }
        let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        etag.map(ToOwned::to_owned).ok_or_else(|| answer::nonsense(DOING))
    }

    /// Makes an object of the parts, on the condition that there is none.
    async fn complete(&self, key: &BlobKey, upload: &str, etags: &[String], size: u64) -> Result<(), Error> {
        let etags = etags.iter().map(String::as_str);
        let mut action =
            self.bucket.complete_multipart_upload(Some(&self.credentials), key.as_str(), upload, etags);
        action.headers_mut().insert(CONDITION.0, CONDITION.1);
        let request = Request::post(self.sign(&action).as_str()).header(CONDITION.0, CONDITION.1);
        let body = Bytes::from(action.body());
        let request = request.header(header::CONTENT_LENGTH, body.len());
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(DOING, request, body).await?;
        if response.status() != StatusCode::OK {
            return self.stored(key, size, response).await;
        }
        // S3 may say 200 first and find out that it failed later (API reference, CompleteMultipartUpload).
        let text = answer::text(DOING, response, ANSWER).await?;
        CompleteMultipartUploadResponse::parse(&String::from_utf8_lossy(&text)).map_err(|_| {
            Error::Unanswered { doing: DOING, why: "it could not put the parts together".into() }
        })?;
        self.confirm(key, size).await
    }

    /// Gives the parts up. Where that fails too, a rule of the bucket removes them.
    async fn abort(&self, key: &BlobKey, upload: &str) {
        let action = self.bucket.abort_multipart_upload(Some(&self.credentials), key.as_str(), upload);
        if let Err(error) = self.ask(DOING, Request::delete(self.sign(&action).as_str())).await {
            tracing::warn!(%error, "the parts of an unfinished upload stay in the bucket");
        }
    }
}

/// About `length` bytes of the body, at least as many where it has them; empty at its end.
async fn next_part(
    body: &mut ByteStream,
    received: &mut u64,
    size: u64,
    length: usize,
) -> Result<Vec<Bytes>, Error> {
    let mut part = Vec::new();
    let mut bytes = 0;
    while bytes < length {
        let Some(piece) = body.next().await else { break };
        let piece = piece.map_err(Error::Body)?;
        *received = received.saturating_add(piece.len() as u64);
        if *received > size {
            return Err(Error::WrongSize { announced: size, received: *received });
        }
        bytes += piece.len();
        if !piece.is_empty() {
            part.push(piece);
        }
    }
    Ok(part)
}
