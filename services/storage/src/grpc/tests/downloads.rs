//! URLs to footage, for those with a grant.

use super::*;

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
