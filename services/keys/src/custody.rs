//! Custody: what it is made of, and who may change it when.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use obscura_access::AccessTrust;
use obscura_clock::{Machine, Monotonic, SharedClock};
use obscura_daemon::write_atomically;
use obscura_ids::ZoneId;
use obscura_outbox::staged;
use obscura_proto::audit::v1::{Event, Person, key_act::Act};
use obscura_seal::RecipientKeyPair;
use obscura_snapshot::AuthorityKey;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    damage::Damage,
    epoch_key::EpochKey,
    error::Error,
    expiry_hour::ExpiryHour,
    guard::{Guard, Reading, Trusted},
    hold::{HoldId, Limits},
    intake,
    journal::Refusals,
    key_encryption::KeyEncryption,
    receipts::ReceiptKey,
    reports::{act_event, refusal_event},
    rollback::{Heard, is_restored},
    secrets::{self, Secrets},
    store::{Store, Writer, epoch, kept_key, shred_receipt},
};

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
    /// Rows that do not open.
    pub(crate) damage: Damage,
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
    /// Whether the audit log was told that it stands still.
    pub(crate) stop_told: bool,
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
    /// Standing holds whose key is gone, as far as is known.
    pub(crate) keyless_holds: BTreeSet<HoldId>,
    /// Those of them whose stand-in has everything of their span that still opens.
    pub(crate) completed_holds: BTreeSet<HoldId>,
    /// Epochs whose secret was gone and that got another since the start.
    pub(crate) renewed_epochs: BTreeSet<ExpiryHour>,
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
            damage: Damage::default(),
            rotating: Mutex::new(()),
            changing: Mutex::new(()),
            serving: RwLock::new(()),
            exchanges: AtomicU64::new(0),
            watch: StdMutex::new(watch),
        };
        custody.mend_restored_epochs().await?;
        custody.gather_epochs().await?;
        custody.move_daily_epochs().await?;
        custody.finish_interrupted().await;
        Ok(custody)
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

    /// The key of an epoch, which is made where there is none, or where it is gone.
    pub(crate) async fn epoch_for(&self, writer: &Writer<'_>, hour: ExpiryHour) -> Result<EpochKey, Error> {
        let stored = epoch::get(writer.tx(), &self.parts.zone, hour).await;
        if matches!(stored, Ok(None)) {
            let (row, key) = self.make_epoch(hour).await?;
            epoch::put(writer.tx(), &self.parts.zone, &row).await?;
            return Ok(key);
        }
        let stored = self.damage.readable(stored)?.flatten();
        let key = self.damage.readable(self.stored_epoch(writer.tx(), hour).await)?.flatten();
        match key {
            Some(key) => Ok(key),
            None => self.renew_epoch(writer, hour, stored).await,
        }
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
        stop_told: false,
        receipts,
        receipts_needed,
        heard: Heard { restored: is_restored(&parts.restored_file), ..Heard::default() },
        rehearsed: None,
        refusals: Refusals::default(),
        keyless_holds: BTreeSet::new(),
        completed_holds: BTreeSet::new(),
        renewed_epochs: BTreeSet::new(),
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
