//! One pack: laid out, put, indexed.

use aws_lc_rs::digest;
use http::{Method, Request, header::CONTENT_LENGTH};
use obscura_pack::Directory;
use obscura_proto::storage::v1::{CommitPackRequest, CreateUploadRequest, CreateUploadResponse};

use super::{Uploader, body, call};
use crate::outbox::Formed;

/// How long one PUT may take.
const PUT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// Stores a pack: afterwards its object and its index rows are durable.
///
/// # Errors
/// A sentence for the log; nothing in it identifies a person.
pub async fn send(uploader: &Uploader, pack: &Formed) -> Result<(), String> {
    let first = pack.segments.first().ok_or("the pack is empty")?;
    let header = &first.entry.header;
    let entries = pack.segments.iter().map(|sealed| sealed.entry.clone()).collect();
    let directory = Directory::lay_out(pack.id, header.camera, header.zone.clone(), header.layer, entries)
        .map_err(|error| error.to_string())?;
    let head = directory.encode_head();
    let size_bytes = head.len() as u64 + directory.body_length();
    let upload = CreateUploadRequest {
        placement: Some(first.placement.clone()),
        pack_id: pack.id.to_string(),
        layer: i32::from(header.layer.code()),
        start_unix_ns: directory.span().start().unix_nanos(),
        size_bytes,
    };
    let upload = call(uploader.storage.clone().create_upload(upload)).await.map_err(|fault| fault.cause)?;
    let directory_sha256 = digest::digest(&digest::SHA256, &head).as_ref().to_vec();
    put(uploader, pack, &upload, head, size_bytes).await?;
    let commit = CommitPackRequest {
        placement: Some(first.placement.clone()),
        object_key: upload.object_key,
        directory_sha256: directory_sha256.into(),
    };
    call(uploader.storage.clone().commit_pack(commit)).await.map(drop).map_err(|fault| fault.cause)
}

async fn put(
    uploader: &Uploader,
    pack: &Formed,
    upload: &CreateUploadResponse,
    head: Vec<u8>,
    size_bytes: u64,
) -> Result<(), String> {
    let extents = pack.segments.iter().flat_map(|sealed| sealed.extents.clone()).collect();
    let request = Request::builder()
        .method(Method::PUT)
        .uri(&upload.url)
        .header(CONTENT_LENGTH, size_bytes)
        .body(body::of_spool(std::sync::Arc::clone(&uploader.spool), head, extents))
        .map_err(|_| "storage answered with an upload URL that is none")?;
    let answer = tokio::time::timeout(PUT_TIMEOUT, uploader.objects.send(request))
        .await
        .map_err(|_| "the upload took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("the upload was answered with {}", answer.status()))
    }
}
