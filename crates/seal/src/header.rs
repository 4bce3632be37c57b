//! The clear header of a sealed segment: what everybody may know, and nobody may change.
//!
//! ```text
//!   0  u8      format, 1              50  u64 BE  sequence
//!   1  u8      layer                  58  32      init hash
//!   2  u8      flags, bit 0 dependent 90  32      mask-set hash
//!   3  u8      length of the zone    122  1..=32  zone
//!   4  u32 BE  hour
//!   8  u16 BE  slot
//!  10  16      layer key id
//!  26  16      camera
//!  42  u64 BE  writer epoch
//! ```
//!
//! One header has one encoding: reserved flags are zero and nothing follows the zone.

use obscura_ids::{CameraId, Digest, Layer, LayerKeyId, Sequence, WriterEpoch, ZoneId};

use crate::{Error, Hour, Slot};

const FORMAT: u8 = 1;
const FLAG_DEPENDENT: u8 = 1;
const FIXED_BYTES: usize = 122;

/// The clear header of a sealed segment and the context of its encryption.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentHeader {
    /// The layer key under one of whose leaves the segment is sealed.
    pub key_id: LayerKeyId,
    /// The hour of the layer key.
    pub hour: Hour,
    /// The slot in which the segment starts: names the leaf.
    pub slot: Slot,
    /// Zone that the segment may not leave.
    pub zone: ZoneId,
    /// Camera that filmed it.
    pub camera: CameraId,
    /// What it shows.
    pub layer: Layer,
    /// Continues a group of pictures that was split: the previous segment is needed to decode it.
    pub dependent: bool,
    /// Run of the recorder that wrote it.
    pub writer_epoch: WriterEpoch,
    /// Position among the segments of this camera, layer and run.
    pub sequence: Sequence,
    /// SHA-256 of the initialisation segment: parameter sets and dimensions.
    pub init_hash: Digest,
    /// SHA-256 of the mask set that is burnt in; [`Digest::ZERO`] for none.
    pub mask_set_hash: Digest,
}

impl SegmentHeader {
    /// Longest encoding, in bytes.
    pub const MAX_BYTES: usize = FIXED_BYTES + ZoneId::MAX_BYTES;

    /// Number of bytes of the encoding.
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        FIXED_BYTES + self.zone.as_str().len()
    }

    /// The one encoding of this header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let zone = self.zone.as_str().as_bytes();
        let zone_length = u8::try_from(zone.len()).unwrap_or(u8::MAX); // a zone has at most 32 bytes
        let mut bytes = Vec::with_capacity(self.encoded_length());
        bytes.extend([
            FORMAT,
            self.layer.code(),
            if self.dependent { FLAG_DEPENDENT } else { 0 },
            zone_length,
        ]);
        bytes.extend(self.hour.get().to_be_bytes());
        bytes.extend(self.slot.get().to_be_bytes());
        bytes.extend(self.key_id.as_bytes());
        bytes.extend(self.camera.as_bytes());
        bytes.extend(self.writer_epoch.0.to_be_bytes());
        bytes.extend(self.sequence.0.to_be_bytes());
        bytes.extend(self.init_hash.as_bytes());
        bytes.extend(self.mask_set_hash.as_bytes());
        bytes.extend(zone);
        bytes
    }

    /// Reads the encoding back.
    ///
    /// # Errors
    /// [`Error::Header`], [`Error::Hour`] or [`Error::Slot`] for anything that
    /// [`SegmentHeader::encode`] does not write, bytes too many included.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields(bytes);
        let [format, layer, flags, zone_length] = fields.take()?;
        if format != FORMAT {
            return Err(Error::Header("its format byte is unknown: a newer Obscura may have written it"));
        }
        if flags & !FLAG_DEPENDENT != 0 {
            return Err(Error::Header("a reserved flag is set"));
        }
        let header = Self {
            layer: Layer::from_code(layer).ok_or(Error::Header("its layer is unknown"))?,
            dependent: flags & FLAG_DEPENDENT != 0,
            hour: Hour::new(u32::from_be_bytes(fields.take()?))?,
            slot: Slot::new(u16::from_be_bytes(fields.take()?))?,
            key_id: LayerKeyId::from_bytes(fields.take()?),
            camera: CameraId::from_bytes(fields.take()?),
            writer_epoch: WriterEpoch(u64::from_be_bytes(fields.take()?)),
            sequence: Sequence(u64::from_be_bytes(fields.take()?)),
            init_hash: Digest::from_bytes(fields.take()?),
            mask_set_hash: Digest::from_bytes(fields.take()?),
            zone: fields.zone(zone_length)?,
        };
        Ok(header)
    }
}

/// The bytes that are not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Error::Header("it ends too early"))?;
        self.0 = rest;
        Ok(*field)
    }

    /// The zone is the last field: all that is left belongs to it.
    fn zone(&self, length: u8) -> Result<ZoneId, Error> {
        if self.0.len() != usize::from(length) {
            return Err(Error::Header("its length does not fit the length of its zone"));
        }
        let name = str::from_utf8(self.0).map_err(|_| Error::Header("its zone is not text"))?;
        name.parse().map_err(|_| Error::Header("its zone is not 1 to 32 of a-z, 0-9 and -"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SLOTS_PER_HOUR;

    /// Any header.
    pub(crate) fn headers() -> impl Strategy<Value = SegmentHeader> {
        let names = (any::<[u8; 16]>(), any::<[u8; 16]>(), "[a-z0-9-]{1,32}", 1..=3_u8, any::<bool>());
        let places = (0..=Hour::MAX.get(), 0..SLOTS_PER_HOUR, any::<u64>(), any::<u64>());
        let hashes = (any::<[u8; 32]>(), any::<[u8; 32]>());
        (names, places, hashes).prop_map(
            |((key_id, camera, zone, layer, dependent), (hour, slot, epoch, sequence), (init, masks))| {
                SegmentHeader {
                    key_id: LayerKeyId::from_bytes(key_id),
                    hour: Hour::new(hour).unwrap(),
                    slot: Slot::new(slot).unwrap(),
                    zone: zone.parse().unwrap(),
                    camera: CameraId::from_bytes(camera),
                    layer: Layer::from_code(layer).unwrap(),
                    dependent,
                    writer_epoch: WriterEpoch(epoch),
                    sequence: Sequence(sequence),
                    init_hash: Digest::from_bytes(init),
                    mask_set_hash: Digest::from_bytes(masks),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_reads_back_from_its_encoding(header in headers()) {
            let bytes = header.encode();
            prop_assert_eq!(bytes.len(), header.encoded_length());
            prop_assert!(bytes.len() <= SegmentHeader::MAX_BYTES);
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn a_header_that_is_cut_or_followed_by_more_is_refused(header in headers(), extra: u8, cut in 0..122_usize) {
            let mut bytes = header.encode();
            prop_assert!(SegmentHeader::decode(&bytes[..cut]).is_err());
            bytes.push(extra);
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
        }

        #[test]
        fn what_can_be_read_has_no_other_encoding(
            mut bytes in headers().prop_map(|header| header.encode()), at: prop::sample::Index, flip in 1..=255_u8
        ) {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(header) = SegmentHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SegmentHeader::decode(&bytes);
        }

        #[test]
        fn unknown_formats_and_reserved_flags_are_refused(header in headers(), format in 2..=255_u8, bit in 1..8_u32) {
            let mut bytes = header.encode();
            bytes[2] |= 1 << bit;
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
            let mut bytes = header.encode();
            bytes[0] = format;
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
        }
    }
}
