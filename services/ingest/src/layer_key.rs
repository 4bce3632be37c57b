//! Layer keys as a recorder makes them: random, one per camera, hour and layer, and known to it
//! only while it seals that hour. What leaves the recorder is wrapped to the zone's intake key.

use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch, ZoneId};
use obscura_proto::{footage::v1 as footage, keys::v1::WrappedLayerKey};
use obscura_seal::{Error, Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, RecipientPublicKey, wrap};
use tokio::sync::watch;

/// Makes the layer keys of one camera and layer.
pub struct LayerKeys {
    camera: CameraId,
    layer: Layer,
    zone: ZoneId,
    writer_epoch: WriterEpoch,
    intake: watch::Receiver<RecipientPublicKey>,
    current: Option<Current>,
}

struct Current {
    hour: Hour,
    /// To whom it was wrapped.
    recipient: RecipientPublicKey,
    id: LayerKeyId,
    key: LayerKey,
}

/// The key of an hour.
pub struct HourKey<'a> {
    /// Its id.
    pub id: LayerKeyId,
    /// The key.
    pub key: &'a LayerKey,
    /// Set when the key was made just now: must be in the spool before anything sealed under it.
    pub wrapped: Option<WrappedLayerKey>,
}

impl LayerKeys {
    /// Keys for one camera and layer, each wrapped to what `intake` is when it is made.
    #[must_use]
    pub fn new(
        camera: CameraId,
        layer: Layer,
        zone: ZoneId,
        writer_epoch: WriterEpoch,
        intake: watch::Receiver<RecipientPublicKey>,
    ) -> Self {
        Self { camera, layer, zone, writer_epoch, intake, current: None }
    }

    /// The key of an hour; the key of another hour is forgotten, and so is one that was wrapped to an
    /// intake key that is no longer in use: custody may not be able to open it.
    ///
    /// # Errors
    /// Where the key cannot be wrapped.
    pub fn of(&mut self, hour: Hour) -> Result<HourKey<'_>, Error> {
        let mut wrapped = None;
        let recipient = *self.intake.borrow();
        let fits = |current: &Current| current.hour == hour && current.recipient.0 == recipient.0;
        if !self.current.as_ref().is_some_and(fits) {
            let (id, key) = (LayerKeyId::generate(), LayerKey::generate()?);
            wrapped = Some(self.wrap(&recipient, id, hour, &key)?);
            self.current = Some(Current { hour, recipient, id, key });
        }
        // Set right above where it was missing.
        self.current
            .as_ref()
            .map(|current| HourKey { id: current.id, key: &current.key, wrapped })
            .ok_or(Error::Library("keep a layer key"))
    }

    /// Forgets the current key, so that the next segment gets one of its own: used where the wrapped
    /// key could not be spooled.
    pub fn forget(&mut self) {
        self.current = None;
    }

    fn wrap(
        &self,
        recipient: &RecipientPublicKey,
        id: LayerKeyId,
        hour: Hour,
        key: &LayerKey,
    ) -> Result<WrappedLayerKey, Error> {
        let context = LayerKeyContext {
            key_id: id,
            camera: self.camera,
            layer: self.layer,
            hour,
            zone: self.zone.clone(),
            writer_epoch: self.writer_epoch,
        };
        let wrapped = wrap(recipient, LAYER_KEY_INFO, &context.aad(), key.expose())?;
        Ok(WrappedLayerKey {
            key_id: id.to_string(),
            camera_id: self.camera.to_string(),
            layer: footage::Layer::try_from(i32::from(self.layer.code())).unwrap_or_default().into(),
            hour: hour.get(),
            zone: self.zone.to_string(),
            writer_epoch: self.writer_epoch.0,
            encapsulated_key: wrapped.encapsulated_key.into(),
            ciphertext: wrapped.ciphertext.into(),
        })
    }
}
