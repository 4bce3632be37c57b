use std::{fs, os::unix::fs::PermissionsExt as _};

use obscura_clock::SimulatedClock;
use obscura_proto::keys::v1::GetIntakeKeyRequest;

use super::*;
use crate::write_atomically;

const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_calls_go_on() {
    let shop = Installation::new();
    let (keys, ingest) = (shop.identity("keys"), shop.identity("ingest"));
    keys.spawn_reload(TICK);
    ingest.spawn_reload(TICK);
    let server = Served::keys(keys.clone()).await;
    let mut client = server.client(&ingest);
    client.get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
    let (before, ended) = (served_leaf(server.address).await, keys.served_not_after());

    shop.ca.issue("keys", &shop.folder_of("keys"), HOUR * 2, &*SystemClock::shared()).unwrap();
    shop.issue("ingest", "ingest");
    eventually(async || served_leaf(server.address).await != before).await;

    assert!(keys.served_not_after() > ended);
    client.get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
    server.client(&ingest).get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_client_shows_its_new_certificate_with_the_next_connection() {
    let (shop, successor) = (Installation::new(), Installation::new());
    let (keys, ingest) = (shop.identity("keys"), shop.identity("ingest"));
    // The successor of the CA signs both: with the old files each would refuse the other.
    successor.ca.issue("keys", &shop.folder_of("keys"), HOUR, &*SystemClock::shared()).unwrap();
    assert!(keys.reload().unwrap());
    let server = Served::keys(keys).await;
    assert!(server.client(&ingest).get_intake_key(GetIntakeKeyRequest {}).await.is_err());
    successor.ca.issue("ingest", &shop.folder_of("ingest"), HOUR, &*SystemClock::shared()).unwrap();
    assert!(ingest.reload().unwrap());
    assert!(!ingest.reload().unwrap());
    server.client(&ingest).get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
}

#[tokio::test]
async fn bad_new_files_are_refused_one_by_one_and_the_old_ones_stay_in_use() {
    let shop = Installation::new();
    let keys = shop.identity("keys");
    let server = Served::keys(keys.clone()).await;
    let before = served_leaf(server.address).await;
    let refuse = |what: &str| {
        let error = keys.reload().unwrap_err().to_string();
        assert!(error.contains(what), "{what}: {error}");
    };
    let folder = shop.folder_of("keys");

    shop.issue("storage", "keys");
    refuse("now names spiffe://shop.example/obscura/storage");
    shop.ca
        .issue("keys", &folder, HOUR, &*SimulatedClock::at(SystemClock::shared().wall() - HOUR * 24))
        .unwrap();
    refuse("cert.pem: invalid peer certificate: certificate expired");
    shop.issue("keys", "other");
    fs::copy(shop.folder_of("other").join("key.pem"), folder.join("key.pem")).unwrap();
    shop.issue("keys", "other");
    fs::copy(shop.folder_of("other").join("cert.pem"), folder.join("cert.pem")).unwrap();
    refuse("key.pem");
    fs::remove_file(folder.join("ca.pem")).unwrap();
    refuse("cannot read");

    assert_eq!(served_leaf(server.address).await, before);
    shop.issue("keys", "keys");
    assert!(keys.reload().unwrap());
}

#[test]
fn a_key_that_everyone_can_read_is_refused() {
    let shop = Installation::new();
    shop.issue("keys", "keys");
    let folder = shop.folder_of("keys");
    fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = Identity::load(&folder).unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("chmod 600"), "{error}");
}

#[test]
fn a_root_of_another_trust_domain_is_refused() {
    let shop = Installation::new();
    shop.issue("keys", "keys");
    let mall = Ca::create(&shop.folder_of("mall"), &"mall.example".parse().unwrap(), &*SystemClock::shared())
        .unwrap();
    assert_eq!(mall.trust_domain().as_str(), "mall.example");
    let folder = shop.folder_of("keys");
    let both =
        [fs::read(folder.join("ca.pem")).unwrap(), fs::read(shop.folder_of("mall").join("ca.pem")).unwrap()];
    write_atomically(&folder.join("ca.pem"), &both.concat(), 0o644).unwrap();
    let error = Identity::load(&folder).unwrap_err().to_string();
    assert!(error.contains("ca.pem: holds a root of another trust domain"), "{error}");
}

#[test]
fn files_that_are_missing_or_nonsense_are_named() {
    let shop = Installation::new();
    let folder = shop.folder_of("keys");
    assert!(Identity::load(&folder).unwrap_err().to_string().contains("cert.pem"));
    for file in ["cert.pem", "key.pem", "ca.pem"] {
        shop.issue("keys", "keys");
        write_atomically(&folder.join(file), b"nonsense", 0o600).unwrap();
        let error = Identity::load(&folder).unwrap_err().to_string();
        assert!(error.contains(file), "{file}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_was_restarted_on_another_port_is_found_through_its_address_file() {
    let shop = Installation::new();
    let (keys, file) = (shop.identity("keys"), shop.folder_of("keys.addr"));
    let tell =
        |server: &Served| write_atomically(&file, server.address.to_string().as_bytes(), 0o644).unwrap();
    let server = Served::keys(keys.clone()).await;
    tell(&server);
    let endpoint = Endpoint::File(file.clone());
    let client = KeysServiceClient::new(channel(&shop.identity("ingest"), "keys", endpoint));
    client.clone().get_intake_key(GetIntakeKeyRequest {}).await.unwrap();
    server.stop().await;
    tell(&Served::keys(keys).await);
    eventually(async || client.clone().get_intake_key(GetIntakeKeyRequest {}).await.is_ok()).await;
}
