//! The service as its callers see it.

use futures::{FutureExt as _, StreamExt as _};
use obscura_proto::audit::v1::{CountedEvent, ErasureGround, Event};
use obscura_tlog::{AddCheckpoint, LogProof, Policy, SignedCheckpoint};

use super::*;
use crate::{
    feed,
    source::Source,
    test_support::{AUDITOR, Bench, CLI, OFFICER, Place, person, search_by, test_event},
};

async fn service(bench: &Bench) -> AuditGrpc {
    service_with(bench, "").await
}

async fn service_with(bench: &Bench, feeds: &str) -> AuditGrpc {
    let source = Arc::new(Source::new(bench.log.parts.store.clone(), bench.log.parts.sequencer.size()));
    let surroundings = feed::Surroundings {
        source: source.clone(),
        cursors: source,
        alarms: Arc::new(crate::source::LossAlarms::new(bench.log.clone())),
        metrics: feed::FeedMetrics::new(),
        clock: bench.log.parts.clock.clone(),
        shutdown: tokio_util::sync::CancellationToken::new(),
    };
    let feeds = feed::start(toml::from_str(feeds).unwrap(), &surroundings).unwrap();
    let projection = bench.projection.lock().await;
    let (published, witnessed) = (projection.published(), projection.witnessed());
    let publication = Publication { published, witnessed, wanted: Arc::new(Notify::new()) };
    AuditGrpc::new(bench.log.clone(), Arc::new(feeds), bench.any_guard().await, publication)
}

/// From the command line, with an auditor at it.
fn from_cli<T>(message: T) -> Request<T> {
    from(CLI, AUDITOR, message)
}

fn from<T>(program: &str, id: &str, message: T) -> Request<T> {
    use tonic::service::Interceptor as _;

    let acting = obscura_outbox::ActingFor::new(&person(id, "")).call(Request::new(())).unwrap();
    let mut request = Request::from_parts(acting.into_parts().0, tonic::Extensions::new(), message);
    request.extensions_mut().insert(Peer(program.parse().unwrap()));
    request
}

async fn read(service: &AuditGrpc, request: ReadEntriesRequest) -> Vec<ReadEntriesResponse> {
    let answers = service.read_entries(from_cli(request)).await.unwrap().into_inner();
    answers.map(|answer| answer.unwrap()).collect().await
}

fn indexes(entries: &[ReadEntriesResponse]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index).collect()
}

#[tokio::test]
async fn an_event_is_appended_proved_and_read_back() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    let event = test_event("hello");
    let append = || from_cli(AppendRequest { event: Some(event.clone()) });
    let first = service.append(append()).await.unwrap().into_inner();
    assert_eq!(service.append(append()).await.unwrap().into_inner(), first);
    bench.publish().await;
    for what in [What::LeafIndex(0), What::EventId(event.event_id.clone())] {
        let proof = AuditService::prove(&service, from_cli(ProveRequest { what: Some(what) }))
            .await
            .unwrap()
            .into_inner();
        let parsed: LogProof = proof.proof.parse().unwrap();
        parsed.verify(&Place::key().verifier(), &Policy::none(), &proof.leaf).unwrap();
    }
    let entries = read(&service, ReadEntriesRequest::default()).await;
    assert_eq!((indexes(&entries), entries[0].committed_unix_ns > 0), (vec![0], true));
    let unknown = ProveRequest { what: Some(What::LeafIndex(9)) };
    assert_eq!(
        AuditService::prove(&service, from_cli(unknown)).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
}

#[tokio::test]
async fn a_checkpoint_that_was_handed_out_is_never_followed_by_a_smaller_one() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    bench.append(&test_event("a")).await;
    bench.publish().await;
    let published = service.published();
    // As after a start: nothing is published yet that this process knows of.
    let (later, unpublished) = watch::channel(None);
    let publication = Publication { published: unpublished, ..service.publication };
    let service = AuditGrpc { publication, ..service };
    let size = async || {
        let answer = service.get_checkpoint(from_cli(GetCheckpointRequest {})).await.unwrap();
        let checkpoint = answer.into_inner().checkpoint;
        Place::key().verifier().verify(&checkpoint).unwrap().checkpoint().size
    };
    bench.append(&test_event("b")).await;
    assert_eq!(size().await, 2);
    later.send(published).unwrap();
    assert_eq!(size().await, 2, "what is published now is older");
    bench.publish().await;
    later.send(bench.projection.lock().await.published().borrow().clone()).unwrap();
    bench.append(&test_event("c")).await;
    assert_eq!(size().await, 2);
}

#[tokio::test]
async fn an_earlier_size_is_proved_to_be_a_prefix() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    let checkpoint = async || -> SignedCheckpoint {
        let answer = service.get_checkpoint(from_cli(GetCheckpointRequest {})).await.unwrap();
        Place::key().verifier().verify(&answer.into_inner().checkpoint).unwrap()
    };
    bench.append(&test_event("a")).await;
    let early = checkpoint().await;
    for _ in 0..9 {
        bench.append(&test_event("b")).await;
    }
    bench.publish().await;
    assert_eq!(checkpoint().await.checkpoint().size, 10);
    let prove = async |size| {
        let request = ProveRequest { what: Some(What::FromSize(size)) };
        AuditService::prove(&service, from_cli(request)).await.map(|answer| answer.into_inner().proof)
    };
    let proof: AddCheckpoint = prove(1).await.unwrap().parse().unwrap();
    proof.verify(&Place::key().verifier(), &early.checkpoint().root).unwrap();
    assert_eq!(prove(11).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn who_asks_is_in_the_metadata_and_whoever_is_no_auditor_is_told_so() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    bench.append(&search_by("user:alice", "Alice Example", "red car")).await;
    bench.append(&search_by("user:bob", "Bob Other", "a dog")).await;
    let everything = ReadEntriesRequest { open_names: true, ..ReadEntriesRequest::default() };
    let refused = service.read_entries(from(CLI, "user:alice", everything.clone())).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(refused.message().contains("what is about themselves"), "{refused}");
    let mut nobody = Request::new(everything.clone());
    nobody.extensions_mut().insert(Peer(CLI.parse().unwrap()));
    let refused = service.read_entries(nobody).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let own = ReadEntriesRequest { own: true, ..everything.clone() };
    let answers = service.read_entries(from(CLI, "user:alice", own)).await.unwrap().into_inner();
    let own: Vec<_> = answers.map(|answer| answer.unwrap()).collect().await;
    assert_eq!(indexes(&own), [0, 2], "also that she was refused");
    assert!(own[0].opened.values().any(|query| query == "red car"));
    let alice = ReadEntriesRequest { person_id: "user:alice".into(), ..everything };
    assert_eq!(
        indexes(&read(&service, alice).await),
        [0, 2, 4],
        "and that she read; 3 is of the program alone"
    );
    bench.publish().await;
    let copy = service.export_log(from(CLI, "user:alice", ExportLogRequest {})).await.err().unwrap();
    assert_eq!(copy.code(), tonic::Code::PermissionDenied);
    let proof = from(CLI, "user:alice", ProveRequest { what: Some(What::LeafIndex(1)) });
    let proof = AuditService::prove(&service, proof).await.unwrap().into_inner();
    assert!(!proof.proof.is_empty() && proof.leaf.is_empty());
}

#[tokio::test]
async fn entries_are_filtered_bounded_and_followed() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    for number in 0..600 {
        let event = if number % 100 == 0 { search_by("user:alice", "", "x") } else { test_event("x") };
        bench.append(&event).await;
    }
    let searches = ReadEntriesRequest { kinds: vec!["search".into()], ..ReadEntriesRequest::default() };
    assert_eq!(indexes(&read(&service, searches.clone()).await), [0, 100, 200, 300, 400, 500]);
    let some = ReadEntriesRequest { from_index: 1, limit: 2, ..searches.clone() };
    assert_eq!(indexes(&read(&service, some).await), [100, 200]);
    let late = ReadEntriesRequest { from_unix_ns: i64::MAX, ..ReadEntriesRequest::default() };
    assert!(read(&service, late).await.is_empty());
    let wrong = ReadEntriesRequest { kinds: vec!["gossip".into()], ..ReadEntriesRequest::default() };
    assert!(service.read_entries(from_cli(wrong)).await.is_err());

    let follow = ReadEntriesRequest { from_index: 500, follow: true, ..searches };
    let mut answers = service.read_entries(from_cli(follow)).await.unwrap().into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().index, 500);
    bench.append(&test_event("x")).await;
    let index = bench.append(&search_by("user:alice", "", "x")).await;
    // What lies between is told of the readings above.
    let mut seen = 0;
    while seen < index {
        seen = answers.next().await.unwrap().unwrap().index;
    }
    assert_eq!(seen, index);
}

#[tokio::test]
async fn an_exported_copy_verifies_offline_and_a_flipped_bit_does_not() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    for _ in 0..300 {
        bench.append(&search_by("user:alice", "Alice", &"x".repeat(3_900))).await;
    }
    bench.publish().await;
    bench.append(&test_event("not yet published")).await;
    let folder = tempfile::tempdir().unwrap();
    let refused = service.export_log(from(CLI, "user:alice", ExportLogRequest {})).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let wanted = service.publication.wanted.notified().now_or_never();
    assert!(wanted.is_none(), "nothing is published for who may not have it");
    // As the loop that publishes, which has an hour to wait.
    let wanted = async {
        service.publication.wanted.notified().await;
        bench.publish().await;
    };
    let (answer, ()) = tokio::join!(service.export_log(from_cli(ExportLogRequest {})), wanted);
    let mut pieces = answer.unwrap().into_inner();
    let mut bytes = std::collections::BTreeMap::<String, Vec<u8>>::new();
    let mut pieces_of_bundle = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        assert!(piece.data.len() <= 1 << 20);
        pieces_of_bundle += usize::from(piece.path == "tile/entries/000");
        bytes.entry(piece.path).or_default().extend_from_slice(&piece.data);
    }
    for (path, bytes) in &bytes {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(pieces_of_bundle, 2);
    assert_eq!(crate::test_support::verify(folder.path(), &[]).checkpoint().size, 302);
    let bundle = folder.path().join("tile/entries/000");
    let mut changed = std::fs::read(&bundle).unwrap();
    changed[1_000_000] ^= 1;
    std::fs::write(bundle, changed).unwrap();
    let judged = std::panic::catch_unwind(|| crate::test_support::verify(folder.path(), &[]));
    assert!(judged.is_err(), "a flipped bit was not found");
}

#[tokio::test]
async fn a_copy_holds_all_that_was_in_the_log_even_where_nothing_is_published_any_more() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    bench.append(&test_event("published")).await;
    bench.publish().await;
    let (ended, published) = watch::channel(service.published());
    let publication = Publication { published, ..service.publication };
    let service = AuditGrpc { publication, ..service };
    drop(ended);
    bench.append(&test_event("not published")).await;
    let mut pieces = service.export_log(from_cli(ExportLogRequest {})).await.unwrap().into_inner();
    let first = pieces.next().await.unwrap().unwrap();
    let checkpoint = std::str::from_utf8(&first.data).unwrap();
    assert_eq!(Place::key().verifier().verify(checkpoint).unwrap().checkpoint().size, 2);
}

#[tokio::test]
async fn the_status_counts_what_producers_report() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    let events = (1..=3).map(|counter| CountedEvent { counter, event: Some(test_event("x")) }).collect();
    let report = ReportRequest { outbox_id: EventId::generate().to_string(), events };
    let answer = AuditService::report(&service, from_cli(report.clone())).await.unwrap().into_inner();
    assert_eq!(answer.through_counter, 3);
    let nobody = ReportRequest { outbox_id: "none".into(), ..report };
    assert!(AuditService::report(&service, from_cli(nobody)).await.is_err());
    let text = SendTestEventRequest { text: "does it arrive?".into() };
    let sent = service.send_test_event(from_cli(text.clone())).await.unwrap().into_inner();
    assert_eq!(sent.index, 3);
    let leaf = bench.leaf(3).await;
    assert!(!leaf.contains("does it arrive"), "words of a person are sealed: {leaf}");
    assert!(leaf.contains(&sent.event_id) && leaf.contains("test.sent"), "{leaf}");
    let mut nobody = Request::new(text);
    nobody.extensions_mut().insert(Peer(CLI.parse().unwrap()));
    assert_eq!(service.send_test_event(nobody).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    bench.publish().await;
    let status = service.get_audit_status(from_cli(GetAuditStatusRequest {})).await.unwrap().into_inner();
    assert_eq!((status.size, status.published_size, status.witnessed_size, status.dropped), (4, 4, 0, 0));
    assert_eq!(status.origin, crate::test_support::ORIGIN);
    let replay = ReplayFeedRequest { feed: "siem".into(), from_index: 0 };
    assert_eq!(service.replay_feed(from_cli(replay)).await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(bench.size().await, 4, "no entry about a feed that is none");
}

#[tokio::test]
async fn a_request_that_nobody_vouches_for_is_refused() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    let request = Request::new(AppendRequest { event: Some(Event::default()) });
    assert_eq!(service.append(request).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let empty = from_cli(AppendRequest::default());
    assert_eq!(service.append(empty).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn who_asks_for_an_erasure_is_one_of_the_two_and_is_in_its_entry() {
    let bench = Bench::sqlite().await;
    let service = service(&bench).await;
    bench.append(&search_by("user:alice", "Alice Example", "red car")).await;
    let request = ErasePersonRequest {
        person_id: "user:alice".into(),
        dpo: Some(person(OFFICER, "")),
        auditor: Some(person(AUDITOR, "")),
        ground: ErasureGround::Objection.into(),
        ..ErasePersonRequest::default()
    };
    for other in ["user:bob", "user:alice"] {
        let refused = service.erase_person(from(CLI, other, request.clone())).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    }
    assert_eq!(bench.size().await, 1);
    for asking in [OFFICER, AUDITOR] {
        service.erase_person(from(CLI, asking, request.clone())).await.unwrap();
        let pseudonyms = bench.log.parts.persons.pseudonyms(asking).await.unwrap();
        let leaf = bench.leaf(bench.size().await - 1).await;
        assert!(leaf.contains("erasure.early") && leaf.contains(&pseudonyms[0]), "{leaf}");
    }
}

#[tokio::test]
async fn who_has_a_feed_go_on_elsewhere_is_an_entry_and_so_is_that_it_failed() {
    let bench = Bench::sqlite().await;
    let service = service_with(
        &bench,
        "[siem]\nkind = \"webhook\"\nurl = \"https://siem.invalid/\"\nsecret_file = \"none\"",
    )
    .await;
    bench.append(&test_event("x")).await;
    let replay = |from_index| ReplayFeedRequest { feed: "siem".into(), from_index };
    let mut nobody = Request::new(replay(0));
    nobody.extensions_mut().insert(Peer(CLI.parse().unwrap()));
    assert_eq!(service.replay_feed(nobody).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    assert_eq!(bench.size().await, 1);
    service.replay_feed(from(CLI, "user:alice", replay(0))).await.unwrap();
    assert!(service.replay_feed(from(CLI, "user:alice", replay(99))).await.is_err());
    assert_eq!(bench.kinds().await, ["test", "change", "change", "change"]);
    let alice = bench.log.parts.persons.pseudonyms("user:alice").await.unwrap();
    for (index, outcome) in [(1, 1), (2, 1), (3, 2)] {
        let leaf: serde_json::Value = serde_json::from_str(&bench.leaf(index).await).unwrap();
        assert_eq!(leaf["data"]["entity"]["uid"], "siem");
        assert_eq!(leaf["data"]["status_id"], outcome);
        assert!(leaf.to_string().contains(&alice[0]));
    }
}
