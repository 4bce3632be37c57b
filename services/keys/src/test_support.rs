//! A bench for the tests of this service: a zone, a recorder's keys, an issuer of grants.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use obscura_access::{GrantRequest, SelfReceipting};
use obscura_clock::{Clock as _, Machine, SimulatedClock, Span, Timestamp, Uptime};
use obscura_database::{Location, PostgresUrl};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
use obscura_outbox::staged;
use obscura_proto::{
    audit::v1::Event,
    footage::v1 as footage,
    keys::v1::{
        Hold as HoldMessage, ImportLayerKeyRequest, ReleaseNodesRequest, ReleasedKey, ShredReceipt,
        ShredRequest, WrappedLayerKey,
    },
    registry::v1::{Coordinates, Placement, SignedPlacement},
};
use obscura_seal::{
    Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, Node, NodeSet, RecipientPublicKey, SLOT_DURATION, Slot,
    SlotRange, SlotSet, wrap,
};
use obscura_snapshot::{Authority, AuthorityKey};
use obscura_test_servers::postgres::shared;
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, Database, EntityTrait as _, QueryOrder as _, sea_query::Expr};

use crate::{
    custody::{Custody, Parts},
    expiry_hour::ExpiryHour,
    hold::Limits,
    key_encryption::{self, LocalKeyFile},
    rollback,
    secrets::{self, Secrets},
    store::{SCHEMA, Store, kept_key},
};

/// An hour in November 2026.
pub const HOUR: u32 = 498_800;
pub const RETENTION_HOURS: u32 = 72;

/// The service that asks for releases.
pub fn caller() -> SpiffeId {
    "spiffe://example.org/obscura/cli".parse().unwrap()
}

/// A layer key as a recorder has it.
pub struct MadeKey {
    pub context: LayerKeyContext,
    pub key: LayerKey,
}

/// A machine whose uptime a test moves.
#[derive(Debug)]
pub struct SimulatedMachine(pub Mutex<Uptime>);

impl Machine for SimulatedMachine {
    fn uptime(&self) -> Option<Uptime> {
        Some(self.0.lock().unwrap().clone())
    }
}

/// Everything around custody; survives its restarts.
pub struct Bench {
    directory: tempfile::TempDir,
    authority: Authority,
    pub issuer: SelfReceipting,
    pub clock: Arc<SimulatedClock>,
    pub machine: Arc<SimulatedMachine>,
    pub limits: Limits,
    /// The database; a file of the data directory unless a test says otherwise.
    pub location: Location,
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at(Hour::new(HOUR + 1).unwrap().slot_start(Slot::new(0).unwrap()));
        let grants = directory.path().join("grants");
        SelfReceipting::create(&grants).unwrap();
        let issuer = SelfReceipting::open(&grants, clock.clone()).unwrap();
        fs::create_dir(directory.path().join("keys")).unwrap();
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        let uptime = Uptime { boot: "first".into(), up: Duration::from_secs(90), synchronised: false };
        let machine = Arc::new(SimulatedMachine(Mutex::new(uptime)));
        let location = Location::Sqlite(directory.path().join("keys").join("keys.sqlite"));
        Self { directory, authority, issuer, clock, machine, limits: Limits::default(), location }
    }

    /// With a database on a server.
    pub fn on_postgres() -> Self {
        let url = PostgresUrl::try_new(&shared().new_database()).unwrap();
        Self { location: Location::Postgres { url, schema: SCHEMA }, ..Self::new() }
    }

    /// Lets time pass for every clock.
    pub fn wait(&self, by: Duration) {
        self.clock.advance(by);
        self.machine.0.lock().unwrap().up += by;
    }

    /// Lets hours pass.
    pub fn wait_hours(&self, hours: u32) {
        self.wait(Duration::from_secs(3_600) * hours);
    }

    /// Lets time pass until a moment, with rounds of destruction when the service has them. What stands in the
    /// way of one is tried again in the next.
    pub async fn rounds_until(&self, custody: &Custody, until: Timestamp) {
        while self.clock.wall() < until {
            let _ = custody.expire().await;
            let now = self.clock.wall();
            self.wait(crate::until_next_round(now).min(until.since(now)));
        }
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.directory.path().join("keys").join(name)
    }

    /// Opens custody, as the service does at its start, and has audit log and storage say that it is not old.
    pub async fn open(&self) -> Custody {
        let custody = self.open_alone().await;
        custody.log_compared().await;
        custody.storage_compared().await;
        custody
    }

    /// Opens custody; nobody has said yet whether it is old.
    pub async fn open_alone(&self) -> Custody {
        let store = Store::open(&self.location).await.unwrap();
        let may_create = store.is_empty().await.unwrap();
        let parts = Parts {
            store,
            encryption: Arc::new(self.key_file(may_create).await),
            secrets: Secrets::open(&self.data(secrets::FOLDER), None).unwrap(),
            zone: "eea".parse().unwrap(),
            authority: AuthorityKey::from_bytes(self.authority.public_key()),
            access: self.issuer.public_keys(),
            clock: self.clock.clone(),
            machine: self.machine.clone(),
            clock_file: self.data("clock.json"),
            restored_file: rollback::restored_file(&self.data("")),
            limits: self.limits,
        };
        Custody::open(parts).await.unwrap()
    }

    /// A program that another test starts at this moment has our files from its fork to its exec, and with them the
    /// lock that was just given back.
    async fn key_file(&self, may_create: bool) -> LocalKeyFile {
        let path = self.data("kek.json");
        for _ in 0..6_000 {
            match LocalKeyFile::open_or_create(&path, may_create) {
                Err(key_encryption::Error::Locked(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the key file stays locked for a minute");
    }

    /// Custody with one key that expires with hour `HOUR + 72`; now is the start of hour `HOUR + 1`.
    pub async fn with_key(&self) -> (Custody, MadeKey) {
        let custody = self.open().await;
        let key = self.made_key(HOUR);
        self.import(&custody, &key).await;
        custody.expire().await.unwrap();
        (custody, key)
    }

    /// Changes rows behind custody's back.
    pub async fn sql(&self, statement: &str) {
        assert!(self.run(statement).await > 0, "{statement}");
    }

    /// Runs a statement behind custody's back; returns how many rows it changed.
    pub async fn run(&self, statement: &str) -> u64 {
        if matches!(self.location, Location::Postgres { .. }) {
            let store = Store::open(&self.location).await.unwrap();
            let writer = store.write().await.unwrap();
            let changed = writer.tx().execute_unprepared(statement).await.unwrap();
            writer.commit().await.unwrap();
            return changed.rows_affected();
        }
        let url = format!("sqlite://{}", self.data("keys.sqlite").display());
        let database = Database::connect(url).await.unwrap();
        let changed = database.execute_unprepared(statement).await.unwrap();
        database.close().await.unwrap();
        changed.rows_affected()
    }

    /// Names and bytes of custody's files, without the key file.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.data("")).unwrap().map(Result::unwrap);
        let entries = entries.filter(|entry| entry.metadata().unwrap().is_file());
        let named =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
        named.filter(|(name, _)| name != "kek.json").collect()
    }

    pub fn made_key(&self, hour: u32) -> MadeKey {
        let context = LayerKeyContext {
            key_id: LayerKeyId::generate(),
            camera: CameraId::generate(),
            layer: Layer::Original,
            hour: Hour::new(hour).unwrap(),
            zone: "eea".parse().unwrap(),
            writer_epoch: WriterEpoch(7),
        };
        MadeKey { context, key: LayerKey::generate().unwrap() }
    }

    pub fn expiry(&self, key: &MadeKey) -> ExpiryHour {
        ExpiryHour::of(key.context.hour, RETENTION_HOURS)
    }

    pub fn hour_of(&self, key: &MadeKey) -> Span {
        let hour = key.context.hour;
        Span::try_new(hour.slot_start(Slot::new(0).unwrap()), hour.slot_start(Slot::MAX) + SLOT_DURATION)
            .unwrap()
    }

    pub fn placement(&self, camera: CameraId, zone: &str, retention_hours: u32) -> SignedPlacement {
        self.signed_placement(camera, zone, retention_hours, 1)
    }

    /// A later placement in the same zone.
    pub fn placement_version(&self, camera: CameraId, retention_hours: u32, version: u64) -> SignedPlacement {
        self.signed_placement(camera, "eea", retention_hours, version)
    }

    fn signed_placement(
        &self,
        camera: CameraId,
        zone: &str,
        retention_hours: u32,
        version: u64,
    ) -> SignedPlacement {
        self.authority.sign_placement(&Placement {
            camera_id: camera.to_string(),
            coordinates: Some(Coordinates { latitude: 52.52, longitude: 13.405 }),
            country: "DE".into(),
            zone: zone.into(),
            bucket: "footage".into(),
            retention_hours,
            version,
        })
    }

    pub fn import_of(&self, custody: &Custody, key: &MadeKey) -> ImportLayerKeyRequest {
        self.import_wrapped_to(custody.intake.public(), key)
    }

    pub fn import_wrapped_to(&self, public: RecipientPublicKey, key: &MadeKey) -> ImportLayerKeyRequest {
        let context = &key.context;
        let wrapped = wrap(&public, LAYER_KEY_INFO, &context.aad(), key.key.expose()).unwrap();
        let message = WrappedLayerKey {
            key_id: context.key_id.to_string(),
            camera_id: context.camera.to_string(),
            layer: context.layer.code().into(),
            hour: context.hour.get(),
            zone: context.zone.to_string(),
            writer_epoch: context.writer_epoch.0,
            encapsulated_key: wrapped.encapsulated_key.into(),
            ciphertext: wrapped.ciphertext.into(),
        };
        let placement = self.placement(context.camera, "eea", RETENTION_HOURS);
        ImportLayerKeyRequest { key: Some(message), placement: Some(placement) }
    }

    /// A request with a grant for the cameras of these keys, the layer `original` and the span.
    pub fn release_of(&self, keys: &[&MadeKey], span: Span) -> ReleaseNodesRequest {
        let request = GrantRequest {
            subject: "u-1".into(),
            cameras: keys.iter().map(|key| key.context.camera).collect(),
            layers: [Layer::Original].into(),
            span,
            purpose: "theft".into(),
            reason: "case 12".into(),
            holder: caller(),
            valid_for: Duration::from_secs(300),
        };
        ReleaseNodesRequest {
            grant: Some(self.issuer.issue(request).unwrap()),
            status_note: Some(self.issuer.status_note()),
            key_ids: keys.iter().map(|key| key.context.key_id.to_string()).collect(),
        }
    }

    /// The key comes back exactly as the recorder made it.
    pub async fn assert_releasable(&self, custody: &Custody, key: &MadeKey) {
        let request = self.release_of(&[key], self.hour_of(key));
        let released = custody.release(&caller(), &request, None).await.unwrap();
        let nodes = node_set(&released[0]);
        for slot in [Slot::new(0).unwrap(), Slot::new(777).unwrap(), Slot::MAX] {
            assert_eq!(nodes.leaf(slot).unwrap().expose(), key.key.leaf(slot).expose());
        }
    }

    /// A key of the same camera for another hour.
    pub fn sibling(&self, key: &MadeKey, hour: u32) -> MadeKey {
        let mut made = self.made_key(hour);
        made.context.camera = key.context.camera;
        made
    }

    pub async fn import(&self, custody: &Custody, key: &MadeKey) {
        custody.import(&self.import_of(custody, key)).await.unwrap();
    }

    /// Imports as a recorder does that has this placement.
    pub fn import_with(
        &self,
        custody: &Custody,
        key: &MadeKey,
        placement: SignedPlacement,
    ) -> ImportLayerKeyRequest {
        ImportLayerKeyRequest { placement: Some(placement), ..self.import_of(custody, key) }
    }

    /// The slots of the key that a reader gets, each of them checked against the key.
    pub async fn opens(&self, custody: &Custody, key: &MadeKey) -> SlotSet {
        let request = self.release_of(&[key], self.hour_of(key));
        let released = custody.release(&caller(), &request, None).await.unwrap();
        let nodes = node_set(&released[0]);
        for range in nodes.slots().ranges() {
            for slot in [range.first(), range.last()] {
                assert_eq!(nodes.leaf(slot).unwrap().expose(), key.key.leaf(slot).expose());
            }
        }
        assert!(nodes.is_part_of(&key.key));
        nodes.slots()
    }

    /// The leaf of its epoch under which a key is kept.
    pub async fn leaf(&self, custody: &Custody, key: &MadeKey) -> Option<Slot> {
        let row = kept_key::get(custody.parts.store.reader(), key.context.key_id).await.unwrap();
        row.unwrap().leaf
    }

    /// The same as [`Bench::opens`], from the description, which does not mind missing receipts.
    pub async fn describes(&self, custody: &Custody, key: &MadeKey) -> SlotSet {
        let described = custody.describe(&[key.context.key_id.to_string()]).await.unwrap();
        described[0]
            .live
            .iter()
            .map(|range| SlotRange::try_from((range.first, range.last)).unwrap())
            .collect()
    }

    /// A span from one slot of the key's hour to another, both inclusive.
    pub fn span(&self, key: &MadeKey, first: u16, last: u16) -> footage::Span {
        let at = |slot| key.context.hour.slot_start(Slot::new(slot).unwrap());
        footage::Span {
            start_unix_ns: at(first).unix_nanos(),
            end_unix_ns: (at(last) + SLOT_DURATION).unix_nanos(),
        }
    }

    pub fn hold(&self, key: &MadeKey, first: u16, last: u16) -> HoldMessage {
        HoldMessage {
            camera_id: key.context.camera.to_string(),
            span: Some(self.span(key, first, last)),
            owner: "Ada Ventura".into(),
            basis: "case 12".into(),
            review_on: "2030-01-01".into(),
            ..HoldMessage::default()
        }
    }

    /// What is staged for the audit log, in the order in which it came; on SQLite. The log takes all of it.
    pub async fn told(&self, custody: &Custody) -> Vec<Event> {
        let query = staged::Entity::find().order_by_asc(Expr::cust("rowid"));
        let rows = query.all(custody.parts.store.reader()).await.unwrap();
        let events: Vec<_> = rows.iter().map(|row| Event::decode(&*row.event).unwrap()).collect();
        events.iter().for_each(|event| obscura_ocsf::validate(event).unwrap());
        events
    }

    /// Lets no event be staged, or lets them again.
    pub async fn silence(&self, silent: bool) {
        let set = "CREATE TRIGGER silence BEFORE INSERT ON staged_events BEGIN SELECT RAISE(ABORT, 'injected'); END";
        self.run(if silent { set } else { "DROP TRIGGER silence" }).await;
    }

    /// Places a hold on these slots, both inclusive; its id.
    pub async fn held(&self, custody: &Custody, key: &MadeKey, first: u16, last: u16) -> String {
        let placed = custody.place_hold(&self.hold(key, first, last), nobody()).await.unwrap();
        placed.hold.id.to_string()
    }

    pub fn shred(&self, key: &MadeKey, first: u16, last: u16) -> ShredRequest {
        ShredRequest {
            camera_id: key.context.camera.to_string(),
            layers: Vec::new(),
            span: Some(self.span(key, first, last)),
            reason: "objection 117/26".into(),
            requested_by: "u-1".into(),
            approved_by: "u-2".into(),
        }
    }

    /// Every receipt, with number, signature and time checked.
    pub async fn receipts(&self, custody: &Custody) -> Vec<ShredReceipt> {
        let mut receipts: Vec<ShredReceipt> = Vec::new();
        loop {
            let after = receipts.last().map_or(0, |receipt| receipt.number);
            let page = custody.list_receipts(after).await.unwrap();
            if page.is_empty() {
                return receipts;
            }
            for signed in page {
                let key = [custody.receipt_key.public_key()];
                assert!(crate::receipts::verifies(&signed, &key));
                let receipt = ShredReceipt::decode(signed.receipt).unwrap();
                assert_eq!(receipt.number, receipts.len() as u64 + 1);
                assert!(receipt.effective_unix_ns > 0 && receipt.zone == "eea");
                receipts.push(receipt);
            }
        }
    }

    /// Whatever happened: each slot of each key either opens or is named by exactly one receipt, and what
    /// is released is what is described.
    pub async fn invariant_every_slot_is_accounted_for(&self, custody: &Custody, keys: &[&MadeKey]) {
        let mut dead: BTreeMap<String, SlotSet> = BTreeMap::new();
        for shredded in self.receipts(custody).await.into_iter().flat_map(|receipt| receipt.keys) {
            let slots = SlotRange::try_from((shredded.first_slot, shredded.last_slot)).unwrap().into();
            let known = dead.entry(shredded.key_id).or_default();
            assert!(known.intersection(&slots).is_empty(), "destroyed twice");
            *known = known.union(&slots);
        }
        for key in keys {
            let opens = self.opens(custody, key).await;
            assert_eq!(opens, self.describes(custody, key).await);
            let dead = dead.remove(&key.context.key_id.to_string()).unwrap_or_default();
            assert!(opens.intersection(&dead).is_empty());
            assert_eq!(opens.union(&dead), SlotSet::whole_hour());
        }
        assert!(dead.is_empty(), "receipts name keys that are not there");
    }

    /// Ends custody with its files at rest, so that they can be copied or exchanged.
    pub async fn close(&self, custody: Custody) {
        custody.parts.store.close_for_test().await;
    }

    /// Copies what custody has on the disk, all of it or the database alone. Custody must be closed.
    pub fn back_up(&self, everything: bool) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.data(""), copy.path(), everything);
        copy
    }

    /// Puts a copy back in the place of what there is now of the same.
    pub fn restore(&self, copy: &tempfile::TempDir, everything: bool) {
        if everything {
            fs::remove_dir_all(self.data("")).unwrap();
        } else {
            for file in ["keys.sqlite", "keys.sqlite-wal", "keys.sqlite-shm"] {
                let _ = fs::remove_file(self.data(file));
            }
        }
        copy_folder(copy.path(), &self.data(""), true);
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path, everything: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (name, is_folder) = (entry.file_name(), entry.metadata().unwrap().is_dir());
        if is_folder && everything {
            copy_folder(&entry.path(), &to.join(&name), true);
        } else if everything || name.to_str().unwrap().starts_with("keys.sqlite") {
            fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}

/// Slots from one to another, both inclusive.
pub fn slots(first: u16, last: u16) -> SlotSet {
    SlotRange::new(Slot::new(first).unwrap(), Slot::new(last).unwrap()).unwrap().into()
}

/// The nodes as a reader uses them.
pub fn node_set(released: &ReleasedKey) -> NodeSet {
    let node = |node: &obscura_proto::keys::v1::Node| {
        let secret = node.secret[..].try_into().unwrap();
        Node::new(node.depth.try_into().unwrap(), node.index.try_into().unwrap(), secret).unwrap()
    };
    NodeSet::new(released.nodes.iter().map(node).collect())
}

/// Whoever acts in a test.
pub fn nobody() -> obscura_proto::audit::v1::Person {
    obscura_proto::audit::v1::Person { id: "test".to_owned(), ..Default::default() }
}
