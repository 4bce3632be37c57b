//! Layer keys go into custody.
//!
//! A key that custody cannot take holds up its own packs and nobody else's. The round goes on with the
//! next one, and ends only where custody itself is away: where nobody answers, or where
//! [`MOST_IN_A_ROW`] keys fail one after the other. Those that failed least often are tried first, so
//! that what ends such a round has failed before, and no other key waits behind it.

use obscura_proto::keys::v1::ImportLayerKeyRequest;

use super::{Uploader, fault::Fault};
use crate::spool::Serial;

/// Custody that cannot take so many keys in a row is away, whatever it says about each. More would only
/// load a service that is in trouble; fewer would let the keys of a few cameras stand for all.
const MOST_IN_A_ROW: usize = 8;

impl Uploader {
    /// Offers what is due.
    pub(super) async fn send_keys(&self) {
        if !self.keys_away.may_try(self.clock.monotonic()) {
            return;
        }
        let mut in_a_row = 0;
        for (serial, request) in self.outbox.keys(self.clock.monotonic()) {
            let mut keys = self.keys.clone();
            match self.patience.call(keys.import_layer_key(request.clone())).await {
                Ok(_) => {
                    in_a_row = 0;
                    self.keys_away.over();
                    self.free(&[serial]);
                    self.outbox.key_done(serial);
                }
                // One key that is refused for good must not hold up the others.
                Err(fault) if fault.is_refusal() => self.key_refused(serial, &fault.cause),
                Err(fault) => {
                    in_a_row += 1;
                    self.key_failed(serial, &request, &fault);
                    if fault.is_silence() || in_a_row >= MOST_IN_A_ROW {
                        self.keys_away.goes_on(self.clock.monotonic(), &fault.cause);
                        return;
                    }
                }
            }
        }
    }

    fn key_refused(&self, serial: Serial, cause: &str) {
        if self.outbox.key_refused(serial, self.clock.monotonic()) {
            tracing::error!(
                cause,
                "a layer key is refused for good and set aside; its footage waits in the spool, up to a quarter of it: remove the cause and restart ingest"
            );
        }
    }

    fn key_failed(&self, serial: Serial, request: &ImportLayerKeyRequest, fault: &Fault) {
        let news = self.outbox.key_failed(serial, self.clock.monotonic(), !fault.is_silence());
        // Silence is told once for all keys.
        if news && !fault.is_silence() {
            tracing::error!(
                key = request.key.as_ref().map(|key| &key.key_id),
                cause = fault.cause,
                "custody cannot take a layer key; its footage waits in the spool, up to a quarter of it: remove the cause, it is tried again by itself"
            );
        }
    }
}
