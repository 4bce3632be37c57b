//! A grant for exactly one stretch of footage, and what it releases.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use obscura_access::{GrantRequest, MAX_VALID_FOR};
use obscura_clock::Span;
use obscura_ids::{Layer, LayerKeyId};
use obscura_proto::{
    access::v1::SignedGrant,
    keys::v1::{ReleaseNodesRequest, ReleasedKey},
    storage::v1::CreateDownloadsRequest,
};
use obscura_seal::{Node, NodeSet};

use super::{Issuing, Located, Wanted};
use crate::{
    log::operator,
    problem::{Context as _, Problem, Result},
    services::{PATIENT, Services},
};

/// Most keys in one request (`keys.proto`, `ReleaseNodesRequest.key_ids`).
const KEYS_PER_CALL: usize = 256;

/// What a grant opened.
#[derive(Debug)]
pub struct Released {
    /// UUID of the grant.
    pub grant_id: String,
    /// URLs by object key.
    pub urls: BTreeMap<String, http::Uri>,
    /// Released parts by layer key.
    pub keys: BTreeMap<LayerKeyId, NodeSet>,
}

/// Gets a grant for these segments and shows it to `storage` and `keys`.
pub async fn release(
    services: &Services,
    issuer: &Issuing<'_>,
    wanted: &Wanted,
    segments: &[Located],
) -> Result<Released> {
    let span = exact_span(segments).ok_or_else(|| Problem::new("cannot ask for a grant for no footage"))?;
    let (grant_id, grant) = grant(services, issuer, wanted, span).await?;
    let urls = downloads(services, issuer, &grant, segments).await?;
    let ids: BTreeSet<_> = segments.iter().map(|located| located.entry.header.key_id).collect();
    let mut keys = BTreeMap::new();
    for ids in ids.into_iter().collect::<Vec<_>>().chunks(KEYS_PER_CALL) {
        keys.extend(nodes(services, issuer, &grant, ids).await?);
    }
    Ok(Released { grant_id, urls, keys })
}

/// The decision is in the log before there is a grant.
async fn grant(
    services: &Services,
    issuer: &Issuing<'_>,
    wanted: &Wanted,
    span: Span,
) -> Result<(String, SignedGrant)> {
    let request = GrantRequest {
        subject: operator().id,
        cameras: BTreeSet::from([wanted.camera]),
        layers: BTreeSet::from([Layer::Original]),
        span,
        purpose: wanted.purpose.clone(),
        reason: wanted.reason.clone(),
        holder: services.identity().id().clone(),
        valid_for: MAX_VALID_FOR,
    };
    let prepared = issuer.issuer.prepare(request).doing("get a grant")?;
    let grant_id = prepared.grant_id().to_owned();
    let receipt = issuer.log.grant(prepared.decision()).await?;
    let grant = issuer.issuer.sign(prepared, receipt, &issuer.audit).doing("get a grant")?;
    Ok((grant_id, grant))
}

/// From the first start to the last, a nanosecond longer so that it has the last one inside. A
/// segment's refined start may lie before or after the slot that it was sealed under; both are in it.
fn exact_span(segments: &[Located]) -> Option<Span> {
    let starts = segments.iter().flat_map(|located| {
        let header = &located.entry.header;
        [located.entry.span.start(), header.hour.slot_start(header.slot)]
    });
    let (first, last) = (starts.clone().min()?, starts.max()?);
    Span::try_new(first, last + Duration::from_nanos(1))
}

async fn downloads(
    services: &Services,
    issuer: &Issuing<'_>,
    grant: &SignedGrant,
    segments: &[Located],
) -> Result<BTreeMap<String, http::Uri>> {
    let keys: BTreeSet<_> = segments.iter().map(|located| located.object_key.clone()).collect();
    let object_keys: Vec<_> = keys.into_iter().collect();
    let request = CreateDownloadsRequest {
        grant: Some(grant.clone()),
        status_note: Some(issuer.issuer.status_note()),
        object_keys: object_keys.clone(),
    };
    let mut storage = services.storage();
    let call = storage.create_downloads(request);
    let answer = services.ask("storage", "get download URLs", PATIENT, call).await?;
    if answer.urls.len() != object_keys.len() {
        return Err(Problem::new("cannot get download URLs: storage answered for another number of objects")
            .next("see whether storage is of the version of this program: `obscura up` starts the installed one"));
    }
    let parse = |(key, url): (String, String)| Ok((key, url.parse().doing("read a download URL")?));
    object_keys.into_iter().zip(answer.urls).map(parse).collect()
}

async fn nodes(
    services: &Services,
    issuer: &Issuing<'_>,
    grant: &SignedGrant,
    ids: &[LayerKeyId],
) -> Result<Vec<(LayerKeyId, NodeSet)>> {
    let request = ReleaseNodesRequest {
        grant: Some(grant.clone()),
        status_note: Some(issuer.issuer.status_note()),
        key_ids: ids.iter().map(ToString::to_string).collect(),
    };
    let mut keys = services.keys();
    let call = keys.release_nodes(request);
    let answer = services.ask("keys", "get the keys of this footage", PATIENT, call).await?;
    answer.keys.iter().map(node_set).collect()
}

fn node_set(released: &ReleasedKey) -> Result<(LayerKeyId, NodeSet)> {
    let id = released.key_id.parse().doing("read the id of a released key")?;
    let nodes = released.nodes.iter().map(|node| {
        let malformed = || {
            Problem::new("cannot use a released key: keys answered with a malformed node").next(
                "see whether keys is of the version of this program: `obscura up` starts the installed one",
            )
        };
        let depth = u8::try_from(node.depth).map_err(|_| malformed())?;
        let index = u16::try_from(node.index).map_err(|_| malformed())?;
        let secret = node.secret.as_ref().try_into().map_err(|_| malformed())?;
        Node::new(depth, index, secret).doing("use a released key")
    });
    Ok((id, NodeSet::new(nodes.collect::<Result<_>>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::open::samples::located;

    #[test]
    fn a_grant_spans_from_the_first_start_to_just_behind_the_last() {
        let (mut first, mut last) = (located(0), located(9));
        let start = first.entry.header.hour.slot_start(first.entry.header.slot);
        first.entry.span = Span::try_new(start, start + Duration::from_secs(2)).unwrap();
        let end = start + Duration::from_secs(60);
        last.entry.span = Span::try_new(end, end + Duration::from_secs(2)).unwrap();
        let span = exact_span(&[first, last]).unwrap();
        assert_eq!((span.start(), span.end()), (start, end + Duration::from_nanos(1)));
        assert_eq!(exact_span(&[]), None);
    }

    #[test]
    fn a_malformed_node_is_refused() {
        let node = obscura_proto::keys::v1::Node { depth: 300, index: 0, secret: vec![0; 32].into() };
        let key_id = LayerKeyId::generate().to_string();
        assert!(node_set(&ReleasedKey { key_id, nodes: vec![node], released: None }).is_err());
    }
}
