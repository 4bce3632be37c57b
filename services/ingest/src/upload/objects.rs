//! Where packs go: to the storage service, or straight into a bucket.
//!
//! The URL says which. A storage service on this machine is offered the descriptors of the spool first; where nobody
//! takes them the pack goes over TLS like to any other machine. Nothing is trusted there with more than keeping bytes: what leaves is sealed, and
//! `storage` looks at the object before it indexes it. Redirects are refused like any other answer that
//! is no success.

use std::{io, path::PathBuf, sync::Arc};

use http::{Method, Request, StatusCode, Uri, header::CONTENT_LENGTH};
use http_body_util::BodyExt;
use obscura_blob::{WebClient, WebError, WebTrust, is_presigned};
use obscura_hand_over::{Offer, hand_over};
use obscura_identity::{BoxBody, HttpClient};
use obscura_proto::storage::v1::CreateUploadResponse;

use super::{body::Body, fault::Fault};
use crate::spool::Lent;

/// Sends packs.
#[derive(Clone, Debug)]
pub struct Objects {
    storage: HttpClient,
    buckets: WebClient,
    /// Where a storage service on this machine takes descriptors.
    hand_over: Option<PathBuf>,
}

impl Objects {
    /// Sends to the storage service over mutual TLS, or through the socket of one on this machine, and to
    /// buckets as `trust` says.
    ///
    /// # Errors
    /// Where the certificates in `trust` cannot be used.
    pub fn new(storage: HttpClient, trust: &WebTrust, hand_over: Option<PathBuf>) -> Result<Self, WebError> {
        Ok(Self { storage, buckets: WebClient::new(trust)?, hand_over })
    }

    /// Sends a body to where `upload` says and waits for the answer, of which only the status counts.
    ///
    /// # Errors
    /// A [`Fault`] with a sentence for the log, without the URL.
    pub async fn send(&self, upload: &CreateUploadResponse, body: Body) -> Result<StatusCode, Fault> {
        let url: Uri = upload.url.parse().map_err(|_| no_url())?;
        if is_presigned(&url) {
            let answer = self.buckets.send(request(upload, url, body)?.map(BodyExt::boxed_unsync)).await;
            return answer.map(|answer| answer.status()).map_err(|error| Fault::outage(error.to_string()));
        }
        if let Some(answer) = self.hand_over(&url, &body).await? {
            return Ok(answer);
        }
        let answer = self.storage.send(request(upload, url, body)?).await;
        answer.map(|answer| answer.status()).map_err(|error| Fault::outage(error.to_string()))
    }

    /// Hands over a body that nobody needs to send. No answer where nobody takes it.
    async fn hand_over(&self, url: &Uri, body: &Body) -> Result<Option<StatusCode>, Fault> {
        let (Some(socket), Some(target)) = (&self.hand_over, url.path_and_query()) else { return Ok(None) };
        let Some((files, pieces)) = lend(body).await? else { return Ok(None) };
        let offer = Offer { target: target.to_string(), head: body.head.clone(), pieces };
        let files: Vec<_> = files.iter().map(std::os::fd::AsFd::as_fd).collect();
        match hand_over(socket, &offer, &files).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_nobody(&error) => Ok(None),
            Err(error) => Err(Fault::outage(format!("handing the pack over: {error}"))),
        }
    }
}

/// Whether nobody takes what is handed over, or not this.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::PermissionDenied
    )
}

/// Opens the files of a body; `None` where they are more than can be handed over.
async fn lend(body: &Body) -> Result<Option<Lent>, Fault> {
    let (spool, extents) = (Arc::clone(&body.spool), body.extents.clone());
    let lent = tokio::task::spawn_blocking(move || spool.lend(&extents, obscura_hand_over::MAX_FILES)).await;
    let lent = lent.map_err(|stopped| Fault::outage(stopped.to_string()))?;
    // Files that cannot be opened anew may still be read: then they are sent.
    Ok(lent.unwrap_or_else(|error| {
        tracing::debug!(%error, "a pack is sent instead of handed over");
        None
    }))
}

fn request(upload: &CreateUploadResponse, url: Uri, body: Body) -> Result<Request<BoxBody>, Fault> {
    let mut request = Request::builder().method(Method::PUT).uri(url).header(CONTENT_LENGTH, body.length());
    for (name, value) in &upload.headers {
        request = request.header(name, value);
    }
    request.body(body.stream()).map_err(|_| no_url())
}

fn no_url() -> Fault {
    Fault::of_item("storage answered with an upload URL that is none")
}

#[cfg(test)]
mod tests;
