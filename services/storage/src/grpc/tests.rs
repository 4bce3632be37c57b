mod access;
mod downloads;
mod long_work;
mod packs;
mod queries;
mod receipts;

use std::sync::atomic::Ordering;

use obscura_access::SelfReceipting;
use obscura_clock::Clock as _;
use obscura_ids::{CameraId, GapId, PackId};
use obscura_pack::Directory;
use obscura_proto::{
    access::v1::{SignedGrant, SignedStatusNote},
    footage::v1::{Gap, GapReason, Layer as LayerMessage, Span as SpanMessage},
    storage::v1::SegmentLocation,
};
use proptest::prelude::*;
use tonic::Code;

use super::*;
use crate::{
    config::PublicAddress,
    inspection::sha256,
    links::OwnLinks,
    test_support::{Installation, at, camera, holder, key_of, object, pack, row, span},
};

fn id(number: u8) -> PackId {
    PackId::from_bytes([number; 16])
}

fn message(span: Span) -> SpanMessage {
    SpanMessage { start_unix_ns: span.start().unix_nanos(), end_unix_ns: span.end().unix_nanos() }
}

fn code(error: Error) -> Code {
    Status::from(error).code()
}

impl Installation {
    fn upload_of(&self, pack: &Directory) -> CreateUploadRequest {
        CreateUploadRequest {
            placement: Some(self.placement(pack.camera.as_bytes()[0])),
            pack_id: pack.pack_id.to_string(),
            layer: LayerMessage::Original.into(),
            start_unix_ns: pack.entries[0].span.start().unix_nanos(),
            size_bytes: object(pack).len() as u64,
        }
    }

    async fn find_all(&self, camera: CameraId, span: Span) -> Vec<SegmentLocation> {
        let mut request = FindSegmentsRequest {
            camera_id: camera.to_string(),
            layer: LayerMessage::Original.into(),
            span: Some(message(span)),
            page_token: String::new(),
            with_shredded: false,
        };
        let mut segments = Vec::new();
        loop {
            let page = self.grpc.segments(request.clone()).await.unwrap();
            segments.extend(page.segments);
            if page.next_page_token.is_empty() {
                return segments;
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn recorded(&self) -> Vec<(Span, u64)> {
        let answer = self.grpc.recordings(ListRecordingsRequest::default()).await.unwrap();
        answer.runs.into_iter().map(|run| (super::span(run.span.unwrap()).unwrap(), run.segments)).collect()
    }

    fn downloads_of(&self, grant: SignedGrant, packs: &[&Directory]) -> CreateDownloadsRequest {
        CreateDownloadsRequest {
            grant: Some(grant),
            status_note: Some(self.issuer.status_note()),
            object_keys: packs.iter().map(|pack| key_of(pack).to_string()).collect(),
        }
    }
}
