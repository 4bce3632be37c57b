//! The real process: it starts with no other service present, serves over mTLS, and keeps what it
//! acknowledged through `kill -9`. With log and `storage` away it takes keys and releases none.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic here is a failed test with a line number")]

mod fake_log;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use obscura_access::{GrantRequest, SelfReceipting};
use obscura_clock::{Span, SystemClock};
use obscura_daemon::Trust;
use obscura_identity::{Ca, Endpoint, Identity, channel};
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
use obscura_proto::{
    footage::v1 as footage,
    keys::v1::{
        DescribeKeysRequest, GetIntakeKeyRequest, GetKeyStatusRequest, ImportLayerKeyRequest,
        ListShredReceiptsRequest, ReleaseNodesRequest, RotateKeyEncryptionKeyRequest, ShredReceipt,
        ShredRequest, SignedShredReceipt, WrappedLayerKey, keys_service_client::KeysServiceClient,
    },
    registry::v1::{Coordinates, Placement},
};
use obscura_seal::{Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, RecipientPublicKey, wrap};
use obscura_snapshot::Authority;
use prost::Message as _;
use tonic::{Code, transport::Channel};

use fake_log::FakeLog;

type Client = KeysServiceClient<Channel>;

/// One machine with the key service and what it needs: identities, a trust file, a configuration.
struct Machine {
    folder: tempfile::TempDir,
    authority: Authority,
    issuer: SelfReceipting,
    log: FakeLog,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, clock) = (folder.path(), SystemClock::shared());
        let ca = Ca::create(&path.join("ca"), &"example.org".parse().unwrap(), &*clock).unwrap();
        for service in ["keys", "cli", "ingest", "audit", "storage"] {
            ca.issue(service, &path.join(service), Duration::from_secs(3_600), &*clock).unwrap();
        }
        SelfReceipting::create(&path.join("grants")).unwrap();
        let issuer = SelfReceipting::open(&path.join("grants"), clock).unwrap();
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let access = issuer.public_keys();
        let trust = Trust {
            zone_authority: authority.public_key(),
            grant_issuer: access.grant_issuer,
            audit: access.audit,
        };
        trust.save(&path.join("trust.toml")).unwrap();
        let machine = Self { folder, authority, issuer, log: FakeLog::default() };
        machine.configure("127.0.0.1:9");
        machine
    }

    /// With an audit log.
    async fn with_log() -> Self {
        let machine = Self::new();
        machine.configure(&machine.log.serve(&machine.path("audit")).await.to_string());
        machine
    }

    fn configure(&self, audit: &str) {
        let shown = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "service = \"keys\"\nzone = \"eea\"\ndata_dir = \"{}\"\nidentity_dir = \"{}\"\n\
             trust_file = \"{}\"\naddress_file = \"{}\"\n[peers]\naudit = \"{audit}\"\n",
            shown("data"),
            shown("keys"),
            shown("trust.toml"),
            shown("address"),
        );
        fs::write(self.path("keys.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn start(&self) -> Process {
        let _ = fs::remove_file(self.path("address"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_obscura-keys"));
        command.arg("--config").arg(self.path("keys.toml"));
        let process = Process(command.stderr(Stdio::null()).spawn().unwrap());
        wait_for(&self.path("address")).await;
        process
    }

    /// Starts the service and has log and `storage` say that it is not an old copy.
    async fn start_confirmed(&self) -> Process {
        let process = self.start().await;
        self.storage_compares().await;
        let mut cli = self.client("cli");
        for _ in 0..3_000 {
            let status = cli.get_key_status(GetKeyStatusRequest {}).await.unwrap().into_inner();
            if status.releases_stopped.is_empty() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it releases nothing a minute after its start");
    }

    async fn storage_compares(&self) {
        let request = ListShredReceiptsRequest { after_number: 0 };
        self.client("storage").list_shred_receipts(request).await.unwrap();
    }

    fn client(&self, service: &str) -> Client {
        let identity = Identity::load(&self.path(service)).unwrap();
        Client::new(channel(&identity, "keys", Endpoint::File(self.path("address"))))
    }

    fn import(
        &self,
        intake: RecipientPublicKey,
        context: &LayerKeyContext,
        key: &LayerKey,
    ) -> ImportLayerKeyRequest {
        let wrapped = wrap(&intake, LAYER_KEY_INFO, &context.aad(), key.expose()).unwrap();
        let placement = self.authority.sign_placement(&Placement {
            camera_id: context.camera.to_string(),
            coordinates: Some(Coordinates { latitude: 52.52, longitude: 13.405 }),
            country: "DE".into(),
            zone: context.zone.to_string(),
            bucket: "footage".into(),
            retention_hours: 72,
            version: 1,
        });
        let key = WrappedLayerKey {
            key_id: context.key_id.to_string(),
            camera_id: context.camera.to_string(),
            layer: context.layer.code().into(),
            hour: context.hour.get(),
            zone: context.zone.to_string(),
            writer_epoch: context.writer_epoch.0,
            encapsulated_key: wrapped.encapsulated_key.into(),
            ciphertext: wrapped.ciphertext.into(),
        };
        ImportLayerKeyRequest { key: Some(key), placement: Some(placement) }
    }

    fn release(&self, context: &LayerKeyContext, holder: &str) -> ReleaseNodesRequest {
        let start = context.hour.slot_start(obscura_seal::Slot::new(0).unwrap());
        let request = GrantRequest {
            subject: "u-1".into(),
            cameras: [context.camera].into(),
            layers: [context.layer].into(),
            span: Span::try_new(start, start + Duration::from_secs(2)).unwrap(),
            purpose: "test".into(),
            reason: "test".into(),
            holder: format!("spiffe://example.org/obscura/{holder}").parse().unwrap(),
            valid_for: Duration::from_secs(60),
        };
        ReleaseNodesRequest {
            grant: Some(self.issuer.issue(request).unwrap()),
            status_note: Some(self.issuer.status_note()),
            key_ids: vec![context.key_id.to_string()],
        }
    }
}

/// The running service; killed without mercy when dropped.
struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn wait_for(path: &Path) {
    for _ in 0..3_000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} did not appear within a minute", path.display());
}

async fn intake_key(client: &mut Client) -> RecipientPublicKey {
    let response = client.get_intake_key(GetIntakeKeyRequest {}).await.unwrap().into_inner();
    RecipientPublicKey(response.public_key[..].try_into().unwrap())
}

fn new_key() -> (LayerKeyContext, LayerKey) {
    let context = LayerKeyContext {
        key_id: LayerKeyId::generate(),
        camera: CameraId::generate(),
        layer: Layer::Original,
        hour: Hour::of(SystemClock::shared().wall()).unwrap().0,
        zone: "eea".parse().unwrap(),
        writer_epoch: WriterEpoch(1),
    };
    (context, LayerKey::generate().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_during_a_rotation() {
    let machine = Machine::with_log().await;
    let process = machine.start_confirmed().await;
    let (mut ingest, mut cli) = (machine.client("ingest"), machine.client("cli"));
    let intake = intake_key(&mut ingest).await;
    let mut contexts = Vec::new();
    for _ in 0..5 {
        let (context, key) = new_key();
        ingest.import_layer_key(machine.import(intake, &context, &key)).await.unwrap();
        contexts.push((context, key));
    }
    let rotation = cli.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest {}).await.unwrap();
    process.signal("-KILL");
    drop((rotation, process));

    let process = machine.start_confirmed().await;
    let (mut ingest, mut cli) = (machine.client("ingest"), machine.client("cli"));
    assert_eq!(intake_key(&mut ingest).await, intake);
    for (context, key) in &contexts {
        let released = cli.release_nodes(machine.release(context, "cli")).await.unwrap().into_inner();
        let leaf = key.leaf(obscura_seal::Slot::new(0).unwrap());
        assert_eq!(released.keys[0].nodes.len(), 1);
        assert_eq!(released.keys[0].nodes[0].secret[..], leaf.expose()[..]);
    }
    let mut reports =
        cli.rotate_key_encryption_key(RotateKeyEncryptionKeyRequest {}).await.unwrap().into_inner();
    let mut last = None;
    while let Some(report) = reports.message().await.unwrap() {
        last = Some(report);
    }
    let last = last.expect("a last report");
    assert_eq!(last.rewrapped, last.total);
    let kept = cli.get_key_status(GetKeyStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((kept.layer_keys, kept.key_encryption_key_version), (5, last.version));

    process.signal("-TERM");
    let mut process = process;
    assert!(process.0.wait().unwrap().success(), "SIGTERM ends the service in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_cannot_read_back_and_a_reader_cannot_use_another_services_grant() {
    let machine = Machine::with_log().await;
    let _process = machine.start_confirmed().await;
    let (mut ingest, mut cli) = (machine.client("ingest"), machine.client("cli"));
    let (context, key) = new_key();
    let intake = intake_key(&mut ingest).await;
    ingest.import_layer_key(machine.import(intake, &context, &key)).await.unwrap();

    let refused = ingest.release_nodes(machine.release(&context, "ingest")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = cli.release_nodes(machine.release(&context, "export")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("spiffe://example.org/obscura/export"), "{}", refused.message());
    let refused = cli.import_layer_key(machine.import(intake, &context, &key)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    cli.release_nodes(machine.release(&context, "cli")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_file_stops_the_start_and_is_not_replaced() {
    let machine = Machine::new();
    drop(machine.start().await);
    fs::remove_file(machine.path("data/kek.json")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_obscura-keys"));
    let output = command.arg("--config").arg(machine.path("keys.toml")).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("kek.json") && said.contains("restore it from a backup"), "{said}");
    assert!(!machine.path("data/kek.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_cut_off_by_a_kill_is_finished_or_undone() {
    let machine = Machine::with_log().await;
    let mut process = machine.start_confirmed().await;
    let (mut ingest, mut cli) = (machine.client("ingest"), machine.client("cli"));
    let (context, key) = new_key();
    let intake = intake_key(&mut ingest).await;
    ingest.import_layer_key(machine.import(intake, &context, &key)).await.unwrap();
    for round in 0..12_u16 {
        let slot = obscura_seal::Slot::new(round * 100).unwrap();
        let mut asking = cli.clone();
        let request = early(&context, slot);
        let asked = tokio::spawn(async move { asking.shred(request).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 3)).await;
        process.signal("-KILL");
        drop(process);
        let answered = asked.await.unwrap();

        process = machine.start_confirmed().await;
        cli = machine.client("cli");
        let receipts = cli.list_shred_receipts(ListShredReceiptsRequest { after_number: 0 }).await.unwrap();
        let destroyed: Vec<u32> = receipts.into_inner().receipts.iter().flat_map(first_slots).collect();
        let described = cli.describe_keys(DescribeKeysRequest { key_ids: vec![context.key_id.to_string()] });
        let live = described.await.unwrap().into_inner().keys.remove(0).live;
        for slot in (0..=round).map(|round| u32::from(round) * 100) {
            let opens = live.iter().any(|range| (range.first..=range.last).contains(&slot));
            assert_eq!(opens, !destroyed.contains(&slot), "slot {slot}: {destroyed:?}");
        }
        assert!(!answered || destroyed.contains(&u32::from(round * 100)), "an answer is never taken back");
        assert!(live.iter().any(|range| range.last == 1_799), "neighbours live on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_log_and_storage_away_keys_are_taken_and_none_is_released() {
    let machine = Machine::new();
    let _process = machine.start().await;
    let (mut ingest, mut cli) = (machine.client("ingest"), machine.client("cli"));
    let (context, key) = new_key();
    let intake = intake_key(&mut ingest).await;
    ingest.import_layer_key(machine.import(intake, &context, &key)).await.unwrap();
    // Only `storage` can say that it has compared.
    cli.list_shred_receipts(ListShredReceiptsRequest { after_number: 0 }).await.unwrap();
    machine.storage_compares().await;
    let refused = cli.release_nodes(machine.release(&context, "cli")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("waits for the audit log"), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_put_back_replays_the_log_before_it_releases() {
    let machine = Machine::with_log().await;
    let mut process = machine.start_confirmed().await;
    let mut ingest = machine.client("ingest");
    let (context, key) = new_key();
    let intake = intake_key(&mut ingest).await;
    ingest.import_layer_key(machine.import(intake, &context, &key)).await.unwrap();
    process.signal("-TERM");
    process.0.wait().unwrap();
    let copy = machine.path("copy");
    copy_folder(&machine.path("data"), &copy);
    let process = machine.start_confirmed().await;
    let mut cli = machine.client("cli");
    let first = obscura_seal::Slot::new(0).unwrap();
    cli.shred(early(&context, first)).await.unwrap();
    for _ in 0..3_000 {
        if machine.log.destructions() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(machine.log.destructions(), 1);
    drop(process);
    fs::remove_dir_all(machine.path("data")).unwrap();
    fs::rename(&copy, machine.path("data")).unwrap();

    // The fake of `storage` says that it has seen nothing, as one does that was put back to the same age.
    let _process = machine.start_confirmed().await;
    let mut cli = machine.client("cli");
    let released = cli.release_nodes(machine.release(&context, "cli")).await.unwrap().into_inner();
    assert!(released.keys[0].nodes.is_empty(), "the destroyed slot stays destroyed");
    let receipts = cli.list_shred_receipts(ListShredReceiptsRequest { after_number: 0 }).await.unwrap();
    assert_eq!(receipts.into_inner().receipts.len(), 1);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy_folder(&entry.path(), &name);
        } else {
            fs::copy(entry.path(), name).unwrap();
        }
    }
}

/// Asks for the destruction of one slot.
fn early(context: &LayerKeyContext, slot: obscura_seal::Slot) -> ShredRequest {
    let start = context.hour.slot_start(slot).unix_nanos();
    ShredRequest {
        camera_id: context.camera.to_string(),
        layers: Vec::new(),
        span: Some(footage::Span { start_unix_ns: start, end_unix_ns: start + 1 }),
        reason: "objection 117/26".into(),
        requested_by: "u-1".into(),
        approved_by: "u-2".into(),
    }
}

fn first_slots(signed: &SignedShredReceipt) -> Vec<u32> {
    let receipt = ShredReceipt::decode(signed.receipt.clone()).unwrap();
    receipt.keys.iter().map(|key| key.first_slot).collect()
}
