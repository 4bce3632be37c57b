//! Compact directories of packs: whatever can be read has exactly one form, and a head that can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Digest, Layer, PackId, WriterEpoch};
use obscura_pack::{Directory, Stream};

fuzz_target!(|bytes: &[u8]| {
    let stream = Stream {
        zone: "eea".parse().unwrap(),
        camera: CameraId::from_bytes([2; 16]),
        layer: Layer::Original,
        init_hash: Digest::from_bytes([5; 32]),
        writer: WriterEpoch(7 << 32),
    };
    let start = Timestamp::from_unix_nanos(1_800_000_000_000_000_000);
    if let Ok(directory) = Directory::from_compact(PackId::from_bytes([7; 16]), start, &stream, bytes) {
        assert_eq!(directory.to_compact(&stream), bytes);
        assert_eq!(directory.span().start(), start);
        let head = directory.encode_head();
        assert_eq!(directory.encoded_head_length(), head.len());
        assert_eq!(Directory::decode_head(&head), Ok(directory));
    }
    // Any head that can be read has a compact form that says the same.
    if let Ok(directory) = Directory::decode_head(bytes) {
        let stream = Stream::of(&directory);
        let (pack, start) = (directory.pack_id, directory.span().start());
        let back = Directory::from_compact(pack, start, &stream, &directory.to_compact(&stream));
        assert_eq!(back.map(|back| back.encode_head()), Ok(bytes.to_vec()));
    }
});
