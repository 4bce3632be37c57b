//! Calls to the audit log.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use obscura_access::{Refusal, verify_receipt};
use obscura_proto::{
    access::v1::{Receipt, SignedReceipt},
    audit::v1::{
        AppendRequest, CountedEvent, Event, ReportRequest, audit_service_client::AuditServiceClient,
        event::Body,
    },
};
use obscura_status::{Code, Failure};
use prost::Message as _;
use tokio::time;
use tonic::{ConnectError, Status, transport::Channel};

/// How long [`AuditLog::append`] may take, its attempts to connect included.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(5);
/// How long the log may take for one batch of an outbox.
const REPORT_DEADLINE: Duration = Duration::from_secs(15);
/// Between attempts to connect.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Most events of one report.
pub const MAX_BATCH_EVENTS: usize = 1_000;
/// Most bytes of the events of one report: half of what gRPC servers take unless told otherwise.
pub const MAX_BATCH_BYTES: usize = 2 << 20;

/// Why there is no receipt. The event may be in the log all the same where the answer was lost:
/// append the same event again, its id tells the log that it is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Away, or too slow.
    #[error("the audit log did not answer: nothing is released without it; try again")]
    Unavailable(#[source] Status),
    /// It does not want the event.
    #[error("the audit log refused the event: {}", .0.message())]
    Refused(#[source] Status),
    /// It answered without a receipt.
    #[error("the audit log answered without a receipt")]
    NoReceipt,
    /// The receipt does not count.
    #[error("the audit log's receipt does not count: {0}")]
    BadReceipt(#[from] Refusal),
}

impl Error {
    fn from_status(status: Status) -> Self {
        use tonic::Code as Grpc;

        match status.code() {
            Grpc::InvalidArgument
            | Grpc::PermissionDenied
            | Grpc::Unauthenticated
            | Grpc::FailedPrecondition
            | Grpc::OutOfRange
            | Grpc::NotFound
            | Grpc::AlreadyExists
            | Grpc::Unimplemented => Self::Refused(status),
            _ => Self::Unavailable(status),
        }
    }

    /// What kind of failure it is for whoever asked for access.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unavailable(_) => Code::Unavailable,
            Self::Refused(_) | Self::NoReceipt | Self::BadReceipt(_) => Code::Internal,
        }
    }

    /// Whether the log says that an event makes no sense: sending it again is useless.
    pub(crate) fn is_about_the_event(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == tonic::Code::InvalidArgument)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unavailable(status) => {
                Self::new(Code::Unavailable, error.to_string()).with_internal(status)
            }
            _ => Self::internal(error),
        }
    }
}

/// The audit log, as a producer sees it.
#[derive(Clone, Debug)]
pub struct AuditLog {
    client: AuditServiceClient<Channel>,
    key: [u8; 32],
}

impl AuditLog {
    /// The log at the other end of the channel, whose receipts are signed with the Ed25519 key
    /// `audit_key`.
    #[must_use]
    pub fn new(channel: Channel, audit_key: [u8; 32]) -> Self {
        Self { client: AuditServiceClient::new(channel), key: audit_key }
    }

    /// Appends an event and waits, 5 s at most, until it is durable.
    ///
    /// Only a connection that could not be made is tried again: then nothing was sent.
    ///
    /// # Errors
    /// Where there is no receipt that counts; see [`Error`] for whether to try again.
    pub async fn append(&self, event: Event) -> Result<SignedReceipt, Error> {
        self.append_decoded(event).await.map(|(signed, _)| signed)
    }

    /// Like [`Self::append`], with what the receipt says.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn append_decoded(&self, event: Event) -> Result<(SignedReceipt, Receipt), Error> {
        let claims_hash = claims_hash(&event);
        let appended = time::timeout(APPEND_DEADLINE, self.append_until_sent(event)).await;
        let signed = appended
            .unwrap_or_else(|_| Err(Error::Unavailable(Status::deadline_exceeded("no answer in 5 s"))))?;
        let receipt = verify_receipt(&self.key, &signed)?;
        if claims_hash.is_some_and(|claims_hash| claims_hash != receipt.claims_hash) {
            return Err(Refusal::ReceiptForOtherClaims.into());
        }
        Ok((signed, receipt))
    }

    async fn append_until_sent(&self, event: Event) -> Result<SignedReceipt, Error> {
        loop {
            let request = AppendRequest { event: Some(event.clone()) };
            match self.client.clone().append(request).await {
                Ok(response) => return response.into_inner().receipt.ok_or(Error::NoReceipt),
                Err(status) if was_not_sent(&status) => time::sleep(CONNECT_AGAIN_AFTER).await,
                Err(status) => return Err(Error::from_status(status)),
            }
        }
    }

    /// Reports events of an outbox; returns up to which counter everything is durable. Without
    /// events it only asks.
    pub(crate) async fn report(&self, outbox_id: String, events: Vec<(u64, Bytes)>) -> Result<u64, Error> {
        let counted = |(counter, bytes)| CountedEvent { counter, event: Event::decode(bytes).ok() };
        let request = ReportRequest { outbox_id, events: events.into_iter().map(counted).collect() };
        let mut client = self.client.clone();
        match time::timeout(REPORT_DEADLINE, client.report(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner().through_counter),
            Ok(Err(status)) => Err(Error::from_status(status)),
            Err(_) => Err(Error::Unavailable(Status::deadline_exceeded("no answer in 15 s"))),
        }
    }
}

/// Receipts of decisions about grants say which claims they are about.
fn claims_hash(event: &Event) -> Option<Bytes> {
    match &event.body {
        Some(Body::Grant(decision)) => Some(decision.claims_hash.clone()),
        _ => None,
    }
}

/// Whether the connection was never made.
fn was_not_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
