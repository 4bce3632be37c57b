//! Offers of a recorder: whatever is taken stays within the files that came with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_hand_over::Offer;

fuzz_target!(|input: (u8, &[u8])| {
    let (files, bytes) = (usize::from(input.0), input.1);
    if let Ok(offer) = Offer::read(bytes, files) {
        assert!(offer.target.starts_with('/'));
        assert!(offer.size() >= offer.head.len() as u64);
        for piece in &offer.pieces {
            assert!((piece.file as usize) < files);
            assert!(piece.offset.checked_add(u64::from(piece.length)).is_some());
        }
    }
});
