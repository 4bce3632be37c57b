//! Why a call or a transfer failed, and what that says about the next one.

use std::time::Duration;

use tonic::Code;

/// How long answers are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With one call.
    pub call: Duration,
    /// With one PUT, from its first byte on.
    pub put: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { call: Duration::from_secs(10), put: Duration::from_secs(120) }
    }
}

/// A call or transfer that failed.
#[derive(Debug)]
pub struct Fault {
    blame: Blame,
    /// A sentence for the log; nothing in it identifies a person.
    pub cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The peer is away or busy: whatever is sent now fails as well.
    Peer,
    /// What was sent: others may go through, and the same may later.
    Item,
    /// What was sent, and the same will never go through.
    Refused,
    /// The recorder's own disk, which does not give back what was to be sent.
    Disk,
}

impl Fault {
    /// The peer is away or busy.
    pub fn outage(cause: impl Into<String>) -> Self {
        Self { blame: Blame::Peer, cause: cause.into() }
    }

    /// Something is wrong with what was sent.
    pub fn of_item(cause: impl Into<String>) -> Self {
        Self { blame: Blame::Item, cause: cause.into() }
    }

    /// The recorder's own disk does not give it back.
    pub fn unreadable(cause: impl Into<String>) -> Self {
        Self { blame: Blame::Disk, cause: cause.into() }
    }

    /// Whether it could not be read back.
    pub fn is_unreadable(&self) -> bool {
        self.blame == Blame::Disk
    }

    /// Whether others would fail as well.
    pub fn is_outage(&self) -> bool {
        self.blame == Blame::Peer
    }

    /// Whether the same will never go through.
    pub fn is_refusal(&self) -> bool {
        self.blame == Blame::Refused
    }
}

impl From<tonic::Status> for Fault {
    fn from(status: tonic::Status) -> Self {
        let blame = match status.code() {
            Code::InvalidArgument | Code::PermissionDenied | Code::AlreadyExists => Blame::Refused,
            Code::FailedPrecondition | Code::DataLoss | Code::NotFound | Code::OutOfRange => Blame::Item,
            _ => Blame::Peer,
        };
        Self { blame, cause: format!("{:?}: {}", status.code(), status.message()) }
    }
}

impl Patience {
    /// The answer to one call, where it comes in time.
    ///
    /// # Errors
    /// What was answered instead, or an outage: whether the work was done is not known then.
    pub async fn call<T>(
        self,
        future: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.call, future).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Fault::outage("no answer in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_away_is_told_from_one_that_refuses() {
        let of = |code| Fault::from(tonic::Status::new(code, "x"));
        assert!(of(Code::Unavailable).is_outage() && of(Code::Internal).is_outage());
        assert!(of(Code::PermissionDenied).is_refusal() && !of(Code::PermissionDenied).is_outage());
        assert!(!of(Code::FailedPrecondition).is_refusal() && !of(Code::FailedPrecondition).is_outage());
    }
}
