//! A bench for the tests of this service: a zone, a recorder's keys, an issuer of grants.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use obscura_access::{GrantRequest, LocalIssuer};
use obscura_clock::{SimulatedClock, Span};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
use obscura_proto::{
    keys::v1::{ImportLayerKeyRequest, ReleaseNodesRequest, ReleasedKey, WrappedLayerKey},
    registry::v1::{Coordinates, Placement, SignedPlacement},
};
use obscura_seal::{
    Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, Node, NodeSet, RecipientPublicKey, SLOT_DURATION, Slot,
    wrap,
};
use obscura_snapshot::{Authority, AuthorityKey};
use sea_orm::{ConnectionTrait as _, Database};

use crate::{
    custody::{Custody, Parts},
    epoch::ExpiryDay,
    key_encryption::LocalKeyFile,
    store::Store,
};

/// An hour in November 2026.
pub const HOUR: u32 = 498_800;
const RETENTION_HOURS: u32 = 72;

/// The service that asks for releases.
pub fn caller() -> SpiffeId {
    "spiffe://example.org/obscura/cli".parse().unwrap()
}

/// A layer key as a recorder has it.
pub struct MadeKey {
    pub context: LayerKeyContext,
    pub key: LayerKey,
}

/// Everything around custody; survives its restarts.
pub struct Bench {
    directory: tempfile::TempDir,
    authority: Authority,
    pub issuer: LocalIssuer,
    pub clock: Arc<SimulatedClock>,
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at(Hour::new(HOUR + 1).unwrap().slot_start(Slot::new(0).unwrap()));
        let grants = directory.path().join("grants");
        LocalIssuer::create(&grants).unwrap();
        let issuer = LocalIssuer::open(&grants, clock.clone()).unwrap();
        fs::create_dir(directory.path().join("keys")).unwrap();
        let authority = Authority::from_pkcs8(&Authority::generate_pkcs8()).unwrap();
        Self { directory, authority, issuer, clock }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.directory.path().join("keys").join(name)
    }

    /// Opens custody, as the service does at its start.
    pub async fn open(&self) -> Custody {
        let store = Store::open(&self.data("keys.sqlite")).await.unwrap();
        let may_create = store.is_empty().await.unwrap();
        let parts = Parts {
            store,
            encryption: Arc::new(LocalKeyFile::open_or_create(&self.data("kek.json"), may_create).unwrap()),
            zone: "eea".parse().unwrap(),
            authority: AuthorityKey::from_bytes(self.authority.public_key()),
            access: self.issuer.public_keys(),
            clock: self.clock.clone(),
        };
        Custody::open(parts).await.unwrap()
    }

    /// Runs a statement behind custody's back.
    pub async fn sql(&self, statement: &str) {
        let url = format!("sqlite://{}", self.data("keys.sqlite").display());
        let database = Database::connect(url).await.unwrap();
        let changed = database.execute_unprepared(statement).await.unwrap();
        assert!(changed.rows_affected() > 0, "{statement}");
        database.close().await.unwrap();
    }

    /// Names and bytes of custody's files, without the key file.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.data("")).unwrap().map(Result::unwrap);
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

    pub fn expiry(&self, key: &MadeKey) -> ExpiryDay {
        ExpiryDay::of(key.context.hour, RETENTION_HOURS)
    }

    pub fn hour_of(&self, key: &MadeKey) -> Span {
        let hour = key.context.hour;
        Span::try_new(hour.slot_start(Slot::new(0).unwrap()), hour.slot_start(Slot::MAX) + SLOT_DURATION)
            .unwrap()
    }

    pub fn placement(&self, camera: CameraId, zone: &str, retention_hours: u32) -> SignedPlacement {
        self.authority.sign_placement(&Placement {
            camera_id: camera.to_string(),
            coordinates: Some(Coordinates { latitude: 52.52, longitude: 13.405 }),
            country: "DE".into(),
            zone: zone.into(),
            bucket: "footage".into(),
            retention_hours,
            version: 1,
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
        let released = custody.release(&caller(), &request).await.unwrap();
        let nodes = node_set(&released[0]);
        for slot in [Slot::new(0).unwrap(), Slot::new(777).unwrap(), Slot::MAX] {
            assert_eq!(nodes.leaf(slot).unwrap().expose(), key.key.leaf(slot).expose());
        }
    }
}

/// The nodes as a reader uses them.
pub fn node_set(released: &ReleasedKey) -> NodeSet {
    let node = |node: &obscura_proto::keys::v1::Node| {
        let secret = node.secret[..].try_into().unwrap();
        Node::new(node.depth.try_into().unwrap(), node.index.try_into().unwrap(), secret).unwrap()
    };
    NodeSet::new(released.nodes.iter().map(node).collect())
}
