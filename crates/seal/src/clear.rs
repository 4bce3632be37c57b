use std::{cell::Cell, fmt, ops::Deref};

use zeroize::Zeroize as _;

/// Largest buffer that a thread keeps for its next segment, in bytes.
const MAX_SPARE_BYTES: usize = 8 * 1024 * 1024;

thread_local! {
    /// The last buffer that was wiped on this thread. Wiping leaves it as the next segment needs it,
    /// zeroed, so that each byte of memory is cleared once for each segment and not twice.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Clear footage: wiped when dropped, never printed.
///
/// `Zeroizing<Vec<u8>>` would wipe byte by byte, which takes longer than the decryption did.
#[derive(Default)]
pub struct Clear(Vec<u8>);

impl Clear {
    /// So many zeros to decrypt into.
    pub(crate) fn zeroed(length: usize) -> Self {
        let mut bytes = SPARE.try_with(Cell::take).unwrap_or_default();
        // A small segment must not hold on to the buffer of a large one.
        if (length..=2 * length).contains(&bytes.capacity()) {
            bytes.resize(length, 0);
            return Self(bytes);
        }
        keep(bytes);
        Self(vec![0; length])
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The bytes, now the caller's to wipe.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Clear {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
        keep(std::mem::take(&mut self.0));
    }
}

impl Deref for Clear {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clear({} bytes)", self.0.len())
    }
}

/// Keeps a wiped buffer for the next segment, unless the thread ends or has a larger one.
fn keep(wiped: Vec<u8>) {
    if wiped.capacity() > MAX_SPARE_BYTES {
        return;
    }
    let _ = SPARE.try_with(|spare| {
        let kept = spare.take();
        spare.set(if kept.capacity() > wiped.capacity() { kept } else { wiped });
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_debug_print_shows_no_footage() {
        assert_eq!(format!("{:?}", Clear(b"a face".to_vec())), "Clear(6 bytes)");
    }

    #[test]
    fn bytes_that_are_taken_out_are_not_wiped() {
        assert_eq!(Clear(b"footage".to_vec()).into_bytes(), b"footage");
    }

    #[test]
    fn a_buffer_over_the_limit_is_not_kept() {
        drop(Clear::zeroed(MAX_SPARE_BYTES + 1));
        assert!(SPARE.take().capacity() <= MAX_SPARE_BYTES);
    }

    proptest! {
        #[test]
        fn nothing_of_one_segment_shows_in_the_next(lengths in prop::collection::vec(0..5_000_usize, 1..20)) {
            for length in lengths {
                let mut clear = Clear::zeroed(length);
                prop_assert_eq!(&*clear, &vec![0; length]);
                clear.as_mut_slice().fill(0xff);
            }
        }
    }
}
