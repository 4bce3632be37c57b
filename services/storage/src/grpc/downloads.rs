//! `CreateDownloads`: no object without a grant.

use std::collections::{BTreeSet, HashMap};

use obscura_access::{Grant, Refusal, verify};
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, PackId};
use obscura_pack::ObjectName;
use obscura_proto::{
    audit::v1::{GrantDecision, event::Body},
    storage::v1::{CreateDownloadsRequest, CreateDownloadsResponse},
};

use super::{Grpc, URL_VALIDITY, pack_key};
use crate::{Error, inspection::sha256, store::PackSummary};

/// Objects in one request.
const MAX_OBJECTS: usize = 1_000;
/// Cameras that are named in the event about a refusal.
const NAMED_CAMERAS: usize = 100;

impl Grpc {
    /// URLs for objects that the grant covers: all of them or none.
    pub(super) async fn downloads(
        &self,
        caller: &SpiffeId,
        request: &CreateDownloadsRequest,
    ) -> Result<CreateDownloadsResponse, Error> {
        let now = self.clock.wall();
        let grant = request.grant.as_ref().ok_or_else(|| Error::invalid("grant", "there is none"))?;
        let note =
            request.status_note.as_ref().ok_or_else(|| Error::invalid("status note", "there is none"))?;
        let grant = verify(&self.access, grant, note, caller, now)?;
        let packs = self.granted_packs(&grant, &request.object_keys).await?;
        let expires = grant.expires.min(now + URL_VALIDITY);
        let mut urls = Vec::with_capacity(packs.len());
        for pack in packs {
            urls.push(self.links.download(&pack.key, pack.bytes, expires).await?.url);
        }
        Ok(CreateDownloadsResponse { urls, expires_unix_ns: expires.unix_nanos() })
    }

    async fn granted_packs(&self, grant: &Grant, keys: &[String]) -> Result<Vec<PackSummary>, Error> {
        if keys.len() > MAX_OBJECTS {
            return Err(Error::invalid(
                "object keys",
                format!("at most {MAX_OBJECTS} at once, got {}", keys.len()),
            ));
        }
        let keys = keys.iter().map(|key| pack_key(key)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<PackId> = keys.iter().map(|(_, name)| name.pack).collect();
        let known = self.store.summaries(&ids).await?;
        let marks = self.store.marks(&ids).await?;
        let is_left = |pack: &PackSummary| marks.get(&pack.pack).is_none_or(|marks| !marks.is_all());
        let known = known.into_iter().filter(is_left).map(|pack| (pack.pack, pack));
        let known: HashMap<PackId, PackSummary> = known.collect();
        let granted = |(key, name): (_, ObjectName)| {
            let pack = known.get(&name.pack).filter(|pack| pack.key == key);
            // What a grant does not name is refused alike, whether it exists or not.
            covered(grant, &name, pack)?;
            pack.cloned().ok_or(Error::UnknownPack(key))
        };
        keys.into_iter().map(granted).collect()
    }
}

/// What the audit log hears of a refusal: the claims by their hash, which leads to the decision about them
/// where there was one, and the cameras that were asked for.
pub(super) fn refusal(request: &CreateDownloadsRequest, why: &Error) -> Body {
    let named = request.object_keys.iter().take(MAX_OBJECTS).filter_map(|key| pack_key(key).ok());
    let cameras: BTreeSet<CameraId> = named.map(|(_, name)| name.camera).collect();
    let claims = request.grant.as_ref().map(|grant| sha256(&grant.claims).as_bytes().to_vec());
    Body::Grant(GrantDecision {
        claims_hash: claims.unwrap_or_default().into(),
        camera_ids: cameras.iter().take(NAMED_CAMERAS).map(ToString::to_string).collect(),
        refusal: in_bounds(&format!("storage refused downloads: {}", why.refusal())),
        ..GrantDecision::default()
    })
}

/// As long as the log takes it, and without control characters.
fn in_bounds(words: &str) -> String {
    const MAX_BYTES: usize = 500;
    let end = words.floor_char_boundary(MAX_BYTES);
    words.get(..end).unwrap_or_default().chars().filter(|letter| !letter.is_control()).collect()
}

/// Whether the grant names camera and layer, and a segment of the pack may start in its span.
fn covered(grant: &Grant, name: &ObjectName, pack: Option<&PackSummary>) -> Result<(), Refusal> {
    let start = pack.map_or(grant.span.start(), |pack| pack.span.start());
    match grant.covers(name.camera, name.layer, start) {
        Err(Refusal::OutsideSpan(_)) if pack.is_none_or(|pack| pack.span.overlaps(grant.span)) => Ok(()),
        verdict => verdict,
    }
}
