use obscura_proto::keys::v1::{GetIntakeKeyRequest, GetKeyStatusRequest, RotateKeyEncryptionKeyRequest};
use tokio::{io::AsyncReadExt as _, sync::Notify};

use super::*;

const SHORT: Duration = Duration::from_millis(300);

async fn took<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let clock = SystemClock::shared();
    let started = clock.monotonic();
    let done = work.await;
    (done, clock.monotonic().since(started))
}

#[tokio::test]
async fn a_peer_that_connects_and_says_nothing_is_sent_away() {
    let shop = Installation::new();
    let limits = Limits { handshake: SHORT, ..LIMITS };
    let server = Served::within(limits, shop.identity("keys"), keys::router()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_silent_stranger_below_the_bound_holds_up_nobody() {
    let shop = Installation::new();
    let limits = Limits { handshakes: 2, handshake: HOUR, ..LIMITS };
    let server = Served::within(limits, shop.identity("keys"), keys::router()).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.client(&shop.identity("ingest")).get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_handshake_over_the_bound_waits_for_a_place() {
    let shop = Installation::new();
    // Long enough for the handshake of the one who waits, on a busy machine.
    let handshake = Duration::from_secs(2);
    let limits = Limits { handshakes: 1, handshake, ..LIMITS };
    let server = Served::within(limits, shop.identity("keys"), keys::router()).await;
    let mut client = server.client(&shop.identity("ingest"));
    let ((_silent, answer), waited) = took(async {
        let silent = TcpStream::connect(server.address).await.unwrap();
        (silent, client.get_intake_key(GetIntakeKeyRequest {}).await)
    })
    .await;
    assert!(answer.is_ok() && waited >= handshake, "{waited:?}");
}

#[tokio::test]
async fn a_connection_over_the_bound_waits_until_another_ends() {
    let shop = Installation::new();
    let ingest = shop.identity("ingest");
    let limits = Limits { connections: 1, ..LIMITS };
    let server = Served::within(limits, shop.identity("keys"), keys::router()).await;
    let mut first = server.client(&ingest);
    first.get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
    let mut second = server.client(&ingest);
    let waiting = tokio::time::timeout(SHORT, second.get_intake_key(GetIntakeKeyRequest {})).await;
    assert!(waiting.is_err());
    drop(first);
    second.get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_request_under_way_is_answered_while_the_server_drains_and_no_new_one_is_taken() {
    let shop = Installation::new();
    let cli = shop.identity("cli");
    let arrived = Arc::new(Notify::new());
    let router = keys::router_that_tells(Arc::clone(&arrived));
    let server = Served::within(LIMITS, shop.identity("keys"), router).await;
    let (mut early, mut late) = (server.client(&cli), server.client(&cli));
    let slow = tokio::spawn(async move { early.get_key_status(GetKeyStatusRequest {}).await });
    arrived.notified().await;
    server.stop().await;
    assert_eq!(slow.await.unwrap().unwrap().into_inner().layer_keys, 7);
    assert_eq!(
        late.get_key_status(GetKeyStatusRequest {}).await.unwrap_err().code(),
        tonic::Code::Unavailable
    );
}

#[tokio::test]
async fn a_stream_that_never_ends_does_not_hold_up_the_drain_for_ever() {
    let shop = Installation::new();
    let limits = Limits { drain: SHORT, ..LIMITS };
    let server = Served::within(limits, shop.identity("keys"), keys::router()).await;
    let mut client = server.client(&shop.identity("cli"));
    let answer = client.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest {}).await.unwrap();
    let mut stream = answer.into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let ((), drained) = took(server.stop()).await;
    assert!(drained >= SHORT && drained < HOUR, "{drained:?}");
    assert!(stream.message().await.is_err());
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go_and_its_channel_comes_back_by_itself() {
    let shop = Installation::new();
    let limits = Limits { connection_age: Duration::from_secs(1), connections: 1, ..LIMITS };
    let server = Served::within(limits, shop.identity("keys"), keys::router()).await;
    let first = server.client(&shop.identity("ingest"));
    first.clone().get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
    // There is one place: the second gets it only once the first connection has gone.
    server.client(&shop.identity("ingest")).get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
    first.clone().get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
}
