//! SPIFFE identities: who a process is, whom it speaks to, and who may call what.
//!
//! Every connection between services is TLS 1.3 with certificates on both sides. A certificate
//! carries exactly one name, a SPIFFE id in its URI SAN (SPIFFE X.509-SVID, section 2), and lives
//! for hours; [`Identity`] takes up a new one without a restart. [`serve`] asks the generated
//! table of `proto/` (and the [`Route`]s of plain HTTP) before a request reaches a handler;
//! [`channel`] and [`HttpClient`] refuse a server that is not the expected service.
//!
//! Certificates come from any issuer that puts `cert.pem`, `key.pem` and `ca.pem` into a folder:
//! the embedded [`Ca`] on one machine, cert-manager or SPIRE elsewhere.

mod authorise;
mod ca;
mod certificate;
mod connect;
mod endpoint;
mod error;
mod files;
mod http_client;
mod identity;
mod serve;
mod spiffe;
mod tls;
mod validity;

pub use authorise::{Peer, Route};
pub use ca::{Ca, MAX_VALIDITY};
pub use connect::channel;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::Error;
pub use files::write_atomically;
pub use http_client::{BoxBody, HttpClient};
pub use identity::Identity;
pub use serve::serve;
pub use spiffe::{InvalidSpiffeId, SpiffeId, TrustDomain};
pub use validity::{Concern, Validity};

#[cfg(test)]
mod tests;
