//! A whole process, apart from its signals.

use std::{fs, io::Write as _, net::TcpStream, path::PathBuf, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use obscura_identity::{BoxBody, Ca, HttpClient, Identity, Route};
use serde::Deserialize;
use tempfile::TempDir;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// The folder of one service, as a supervisor would lay it out.
struct Place {
    folder: TempDir,
    ca: Ca,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let ca = Ca::create(&folder.path().join("ca"), &"shop.example".parse().unwrap(), &*clock).unwrap();
        let place = Self { folder, ca };
        place.issue("keys", "identity");
        Trust { zone_authority: [1; 32], grant_issuer: [2; 32], audit: [3; 32] }
            .save(&place.at("trust.toml"))
            .unwrap();
        place.configure("");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, service: &str, into: &str) {
        self.ca.issue(service, &self.at(into), HOUR, &*SystemClock::shared()).unwrap();
    }

    fn configure(&self, more: &str) {
        let at = |name| self.at(name).display().to_string();
        let mut file = fs::File::create(self.at("keys.toml")).unwrap();
        writeln!(file, "service = \"keys\"\nzone = \"eea\"\ndata_dir = {:?}", at("data")).unwrap();
        writeln!(file, "identity_dir = {:?}\ntrust_file = {:?}", at("identity"), at("trust.toml")).unwrap();
        writeln!(file, "address_file = {:?}\n{more}", at("keys.addr")).unwrap();
    }

    async fn open(&self) -> Result<Daemon> {
        Daemon::open("keys", &self.at("keys.toml")).await
    }

    async fn complaint(&self) -> String {
        format!("{:#}", self.open().await.unwrap_err())
    }

    /// The address that the service announced, once it has.
    async fn address(&self) -> String {
        loop {
            if let Ok(text) = fs::read_to_string(self.at("keys.addr")) {
                return text.trim_end().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn get(&self, address: &str, path: &str) -> (u16, String) {
        self.issue("ingest", "ingest");
        let client = HttpClient::new(&Identity::load(&self.at("ingest")).unwrap(), "keys");
        let body: BoxBody = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
        let request = http::Request::get(format!("https://{address}{path}")).body(body).unwrap();
        let response = client.send(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn a_service_announces_its_address_only_once_it_listens_and_drains_when_told_to() {
    let place = Place::new();
    fs::write(place.at("keys.addr"), "127.0.0.1:1\n").unwrap();
    let daemon = place.open().await.unwrap();
    assert!(!place.at("keys.addr").exists(), "the address of an earlier run is forgotten");
    let shutdown = daemon.shutdown.clone();
    let task = tokio::spawn(daemon.serve(Router::new(), &[]));
    let address = place.address().await;
    TcpStream::connect(&address).unwrap();
    assert_eq!(place.get(&address, "/healthz").await, (200, "ok\n".into()));
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert!(TcpStream::connect(&address).is_err());
}

#[tokio::test]
async fn metrics_show_the_requests_and_the_end_of_the_certificate() {
    const ROUTES: &[Route] = &[Route { prefix: "/objects", callers: &["ingest"] }];
    let place = Place::new();
    let daemon = place.open().await.unwrap();
    let not_after = daemon.identity.served_not_after().unix_nanos() / 1_000_000_000;
    let router = Router::new().route("/objects/{name}", get(async || "object"));
    let _task = tokio::spawn(daemon.serve(router, ROUTES));
    let address = place.address().await;
    assert_eq!(place.get(&address, "/objects/a-camera").await, (200, "object".into()));
    let (_, text) = place.get(&address, "/metrics").await;
    assert!(
        text.contains(&format!("obscura_identity_not_after_seconds{{service=\"keys\"}} {not_after}")),
        "{text}"
    );
    let row = "obscura_rpc_requests_total{service=\"keys\",path=\"/objects\",code=\"2xx\"} 1";
    assert!(text.contains(row) && !text.contains("a-camera"), "{text}");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new();
    place.configure(&format!("listen = \"{}\"", taken.local_addr().unwrap()));
    let error = format!("{:#}", place.open().await.unwrap().serve(Router::new(), &[]).await.unwrap_err());
    assert!(
        error.contains("cannot listen on 127.0.0.1:") && error.contains("choose another `listen`"),
        "{error}"
    );
    assert!(!place.at("keys.addr").exists());
}

#[tokio::test]
async fn a_peer_that_no_one_configured_is_named_with_the_line_to_add() {
    let place = Place::new();
    place.configure("[peers]\nstorage = \"127.0.0.1:1\"");
    let daemon = place.open().await.unwrap();
    assert!(daemon.peer("storage").is_ok());
    let error = daemon.peer("registry").unwrap_err().to_string();
    assert!(error.contains("`registry = \"host:port\"`") && error.contains("[peers]"), "{error}");
}

#[tokio::test]
async fn settings_take_the_shape_of_the_service_or_say_what_is_wrong() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        slots: u8,
    }
    let place = Place::new();
    place.configure("[settings]\nslots = 7");
    assert_eq!(place.open().await.unwrap().settings::<Settings>().unwrap().slots, 7);
    place.configure("[settings]\nslots = 700");
    let error = format!("{:#}", place.open().await.unwrap().settings::<Settings>().unwrap_err());
    assert!(error.contains("[settings]") && error.contains("slots"), "{error}");
}

#[tokio::test]
async fn a_wrong_or_missing_identity_and_a_missing_trust_file_are_named() {
    let place = Place::new();
    place.issue("storage", "identity");
    let error = place.complaint().await;
    assert!(error.contains("`identity_dir`") && error.contains("certificate of `storage`"), "{error}");
    fs::remove_dir_all(place.at("identity")).unwrap();
    let error = place.complaint().await;
    assert!(error.contains("`identity_dir`") && error.contains("cert.pem"), "{error}");
    fs::remove_file(place.at("trust.toml")).unwrap();
    let error = place.complaint().await;
    assert!(error.contains("`trust_file`") && error.contains("trust.toml"), "{error}");
}

#[tokio::test]
async fn the_data_folder_is_made_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.open().await.unwrap();
    let mode = fs::metadata(place.at("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
