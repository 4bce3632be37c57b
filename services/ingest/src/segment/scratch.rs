//! Memory for sealed bytes on their way into the spool.
//!
//! A fragment is sealed, copied to the spool and hashed in one go, camera after camera. In memory that all cameras
//! of a thread use in turn these bytes stay in the processor's cache; in memory of each camera's own, which nobody
//! has touched for 400 ms, they would not.

use std::cell::Cell;

/// One very large key frame does not stay for ever.
const MAX_KEPT_BYTES: usize = 512 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Empty memory: this thread's, unless another writer has it.
pub fn take() -> Vec<u8> {
    SCRATCH.take()
}

/// For the next writer of this thread.
pub fn give_back(mut memory: Vec<u8>) {
    memory.clear();
    memory.shrink_to(MAX_KEPT_BYTES);
    SCRATCH.set(memory);
}
