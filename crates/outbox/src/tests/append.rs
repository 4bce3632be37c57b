//! An event that is waited for.

use tokio::net::TcpSocket;

use super::*;

#[tokio::test]
async fn an_appended_event_comes_back_with_a_receipt_that_counts() {
    let log = Log::default();
    let running = serve(&log, anywhere()).await;
    let decision = GrantDecision { claims_hash: vec![3; 32].into(), ..GrantDecision::default() };
    let event = event(&clock(), Outcome::Success, Body::Grant(decision));
    let (_, receipt) = client(&running).append_decoded(event.clone()).await.unwrap();
    assert_eq!((receipt.leaf_index, receipt.claims_hash), (7, vec![3; 32].into()));
    log.faults.forged.store(1, Ordering::SeqCst);
    assert!(matches!(client(&running).append(event.clone()).await, Err(Error::BadReceipt(_))));
    log.faults.confused.store(1, Ordering::SeqCst);
    assert!(matches!(client(&running).append(event.clone()).await, Err(Error::BadReceipt(_))));
    log.faults.no_receipt.store(1, Ordering::SeqCst);
    assert!(matches!(client(&running).append(event).await, Err(Error::NoReceipt)));
}

#[tokio::test]
async fn append_says_at_once_what_the_log_says() {
    let log = Log::default();
    let running = serve(&log, anywhere()).await;
    log.faults.unavailable.store(1, Ordering::SeqCst);
    let good = event(&clock(), Outcome::Success, test("good"));
    let error = client(&running).append(good.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.code() == obscura_status::Code::Unavailable);
    let bad = event(&clock(), Outcome::Success, test(BAD));
    assert!(matches!(client(&running).append(bad).await, Err(Error::Refused(_))));
    client(&running).append(good).await.unwrap();
}

#[tokio::test]
async fn append_waits_for_a_log_that_is_not_up_yet_and_gives_up_after_5_s() {
    let log = Log::default();
    // Bound and never listening: nobody else is given the address while the log is away.
    let bound = TcpSocket::new_v4().unwrap();
    bound.set_reuseaddr(true).unwrap();
    bound.bind(anywhere()).unwrap();
    let address = bound.local_addr().unwrap();
    let waiting = AuditLog::new(channel(address), trust());
    let event = event(&clock(), Outcome::Success, test("early"));
    let appending = tokio::spawn({
        let (waiting, event) = (waiting.clone(), event.clone());
        async move { waiting.append(event).await }
    });
    time::sleep(Duration::from_millis(600)).await;
    assert!(!appending.is_finished());
    let running = serve(&log, address).await;
    appending.await.unwrap().unwrap();
    drop(running);
    until(|| std::net::TcpStream::connect(address).is_err()).await;
    let fresh = AuditLog::new(channel(address), trust());
    let error = time::timeout(Duration::from_secs(60), fresh.append(event)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
}
