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

#[tokio::test]
async fn a_pack_travels_from_upload_url_to_download_url() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000), (4_000, 8_000)]);
    let upload = installation.grpc.upload(installation.upload_of(&pack)).await.unwrap();
    assert_eq!(upload.object_key, key_of(&pack).to_string());
    assert!(upload.url.starts_with(&format!("https://127.0.0.1:9000/objects/{}?", upload.object_key)));
    assert_eq!(installation.put(&upload.url, &object(&pack)).await, http::StatusCode::CREATED);
    assert_eq!(installation.grpc.commit(installation.commit_of(&pack)).await.unwrap().segments, 2);

    let found = installation.find_all(camera(1), span(5_000, 6_000)).await;
    assert_eq!(found.len(), 1);
    let (offset, length) = (found[0].object_offset, found[0].entry.as_ref().unwrap().length);
    let request = installation.downloads_of(installation.grant(1, span(5_000, 6_000)), &[&pack]);
    let mut request = Request::new(request);
    request.extensions_mut().insert(Peer(holder()));
    let downloads = installation.grpc.create_downloads(request).await.unwrap().into_inner();
    let range = format!("bytes={offset}-{}", offset + length - 1);
    let (status, _, bytes) = installation.get(&downloads.urls[0], &range).await;
    assert_eq!(status, http::StatusCode::PARTIAL_CONTENT);
    let (offset, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
    assert_eq!(bytes, object(&pack)[offset..offset + length]);
}

#[tokio::test]
async fn no_upload_and_no_commit_without_a_placement_in_this_zone() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000)]);
    installation.place(&key_of(&pack), object(&pack)).await;
    let mut forged = installation.placement(1);
    forged.signature = vec![0; 64].into();
    let foreign = installation.placement_in(1, "ch", "eea");
    let elsewhere = installation.placement_in(1, "eea", "us-east");
    for placement in [forged, foreign, elsewhere] {
        let upload =
            CreateUploadRequest { placement: Some(placement.clone()), ..installation.upload_of(&pack) };
        assert_eq!(code(installation.grpc.upload(upload).await.unwrap_err()), Code::PermissionDenied);
        let commit = CommitPackRequest { placement: Some(placement), ..installation.commit_of(&pack) };
        assert_eq!(code(installation.grpc.commit(commit).await.unwrap_err()), Code::PermissionDenied);
    }
    let of_another_camera =
        CommitPackRequest { placement: Some(installation.placement(2)), ..installation.commit_of(&pack) };
    assert_eq!(code(installation.grpc.commit(of_another_camera).await.unwrap_err()), Code::InvalidArgument);
    assert!(installation.recorded().await.is_empty());
}

#[tokio::test]
async fn an_upload_that_makes_no_sense_is_refused() {
    let installation = Installation::start().await;
    let good = installation.upload_of(&pack(1, id(1), &[(0, 4_000)]));
    let wrong = [
        CreateUploadRequest { placement: None, ..good.clone() },
        CreateUploadRequest { pack_id: "first".into(), ..good.clone() },
        CreateUploadRequest { layer: 0, ..good.clone() },
        CreateUploadRequest { layer: -1, ..good.clone() },
        CreateUploadRequest { size_bytes: 0, ..good.clone() },
        CreateUploadRequest { size_bytes: crate::MAX_OBJECT_BYTES + 1, ..good.clone() },
    ];
    for request in wrong {
        let refused = installation.grpc.upload(request.clone()).await.unwrap_err();
        assert_eq!(code(refused), Code::InvalidArgument, "{request:?}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_know_its_address_yet_says_so() {
    let mut installation = Installation::start().await;
    let address = PublicAddress::File(installation.directory.path().join("absent"));
    installation.grpc.links = Arc::new(OwnLinks { signer: Arc::clone(&installation.signer), address });
    let request = installation.upload_of(&pack(1, id(1), &[(0, 4_000)]));
    assert_eq!(code(installation.grpc.upload(request).await.unwrap_err()), Code::Unavailable);
}

#[tokio::test]
async fn a_pack_must_be_uploaded_before_it_is_committed() {
    let installation = Installation::start().await;
    let request = installation.commit_of(&pack(1, id(1), &[(0, 4_000)]));
    let refused = installation.grpc.commit(request).await.unwrap_err();
    assert!(matches!(refused, Error::NotUploaded(_)), "{refused}");
    assert_eq!(code(refused), Code::FailedPrecondition);
}

#[tokio::test]
async fn an_object_that_lies_never_enters_the_index() {
    let installation = Installation::start().await;
    let honest = pack(1, id(1), &[(0, 4_000)]);
    let (bytes, head) = (object(&honest), honest.encode_head());
    let of_camera_2 = object(&pack(2, id(1), &[(0, 4_000)]));
    let with_other_id = object(&pack(1, id(2), &[(0, 4_000)]));
    let lies: [(&str, Vec<u8>); 7] = [
        ("another camera", of_camera_2),
        ("another pack", with_other_id),
        ("adds up to", bytes[..bytes.len() - 1].to_vec()),
        ("adds up to", [&bytes[..], b"x"].concat()),
        ("inside its head", head[..head.len() - 1].to_vec()),
        ("shorter than any pack", b"OBSPACK".to_vec()),
        ("does not start with OBSPACK", b"not a pack at all".to_vec()),
    ];
    for (why, lie) in lies {
        installation.place(&key_of(&honest), lie.clone()).await;
        // The recorder lies along: its hash is that of the head as it lies there.
        let length = lie.first_chunk().and_then(|first| Directory::head_length(first).ok()).unwrap_or(0);
        let hash = sha256(lie.get(..length).unwrap_or_default());
        let request = CommitPackRequest {
            directory_sha256: hash.as_bytes().to_vec().into(),
            ..installation.commit_of(&honest)
        };
        let refused = installation.grpc.commit(request).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(code(refused), Code::DataLoss);
        installation.grpc.blobs.delete(&key_of(&honest)).await.unwrap();
    }
    assert_eq!(installation.grpc.metrics.lying_objects.get(), 7);
    assert!(installation.recorded().await.is_empty());
}

#[tokio::test]
async fn a_head_that_is_not_the_one_the_recorder_made_never_enters_the_index() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000)]);
    installation.place(&key_of(&pack), object(&pack)).await;
    let request = CommitPackRequest { directory_sha256: vec![7; 32].into(), ..installation.commit_of(&pack) };
    assert_eq!(code(installation.grpc.commit(request).await.unwrap_err()), Code::DataLoss);
    let short = CommitPackRequest { directory_sha256: vec![7; 31].into(), ..installation.commit_of(&pack) };
    assert_eq!(code(installation.grpc.commit(short).await.unwrap_err()), Code::InvalidArgument);
}

#[tokio::test]
async fn committing_twice_answers_the_same_and_changes_nothing() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000), (4_000, 8_000)]);
    installation.place_and_commit(&pack).await;
    let again = installation.grpc.commit(installation.commit_of(&pack)).await.unwrap();
    assert_eq!(again.segments, 2);
    assert_eq!(installation.recorded().await, [(span(0, 8_000), 2)]);

    let other = CommitPackRequest { directory_sha256: vec![7; 32].into(), ..installation.commit_of(&pack) };
    assert_eq!(code(installation.grpc.commit(other).await.unwrap_err()), Code::AlreadyExists);
}

#[tokio::test]
async fn a_recorder_is_not_told_that_a_pack_is_safe_whose_object_is_gone() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000), (4_000, 8_000)]);
    installation.place_and_commit(&pack).await;
    for remains in [None, Some(object(&pack)[..50].to_vec())] {
        installation.grpc.blobs.delete(&key_of(&pack)).await.unwrap();
        if let Some(remains) = remains {
            installation.place(&key_of(&pack), remains).await;
        }
        let gone = installation.grpc.commit(installation.commit_of(&pack)).await.unwrap_err();
        assert!(matches!(gone, Error::Vanished(_)), "{gone}");
        assert_eq!(code(gone), Code::Unavailable, "it uploads and commits again");
    }
    installation.grpc.blobs.delete(&key_of(&pack)).await.unwrap();
    installation.place(&key_of(&pack), object(&pack)).await;
    assert_eq!(installation.grpc.commit(installation.commit_of(&pack)).await.unwrap().segments, 2);
    assert_eq!(installation.recorded().await, [(span(0, 8_000), 2)]);
}

#[tokio::test]
async fn one_of_two_commits_at_once_inserts_and_both_answer_the_same() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000)]);
    installation.place(&key_of(&pack), object(&pack)).await;
    let commit = || installation.grpc.commit(installation.commit_of(&pack));
    let (first, second) = tokio::join!(commit(), commit());
    assert_eq!((first.unwrap().segments, second.unwrap().segments), (1, 1));
    assert_eq!(installation.grpc.metrics.committed_packs.get(), 1);
    assert_eq!(installation.recorded().await, [(span(0, 4_000), 1)]);
}

#[tokio::test]
async fn the_index_outlives_a_restart() {
    let installation = Installation::start().await;
    let packs = [pack(1, id(1), &[(0, 4_000)]), pack(1, id(2), &[(4_500, 8_000)])];
    installation.place_and_commit(&packs[1]).await;
    let upload = installation.grpc.upload(installation.upload_of(&packs[0])).await.unwrap();
    let installation = installation.restart().await;
    assert_eq!(installation.put(&upload.url, &object(&packs[0])).await, http::StatusCode::CREATED);
    installation.grpc.commit(installation.commit_of(&packs[0])).await.unwrap();
    installation.grpc.commit(installation.commit_of(&packs[1])).await.unwrap();
    assert_eq!(installation.recorded().await, [(span(0, 8_000), 2)]);
    assert_eq!(installation.find_all(camera(1), span(0, 8_000)).await.len(), 2);
}

#[tokio::test]
async fn ten_thousand_packs_are_listed_and_found_without_looking_at_an_object() {
    let installation = Installation::start().await;
    let packs = (0..10_000_i64).map(|number| {
        let start = number * 60_000;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        row(&pack(1, PackId::from_bytes(bytes), &[(start, start + 30_000), (start + 30_000, start + 60_000)]))
    });
    installation.grpc.store.fill(packs).await;
    let looks = installation.looks.load(Ordering::Relaxed);
    let end = 10_000 * 60_000;
    assert_eq!(installation.recorded().await, [(span(0, end), 20_000)]);
    let segments = installation.find_all(camera(1), span(0, end)).await;
    assert_eq!(segments.len(), 20_000);
    let starts: Vec<i64> =
        segments.iter().map(|segment| segment.entry.as_ref().unwrap().start_unix_ns).collect();
    assert!(starts.is_sorted());
    assert_eq!(installation.looks.load(Ordering::Relaxed), looks, "no object was looked at");
}

#[tokio::test]
async fn gaps_are_recorded_replaced_and_listed() {
    let installation = Installation::start().await;
    let gap = |end: i64| Gap {
        camera_id: camera(1).to_string(),
        gap_id: GapId::from_bytes([1; 16]).to_string(),
        start_unix_ns: at(0).unix_nanos(),
        end_unix_ns: end,
        reason: GapReason::Unauthorized.into(),
        writer_epoch: 7,
    };
    for end in [0, at(500).unix_nanos()] {
        installation.grpc.record(RecordGapsRequest { gaps: vec![gap(end)] }).await.unwrap();
        let listed = installation.grpc.recordings(ListRecordingsRequest::default()).await.unwrap();
        assert_eq!((listed.gaps, listed.truncated), (vec![gap(end)], false));
    }
    let elsewhere = ListRecordingsRequest { camera_id: camera(2).to_string(), span: None };
    assert!(installation.grpc.recordings(elsewhere).await.unwrap().gaps.is_empty());
    let broken = RecordGapsRequest { gaps: vec![gap(0), Gap::default()] };
    assert_eq!(code(installation.grpc.record(broken).await.unwrap_err()), Code::InvalidArgument);
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let installation = Installation::start().await;
    let backwards = Some(SpanMessage { start_unix_ns: 2, end_unix_ns: 1 });
    let good = FindSegmentsRequest {
        camera_id: camera(1).to_string(),
        layer: 1,
        span: Some(message(span(0, 1))),
        page_token: String::new(),
        with_shredded: false,
    };
    let wrong = [
        FindSegmentsRequest { camera_id: String::new(), ..good.clone() },
        FindSegmentsRequest { layer: 9, ..good.clone() },
        FindSegmentsRequest { span: None, ..good.clone() },
        FindSegmentsRequest { span: backwards, ..good.clone() },
        FindSegmentsRequest { page_token: "AAAA".into(), ..good.clone() },
    ];
    for request in wrong {
        let refused = installation.grpc.segments(request.clone()).await.unwrap_err();
        assert_eq!(code(refused), Code::InvalidArgument, "{request:?}");
    }
    let list = ListRecordingsRequest { camera_id: "front door".into(), span: None };
    assert_eq!(code(installation.grpc.recordings(list).await.unwrap_err()), Code::InvalidArgument);
    let list = ListRecordingsRequest { camera_id: String::new(), span: backwards };
    assert_eq!(code(installation.grpc.recordings(list).await.unwrap_err()), Code::InvalidArgument);
}

#[tokio::test]
async fn a_download_url_holds_no_longer_than_five_minutes_or_the_grant() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000)]);
    installation.place_and_commit(&pack).await;
    let grant = installation.grant(1, span(0, 4_000));
    let request = installation.downloads_of(grant.clone(), &[&pack]);
    let answer = installation.grpc.downloads(&holder(), &request).await.unwrap();
    let now = installation.clock.wall();
    assert_eq!(answer.expires_unix_ns, (now + URL_VALIDITY).unix_nanos());

    installation.clock.advance(Duration::from_secs(590));
    let request = installation.downloads_of(grant, &[&pack, &pack]);
    let answer = installation.grpc.downloads(&holder(), &request).await.unwrap();
    assert_eq!(answer.urls.len(), 2);
    assert_eq!(answer.expires_unix_ns, (now + Duration::from_secs(600)).unix_nanos());
}

#[tokio::test]
async fn no_download_without_a_grant_that_covers_every_object() {
    let installation = Installation::start().await;
    let (mine, later) = (pack(1, id(1), &[(0, 4_000)]), pack(1, id(2), &[(60_000, 64_000)]));
    let (foreign, absent) = (pack(2, id(3), &[(0, 4_000)]), pack(1, id(4), &[(0, 4_000)]));
    for pack in [&mine, &later, &foreign] {
        installation.place_and_commit(pack).await;
    }
    let grant = || installation.grant(1, span(0, 4_000));
    let refused = async |request: CreateDownloadsRequest| {
        installation.grpc.downloads(&holder(), &request).await.map(drop).map_err(code)
    };
    assert_eq!(refused(installation.downloads_of(grant(), &[&mine])).await, Ok(()));
    for (packs, expected) in [
        (vec![&mine, &later], Code::PermissionDenied),
        (vec![&foreign], Code::PermissionDenied),
        (vec![&absent], Code::NotFound),
        (vec![&mine; 1_001], Code::InvalidArgument),
    ] {
        assert_eq!(refused(installation.downloads_of(grant(), &packs)).await, Err(expected));
    }
    let by_another_name = CreateDownloadsRequest {
        object_keys: vec![key_of(&mine).to_string().replace("2026-11-23", "2026-11-24")],
        ..installation.downloads_of(grant(), &[])
    };
    assert_eq!(refused(by_another_name).await, Err(Code::NotFound));
    let without = CreateDownloadsRequest { grant: None, ..installation.downloads_of(grant(), &[&mine]) };
    assert_eq!(refused(without).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn a_grant_counts_only_fresh_and_in_the_hands_of_its_holder() {
    let installation = Installation::start().await;
    let pack = pack(1, id(1), &[(0, 4_000)]);
    installation.place_and_commit(&pack).await;
    let request = installation.downloads_of(installation.grant(1, span(0, 4_000)), &[&pack]);
    let ingest = "spiffe://example.org/obscura/ingest".parse().unwrap();
    assert_eq!(
        code(installation.grpc.downloads(&ingest, &request).await.unwrap_err()),
        Code::PermissionDenied
    );
    let nobody = installation.grpc.create_downloads(Request::new(request.clone())).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);

    let other = tempfile::TempDir::new().unwrap();
    SelfReceipting::create(other.path()).unwrap();
    let other = SelfReceipting::open(other.path(), Arc::clone(&installation.grpc.clock)).unwrap();
    let forged = CreateDownloadsRequest { status_note: Some(other.status_note()), ..request.clone() };
    assert_eq!(
        code(installation.grpc.downloads(&holder(), &forged).await.unwrap_err()),
        Code::Unauthenticated
    );
    let noteless =
        CreateDownloadsRequest { status_note: Some(SignedStatusNote::default()), ..request.clone() };
    assert!(installation.grpc.downloads(&holder(), &noteless).await.is_err());

    installation.clock.advance(Duration::from_secs(31));
    let stale = installation.grpc.downloads(&holder(), &request).await.unwrap_err();
    assert_eq!(code(stale), Code::PermissionDenied);
    installation.clock.advance(Duration::from_secs(600));
    let expired = CreateDownloadsRequest { status_note: Some(installation.issuer.status_note()), ..request };
    assert_eq!(
        code(installation.grpc.downloads(&holder(), &expired).await.unwrap_err()),
        Code::PermissionDenied
    );
}

proptest! {
    #[test]
    fn an_arbitrary_object_key_is_refused_or_is_a_pack_below_the_root(text in "\\PC{0,160}") {
        if let Ok((key, name)) = pack_key(&text) {
            prop_assert_eq!(key.as_str(), name.to_string());
        }
    }
}

#[tokio::test]
async fn what_needs_custody_says_where_it_is_missing() {
    let installation = Installation::start().await;
    let refused = installation.grpc.reconciled(ReconcileRequest { repair: false }).err().unwrap();
    assert!(refused.to_string().contains("under [peers]"), "{refused}");
}

#[tokio::test]
async fn long_work_is_done_once_at_a_time() {
    let zone = crate::zone_bench::Zone::start().await;
    let grpc = &zone.installation.grpc;
    let reconciling = grpc.upkeep.reconciling.lock().await;
    for refused in [grpc.reconciled(ReconcileRequest { repair: true }).err(), grpc.reindexed().err()] {
        assert_eq!(code(refused.unwrap()), Code::FailedPrecondition);
    }
    drop(reconciling);
    let scrubbing = grpc.upkeep.scrubbing.lock().await;
    assert_eq!(code(grpc.scrubbed(&ScrubRequest::default()).err().unwrap()), Code::FailedPrecondition);
    drop(scrubbing);
    let too_much = ScrubRequest { percent: 101, ..ScrubRequest::default() };
    assert_eq!(code(grpc.scrubbed(&too_much).err().unwrap()), Code::InvalidArgument);
}

#[tokio::test]
async fn long_work_reports_to_its_end_and_the_status_tells_of_it() {
    use futures::StreamExt as _;
    let zone = crate::zone_bench::Zone::start().await;
    for number in 1..4 {
        zone.record(&crate::zone_bench::pack(1, number, i64::from(number) * 16)).await;
    }
    let grpc = &zone.installation.grpc;
    let scrubbed: Vec<_> = grpc.scrubbed(&ScrubRequest::default()).unwrap().collect().await;
    let last = scrubbed.last().unwrap().as_ref().unwrap();
    assert_eq!((last.packs, last.done_bytes), (3, last.total_bytes));
    let reconciled: Vec<_> = grpc.reconciled(ReconcileRequest { repair: false }).unwrap().collect().await;
    let counts = reconciled.last().unwrap().as_ref().unwrap().counts.unwrap();
    assert_eq!((counts.live, counts.unaccounted), (12, 0));
    let reindexed: Vec<_> = grpc.reindexed().unwrap().collect().await;
    assert_eq!(reindexed.last().unwrap().as_ref().unwrap().objects, 3);
    let status =
        grpc.get_storage_status(Request::new(GetStorageStatusRequest {})).await.unwrap().into_inner();
    assert_eq!((status.packs, status.segments, status.damaged_packs), (3, 12, 0));
    assert_eq!((status.object_store.as_str(), status.database.as_str()), ("local directory", "SQLite"));
    assert!(status.reconciled_unix_ns > 0 && status.reconcile_findings == 0);
}

#[tokio::test]
async fn a_custody_that_is_away_ends_the_stream_with_words() {
    use futures::StreamExt as _;
    let zone = crate::zone_bench::Zone::start().await;
    zone.custody.is(crate::fake_custody::Wrong::Away);
    let reports = zone.installation.grpc.reconciled(ReconcileRequest { repair: false }).unwrap();
    let reports: Vec<_> = reports.collect().await;
    let status = reports.last().unwrap().as_ref().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("keys service"), "{}", status.message());
}

/// The installation with an outbox for the audit log.
async fn with_outbox(installation: &mut Installation) -> obscura_outbox::Outbox {
    let folder = installation.directory.path().join("outbox");
    let clock = Arc::clone(&installation.grpc.clock);
    let outbox = obscura_outbox::Outbox::open(&folder, obscura_outbox::Limits::default(), Arc::clone(&clock));
    let outbox = outbox.await.unwrap();
    installation.grpc.access_log = Arc::new(AccessLog::new(Some(outbox.clone()), clock));
    outbox
}

#[tokio::test]
async fn every_refused_download_is_told_and_a_granted_one_is_not_told_twice() {
    let mut installation = Installation::start().await;
    let outbox = with_outbox(&mut installation).await;
    let (mine, foreign) = (pack(1, id(1), &[(0, 4_000)]), pack(2, id(2), &[(0, 4_000)]));
    for pack in [&mine, &foreign] {
        installation.place_and_commit(pack).await;
    }
    let good = installation.downloads_of(installation.grant(1, span(0, 4_000)), &[&mine]);
    let ask = async |request: CreateDownloadsRequest, caller: &str| {
        let mut request = Request::new(request);
        request.extensions_mut().insert(Peer(caller.parse().unwrap()));
        installation.grpc.create_downloads(request).await.is_ok()
    };
    let cli = "spiffe://example.org/obscura/cli";
    assert!(ask(good.clone(), cli).await);
    assert_eq!(outbox.queued(), 0, "the grant and the viewing are in the log already");
    let mut forged = good.clone();
    forged.grant.as_mut().unwrap().signature = vec![0; 64].into();
    let elsewhere = installation.downloads_of(installation.grant(1, span(60_000, 64_000)), &[&mine]);
    let of_others = installation.downloads_of(installation.grant(1, span(0, 4_000)), &[&foreign]);
    let without = CreateDownloadsRequest { grant: None, ..good.clone() };
    for (told, request) in (1..).zip([forged, elsewhere, of_others, without]) {
        assert!(!ask(request, cli).await);
        assert_eq!(outbox.queued(), told);
    }
    assert!(!ask(good.clone(), "spiffe://example.org/obscura/ingest").await);
    installation.clock.advance(Duration::from_secs(31));
    assert!(!ask(good.clone(), cli).await, "a stale status note");
    installation.clock.advance(Duration::from_secs(600));
    let expired = CreateDownloadsRequest { status_note: Some(installation.issuer.status_note()), ..good };
    assert!(!ask(expired, cli).await);
    assert_eq!(outbox.queued(), 7);
}

#[tokio::test]
async fn what_the_log_hears_of_a_refusal_is_an_event_that_it_takes() {
    let installation = Installation::start().await;
    let mine = pack(1, id(1), &[(0, 4_000)]);
    let mut request = installation.downloads_of(installation.grant(1, span(0, 4_000)), &[&mine]);
    request.object_keys.push("Ada Lovelace\n".repeat(1_000));
    let refused = installation.grpc.downloads(&holder(), &request).await.unwrap_err();
    let body = downloads::refusal(&request, &refused);
    let event = obscura_proto::audit::v1::Event {
        actor: Some(obscura_proto::audit::v1::Person { id: holder().to_string(), ..Default::default() }),
        ..obscura_outbox::event(&installation.grpc.clock, obscura_proto::audit::v1::Outcome::Failure, body)
    };
    obscura_ocsf::validate(&event).unwrap();
    assert!(!format!("{event:?}").contains("Lovelace"), "nothing that the caller wrote");
    assert!(format!("{event:?}").contains(&camera(1).to_string()), "the camera that was asked for");
}

#[tokio::test]
async fn a_search_is_told_once_however_many_pages_it_has() {
    let mut installation = Installation::start().await;
    let outbox = with_outbox(&mut installation).await;
    let packs = (0..200_u8).map(|number| {
        let start = i64::from(number) * 60_000;
        let segments: Vec<_> = (0..15).map(|n| (start + n * 4_000, start + n * 4_000 + 4_000)).collect();
        row(&pack(1, id(number), &segments))
    });
    installation.grpc.store.fill(packs).await;
    let mut request = FindSegmentsRequest {
        camera_id: camera(1).to_string(),
        layer: 1,
        span: Some(message(span(0, 200 * 60_000))),
        page_token: String::new(),
        with_shredded: false,
    };
    let mut pages = 0;
    loop {
        let page = installation.grpc.find_segments(Request::new(request.clone())).await.unwrap().into_inner();
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, outbox.queued()), (3, 1));
    installation.grpc.list_recordings(Request::new(ListRecordingsRequest::default())).await.unwrap();
    assert_eq!(outbox.queued(), 2);
    let nonsense = ListRecordingsRequest { camera_id: "front door".into(), span: None };
    assert!(installation.grpc.list_recordings(Request::new(nonsense.clone())).await.is_err());
    request.page_token = "nonsense".into();
    assert!(installation.grpc.find_segments(Request::new(request)).await.is_err());
    assert_eq!(outbox.queued(), 4);
    assert!(recordings::search(&nonsense).camera_ids.is_empty(), "only ids of cameras are told");
}

#[tokio::test]
async fn receipts_that_were_followed_are_handed_out_again_as_they_were_signed() {
    let zone = crate::zone_bench::Zone::start().await;
    zone.record(&crate::zone_bench::pack(1, 1, 0)).await;
    for slots in [(0, 7), (8, 15), (16, 1_799)] {
        zone.custody.shred(crate::zone_bench::key(1), &[slots]);
    }
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    let signer = crate::expiry::receipt::testing::Signer::from_seed(1).public_key();
    let trust = crate::expiry::receipt::ReceiptTrust { zone: "eea".parse().unwrap(), key: signer };
    let ask = async |after_number| {
        let request = Request::new(ListKeptReceiptsRequest { after_number });
        zone.installation.grpc.list_kept_receipts(request).await.unwrap().into_inner().receipts
    };
    let kept = ask(0).await;
    assert_eq!(kept.len(), 3);
    for (number, signed) in (1..).zip(&kept) {
        assert_eq!(trust.read(signed, number).unwrap().number, number);
    }
    assert_eq!(ask(2).await, kept[2..]);
    assert!(ask(3).await.is_empty() && ask(u64::MAX).await.is_empty());
}

#[tokio::test]
async fn with_what_is_described_the_root_of_a_manifest_is_computed_also_after_objects_are_deleted() {
    use obscura_tlog::{Hash, leaf_hash, tree_hash};
    let zone = crate::zone_bench::Zone::start().await;
    let packs: Vec<_> = (1..4).map(|id| crate::zone_bench::pack(id, id, i64::from(id) * 16)).collect();
    for pack in &packs {
        zone.record(pack).await;
    }
    let notices = zone.upkeep.store.open_notices(crate::store::Subject::Arrivals, 10).await.unwrap();
    let event = crate::manifest::manifest(&notices).unwrap();
    let Some(obscura_proto::audit::v1::event::Body::Manifest(manifest)) = event.body else { panic!("none") };
    let ask = async |pack_ids| {
        let request = Request::new(DescribePacksRequest { pack_ids });
        zone.installation.grpc.describe_packs(request).await.map(|answer| answer.into_inner().packs)
    };
    for receipt in 0..2 {
        let told = ask(manifest.pack_ids.clone()).await.unwrap();
        let leaf = |pack: &obscura_proto::storage::v1::PackDescription| {
            let known = packs.iter().find(|known| known.pack_id.to_string() == pack.pack_id).unwrap();
            let head = pack.head_sha256[..].try_into().map(obscura_ids::Digest::from_bytes).unwrap();
            leaf_hash(sha256(&obscura_pack::Statement::of(known, head).to_bytes()).as_bytes())
        };
        let leaves: Vec<Hash> = told.iter().map(leaf).collect();
        assert_eq!(tree_hash(&leaves).as_bytes()[..], manifest.root[..]);
        assert_eq!(told[1].deleted_by_receipt, receipt);
        assert_eq!(told[1].camera_id, camera(2).to_string());
        assert_eq!(told[1].span, Some(message(packs[1].span())));
        zone.custody.shred(crate::zone_bench::key(2), &[(0, 1_799)]);
        zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    }
    assert!(ask(vec![PackId::generate().to_string()]).await.unwrap().is_empty());
    assert_eq!(ask(vec!["first".into()]).await.unwrap_err().code(), Code::InvalidArgument);
    let many = vec![PackId::generate().to_string(); 1_401];
    assert_eq!(ask(many).await.unwrap_err().code(), Code::InvalidArgument);
}
