//! From the bytes of `GrantClaims` to typed claims, strictly: what an honest issuer never writes is
//! refused, because claims that two readers understand differently are claims for neither.

use std::collections::BTreeSet;

use bytes::Bytes;
use obscura_clock::{Span, Timestamp};
use obscura_identity::SpiffeId;
use obscura_ids::Layer;
use obscura_proto::{access::v1::GrantClaims, footage::v1 as footage};
use prost::Message as _;

use crate::{Grant, Refusal};

/// Longest claims.
pub const MAX_CLAIMS_BYTES: usize = 128 << 10;
/// Most cameras in one grant.
pub const MAX_CAMERAS: usize = 1_000;
/// Most approvals in one grant.
pub const MAX_APPROVALS: usize = 16;
/// Longest pseudonym of a subject or approver.
pub const MAX_SUBJECT_BYTES: usize = 256;
/// Longest purpose.
pub const MAX_PURPOSE_BYTES: usize = 1_024;
/// Longest reason.
pub const MAX_REASON_BYTES: usize = 4_096;
/// Longest signature of an approver: room for post-quantum ones (ML-DSA-65 has 3,309 bytes).
const MAX_APPROVAL_BYTES: usize = 4_096;

/// What the claims say. Whether they count is for the verifier.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The permission.
    pub(crate) grant: Grant,
    /// First moment of validity.
    pub(crate) not_before: Timestamp,
}

impl Claims {
    /// Reads one serialised `GrantClaims`.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, Refusal> {
        let claims = GrantClaims::decode(bytes.clone()).map_err(malformed)?;
        // A field unknown to us may be a restriction, so what we cannot write back we do not honour.
        if claims.encode_to_vec() != bytes[..] {
            return Err(malformed("they hold fields that this version does not know"));
        }
        Self::read(&claims)
    }

    fn read(claims: &GrantClaims) -> Result<Self, Refusal> {
        check_texts(claims)?;
        check_approvals(claims)?;
        let not_before = Timestamp::from_unix_nanos(claims.not_before_unix_ns);
        let expires = Timestamp::from_unix_nanos(claims.expires_unix_ns);
        if not_before >= expires {
            return Err(malformed("they expire before they begin"));
        }
        let grant = Grant {
            id: claims.grant_id.parse().map_err(malformed)?,
            subject: claims.subject.clone(),
            cameras: set("cameras", &claims.camera_ids, MAX_CAMERAS, |id| id.parse().map_err(malformed))?,
            layers: set("layers", &claims.layers, 3, |code| layer(*code))?,
            span: span(claims.span.as_ref())?,
            purpose: claims.purpose.clone(),
            reason: claims.reason.clone(),
            holder: claims.holder.parse().map_err(malformed)?,
            relay: relay(&claims.relay)?,
            expires,
        };
        Ok(Self { grant, not_before })
    }
}

fn check_texts(claims: &GrantClaims) -> Result<(), Refusal> {
    check_text("subject", &claims.subject, MAX_SUBJECT_BYTES)?;
    check_text("purpose", &claims.purpose, MAX_PURPOSE_BYTES)?;
    check_text("reason", &claims.reason, MAX_REASON_BYTES)
}

fn check_text(name: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(malformed(format!("the {name} is empty")));
    }
    if text.len() > limit {
        return Err(malformed(format!("the {name} has more than {limit} bytes")));
    }
    Ok(())
}

fn check_approvals(claims: &GrantClaims) -> Result<(), Refusal> {
    if claims.approvals.len() > MAX_APPROVALS {
        return Err(malformed(format!("there are more than {MAX_APPROVALS} approvals")));
    }
    for approval in &claims.approvals {
        check_text("approver", &approval.approver, MAX_SUBJECT_BYTES)?;
        if approval.signature.len() > MAX_APPROVAL_BYTES {
            return Err(malformed("an approver's signature is too long"));
        }
    }
    Ok(())
}

/// Reads a list that is a set: at least one row, at most `limit`, none twice.
fn set<From, To: Ord>(
    name: &str,
    rows: &[From],
    limit: usize,
    read: impl Fn(&From) -> Result<To, Refusal>,
) -> Result<BTreeSet<To>, Refusal> {
    if rows.is_empty() || rows.len() > limit {
        return Err(malformed(format!("there are {} {name}; expected 1 to {limit}", rows.len())));
    }
    let set = rows.iter().map(read).collect::<Result<BTreeSet<_>, _>>()?;
    if set.len() != rows.len() {
        return Err(malformed(format!("the {name} repeat themselves")));
    }
    Ok(set)
}

fn layer(code: i32) -> Result<Layer, Refusal> {
    u8::try_from(code).ok().and_then(Layer::from_code).ok_or_else(|| malformed(format!("no layer {code}")))
}

fn span(span: Option<&footage::Span>) -> Result<Span, Refusal> {
    let span = span.ok_or_else(|| malformed("there is no span"))?;
    let start = Timestamp::from_unix_nanos(span.start_unix_ns);
    let end = Timestamp::from_unix_nanos(span.end_unix_ns);
    let span = Span::try_new(start, end).filter(|span| !span.duration().is_zero());
    span.ok_or_else(|| malformed("the span is empty or runs backwards"))
}

fn relay(relay: &str) -> Result<Option<SpiffeId>, Refusal> {
    if relay.is_empty() { Ok(None) } else { relay.parse().map(Some).map_err(malformed) }
}

fn malformed(why: impl ToString) -> Refusal {
    Refusal::malformed("claims", why)
}

#[cfg(test)]
mod tests {
    use obscura_ids::CameraId;
    use obscura_proto::access::v1::Approval;
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::claims;

    fn parse(claims: &GrantClaims) -> Result<Claims, Refusal> {
        Claims::parse(&claims.encode_to_vec().into())
    }

    #[test]
    fn claims_at_every_limit_are_read() {
        let mut claims = claims();
        claims.camera_ids = (0..MAX_CAMERAS).map(|_| CameraId::generate().to_string()).collect();
        claims.layers = vec![1, 2, 3];
        claims.subject = "s".repeat(MAX_SUBJECT_BYTES);
        claims.purpose = "p".repeat(MAX_PURPOSE_BYTES);
        claims.reason = "r".repeat(MAX_REASON_BYTES);
        let approval = Approval { approver: "a".into(), signature: vec![0; 3_309].into() };
        claims.approvals = vec![approval; MAX_APPROVALS];
        claims.relay = "spiffe://example.org/obscura/gateway".into();
        assert!(claims.encoded_len() <= MAX_CLAIMS_BYTES);
        assert_eq!(parse(&claims).unwrap().grant.cameras.len(), MAX_CAMERAS);
    }

    #[test]
    fn claims_beyond_any_limit_are_malformed() {
        let breaches: [fn(&mut GrantClaims); 19] = [
            |c| c.grant_id = "7".into(),
            |c| c.subject.clear(),
            |c| c.subject = "s".repeat(MAX_SUBJECT_BYTES + 1),
            |c| c.camera_ids.clear(),
            |c| c.camera_ids = (0..=MAX_CAMERAS).map(|_| CameraId::generate().to_string()).collect(),
            |c| c.camera_ids.push(c.camera_ids[0].clone()),
            |c| c.camera_ids.push("x".into()),
            |c| c.layers.clear(),
            |c| c.layers = vec![0],
            |c| c.layers = vec![1, 257],
            |c| c.span = None,
            |c| c.span.as_mut().unwrap().end_unix_ns = c.span.unwrap().start_unix_ns,
            |c| c.span.as_mut().unwrap().end_unix_ns = 0,
            |c| c.purpose = " ".into(),
            |c| c.reason = "r".repeat(MAX_REASON_BYTES + 1),
            |c| {
                c.approvals =
                    vec![Approval { approver: "a".into(), ..Approval::default() }; MAX_APPROVALS + 1];
            },
            |c| c.holder = "cli".into(),
            |c| c.relay = "gateway".into(),
            |c| c.expires_unix_ns = c.not_before_unix_ns,
        ];
        for (number, breach) in breaches.into_iter().enumerate() {
            let mut claims = claims();
            breach(&mut claims);
            assert!(matches!(parse(&claims), Err(Refusal::Malformed { .. })), "breach {number}");
        }
    }

    #[test]
    fn a_field_from_the_future_is_not_ignored() {
        let mut bytes = claims().encode_to_vec();
        bytes.extend([0xf8, 0x07, 0x01]); // Field 127, varint 1.
        assert!(matches!(Claims::parse(&bytes.into()), Err(Refusal::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Claims::parse(&bytes.into());
        }

        #[test]
        fn any_flip_in_good_claims_never_panics(at: prop::sample::Index, to: u8) {
            let mut bytes = claims().encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Claims::parse(&bytes.into());
        }
    }
}
