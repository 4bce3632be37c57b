//! Objects on their way in, in one request.

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};

use super::{S3Bucket, answer, exact::exact, signing::CONDITION};
use crate::{BlobKey, ByteStream, Error, check_replaceable};

const DOING: &str = "storing an object";
/// From so many bytes on the store is asked first whether there is an object already: the condition
/// of the upload is what counts, and comes after the bytes.
const ASK_FIRST: u64 = 1024 * 1024;

impl S3Bucket {
    pub(super) async fn put_at_once(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        self.refuse_existing(key, size).await?;
        let presigned = self.presign_put(key, size, super::OWN);
        let (mut body, verdict) = exact(body, size);
        if size == 0 && body.next().await.is_some() {
            // Of a body that is announced as empty, the connection would not even look at the first byte.
            return Err(verdict.take().unwrap_or_else(|| answer::nonsense(DOING)));
        }
        let request =
            Request::put(presigned.url).header(CONTENT_LENGTH, size).header(CONDITION.0, CONDITION.1);
        let sent = self.send(
            DOING,
            request,
            StreamBody::new(body.map(|piece| piece.map(Frame::data))).boxed_unsync(),
        );
        let response = sent.await.map_err(|error| verdict.take().unwrap_or(error))?;
        if let Some(fault) = verdict.take() {
            return Err(fault);
        }
        self.stored(key, size, response).await
    }

    /// Refuses a large object that is there already, before its bytes travel.
    pub(super) async fn refuse_existing(&self, key: &BlobKey, size: u64) -> Result<(), Error> {
        if size < ASK_FIRST {
            return Ok(());
        }
        match self.head(key).await {
            Ok(_) => Err(Error::AlreadyExists(key.clone())),
            Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What came of an upload. The store's word that it has the object is checked: one that loses
    /// objects should not do it quietly.
    pub(super) async fn stored(
        &self,
        key: &BlobKey,
        size: u64,
        response: Response<Incoming>,
    ) -> Result<(), Error> {
        match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => self.confirm(key, size).await,
            // Another upload is under way (S3), or there is an object (stores that know no 412).
            StatusCode::CONFLICT => match self.head(key).await {
                Ok(_) => Err(Error::AlreadyExists(key.clone())),
                Err(Error::NotFound(_)) => Err(answer::refusal(DOING, response).await),
                Err(error) => Err(error),
            },
            _ => Err(answer::refusal_of(key, DOING, response).await),
        }
    }

    pub(super) async fn confirm(&self, key: &BlobKey, size: u64) -> Result<(), Error> {
        let why = match self.head(key).await {
            Ok(stored) if stored == size => return Ok(()),
            Ok(stored) => format!("it said that it stored {size} bytes, and has {stored}"),
            Err(Error::NotFound(_)) => "it said that it stored the object, and does not have it".to_owned(),
            Err(error) => format!("it said that it stored the object, and cannot show it: {error}"),
        };
        Err(Error::Unanswered { doing: DOING, why })
    }

    pub(super) async fn overwrite(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        check_replaceable(&bytes)?;
        let action = self.bucket.put_object(Some(&self.credentials), key.as_str());
        let request = Request::put(self.sign(&action).as_str()).header(CONTENT_LENGTH, bytes.len());
        let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(DOING, request, body).await?;
        match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(answer::refusal(DOING, response).await),
        }
    }
}
