//! What the index is asked.

use super::*;

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
