//! Why ingest cannot do what it should.

use obscura_clock::Timestamp;

use crate::spool;

/// Recording a segment failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spool does not take it.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The spool is nearly full, and other cameras matter more.
    #[error("the spool is nearly full, and cameras of this priority are paused")]
    Paused,
    /// Sealing failed.
    #[error("sealing: {0}")]
    Seal(#[from] obscura_seal::Error),
    /// The camera's parameter sets cannot be used.
    #[error("the camera's parameter sets cannot be used: {0}")]
    Media(#[from] obscura_media::Error),
    /// The recorder's clock stands outside what can be recorded.
    #[error("the recorder's clock says {0}; set it before recording")]
    NoHour(Timestamp),
}
