//! The clear directory at the head of a pack.

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer, PackId, ZoneId};
use obscura_proto::footage::v1 as proto;
use prost::Message as _;

use crate::{Entry, Error, InvalidEntry};

/// Bytes of magic and length, before the directory.
pub const HEAD_PREFIX: usize = MAGIC.len() + 4;
/// Most bytes of a directory.
pub const MAX_DIRECTORY_BYTES: usize = 1024 * 1024;
/// Most segments in a pack.
pub const MAX_ENTRIES: usize = 4096;
/// Most sealed bytes in a pack: above every minute of video that a camera sends, and below what
/// object stores take in one upload.
pub const MAX_BODY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"OBSPACK\x01";

/// What lies in a pack. Only [`Directory::lay_out`] and [`Directory::decode_head`] vouch for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The pack.
    pub pack_id: PackId,
    /// Camera of every segment.
    pub camera: CameraId,
    /// Zone of every segment.
    pub zone: ZoneId,
    /// Layer of every segment.
    pub layer: Layer,
    /// The segments in the order of writer epoch and sequence, back to back from offset 0.
    pub entries: Vec<Entry>,
}

impl Directory {
    /// Lays segments out back to back: sets every offset and checks everything that
    /// [`Directory::decode_head`] checks.
    ///
    /// # Errors
    /// [`Error::Entry`] where a header disagrees or a length is impossible, [`Error::Directory`]
    /// with no segments, too many, or too many bytes.
    pub fn lay_out(
        pack_id: PackId,
        camera: CameraId,
        zone: ZoneId,
        layer: Layer,
        mut entries: Vec<Entry>,
    ) -> Result<Self, Error> {
        let mut offset = 0_u64;
        for entry in &mut entries {
            entry.offset = offset;
            offset = offset.saturating_add(entry.length);
        }
        let directory = Self { pack_id, camera, zone, layer, entries };
        directory.check()?;
        let length = directory.to_proto().encoded_len();
        if length > MAX_DIRECTORY_BYTES {
            return Err(Error::Directory("it is over 1 MiB: put fewer segments into one pack"));
        }
        Ok(directory)
    }

    /// The head of the object: magic, length, directory. The same directory gives the same bytes.
    #[must_use]
    pub fn encode_head(&self) -> Vec<u8> {
        let directory = self.to_proto().encode_to_vec();
        let length = u32::try_from(directory.len()).unwrap_or(u32::MAX); // `lay_out` allows 1 MiB
        [&MAGIC[..], &length.to_be_bytes(), &directory].concat()
    }

    /// Number of bytes that [`Directory::encode_head`] gives.
    #[must_use]
    pub fn encoded_head_length(&self) -> usize {
        HEAD_PREFIX + self.to_proto().encoded_len()
    }

    /// Number of bytes of the head, the given first ones included.
    ///
    /// # Errors
    /// [`Error::Magic`], or [`Error::HeadLength`] over [`MAX_DIRECTORY_BYTES`].
    pub fn head_length(first: &[u8; HEAD_PREFIX]) -> Result<usize, Error> {
        let length = first.strip_prefix(&MAGIC).ok_or(Error::Magic)?;
        let stated = u32::from_be_bytes(length.try_into().map_err(|_| Error::Magic)?);
        let length = usize::try_from(stated).unwrap_or(usize::MAX);
        if length > MAX_DIRECTORY_BYTES {
            return Err(Error::HeadLength { stated: stated.into(), why: "is over 1 MiB" });
        }
        Ok(HEAD_PREFIX + length)
    }

    /// Reads a head of exactly [`Directory::head_length`] bytes.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::ObjectKey`]: lengths that lie, segments that overlap or are out of
    /// order, headers that name another camera, zone or layer, and any second way to write the same.
    pub fn decode_head(head: &[u8]) -> Result<Self, Error> {
        let (first, directory) = head.split_first_chunk().ok_or(Error::Magic)?;
        if Self::head_length(first)? != head.len() {
            let stated = u64::try_from(Self::head_length(first)? - HEAD_PREFIX).unwrap_or(u64::MAX);
            return Err(Error::HeadLength { stated, why: "is not what follows" });
        }
        let message = proto::PackDirectory::decode(directory)
            .map_err(|_| Error::Directory("it is not a PackDirectory in protobuf"))?;
        let read = Self::try_from(message)?;
        if read.to_proto().encode_to_vec() != directory {
            return Err(Error::Directory("it is not written in the one way there is"));
        }
        Ok(read)
    }

    /// Number of sealed bytes behind the head.
    #[must_use]
    pub fn body_length(&self) -> u64 {
        self.entries.last().and_then(Entry::end).unwrap_or(0)
    }

    /// From the first frame to the end of the last one.
    #[must_use]
    pub fn span(&self) -> Span {
        let start = self.entries.iter().map(|entry| entry.span.start()).min();
        let end = self.entries.iter().map(|entry| entry.span.end()).max();
        let span = start.zip(end).and_then(|(start, end)| Span::try_new(start, end));
        span.unwrap_or_else(empty_span)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.entries.is_empty() || self.entries.len() > MAX_ENTRIES {
            return Err(Error::Directory("it has no segments, or more than 4,096"));
        }
        let mut end = 0;
        let mut previous = None;
        for (index, entry) in self.entries.iter().enumerate() {
            let position = Some((entry.header.writer_epoch, entry.header.sequence));
            let checked = self.check_entry(entry, end, previous < position);
            end = checked.map_err(|why| Error::Entry { index, why })?;
            previous = position;
        }
        Ok(())
    }

    /// Checks one entry that has to start at `offset`; returns where it ends.
    fn check_entry(&self, entry: &Entry, offset: u64, in_order: bool) -> Result<u64, InvalidEntry> {
        let moved = [
            ("camera", entry.header.camera != self.camera),
            ("zone", entry.header.zone != self.zone),
            ("layer", entry.header.layer != self.layer),
        ];
        if let Some((what, _)) = moved.into_iter().find(|(_, moved)| *moved) {
            return Err(InvalidEntry::Moved(what));
        }
        if !in_order {
            return Err(InvalidEntry::field("sequence", "does not follow that of the segment before it"));
        }
        if entry.offset != offset {
            return Err(InvalidEntry::field("offset", "is not where the segment before it ends"));
        }
        entry.check_length()?;
        let end = entry.end().filter(|end| *end <= MAX_BODY_BYTES);
        end.ok_or(InvalidEntry::field("length", "makes the pack longer than 4 GiB"))
    }

    fn to_proto(&self) -> proto::PackDirectory {
        proto::PackDirectory {
            pack_id: self.pack_id.to_string(),
            camera_id: self.camera.to_string(),
            zone: self.zone.to_string(),
            layer: i32::from(self.layer.code()),
            entries: self.entries.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::PackDirectory> for Directory {
    type Error = Error;

    fn try_from(message: proto::PackDirectory) -> Result<Self, Error> {
        if message.entries.len() > MAX_ENTRIES {
            return Err(Error::Directory("it has more than 4,096 segments"));
        }
        let layer = u8::try_from(message.layer).ok().and_then(Layer::from_code);
        let entry = |(index, entry)| Entry::try_from(entry).map_err(|why| Error::Entry { index, why });
        let directory = Self {
            pack_id: message.pack_id.parse().map_err(|_| Error::Directory("its pack id is not a UUID"))?,
            camera: message.camera_id.parse().map_err(|_| Error::Directory("its camera id is not a UUID"))?,
            zone: message.zone.parse().map_err(|_| Error::Directory("its zone is not the name of one"))?,
            layer: layer.ok_or(Error::Directory("its layer is unknown"))?,
            entries: message.entries.into_iter().enumerate().map(entry).collect::<Result<_, _>>()?,
        };
        directory.check()?;
        Ok(directory)
    }
}

/// The span of a directory without segments, which only a caller that builds its own can have.
fn empty_span() -> Span {
    let epoch = Timestamp::from_unix_nanos(0);
    #[expect(clippy::expect_used, reason = "a span from a moment to itself never runs backwards")]
    Span::try_new(epoch, epoch).expect("start is end")
}
