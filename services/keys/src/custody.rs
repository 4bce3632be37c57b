//! Taking layer keys into custody.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use obscura_access::AccessTrust;
use obscura_clock::SharedClock;
use obscura_ids::{Layer, WriterEpoch, ZoneId};
use obscura_proto::keys::v1::{ImportLayerKeyRequest, WrappedLayerKey};
use obscura_seal::{Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, RecipientKeyPair, Wrapped};
use obscura_snapshot::{AuthorityKey, Placement};
use tokio::sync::Mutex;

use crate::{
    aead,
    epoch::{EpochKey, ExpiryDay},
    error::Error,
    intake,
    key_encryption::{KeyEncryption, Row, RowKind, WrappedSecret},
    store::{LayerKeyRow, Store, Writer},
};

/// An X25519 encapsulated key.
const ENCAPSULATED_BYTES: usize = 32;
/// A sealed layer key: 32 bytes and 16 of tag.
const CIPHERTEXT_BYTES: usize = 48;
/// Rotations that may overtake one reading; each takes many times as long as the reading.
const MAX_REREADS: usize = 3;

/// What custody is made of.
pub struct Parts {
    /// The key database.
    pub store: Store,
    /// The key-encryption key.
    pub encryption: Arc<dyn KeyEncryption>,
    /// The one zone whose keys are kept here.
    pub zone: ZoneId,
    /// Verifies placements.
    pub authority: AuthorityKey,
    /// Verifies grants.
    pub access: AccessTrust,
    /// Time.
    pub clock: SharedClock,
}

/// Custody of one zone's layer keys.
pub struct Custody {
    pub(crate) parts: Parts,
    pub(crate) intake: RecipientKeyPair,
    /// Held by the one rotation that may be under way.
    pub(crate) rotating: Mutex<()>,
}

impl Custody {
    /// Opens the intake key, or makes it at the first start.
    pub async fn open(parts: Parts) -> Result<Self, Error> {
        let intake = intake::open_or_create(&parts.store, &*parts.encryption, &parts.zone).await?;
        record_versions(&parts).await?;
        Ok(Self { parts, intake, rotating: Mutex::new(()) })
    }

    /// Imports one layer key; it is durable on return. Importing it again is harmless, another key
    /// under its id is refused.
    pub async fn import(&self, request: &ImportLayerKeyRequest) -> Result<(), Error> {
        let message = request.key.as_ref().ok_or_else(|| Error::malformed("request", "it has no key"))?;
        let context = context(message)?;
        let placement = self.placement(request, &context)?;
        let day = ExpiryDay::of(context.hour, placement.retention_hours);
        let key = self.unwrap(message, &context)?;
        self.keep(context, day, &key).await
    }

    /// Opens an epoch key that is in custody.
    pub(crate) async fn open_epoch(
        &self,
        day: ExpiryDay,
        wrapped: &WrappedSecret,
    ) -> Result<EpochKey, Error> {
        let id = day.to_string();
        let name = || self.epoch_name(day);
        let opened = self.parts.encryption.unwrap(self.epoch_row(&id), wrapped).await;
        let bytes = opened.map_err(Error::opening(name))?;
        EpochKey::from_bytes(&bytes).ok_or_else(|| Error::Damaged { row: name() })
    }

    /// Wraps an epoch key under the newest version. Call it with a [`Writer`] in hand: a rotation
    /// retires older versions only while it is the writer.
    pub(crate) async fn wrap_epoch(&self, day: ExpiryDay, key: &EpochKey) -> Result<WrappedSecret, Error> {
        let id = day.to_string();
        Ok(self.parts.encryption.wrap(self.epoch_row(&id), key.expose()).await?)
    }

    fn epoch_row<'a>(&'a self, id: &'a str) -> Row<'a> {
        Row { kind: RowKind::EpochKey, id, zone: &self.parts.zone }
    }

    /// The verified placement, for the key's camera and our zone.
    fn placement(
        &self,
        request: &ImportLayerKeyRequest,
        context: &LayerKeyContext,
    ) -> Result<Placement, Error> {
        let signed = request.placement.as_ref();
        let signed = signed.ok_or_else(|| Error::malformed("request", "it has no placement"))?;
        let placement = self.parts.authority.verify_placement(signed)?;
        if placement.camera != context.camera {
            return Err(Error::OtherCamera(context.key_id));
        }
        self.check_zone("placement", &placement.zone)?;
        self.check_zone("key", &context.zone)?;
        Ok(placement)
    }

    fn check_zone(&self, what: &'static str, zone: &ZoneId) -> Result<(), Error> {
        let own = &self.parts.zone;
        if zone == own {
            return Ok(());
        }
        Err(Error::WrongZone { what, found: zone.clone(), own: own.clone() })
    }

    fn unwrap(&self, message: &WrappedLayerKey, context: &LayerKeyContext) -> Result<LayerKey, Error> {
        let wrapped = Wrapped {
            encapsulated_key: message.encapsulated_key.to_vec(),
            ciphertext: message.ciphertext.to_vec(),
        };
        let opened = obscura_seal::unwrap(&self.intake, LAYER_KEY_INFO, &context.aad(), &wrapped);
        let bytes = opened.map_err(|_| Error::Unwrap(context.key_id))?;
        let key = aead::key_from(&bytes).ok_or(Error::Unwrap(context.key_id))?;
        Ok(LayerKey::from_bytes(*key))
    }

    async fn keep(&self, context: LayerKeyContext, day: ExpiryDay, key: &LayerKey) -> Result<(), Error> {
        let writer = self.parts.store.write().await?;
        if let Some(stored) = writer.layer_key(context.key_id).await? {
            // A layer key never changes, so the rest needs no turn among writers.
            drop(writer);
            return self.check_same(&stored, &context, key).await;
        }
        let epoch = self.epoch_for(&writer, day).await?;
        let sealed = epoch.seal(day, &context, key)?;
        writer.insert_layer_key(LayerKeyRow { context, day, sealed }, self.parts.clock.wall()).await?;
        writer.commit().await?;
        Ok(())
    }

    async fn check_same(
        &self,
        stored: &LayerKeyRow,
        context: &LayerKeyContext,
        key: &LayerKey,
    ) -> Result<(), Error> {
        let kept = self.stored_epoch(stored.day).await?.open_row(stored)?;
        let same_key = verify_slices_are_equal(kept.expose(), key.expose()).is_ok();
        if same_key && stored.context == *context { Ok(()) } else { Err(Error::Conflict(context.key_id)) }
    }

    /// Reads and opens the epoch key of a day that has rows.
    ///
    /// Without a turn among writers, a rotation may move the row and destroy the version it was under
    /// between the two steps. So a row that does not open is read again, and only one that stands
    /// unchanged is damaged.
    pub(crate) async fn stored_epoch(&self, day: ExpiryDay) -> Result<EpochKey, Error> {
        let mut wrapped = self.read_epoch(day).await?;
        for _ in 0..MAX_REREADS {
            match self.open_epoch(day, &wrapped).await {
                Err(damaged @ Error::Damaged { .. }) => {
                    let before = wrapped;
                    wrapped = self.read_epoch(day).await?;
                    if wrapped == before {
                        return Err(damaged);
                    }
                }
                opened => return opened,
            }
        }
        self.open_epoch(day, &wrapped).await
    }

    async fn read_epoch(&self, day: ExpiryDay) -> Result<WrappedSecret, Error> {
        let wrapped = self.parts.store.epoch_key(&self.parts.zone, day).await?;
        wrapped.ok_or_else(|| Error::Damaged { row: self.epoch_name(day) })
    }

    fn epoch_name(&self, day: ExpiryDay) -> String {
        format!("epoch key {}/{day}", self.parts.zone)
    }

    async fn epoch_for(&self, writer: &Writer<'_>, day: ExpiryDay) -> Result<EpochKey, Error> {
        if let Some(wrapped) = writer.epoch_key(&self.parts.zone, day).await? {
            return self.open_epoch(day, &wrapped).await;
        }
        let epoch = EpochKey::generate()?;
        let wrapped = self.wrap_epoch(day, &epoch).await?;
        writer.put_epoch_key(&self.parts.zone, day, wrapped).await?;
        Ok(epoch)
    }
}

/// Writes down which versions of the key-encryption key there are: a crash may have come between
/// making or destroying one and writing it down.
async fn record_versions(parts: &Parts) -> Result<(), Error> {
    let (versions, now) = (parts.encryption.versions().await?, parts.clock.wall());
    let writer = parts.store.write().await?;
    for version in &versions {
        writer.record_version(*version, now).await?;
    }
    if let Some(oldest) = versions.first() {
        writer.record_retired_before(*oldest, now).await?;
    }
    Ok(writer.commit().await?)
}

/// Reads what the recorder says about the key; HPKE then proves that the recorder said it.
fn context(message: &WrappedLayerKey) -> Result<LayerKeyContext, Error> {
    check_length("encapsulated key", &message.encapsulated_key, ENCAPSULATED_BYTES)?;
    check_length("wrapped key", &message.ciphertext, CIPHERTEXT_BYTES)?;
    let malformed = |error: obscura_ids::InvalidId| Error::malformed("key", error.to_string());
    let layer = u8::try_from(message.layer).ok().and_then(Layer::from_code);
    Ok(LayerKeyContext {
        key_id: message.key_id.parse().map_err(malformed)?,
        camera: message.camera_id.parse().map_err(malformed)?,
        layer: layer
            .ok_or_else(|| Error::malformed("key", format!("there is no layer {}", message.layer)))?,
        hour: Hour::new(message.hour).map_err(|error| Error::malformed("key", error.to_string()))?,
        zone: message.zone.parse().map_err(malformed)?,
        writer_epoch: WriterEpoch(message.writer_epoch),
    })
}

fn check_length(what: &'static str, bytes: &[u8], expected: usize) -> Result<(), Error> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(Error::malformed(what, format!("it has {} bytes, expected {expected}", bytes.len())))
}

#[cfg(test)]
mod tests {
    use obscura_ids::{CameraId, LayerKeyId};
    use obscura_proto::registry::v1::SignedPlacement;
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::{Bench, HOUR};

    #[tokio::test]
    async fn a_key_imported_is_there_after_a_restart() {
        let bench = Bench::new();
        let key = bench.made_key(HOUR);
        let custody = bench.open().await;
        let public = custody.intake.public();
        custody.import(&bench.import_of(&custody, &key)).await.unwrap();
        drop(custody);
        let custody = bench.open().await;
        assert_eq!(custody.intake.public(), public);
        bench.assert_releasable(&custody, &key).await;
    }

    #[tokio::test]
    async fn importing_the_same_key_again_is_harmless_and_another_under_its_id_is_refused() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let key = bench.made_key(HOUR);
        for _ in 0..3 {
            custody.import(&bench.import_of(&custody, &key)).await.unwrap();
        }
        let mut other = bench.made_key(HOUR);
        other.context.key_id = key.context.key_id;
        let refused = custody.import(&bench.import_of(&custody, &other)).await;
        assert!(matches!(refused, Err(Error::Conflict(id)) if id == key.context.key_id));
        let mut moved = bench.made_key(HOUR + 1);
        moved.context.key_id = key.context.key_id;
        moved.key = LayerKey::from_bytes(*key.key.expose());
        assert!(matches!(custody.import(&bench.import_of(&custody, &moved)).await, Err(Error::Conflict(_))));
        assert_eq!(custody.parts.store.counts().await.unwrap().layer_keys, 1);
        bench.assert_releasable(&custody, &key).await;
    }

    #[tokio::test]
    async fn many_imports_at_once_share_one_epoch_key_per_day() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let keys: Vec<_> = (0..20).map(|_| bench.made_key(HOUR)).collect();
        let requests: Vec<_> = keys.iter().map(|key| bench.import_of(&custody, key)).collect();
        let imports = requests.iter().map(|request| custody.import(request));
        for imported in futures::future::join_all(imports).await {
            imported.unwrap();
        }
        let counts = custody.parts.store.counts().await.unwrap();
        assert_eq!((counts.layer_keys, counts.epoch_keys), (20, 1));
        for key in &keys {
            bench.assert_releasable(&custody, key).await;
        }
    }

    #[tokio::test]
    async fn a_placement_in_another_zone_for_another_camera_or_by_another_authority_is_refused() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let key = bench.made_key(HOUR);
        let good = bench.import_of(&custody, &key);
        let with =
            |placement: SignedPlacement| ImportLayerKeyRequest { placement: Some(placement), ..good.clone() };

        let elsewhere = with(bench.placement(key.context.camera, "uk", 72));
        assert!(matches!(custody.import(&elsewhere).await, Err(Error::WrongZone { what: "placement", .. })));
        let other_camera = with(bench.placement(CameraId::generate(), "eea", 72));
        assert!(matches!(custody.import(&other_camera).await, Err(Error::OtherCamera(_))));
        let forged = with(Bench::new().placement(key.context.camera, "eea", 72));
        assert!(matches!(custody.import(&forged).await, Err(Error::Placement(_))));
        let mut stretched = bench.placement(key.context.camera, "eea", 72);
        let longer = bench.placement(key.context.camera, "eea", 700);
        stretched.placement = longer.placement;
        assert!(matches!(custody.import(&with(stretched)).await, Err(Error::Placement(_))));
        let none = ImportLayerKeyRequest { placement: None, ..good.clone() };
        assert!(matches!(custody.import(&none).await, Err(Error::Malformed { .. })));
        assert_eq!(custody.parts.store.counts().await.unwrap().layer_keys, 0);
        custody.import(&good).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_of_another_zone_is_refused_even_with_a_placement_in_ours() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let mut key = bench.made_key(HOUR);
        key.context.zone = "uk".parse().unwrap();
        let refused = custody.import(&bench.import_of(&custody, &key)).await;
        assert!(matches!(refused, Err(Error::WrongZone { what: "key", .. })));
    }

    #[tokio::test]
    async fn a_key_wrapped_to_someone_else_or_relabelled_on_its_way_does_not_open() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let key = bench.made_key(HOUR);
        let stranger = RecipientKeyPair::generate().unwrap();
        let request = bench.import_wrapped_to(stranger.public(), &key);
        assert!(matches!(custody.import(&request).await, Err(Error::Unwrap(_))));

        let relabel: [fn(&mut WrappedLayerKey); 4] = [
            |key| key.key_id = LayerKeyId::generate().to_string(),
            |key| key.layer = 2,
            |key| key.hour += 1,
            |key| key.writer_epoch += 1,
        ];
        for change in relabel {
            let mut request = bench.import_of(&custody, &key);
            change(request.key.as_mut().unwrap());
            assert!(matches!(custody.import(&request).await, Err(Error::Unwrap(_))));
        }
    }

    #[tokio::test]
    async fn no_layer_key_ever_lies_in_the_clear_in_any_file_of_custody() {
        let bench = Bench::new();
        let custody = bench.open().await;
        let key = bench.made_key(HOUR);
        custody.import(&bench.import_of(&custody, &key)).await.unwrap();
        bench.assert_releasable(&custody, &key).await;
        let epoch =
            custody.parts.store.epoch_key(&custody.parts.zone, bench.expiry(&key)).await.unwrap().unwrap();
        let epoch = custody.open_epoch(bench.expiry(&key), &epoch).await.unwrap();
        let private = custody.intake.private_bytes();
        let secrets: [&[u8]; 3] = [key.key.expose(), epoch.expose(), &private];
        for closed in [false, true] {
            let mut bytes = 0;
            for (name, content) in bench.files() {
                bytes += content.len();
                for secret in secrets {
                    assert!(
                        !content.windows(16).any(|window| window == &secret[..16]),
                        "{name}, closed: {closed}"
                    );
                    assert!(
                        !content.windows(32).any(|window| window == hex::encode(&secret[..16]).as_bytes())
                    );
                }
            }
            assert!(bytes > 10_000, "the files were really read");
            // Closing checkpoints the write-ahead log into the database.
            custody.parts.store.close_for_test().await;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_fields_never_panic(
            key_id in ".{0,40}", camera_id in ".{0,40}", layer: i32, hour: u32, zone in ".{0,40}",
            writer_epoch: u64, sealed in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let message = WrappedLayerKey {
                key_id, camera_id, layer, hour, zone, writer_epoch,
                encapsulated_key: sealed.clone().into(), ciphertext: sealed.into(),
            };
            prop_assert!(context(&message).is_err());
        }
    }
}
