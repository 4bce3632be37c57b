//! The operating system's randomness, as the splitting library wants it.

use std::convert::Infallible;

use aws_lc_rs::rand;
use rand_core::{TryCryptoRng, TryRng};

use crate::Error;

/// Remembers a failure, because the library has no place for one: ask [`Random::check`] before anything
/// made with it is used.
#[derive(Debug, Default)]
pub(crate) struct Random {
    failed: bool,
}

impl Random {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.failed { Err(Error::Library) } else { Ok(()) }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.failed |= rand::fill(bytes).is_err();
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes(self.array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes(self.array()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Random {}
