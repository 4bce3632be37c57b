//! Taking layer keys into custody.

use obscura_ids::{Layer, WriterEpoch, ZoneId};
use obscura_proto::keys::v1::{ImportLayerKeyRequest, WrappedLayerKey};
use obscura_row_cipher as row_cipher;
use obscura_seal::{Hour, LAYER_KEY_INFO, LayerKey, LayerKeyContext, NodeSet, SlotRange, Wrapped};
use obscura_snapshot::Placement;

use crate::{
    custody::Custody,
    error::Error,
    expiry_hour::ExpiryHour,
    guard::Witness,
    keyring::Keyring,
    row_key::Place,
    store::{
        Writer,
        destroyed_key::{self, DestroyedRow},
        kept_key::{self, KeptRow},
    },
};

/// An X25519 encapsulated key.
const ENCAPSULATED_BYTES: usize = 32;
/// A sealed layer key: 32 bytes and 16 of tag.
const CIPHERTEXT_BYTES: usize = 48;
impl Custody {
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
        match self.damage.readable(kept_key::get(writer.tx(), context.key_id).await)? {
            Some(Some(stored)) if self.is_same(&writer, &stored, &context, key).await? => return Ok(()),
            Some(None) => {}
            // The recorder still has it: it is kept anew.
            _ => kept_key::delete(writer.tx(), &[context.key_id]).await?,
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

    /// What is left of the stored key must be of this one; `false` where it opens nothing any more, because it is
    /// damaged or its secret is gone.
    async fn is_same(
        &self,
        writer: &Writer<'_>,
        stored: &KeptRow,
        context: &LayerKeyContext,
        key: &LayerKey,
    ) -> Result<bool, Error> {
        let kept = self.damage.opened(Keyring::new(self, writer.tx()).kept(stored).await)?;
        let same = kept.is_part_of(key) && stored.context == *context;
        if same { Ok(!kept.is_empty()) } else { Err(Error::Conflict(context.key_id)) }
    }
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
mod tests;
