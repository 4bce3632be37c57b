//! Custody that a load test fills with keys by the thousand and then makes destroy them. What is measured is
//! the code that serves; only the filling goes past the gRPC face and the recorders' wrapping.

use std::{fmt, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use obscura_access::AccessTrust;
use obscura_clock::{Linux, SystemClock};
use obscura_database::{Location, PostgresUrl};
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
use obscura_proto::{
    footage::v1::Span,
    keys::v1::{ReleasedKey, ShredRequest},
};
use obscura_seal::{Hour, LayerKey, LayerKeyContext, NodeSet, SLOT_DURATION, SlotRange};
use obscura_snapshot::AuthorityKey;

use crate::{
    CLOCK_FILE, DATABASE, KEY_FILE,
    custody::{Custody, Parts},
    expiry_hour::ExpiryHour,
    hold::Limits,
    key_encryption::LocalKeyFile,
    release::ReleasedPart,
    reports::release_events,
    rollback,
    row_key::Place,
    secrets::{self, Secrets},
    store::{
        self, Store,
        kept_key::{self, KeptRow},
    },
};

const ZONE: &str = "eea";

/// Custody in a folder of its own.
pub struct Measured {
    custody: Custody,
}

/// Custody cannot be printed, so that none of its keys is.
impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Measured {
    /// Opens custody, on PostgreSQL where a URL is given.
    ///
    /// # Errors
    /// As the service itself has them at its start.
    pub async fn open(folder: &Path, postgres: Option<&str>) -> Result<Self> {
        let location = match postgres {
            Some(url) => Location::Postgres {
                url: PostgresUrl::try_new(url).context("no URL of PostgreSQL")?,
                schema: store::SCHEMA,
            },
            None => Location::Sqlite(folder.join(DATABASE)),
        };
        let parts = Parts {
            store: Store::open(&location).await?,
            encryption: Arc::new(LocalKeyFile::open_or_create(&folder.join(KEY_FILE), true)?),
            secrets: Secrets::open(&folder.join(secrets::FOLDER), None)?,
            zone: ZONE.parse()?,
            authority: AuthorityKey::from_bytes([1; 32]),
            access: AccessTrust { grant_issuer: [2; 32], audit: [3; 32] },
            clock: SystemClock::shared(),
            machine: Arc::new(Linux),
            clock_file: folder.join(CLOCK_FILE),
            restored_file: rollback::restored_file(folder),
            limits: Limits::default(),
        };
        let custody = Custody::open(parts).await?;
        custody.log_compared().await;
        custody.storage_compared().await;
        Ok(Self { custody })
    }

    /// Puts one key of `hour` per camera into custody, all in one epoch.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fill(&self, hour: u32, cameras: &[CameraId], retention_hours: u32) -> Result<()> {
        let hour = Hour::new(hour)?;
        let expiry = ExpiryHour::of(hour, retention_hours);
        let writer = self.custody.parts.store.write().await?;
        let key = self.custody.epoch_for(&writer, expiry).await?;
        let mut rows = Vec::with_capacity(cameras.len());
        for camera in cameras {
            let context = LayerKeyContext {
                key_id: LayerKeyId::generate(),
                camera: *camera,
                layer: Layer::Original,
                hour,
                zone: self.custody.parts.zone.clone(),
                writer_epoch: WriterEpoch(1),
            };
            let nodes = NodeSet::whole(&LayerKey::generate()?);
            let (leaf, sealed) = key.seal(Place { hold: None, expiry, context: &context }, &nodes)?;
            let imported = self.custody.parts.clock.wall();
            rows.push(KeptRow { context, expiry, leaf: Some(leaf), sealed, imported });
        }
        kept_key::put(writer.tx(), &rows).await?;
        Ok(writer.commit().await?)
    }

    /// Destroys so many hours of a camera early, from `hour` on.
    ///
    /// # Errors
    /// As the service has them.
    pub async fn shred(&self, camera: CameraId, hour: u32, hours: u32) -> Result<()> {
        let last = Hour::new(hour + hours - 1)?;
        let (first, end) = (SlotRange::WHOLE_HOUR.first(), SlotRange::WHOLE_HOUR.last());
        let request = ShredRequest {
            camera_id: camera.to_string(),
            layers: Vec::new(),
            span: Some(Span {
                start_unix_ns: Hour::new(hour)?.slot_start(first).unix_nanos(),
                end_unix_ns: (last.slot_start(end) + SLOT_DURATION).unix_nanos(),
            }),
            reason: "no-longer-necessary".to_owned(),
            requested_by: "one".to_owned(),
            approved_by: "another".to_owned(),
        };
        self.custody.shred(&request).await?;
        Ok(())
    }

    /// Writes down the release of a key for the audit log, as every release does before it is answered.
    ///
    /// # Errors
    /// As the service has them.
    pub async fn tell_release(&self) -> Result<()> {
        let key = ReleasedKey { key_id: LayerKeyId::generate().to_string(), ..ReleasedKey::default() };
        let (clock, grant_id) = (&self.custody.parts.clock, LayerKeyId::generate().to_string());
        for event in release_events(clock, None, &grant_id, &[ReleasedPart { key, spans: Vec::new() }]) {
            self.custody.tell(event).await?;
        }
        Ok(())
    }

    /// Destroys what has expired, which must be `keys` layer keys.
    ///
    /// # Errors
    /// As the service has them, or another number of keys.
    pub async fn expire(&self, keys: u64) -> Result<()> {
        let (_, destroyed) = self.custody.resume_destruction("a load test", None).await?;
        ensure!(destroyed.layer_keys == keys, "{} keys expired, {keys} were due", destroyed.layer_keys);
        Ok(())
    }
}
