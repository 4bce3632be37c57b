//! Why a call or a transfer failed, and what that says about the next one.

use std::{error::Error as _, time::Duration};

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
    /// Nobody answered: whatever is sent now fails as well.
    Silence,
    /// The peer said that it is busy, or cannot: whatever is sent now most likely fails as well.
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
        matches!(self.blame, Blame::Silence | Blame::Peer)
    }

    /// Whether nobody answered a call.
    pub fn is_silence(&self) -> bool {
        self.blame == Blame::Silence
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
            // What the peer says comes without a source; only what kept it from being heard has one.
            _ if status.source().is_some() => Blame::Silence,
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
            Err(_) => Err(Fault { blame: Blame::Silence, cause: "no answer in time".into() }),
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
        assert!(!of(Code::Unavailable).is_silence(), "it said so itself");
        assert!(!of(Code::FailedPrecondition).is_refusal() && !of(Code::FailedPrecondition).is_outage());
    }
    #[tokio::test]
    async fn a_peer_that_nobody_reaches_is_told_from_one_that_says_that_it_cannot() {
        let nowhere = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let mut keys = obscura_proto::keys::v1::keys_service_client::KeysServiceClient::new(nowhere);
        let request = obscura_proto::keys::v1::ImportLayerKeyRequest::default();
        let fault = Patience::default().call(keys.import_layer_key(request)).await.unwrap_err();
        assert!(fault.is_silence() && fault.is_outage(), "{fault:?}");
        let never = std::future::pending::<Result<tonic::Response<()>, tonic::Status>>();
        let hurried = Patience { call: Duration::ZERO, ..Patience::default() };
        assert!(hurried.call(never).await.unwrap_err().is_silence());
    }
}
