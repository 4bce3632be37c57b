//! What is sent later: once, in order, and whatever the log and the process do.

use super::*;

#[tokio::test]
async fn events_arrive_once_and_in_order_whatever_the_log_does() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    log.faults.unavailable.store(2, Ordering::SeqCst);
    log.faults.silent.store(2, Ordering::SeqCst);
    log.faults.half.store(2, Ordering::SeqCst);
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    record(&outbox, 0..2_500);
    until_empty(&outbox).await;
    assert_eq!(log.texts(), numbers(0..2_500));
    assert_eq!(outbox.dropped(), 0);
    let counters: Vec<_> = log.stored.lock().unwrap().events.keys().map(|(_, counter)| *counter).collect();
    assert_eq!(counters, (1..=2_500).collect::<Vec<_>>());
    assert!(log.stored.lock().unwrap().batches.iter().all(|events| *events <= 1_000));
}

#[tokio::test]
async fn a_log_that_is_away_loses_nothing_over_a_restart() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let outbox = open(&folder).await;
    record(&outbox, 0..50);
    outbox.close().await;
    drop(outbox);
    let outbox = open(&folder).await;
    assert_eq!(outbox.queued(), 50, "and no alarm after a clean stop");
    record(&outbox, 50..60);
    outbox.flush().await;
    // A crash, and another one before anything could be sent.
    drop(outbox);
    drop(open(&folder).await);
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    let texts: Vec<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(texts, numbers(0..60));
    assert_eq!(log.stored.lock().unwrap().through.len(), 1, "one outbox all the time");
}

#[tokio::test]
async fn a_producer_that_dies_between_answer_and_note_of_it_sends_nothing_twice() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    for round in 0..2 {
        let outbox = open(&folder).await;
        log.faults.silent.store(2, Ordering::SeqCst);
        outbox.send_to(client(&running));
        record(&outbox, round * 10..round * 10 + 10);
        until(|| {
            log.faults.silent.load(Ordering::SeqCst) < 2
                && log.texts().iter().any(|text| *text == (round * 10).to_string())
        })
        .await;
        drop(outbox);
        log.faults.silent.store(0, Ordering::SeqCst);
    }
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    let texts: Vec<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
    assert!(texts.contains(&"0".to_owned()) && texts.contains(&"10".to_owned()));
}

fn copied(from: &tempfile::TempDir) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[tokio::test]
async fn whoever_was_put_back_from_a_backup_learns_it_before_anything_is_sent() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    let told = Arc::new(AtomicU32::new(0));
    let on_old = |told: &Arc<AtomicU32>, failures: u32| -> OnOld {
        let told = Arc::clone(told);
        Box::new(move || {
            let before = told.fetch_add(1, Ordering::SeqCst);
            if before < failures { Err(io::Error::other("no space left on device")) } else { Ok(()) }
        })
    };
    outbox.send_to_after(client(&running), on_old(&told, 0));
    record(&outbox, 0..3);
    until_empty(&outbox).await;
    assert!(*outbox.compared().borrow());
    outbox.close().await;
    let copy = copied(&folder);
    let outbox = open(&folder).await;
    outbox.send_to_after(client(&running), on_old(&told, 0));
    record(&outbox, 3..6);
    until_empty(&outbox).await;
    outbox.close().await;
    assert_eq!(told.load(Ordering::SeqCst), 0, "it was never old");

    let outbox = open(&copy).await;
    assert!(!*outbox.compared().borrow());
    record(&outbox, 6..9);
    outbox.send_to_after(client(&running), on_old(&told, 2));
    let mut compared = outbox.compared();
    compared.wait_for(|compared| *compared).await.unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 3, "again until it could be written down");
    until_empty(&outbox).await;
    let texts: BTreeSet<_> = log.texts().into_iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(texts, numbers(0..9).into_iter().collect());
}

#[tokio::test]
async fn an_event_that_the_log_refuses_does_not_stop_the_others() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    record(&outbox, 0..20);
    outbox.record_body_or_drop(Outcome::Success, test(BAD));
    record(&outbox, 20..40);
    outbox.flush().await;
    outbox.send_to(client(&running));
    until_empty(&outbox).await;
    let stored = log.stored.lock().unwrap();
    assert_eq!(stored.events.len(), 41);
    let replaced = stored.events.iter().find(|((_, counter), _)| *counter == 21).unwrap().1;
    let Some(Body::Overflow(overflow)) = &replaced.body else { panic!("{replaced:?}") };
    assert_eq!((overflow.first_counter, overflow.last_counter), (21, 21));
}

#[tokio::test]
async fn a_full_outbox_never_waits_and_names_what_it_dropped() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let limits = Limits { max_events: 100, ..Limits::default() };
    let outbox = Outbox::open(folder.path(), limits, clock()).await.unwrap();
    record(&outbox, 0..250);
    assert_eq!((outbox.queued(), outbox.dropped()), (100, 150));
    outbox.send_to(client(&running));
    until(|| log.stored.lock().unwrap().events.len() == 101).await;
    until_empty(&outbox).await;
    let stored = log.stored.lock().unwrap();
    let ((_, counter), last) = stored.events.iter().next_back().unwrap();
    let Some(Body::Overflow(overflow)) = &last.body else { panic!("{last:?}") };
    assert_eq!((*counter, overflow.first_counter, overflow.last_counter), (251, 101, 250));
}

#[tokio::test]
async fn a_file_does_not_grow_with_what_is_done() {
    let (log, folder) = (Log::default(), tempfile::tempdir().unwrap());
    let running = serve(&log, anywhere()).await;
    let outbox = open(&folder).await;
    outbox.send_to(client(&running));
    for _ in 0..4 {
        let long = "x".repeat(20_000);
        (0..60).for_each(|_| outbox.record_body_or_drop(Outcome::Success, test(&long)));
        until_empty(&outbox).await;
        outbox.flush().await;
    }
    let length = std::fs::metadata(folder.path().join("events")).unwrap().len();
    assert!(length < 2 << 20, "{length} bytes of 4.8 MB");
}
