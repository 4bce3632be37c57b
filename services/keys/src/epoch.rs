//! Epoch keys: one random key per zone and expiry day seals the layer-key rows that expire that day,
//! so that destroying one small key ends every copy of its rows.

use std::fmt;

use obscura_seal::{Hour, LayerKey, LayerKeyContext};

use crate::{
    aead::{self, Failed, Key},
    error::Error,
    store::LayerKeyRow,
};

/// Hours of a day.
const DAY_HOURS: u32 = 24;
/// Domain of a row's associated data.
const ROW_DOMAIN: &[u8] = b"obscura layer key row v1\0";

/// The day, counted in days since the Unix epoch (UTC), at whose start the keys of an epoch expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpiryDay(u32);

impl ExpiryDay {
    /// The day for a layer key of `hour` whose footage may be kept for `retention_hours`: the end of
    /// its hour and the retention, rounded up to the day.
    pub fn of(hour: Hour, retention_hours: u32) -> Self {
        let hours = u64::from(hour.get()) + 1 + u64::from(retention_hours);
        Self(u32::try_from(hours.div_ceil(u64::from(DAY_HOURS))).unwrap_or(u32::MAX))
    }

    /// The day with this number, as the store has it.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Days since the Unix epoch.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ExpiryDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of one zone and expiry day. Has no `Debug`, so that it cannot be printed.
pub struct EpochKey(Key);

impl EpochKey {
    /// A new random key.
    pub fn generate() -> Result<Self, Failed> {
        aead::generate().map(Self)
    }

    /// The key with these bytes, where there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        aead::key_from(bytes).map(Self)
    }

    /// The 32 bytes, for wrapping.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals a layer key, bound to everything its row says.
    pub fn seal(&self, day: ExpiryDay, context: &LayerKeyContext, key: &LayerKey) -> Result<Vec<u8>, Failed> {
        aead::seal(&self.0, &row_aad(day, context), key.expose())
    }

    /// Opens a stored row.
    ///
    /// # Errors
    /// [`Error::Damaged`] where any part of the row was changed.
    pub fn open_row(&self, row: &LayerKeyRow) -> Result<LayerKey, Error> {
        let damaged = || Error::Damaged { row: format!("layer key {}", row.context.key_id) };
        self.open(row.day, &row.context, &row.sealed).ok_or_else(damaged)
    }

    /// Opens a sealed layer key; `None` where anything that it is bound to differs.
    fn open(&self, day: ExpiryDay, context: &LayerKeyContext, sealed: &[u8]) -> Option<LayerKey> {
        let bytes = aead::open(&self.0, &row_aad(day, context), sealed)?;
        aead::key_from(&bytes).map(|key| LayerKey::from_bytes(*key))
    }
}

/// Day and context: key id, camera, layer, hour, zone, writer epoch.
fn row_aad(day: ExpiryDay, context: &LayerKeyContext) -> Vec<u8> {
    [ROW_DOMAIN, &day.0.to_be_bytes(), &context.aad()].concat()
}

#[cfg(test)]
mod tests {
    use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch};
    use proptest::prelude::*;

    use super::*;

    fn context() -> LayerKeyContext {
        LayerKeyContext {
            key_id: LayerKeyId::from_bytes([1; 16]),
            camera: CameraId::from_bytes([2; 16]),
            layer: Layer::Original,
            hour: Hour::new(498_000).unwrap(),
            zone: "eea".parse().unwrap(),
            writer_epoch: WriterEpoch(3),
        }
    }

    #[test]
    fn a_row_opens_only_as_what_it_was_sealed_as() {
        let epoch = EpochKey::generate().unwrap();
        let key = LayerKey::generate().unwrap();
        let day = ExpiryDay::from_number(20_780);
        let sealed = epoch.seal(day, &context(), &key).unwrap();
        assert_eq!(epoch.open(day, &context(), &sealed).unwrap().expose(), key.expose());
        let others = [
            LayerKeyContext { key_id: LayerKeyId::from_bytes([9; 16]), ..context() },
            LayerKeyContext { camera: CameraId::from_bytes([9; 16]), ..context() },
            LayerKeyContext { layer: Layer::Masked, ..context() },
            LayerKeyContext { hour: Hour::new(498_001).unwrap(), ..context() },
            LayerKeyContext { zone: "eez".parse().unwrap(), ..context() },
            LayerKeyContext { writer_epoch: WriterEpoch(4), ..context() },
        ];
        for other in others {
            assert!(epoch.open(day, &other, &sealed).is_none(), "{other:?}");
        }
        assert!(epoch.open(ExpiryDay::from_number(20_781), &context(), &sealed).is_none());
    }

    #[test]
    fn an_hour_that_ends_at_midnight_expires_exactly_then() {
        let last_hour_of_day_0 = Hour::new(23).unwrap();
        assert_eq!(ExpiryDay::of(last_hour_of_day_0, 24), ExpiryDay(2));
        assert_eq!(ExpiryDay::of(last_hour_of_day_0, 25), ExpiryDay(3));
        assert_eq!(ExpiryDay::of(Hour::new(0).unwrap(), 1), ExpiryDay(1));
    }

    proptest! {
        #[test]
        fn expiry_is_never_early_and_less_than_a_day_late(hour in 0..=Hour::MAX.get(), retention in 1..=8_760_u32) {
            let day = u64::from(ExpiryDay::of(Hour::new(hour).unwrap(), retention).number());
            let due = u64::from(hour) + 1 + u64::from(retention);
            prop_assert!(day * 24 >= due && day * 24 < due + 24);
        }
    }
}
