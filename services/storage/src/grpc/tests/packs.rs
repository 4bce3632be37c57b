//! Packs come in.

use super::*;

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
