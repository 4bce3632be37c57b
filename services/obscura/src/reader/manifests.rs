//! What the audit log vouches for: packs that storage had when it said so, each by the hash of its head.
//!
//! Every ten seconds storage appends a manifest: the ids of new packs and the Merkle root over their statements
//! ([`obscura_pack::Statement`]: camera, layer, span, hash of the head). Storage is asked again for those, and
//! believed only where they lead to the root in the log, whose entry is proved to be below a signed checkpoint. So
//! whoever controls index and objects later can neither change the head of a pack (and with it the length and hash
//! of any segment) nor drop a pack without being found, unless receipts of custody say that the keys of that camera
//! and span are destroyed. That storage deleted it is in the log as well, by its id.
//!
//! That the log withholds no manifest is what `obscura audit verify` shows on a copy of it.

mod compared;
mod deletions;
mod destroyed;
mod listed;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, PackId};
use obscura_proto::{
    audit::v1::{ProveRequest, ReadEntriesRequest, prove_request::What},
    storage::v1::{DescribePacksRequest, PackDescription},
};
use obscura_tlog::{LogProof, LogVerifier, Policy};

pub use compared::{Compared, missing};
pub use deletions::Deletions;
pub use destroyed::Destroyed;
pub use listed::{Listed, Manifests};

use crate::{
    problem::{Context as _, Problem, Result},
    services::{PATIENT, PROMPT, Services},
};
use listed::{Kind, Manifest};

/// A pack gets its id when the recorder forms it: soon after its footage, or after a restart.
const FORMED_LATE: Duration = Duration::from_secs(6 * 3_600);
/// How far clocks may lie apart.
const APART: Duration = Duration::from_secs(3_600);
/// Manifests that are proved at the same time.
const PARALLEL: usize = 8;
/// What is younger than this may wait for its event, which comes every 10 s and then has to reach the log.
const YOUNG: Duration = Duration::from_secs(120);
const DOING: &str = "read the manifests in the audit log";

/// Reads every manifest that may name packs of these cameras in this span; `watch` hears of each.
pub async fn read(
    services: &Services,
    log: &LogVerifier,
    cameras: &BTreeSet<CameraId>,
    span: Span,
    mut watch: impl FnMut(),
) -> Result<Manifests> {
    let formed = formed_within(span);
    // What makes no sense is looked at as well, and then named.
    let matters = |manifest: Option<&Manifest>| {
        manifest.is_none_or(|manifest| manifest.packs.iter().any(|pack| formed.contains(&formed_at(*pack))))
    };
    let entries = entries(services, Kind::Manifest, span.start() - APART, matters).await?;
    let proofs = entries.into_iter().map(|index| async move {
        let manifest = proved(services, log, Kind::Manifest, index).await?;
        let told = match &manifest {
            Ok(manifest) => described(services, manifest).await?,
            Err(_) => Vec::new(),
        };
        Ok::<_, Problem>((manifest, told))
    });
    let mut proofs = stream::iter(proofs).buffered(PARALLEL);
    let mut manifests = Manifests::new(cameras.clone(), span);
    while let Some((manifest, told)) = proofs.try_next().await? {
        manifests.add(manifest, &told)?;
        watch();
    }
    Ok(manifests)
}

/// When packs of the span got their ids.
fn formed_within(span: Span) -> std::ops::RangeInclusive<Timestamp> {
    span.start() - APART..=span.end() + FORMED_LATE
}

/// Indexes of the entries of this kind that matter, committed since then; `None` has no packs.
async fn entries(
    services: &Services,
    kind: Kind,
    since: Timestamp,
    matters: impl Fn(Option<&Manifest>) -> bool,
) -> Result<Vec<u64>> {
    let request = ReadEntriesRequest {
        kinds: vec![kind.name().to_owned()],
        from_unix_ns: since.unix_nanos().max(0),
        ..ReadEntriesRequest::default()
    };
    let mut audit = services.audit();
    let call = audit.read_entries(request);
    let mut entries = services.ask("audit", DOING, PATIENT, call).await?;
    let mut indexes = Vec::new();
    while let Some(entry) =
        entries.message().await.map_err(|status| services.refused("audit", DOING, &status))?
    {
        if matters(Manifest::parse(kind, entry.index, &entry.leaf).as_ref()) {
            indexes.push(entry.index);
        }
    }
    Ok(indexes)
}

/// When the pack got its id (RFC 9562, version 7).
fn formed_at(pack: PackId) -> Timestamp {
    let millis = pack.as_bytes().iter().take(6).fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
    Timestamp::from_unix_nanos(millis.saturating_mul(1_000_000))
}

/// The packs of the entry at this index with its proof checked, or in words why it does not count.
async fn proved(
    services: &Services,
    log: &LogVerifier,
    kind: Kind,
    index: u64,
) -> Result<Result<Manifest, String>> {
    let mut audit = services.audit();
    let call = audit.prove(ProveRequest { what: Some(What::LeafIndex(index)) });
    let answer = services.ask("audit", DOING, PROMPT, call).await?;
    let proof: LogProof = answer.proof.parse().doing(format_args!("read the proof of entry {index}"))?;
    Ok(checked(log, &proof, kind, index, &answer.leaf))
}

fn checked(
    log: &LogVerifier,
    proof: &LogProof,
    kind: Kind,
    index: u64,
    leaf: &[u8],
) -> Result<Manifest, String> {
    let refused = |why: String| format!("entry {index} of the audit log is not proved: {why}");
    if proof.index != index {
        return Err(refused(format!("the proof is that of entry {}", proof.index)));
    }
    proof.verify(log, &Policy::none(), leaf).map_err(|error| refused(error.to_string()))?;
    Manifest::parse(kind, index, leaf).ok_or_else(|| refused(format!("it is no {} of packs", kind.name())))
}

async fn described(services: &Services, manifest: &Manifest) -> Result<Vec<PackDescription>> {
    let pack_ids = manifest.packs.iter().map(ToString::to_string).collect();
    let mut storage = services.storage();
    let call = storage.describe_packs(DescribePacksRequest { pack_ids });
    Ok(services.ask("storage", "ask about packs of a manifest", PATIENT, call).await?.packs)
}
