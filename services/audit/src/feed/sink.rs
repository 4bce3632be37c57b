//! What a kind of receiver has to be able to do.

use std::time::Duration;

use async_trait::async_trait;

use super::{Entry, LogSource, Unavailable};

/// From where to go on.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The remembered index.
    pub index: u64,
    /// Whether someone asked for exactly this index, so that what the receiver has does not count.
    pub replay: bool,
    /// Size of the log.
    pub size: u64,
    /// The log.
    pub source: &'a dyn LogSource,
}

/// Why it does not go on. The text is for operators: what is wrong and what to do, and neither
/// secrets nor personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may be over soon: tried again, ever more rarely.
    Again(String),
    /// The receiver said when to come again.
    Later(String, Duration),
    /// Somebody has to change something: tried again every few minutes.
    Parked(String),
}

impl Trouble {
    /// The words.
    pub fn text(&self) -> &str {
        match self {
            Self::Again(text) | Self::Later(text, _) | Self::Parked(text) => text,
        }
    }
}

impl From<Unavailable> for Trouble {
    fn from(unavailable: Unavailable) -> Self {
        Self::Again(unavailable.to_string())
    }
}

/// A receiver. Its methods may be cut off at every `.await`; [`Sink::open`] then comes again first.
#[async_trait]
pub trait Sink: Send {
    /// Connects, after a start and after every trouble, and says from which index to send.
    async fn open(&mut self, start: Start<'_>) -> Result<u64, Trouble>;

    /// Hands over entries without holes, as many as suits the receiver and at least one, and says how
    /// many. Has deadlines of its own.
    async fn send(&mut self, entries: &[Entry]) -> Result<usize, Trouble>;

    /// Index below which everything that was sent has arrived for good. Asked after every [`Sink::send`]
    /// and about once a second.
    async fn confirmed(&mut self) -> Result<u64, Trouble>;

    /// After [`Sink::open`]: index behind the last entry that the receiver itself says it has; `None` where only our
    /// memory knows.
    fn arrived(&self) -> Option<u64> {
        None
    }

    /// What somebody should change at the receiver although events arrive, in words as those of a [`Trouble`].
    fn warning(&self) -> Option<String> {
        None
    }

    /// Takes leave, where the protocol wants that.
    async fn close(&mut self) {}
}
