//! What the audit log hears of searches and refusals.

use super::*;

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
    let body = crate::grpc::downloads::refusal(&request, &refused);
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
