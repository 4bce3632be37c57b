//! Claims as a person reads them in the journal.

use std::collections::BTreeSet;

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Digest, GrantId, Layer};
use obscura_proto::{access::v1::GrantClaims, footage::v1 as footage};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{Error, GrantRequest, MAX_VALID_FOR};
use crate::signing::sha256;

/// The claims of one grant; they serialise to the very bytes of the grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalClaims {
    grant_id: GrantId,
    subject: String,
    cameras: BTreeSet<CameraId>,
    layers: BTreeSet<Layer>,
    span: Span,
    purpose: String,
    reason: String,
    holder: String,
    not_before_unix_ns: i64,
    expires_unix_ns: i64,
}

impl JournalClaims {
    pub(crate) fn new(request: GrantRequest, now: Timestamp) -> Result<Self, Error> {
        if request.valid_for > MAX_VALID_FOR {
            let limit = MAX_VALID_FOR.as_secs() / 60;
            return Err(Error::Request(format!("it is to be valid for more than {limit} minutes")));
        }
        Ok(Self {
            grant_id: GrantId::generate(),
            subject: request.subject,
            cameras: request.cameras,
            layers: request.layers,
            span: request.span,
            purpose: request.purpose,
            reason: request.reason,
            holder: request.holder.to_string(),
            not_before_unix_ns: now.unix_nanos(),
            expires_unix_ns: (now + request.valid_for).unix_nanos(),
        })
    }

    /// SHA-256 of the serialised claims.
    pub(crate) fn hash(&self) -> Digest {
        sha256(&self.to_proto().encode_to_vec())
    }

    /// What is signed.
    pub(crate) fn to_proto(&self) -> GrantClaims {
        GrantClaims {
            grant_id: self.grant_id.to_string(),
            subject: self.subject.clone(),
            camera_ids: self.cameras.iter().map(ToString::to_string).collect(),
            layers: self.layers.iter().map(|layer| i32::from(layer.code())).collect(),
            span: Some(footage::Span {
                start_unix_ns: self.span.start().unix_nanos(),
                end_unix_ns: self.span.end().unix_nanos(),
            }),
            purpose: self.purpose.clone(),
            reason: self.reason.clone(),
            approvals: Vec::new(),
            holder: self.holder.clone(),
            relay: String::new(),
            not_before_unix_ns: self.not_before_unix_ns,
            expires_unix_ns: self.expires_unix_ns,
        }
    }
}
