//! Puts what an earlier run left in the spool back into the outbox.

use std::{collections::HashSet, sync::Arc};

use obscura_clock::Monotonic;
use obscura_proto::{footage::v1::Gap, keys::v1::ImportLayerKeyRequest};
use prost::Message as _;

use crate::{
    outbox::{Formed, Outbox},
    segment::{self, Sealed},
    spool::{
        Error, Serial, Spool,
        record::{Kind, encode_serials},
        recovery::Recovered,
    },
};

/// Keys, gaps, packs that were formed, and all other segments in the order in which they began.
///
/// # Errors
/// Where the spool cannot be read.
pub fn enqueue(
    spool: &Arc<Spool>,
    outbox: &Outbox,
    recovered: &Recovered,
    now: Monotonic,
) -> Result<(), Error> {
    for (serial, (_, bytes)) in &recovered.keys {
        match ImportLayerKeyRequest::decode(bytes.as_slice()) {
            Ok(request) => outbox.add_key(*serial, request),
            Err(error) => {
                tracing::error!(%error, "a layer key in the spool is unreadable; its segments cannot be opened");
            }
        }
    }
    for (serial, (_, bytes)) in &recovered.gaps {
        if let Ok(gap) = Gap::decode(bytes.as_slice()) {
            outbox.add_gap(*serial, gap);
        }
    }
    let after = recovered.end;
    let mut broken = Vec::new();
    let mut packed: HashSet<&Serial> = HashSet::new();
    for (serial, _, id, serials) in &recovered.packs {
        let segments =
            serials.iter().map(|serial| sealed(spool, recovered, *serial)).collect::<Result<Vec<_>, _>>()?;
        // A segment that is missing here was freed with its pack; then nothing of the pack is left.
        let segments: Vec<Sealed> = segments.into_iter().flatten().collect();
        if segments.len() == serials.len() {
            packed.extend(serials);
            outbox.add_pack(Formed {
                id: *id,
                serial: *serial,
                segments,
                attempts: 0,
                not_before: now,
                after,
            });
        } else {
            // The record of a pack that is not whole any more would keep its file for ever.
            broken.push(*serial);
        }
    }
    let loose = recovered.segments.keys().filter(|serial| !packed.contains(serial));
    let (mut count, mut empty) = (0_u32, broken);
    for serial in loose {
        match sealed(spool, recovered, *serial)? {
            Some(sealed) => {
                outbox.add_segment(sealed, now);
                count += 1;
            }
            None => empty.push(*serial),
        }
    }
    forget(spool, &empty)?;
    if count > 0 || !recovered.packs.is_empty() {
        tracing::info!(
            segments = count,
            packs = recovered.packs.len(),
            keys = recovered.keys.len(),
            "found in the spool"
        );
    }
    Ok(())
}

/// Segments that were started and of which no frame was committed: nothing of them is missed.
fn forget(spool: &Spool, empty: &[Serial]) -> Result<(), Error> {
    if !empty.is_empty() {
        spool.append(&[segment::record(Kind::Done, Serial(0), &encode_serials(empty))])?;
        spool.release(empty);
    }
    Ok(())
}

fn sealed(spool: &Spool, recovered: &Recovered, serial: Serial) -> Result<Option<Sealed>, Error> {
    match recovered.segments.get(&serial) {
        Some(segment) => segment::recovered(spool, serial, segment),
        None => Ok(None),
    }
}
