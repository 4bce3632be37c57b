//! Taking layer keys into custody.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use obscura_access::AccessTrust;
use obscura_clock::{Monotonic, SharedClock};
use obscura_daemon::write_atomically;
use obscura_ids::{Layer, WriterEpoch, ZoneId};
use obscura_outbox::staged;
use obscura_proto::{
    audit::v1::{Event, Person, key_act::Act},
    keys::v1::{ImportLayerKeyRequest, WrappedLayerKey},
};
use obscura_row_cipher as row_cipher;
use obscura_seal::{
    Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, NodeSet, RecipientKeyPair, SlotRange, Wrapped,
};
use obscura_snapshot::{AuthorityKey, Placement};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    epoch_key::EpochKey,
    error::Error,
    expiry_hour::ExpiryHour,
    guard::{Guard, Reading, Trusted, Witness},
    hold::Limits,
    intake,
    journal::Refusals,
    key_encryption::KeyEncryption,
    keyring::Keyring,
    machine::Machine,
    receipts::ReceiptKey,
    reports::{act_event, refusal_event},
    rollback::{Heard, is_restored},
    row_key::Place,
    secrets::{self, Secrets},
    store::{
        Store, Writer,
        destroyed_key::{self, DestroyedRow},
        epoch,
        kept_key::{self, KeptRow},
        shred_receipt,
    },
};

/// An X25519 encapsulated key.
const ENCAPSULATED_BYTES: usize = 32;
/// A sealed layer key: 32 bytes and 16 of tag.
const CIPHERTEXT_BYTES: usize = 48;
/// Longest note of the time.
const MAX_CLOCK_BYTES: u64 = 4 << 10;

/// What custody is made of.
pub struct Parts {
    /// The key database.
    pub store: Store,
    /// The key-encryption key.
    pub encryption: Arc<dyn KeyEncryption>,
    /// The halves of row keys that are outside the database.
    pub secrets: Secrets,
    /// The one zone whose keys are kept here.
    pub zone: ZoneId,
    /// Verifies placements.
    pub authority: AuthorityKey,
    /// Verifies grants.
    pub access: AccessTrust,
    /// Time.
    pub clock: SharedClock,
    /// What bears witness to time.
    pub machine: Arc<dyn Machine>,
    /// File in which the last moment stands at which the clock was believed.
    pub clock_file: PathBuf,
    /// File that says that the data directory was put back from a backup.
    pub restored_file: PathBuf,
    /// Bounds of holds and early destruction.
    pub limits: Limits,
}

/// Custody of one zone's layer keys.
pub struct Custody {
    pub(crate) parts: Parts,
    pub(crate) intake: RecipientKeyPair,
    pub(crate) receipt_key: ReceiptKey,
    /// Held by the one rotation that may be under way.
    pub(crate) rotating: Mutex<()>,
    /// Held by whoever changes what is held or destroyed: one at a time.
    pub(crate) changing: Mutex<()>,
    /// Shared by those who open keys, held alone by a step that exchanges or erases their secrets.
    serving: RwLock<()>,
    /// How often they were exchanged or erased.
    exchanges: AtomicU64,
    watch: StdMutex<Watch>,
}

/// What custody keeps an eye on.
pub(crate) struct Watch {
    pub(crate) guard: Guard,
    /// Why destruction stands still.
    pub(crate) stopped: Option<String>,
    /// Number of the newest receipt that is here.
    pub(crate) receipts: u64,
    /// Number of the newest receipt that there ever was, as far as is known.
    pub(crate) receipts_needed: u64,
    /// What the audit log and `storage` said about how old this is.
    pub(crate) heard: Heard,
    /// When a recovery was last rehearsed.
    pub(crate) rehearsed: Option<Monotonic>,
    /// What was refused lately.
    pub(crate) refusals: Refusals,
}

impl Parts {
    /// Writes down a moment at which the clock was believed.
    pub(crate) fn store_trusted(&self, trusted: &Trusted) -> Result<(), Error> {
        let path = || self.clock_file.clone();
        let text = serde_json::to_vec(trusted).map_err(|_| secrets::Error::Damaged(path()))?;
        let written = write_atomically(&self.clock_file, &text, 0o600);
        Ok(written.map_err(|source| secrets::Error::Io { path: path(), source })?)
    }

    /// Without a note that can be read, the time is unknown, which the guard minds.
    fn stored_trusted(&self) -> Option<Trusted> {
        let length = std::fs::metadata(&self.clock_file).ok()?.len();
        let text = (length <= MAX_CLOCK_BYTES).then(|| std::fs::read(&self.clock_file).ok()).flatten()?;
        serde_json::from_slice(&text).ok()
    }

    fn reading(&self) -> Reading {
        Reading { wall: self.clock.wall(), monotonic: self.clock.monotonic(), machine: self.machine.uptime() }
    }
}

impl Custody {
    /// Opens the keys of its own, or makes them at the first start, and goes on with a destruction that a
    /// crash cut short. One that cannot be finished now is tried again with the next round of expiry.
    pub async fn open(parts: Parts) -> Result<Self, Error> {
        let intake = intake::open_or_create(&parts.store, &*parts.encryption, &parts.zone).await?;
        let receipt_key = ReceiptKey::open_or_create(&parts).await?;
        record_versions(&parts).await?;
        let watch = open_watch(&parts, &receipt_key).await?;
        let custody = Self {
            parts,
            intake,
            receipt_key,
            rotating: Mutex::new(()),
            changing: Mutex::new(()),
            serving: RwLock::new(()),
            exchanges: AtomicU64::new(0),
            watch: StdMutex::new(watch),
        };
        custody.mend_restored_epochs().await?;
        custody.move_daily_epochs().await?;
        custody.finish_interrupted().await;
        Ok(custody)
    }

    /// Imports one layer key; it is durable on return. What of it was destroyed before it came is not kept.
    /// Importing it again is harmless, also once it is destroyed: then nothing is kept. Another key under its id is refused.
    pub async fn import(&self, request: &ImportLayerKeyRequest) -> Result<(), Error> {
        let message = request.key.as_ref().ok_or_else(|| Error::malformed("request", "it has no key"))?;
        let context = context(message)?;
        let placement = self.placement(request, &context)?;
        let key = self.unwrap_import(message, &context)?;
        let hour = context.hour.slot_start(SlotRange::WHOLE_HOUR.first());
        self.watch().guard.witness(Witness::Recorder, hour, self.parts.clock.monotonic());
        self.keep(context, &placement, &key).await
    }

    /// All clocks now.
    pub(crate) fn reading(&self) -> Reading {
        self.parts.reading()
    }

    /// A panic of another holder leaves nothing half done behind this lock.
    pub(crate) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To open keys with: what was read of them stays true while it is held.
    pub(crate) async fn serving(&self) -> RwLockReadGuard<'_, ()> {
        self.serving.read().await
    }

    /// To exchange or erase secrets with. Take it before a writer, never behind one.
    pub(crate) async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        let alone = self.serving.write().await;
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        alone
    }

    /// Changes whenever secrets may have been exchanged or erased.
    pub(crate) fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Stages an audit event about an act that has no transaction; it is durable on return.
    ///
    /// # Errors
    /// [`Error::Untold`] and [`Error::Unheard`]: then the act must not be done.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Error> {
        self.parts.store.tell(event).await
    }

    /// Tells of a refusal, within the bounds of [`crate::journal`]. What cannot be told stays refused.
    pub(crate) async fn tell_refusal(&self, actor: Option<Person>, act: Act, error: &Error) {
        let clock = &self.parts.clock;
        let refused = self.watch().refusals.refuse(clock.monotonic());
        self.tell_earlier_refusals(refused.earlier).await;
        if refused.told {
            self.tell_or_log(refusal_event(clock, actor, act, &error.to_string())).await;
        }
    }

    /// Tells how many refusals of a minute that is over were not told one by one.
    pub async fn tell_refusals(&self) {
        let untold = self.watch().refusals.close(self.parts.clock.monotonic());
        self.tell_earlier_refusals(untold).await;
    }

    async fn tell_earlier_refusals(&self, number: u64) {
        if number > 0 {
            let words = format!("{number} more requests were refused within a minute");
            self.tell_or_log(refusal_event(&self.parts.clock, None, Act::Released, &words)).await;
        }
    }

    async fn tell_or_log(&self, event: Event) {
        if let Err(error) = self.tell(event).await {
            tracing::error!(%error, "a refusal is missing in the audit log");
        }
    }

    /// The key of an epoch, which is made where there is none.
    pub(crate) async fn epoch_for(&self, writer: &Writer<'_>, hour: ExpiryHour) -> Result<EpochKey, Error> {
        if epoch::get(writer.tx(), &self.parts.zone, hour).await?.is_some() {
            let key = self.stored_epoch(writer.tx(), hour).await?;
            return key.ok_or_else(|| Error::NoSecret { row: self.epoch_name(hour) });
        }
        let (row, key) = self.make_epoch(hour).await?;
        epoch::put(writer.tx(), &self.parts.zone, &row).await?;
        Ok(key)
    }

    pub(crate) async fn finish_interrupted(&self) {
        match self.finish().await {
            Ok(receipts) if receipts.is_empty() => {}
            Ok(receipts) => tracing::info!(receipts = receipts.len(), "finished an interrupted destruction"),
            Err(error) => {
                tracing::error!(%error, "could not finish an interrupted destruction; it is tried again");
                self.watch().stopped = Some(error.to_string());
            }
        }
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

    fn unwrap_import(&self, message: &WrappedLayerKey, context: &LayerKeyContext) -> Result<LayerKey, Error> {
        let wrapped = Wrapped {
            encapsulated_key: message.encapsulated_key.to_vec(),
            ciphertext: message.ciphertext.to_vec(),
        };
        let opened = obscura_seal::unwrap(&self.intake, LAYER_KEY_INFO, &context.aad(), &wrapped);
        let bytes = opened.map_err(|_| Error::Unwrap(context.key_id))?;
        let key = row_cipher::key_from(&bytes).ok_or(Error::Unwrap(context.key_id))?;
        Ok(LayerKey::from_bytes(*key))
    }

    /// All in one transaction, standing holds included: a hold that is placed meanwhile sees the key, or
    /// the key sees the hold.
    async fn keep(
        &self,
        context: LayerKeyContext,
        placement: &Placement,
        key: &LayerKey,
    ) -> Result<(), Error> {
        let writer = self.parts.store.write().await?;
        if let Some(stored) = kept_key::get(writer.tx(), context.key_id).await? {
            return self.check_same(&writer, &stored, &context, key).await;
        }
        if destroyed_key::get(writer.tx(), context.key_id).await?.is_some() {
            return Ok(());
        }
        let expiry = self.expiry_of(&writer, context.hour, placement).await?;
        let row = DestroyedRow {
            key: context.key_id,
            camera: context.camera,
            layer: context.layer,
            hour: context.hour,
            expiry,
        };
        let gone = self.destroyed_before(&writer, &row).await?;
        let nodes = NodeSet::whole(key).puncture(&gone);
        if nodes.is_empty() {
            destroyed_key::put(writer.tx(), &self.parts.zone, &[row]).await?;
        } else {
            self.keep_nodes(&writer, context, expiry, &nodes).await?;
        }
        if gone.is_empty() {
            return Ok(writer.commit().await?);
        }
        self.await_late_receipt(&writer, &row, &gone).await?;
        writer.commit().await?;
        tracing::info!(key = %row.key, "a layer key came after its span was destroyed");
        self.finish_late().await;
        Ok(())
    }

    async fn keep_nodes(
        &self,
        writer: &Writer<'_>,
        context: LayerKeyContext,
        expiry: ExpiryHour,
        nodes: &NodeSet,
    ) -> Result<(), Error> {
        let key = self.epoch_for(writer, expiry).await?;
        let (leaf, sealed) = key.seal(Place { hold: None, expiry, context: &context }, nodes)?;
        self.hold_new(writer, &context, expiry, nodes).await?;
        let row = KeptRow { context, expiry, leaf: Some(leaf), sealed, imported: self.parts.clock.wall() };
        kept_key::put(writer.tx(), &[row]).await
    }

    /// What is left of the stored key must be of this one.
    async fn check_same(
        &self,
        writer: &Writer<'_>,
        stored: &KeptRow,
        context: &LayerKeyContext,
        key: &LayerKey,
    ) -> Result<(), Error> {
        let kept = Keyring::new(self, writer.tx()).kept(stored).await?;
        let same = kept.is_part_of(key) && stored.context == *context;
        if same { Ok(()) } else { Err(Error::Conflict(context.key_id)) }
    }
}

/// Reads how far receipts had come, here and as noted outside the database, and what was noted of the time.
async fn open_watch(parts: &Parts, receipt_key: &ReceiptKey) -> Result<Watch, Error> {
    let receipts = shred_receipt::newest(parts.store.reader()).await?;
    // A crash may have come between a receipt and its mark.
    parts.secrets.raise_mark(receipts, &receipt_key.public_key())?;
    let receipts_needed = parts.secrets.mark()?.number;
    if receipts_needed > receipts {
        tracing::error!(have = receipts, need = receipts_needed, "the key database is an old copy");
    }
    let had_keys = kept_key::count(parts.store.reader()).await? > 0;
    let guard = Guard::begin(parts.reading(), parts.stored_trusted(), had_keys);
    Ok(Watch {
        guard,
        stopped: None,
        receipts,
        receipts_needed,
        heard: Heard { restored: is_restored(&parts.restored_file), ..Heard::default() },
        rehearsed: None,
        refusals: Refusals::default(),
    })
}

/// Writes down which versions of the key-encryption key there are: a crash may have come between
/// making or destroying one and writing it down.
async fn record_versions(parts: &Parts) -> Result<(), Error> {
    let (versions, now) = (parts.encryption.versions().await?, parts.clock.wall());
    let writer = parts.store.write().await?;
    for version in &versions {
        writer.record_version(*version, now).await?;
    }
    if let Some(oldest) = versions.first()
        && writer.record_retired_before(*oldest, now).await? > 0
    {
        let event = act_event(&parts.clock, None, Act::Rotated, oldest.0, "completed before a crash");
        staged::stage(writer.tx(), &event).await?;
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
    async fn many_imports_at_once_share_one_epoch_key_per_hour() {
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
        let epoch = custody.stored_epoch(custody.parts.store.reader(), bench.expiry(&key)).await;
        let epoch = epoch.unwrap().unwrap();
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
