//! One pack: laid out, put, indexed.

use std::sync::Arc;

use aws_lc_rs::digest;
use http::StatusCode;
use obscura_pack::Directory;
use obscura_proto::storage::v1::{CommitPackRequest, CreateUploadRequest, CreateUploadResponse};

use super::{Uploader, body::Body, fault::Fault};
use crate::outbox::Formed;

/// Stores a pack: afterwards its object and its index rows are durable.
///
/// # Errors
/// A [`Fault`] with a sentence for the log; nothing in it identifies a person.
pub async fn send(uploader: &Uploader, pack: &Formed) -> Result<(), Fault> {
    let first = pack.segments.first().ok_or_else(|| Fault::of_item("the pack is empty"))?;
    let header = &first.entry.header;
    let entries = pack.segments.iter().map(|sealed| sealed.entry.clone()).collect();
    let directory = Directory::lay_out(pack.id, header.camera, header.zone.clone(), header.layer, entries)
        .map_err(|error| Fault::of_item(error.to_string()))?;
    let head = directory.encode_head();
    let size_bytes = head.len() as u64 + directory.body_length();
    let upload = CreateUploadRequest {
        placement: Some(first.placement.clone()),
        pack_id: pack.id.to_string(),
        layer: i32::from(header.layer.code()),
        start_unix_ns: directory.span().start().unix_nanos(),
        size_bytes,
    };
    let upload = uploader.patience.call(uploader.storage.clone().create_upload(upload)).await?;
    let directory_sha256 = digest::digest(&digest::SHA256, &head).as_ref().to_vec();
    let unreadable = put(uploader, pack, &upload, head).await?;
    let commit = CommitPackRequest {
        placement: Some(first.placement.clone()),
        object_key: upload.object_key,
        directory_sha256: directory_sha256.into(),
    };
    let committed = uploader.patience.call(uploader.storage.clone().commit_pack(commit)).await.map(drop);
    match (committed, unreadable) {
        (Err(fault), Some(unreadable)) if !fault.is_outage() && !fault.is_refusal() => Err(unreadable),
        (committed, _) => committed,
    }
}

/// Puts a pack. One that the disk does not give back may have arrived by an earlier try whose answer was
/// lost: committing tells, and the fault counts only where it did not.
async fn put(
    uploader: &Uploader,
    pack: &Formed,
    upload: &CreateUploadResponse,
    head: Vec<u8>,
) -> Result<Option<Fault>, Fault> {
    let extents = pack.segments.iter().flat_map(|sealed| sealed.extents.clone()).collect();
    let body = Body { spool: Arc::clone(&uploader.spool), head: head.into(), extents };
    let sent = tokio::time::timeout(uploader.patience.put, uploader.objects.send(upload, body.clone())).await;
    let sent = sent.unwrap_or_else(|_| Err(Fault::outage("the upload took too long"))).and_then(check);
    match sent {
        Err(fault) if fault.is_outage() => match body.unreadable().await {
            Some(error) => Ok(Some(Fault::unreadable(error.to_string()))),
            None => Err(fault),
        },
        sent => sent.map(|()| None),
    }
}

/// What the answer to a PUT means: a store that is busy or away, or that does not let anybody in, will take
/// the pack later; one that refuses it otherwise means this pack.
fn check(status: StatusCode) -> Result<(), Fault> {
    let cause = || format!("the upload was answered with {status}");
    match status {
        _ if status.is_success() => Ok(()),
        // There is an object by this name: ours, most likely, whose answer was lost. Committing tells.
        StatusCode::PRECONDITION_FAILED => Ok(()),
        // Closed to everybody by an access key that was exchanged, rights that were taken or a clock that was
        // set: it is the signature or who signed that is refused, never what is in the pack.
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => Err(Fault::outage(cause())),
        _ if status.is_server_error() => Err(Fault::outage(cause())),
        _ => Err(Fault::of_item(cause())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_there_already_is_left_to_the_commit() {
        assert!(check(StatusCode::PRECONDITION_FAILED).is_ok());
        assert!(check(StatusCode::TEMPORARY_REDIRECT).is_err(), "redirects are not followed");
    }

    #[test]
    fn a_store_that_is_busy_is_told_from_one_that_refuses_the_pack() {
        assert!(check(StatusCode::CREATED).is_ok());
        for busy in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
            assert!(check(busy).unwrap_err().is_outage());
        }
        assert!(!check(StatusCode::BAD_REQUEST).unwrap_err().is_outage());
    }

    #[test]
    fn a_store_that_lets_nobody_in_is_away_and_does_not_mean_the_pack() {
        for closed in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
            assert!(check(closed).unwrap_err().is_outage(), "{closed}");
        }
    }
}
