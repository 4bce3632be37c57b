//! Releasing the parts of layer keys that a grant covers.

use obscura_access::{Grant, Refusal};
use obscura_clock::Timestamp;
use obscura_identity::SpiffeId;
use obscura_ids::{CameraId, Layer, LayerKeyId};
use obscura_proto::{
    audit::v1::{Person, key_act::Act},
    footage::v1 as footage,
    keys::v1::{Node, ReleaseNodesRequest, ReleasedKey},
};
use obscura_seal::{Hour, NodeSet, SLOT_DURATION, SlotRange, SlotSet};
use sea_orm::DatabaseConnection;

use crate::{
    custody::Custody,
    damage::Damage,
    error::Error,
    guard::Witness,
    keyring::Keyring,
    reports::release_events,
    store::{
        destroyed_key,
        held_key::{self, HeldRow},
        kept_key::{self, KeptRow},
    },
};

/// Most keys in one request.
pub const MAX_KEYS: usize = 256;

/// Times that a release is tried again because keys were exchanged while it was written down.
const MAX_ATTEMPTS: usize = 3;

/// What is released of a key, and of which spans that is.
pub struct ReleasedPart {
    /// As the caller gets it.
    pub key: ReleasedKey,
    /// Exactly, in order of time: what was destroyed in between is in none of them.
    pub spans: Vec<footage::Span>,
}

/// The damage that one request met: it opens nothing, and of a request that opens nothing at all it is the reason.
struct Met<'a> {
    damage: &'a Damage,
    first: Option<String>,
}

impl Met<'_> {
    fn readable<T>(&mut self, read: Result<T, Error>) -> Result<Option<T>, Error> {
        if let Err(Error::Damaged { row }) = &read {
            self.first.get_or_insert_with(|| row.clone());
        }
        self.damage.readable(read)
    }
}

/// A key of which the grant covers some slots, and where it may be opened from.
struct Covered {
    key_id: LayerKeyId,
    hour: Hour,
    slots: SlotSet,
    kept: Option<KeptRow>,
    held: Vec<HeldRow>,
}

impl Custody {
    /// Verifies the grant for the calling service and releases, for each named key, the nodes that
    /// cover those slots of its hour which the grant's span touches and which still open. One key outside
    /// the grant refuses the whole request; of a key that is destroyed or damaged nothing is released.
    ///
    /// The audit log is told first: nothing is returned whose release is not durably written down. Refusals are
    /// told as well.
    pub async fn release(
        &self,
        caller: &SpiffeId,
        request: &ReleaseNodesRequest,
        actor: Option<Person>,
    ) -> Result<Vec<ReleasedKey>, Error> {
        let released = self.release_told(caller, request, actor.as_ref()).await;
        if let Err(error) = &released {
            self.tell_refusal(actor, Act::Released, error).await;
        }
        released
    }

    async fn release_told(
        &self,
        caller: &SpiffeId,
        request: &ReleaseNodesRequest,
        actor: Option<&Person>,
    ) -> Result<Vec<ReleasedKey>, Error> {
        let key_ids = key_ids(request)?;
        self.check_current()?;
        let grant = self.verify(caller, request)?;
        for _ in 0..MAX_ATTEMPTS {
            let (released, exchanges) = self.opened(&grant, &key_ids).await?;
            let clock = &self.parts.clock;
            for event in release_events(clock, actor, &grant.id.to_string(), &released) {
                self.tell(event).await?;
            }
            self.check_current()?;
            // What was destroyed while it was written down is not released any more.
            if self.exchanges() == exchanges {
                tracing::info!(grant = %grant.id, holder = %caller, keys = released.len(), "released keys");
                return Ok(released.into_iter().map(|part| part.key).collect());
            }
        }
        Err(Error::Changing)
    }

    /// What the grant opens now, and the number of exchanges so far.
    async fn opened(&self, grant: &Grant, key_ids: &[LayerKeyId]) -> Result<(Vec<ReleasedPart>, u64), Error> {
        let _serving = self.serving().await;
        let exchanges = self.exchanges();
        // Everything is checked before anything is opened.
        let mut met = Met { damage: &self.damage, first: None };
        let mut covered = Vec::with_capacity(key_ids.len());
        for key_id in key_ids {
            covered.push((key_id, self.covered(grant, *key_id, &mut met).await?));
        }
        let mut keyring = Keyring::new(self, self.parts.store.reader());
        let mut released = Vec::with_capacity(covered.len());
        for (key_id, key) in &covered {
            released.push(match key {
                Some(key) => released_part(&open_covered(key, &mut keyring, &mut met).await?, key),
                None => nothing_of(**key_id),
            });
        }
        match met.first {
            Some(row) if released.iter().all(|part| part.spans.is_empty()) => Err(Error::Damaged { row }),
            _ => Ok((released, exchanges)),
        }
    }

    fn verify(&self, caller: &SpiffeId, request: &ReleaseNodesRequest) -> Result<Grant, Error> {
        let grant = request.grant.as_ref().ok_or_else(|| Error::malformed("request", "it has no grant"))?;
        let note = request.status_note.as_ref();
        let note = note.ok_or_else(|| Error::malformed("request", "it has no status note"))?;
        let now = self.parts.clock.wall();
        let verified = obscura_access::verify(&self.parts.access, grant, note, caller, now);
        match &verified {
            // Both come after the signature: somebody else's clock said so.
            Err(Refusal::StaleNote { made } | Refusal::NoteFromTheFuture { made }) => self.note_seen(*made),
            Ok(_) => self.note_seen(now),
            Err(_) => {}
        }
        Ok(verified?)
    }

    /// The signer of a status note bears witness to the time.
    fn note_seen(&self, theirs: Timestamp) {
        self.watch().guard.witness(Witness::StatusNote, theirs, self.parts.clock.monotonic());
    }

    /// `None` for a key of which nothing can be read but that it is there.
    async fn covered(
        &self,
        grant: &Grant,
        key_id: LayerKeyId,
        met: &mut Met<'_>,
    ) -> Result<Option<Covered>, Error> {
        let reader = self.parts.store.reader();
        let kept = met.readable(kept_key::get(reader, key_id).await)?;
        let (is_readable, kept) = (kept.is_some(), kept.flatten());
        let held = self.damage.sift(held_key::of_keys(reader, &[key_id]).await?)?;
        let context = kept.as_ref().map(|row| &row.context).or(held.first().map(|row| &row.context));
        let (camera, layer, hour) = match context {
            Some(context) if context.zone != self.parts.zone => {
                let (found, own) = (context.zone.clone(), self.parts.zone.clone());
                return Err(Error::WrongZone { what: "key", found, own });
            }
            Some(context) => (context.camera, context.layer, context.hour),
            None if is_readable => self.destroyed(reader, key_id).await?,
            None => return Ok(None),
        };
        let slots = covered_slots(grant, camera, layer, hour);
        let slots = slots.map_err(|reason| Error::OutsideGrant { key_id, reason })?.into();
        Ok(Some(Covered { key_id, hour, slots, kept, held }))
    }

    /// What is known of a key of which nothing is left.
    async fn destroyed(
        &self,
        reader: &DatabaseConnection,
        key_id: LayerKeyId,
    ) -> Result<(CameraId, Layer, Hour), Error> {
        let gone = destroyed_key::get(reader, key_id).await?.ok_or(Error::UnknownKey(key_id))?;
        Ok((gone.camera, gone.layer, gone.hour))
    }
}

/// The granted slots that still open, by their retention or by a hold; keys of one epoch or hold share
/// its key. A row that does not open is no reason to refuse what another one has.
async fn open_covered(
    key: &Covered,
    keyring: &mut Keyring<'_, DatabaseConnection>,
    met: &mut Met<'_>,
) -> Result<NodeSet, Error> {
    let mut nodes = NodeSet::new(Vec::new());
    if let Some(row) = &key.kept
        && let Some(kept) = met.readable(keyring.kept(row).await)?
    {
        nodes = kept.restrict(&key.slots);
    }
    for row in &key.held {
        if nodes.slots() == key.slots {
            break;
        }
        nodes = nodes.join(&met.damage.opened(keyring.held(row).await)?.restrict(&key.slots));
    }
    Ok(nodes)
}

fn key_ids(request: &ReleaseNodesRequest) -> Result<Vec<LayerKeyId>, Error> {
    if request.key_ids.len() > MAX_KEYS {
        return Err(Error::TooManyKeys(request.key_ids.len()));
    }
    let parse = |id: &String| id.parse().map_err(|error| malformed_id(&error));
    request.key_ids.iter().map(parse).collect()
}

fn malformed_id(error: &obscura_ids::InvalidId) -> Error {
    Error::malformed("request", error.to_string())
}

/// The slots of the key's hour that the grant's span touches, for a granted camera and layer.
fn covered_slots(grant: &Grant, camera: CameraId, layer: Layer, hour: Hour) -> Result<SlotRange, Refusal> {
    let slots = hour.slots_overlapping(grant.span);
    let first = slots.map_or(SlotRange::WHOLE_HOUR.first(), SlotRange::first);
    let start = hour.slot_start(first);
    grant.covers(camera, layer, start)?;
    slots.ok_or(Refusal::OutsideSpan(start))
}

fn released_part(nodes: &NodeSet, covered: &Covered) -> ReleasedPart {
    let message = |node: &obscura_seal::Node| Node {
        depth: node.depth().into(),
        index: node.index().into(),
        secret: node.secret().to_vec().into(),
    };
    let spans = spans(covered.hour, &nodes.slots());
    let key = ReleasedKey {
        key_id: covered.key_id.to_string(),
        nodes: nodes.nodes().iter().map(message).collect(),
        released: hull(&spans),
    };
    ReleasedPart { key, spans }
}

fn nothing_of(key_id: LayerKeyId) -> ReleasedPart {
    let key = ReleasedKey { key_id: key_id.to_string(), nodes: Vec::new(), released: None };
    ReleasedPart { key, spans: Vec::new() }
}

/// One for each range of slots, from the start of its first to the end of its last.
fn spans(hour: Hour, slots: &SlotSet) -> Vec<footage::Span> {
    let span = |range: &SlotRange| footage::Span {
        start_unix_ns: hour.slot_start(range.first()).unix_nanos(),
        end_unix_ns: (hour.slot_start(range.last()) + SLOT_DURATION).unix_nanos(),
    };
    slots.ranges().iter().map(span).collect()
}

/// From the start of the first to the end of the last.
fn hull(spans: &[footage::Span]) -> Option<footage::Span> {
    let (first, last) = (spans.first()?, spans.last()?);
    Some(footage::Span { start_unix_ns: first.start_unix_ns, end_unix_ns: last.end_unix_ns })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obscura_clock::Span;
    use obscura_ids::{CameraId, Layer};
    use obscura_seal::{NodeSet, SLOTS_PER_HOUR, Slot};

    use super::*;
    use crate::{
        rotation::Rotation,
        test_support::{Bench, HOUR, MadeKey, caller, node_set},
    };

    async fn with_key() -> (Bench, Custody, MadeKey) {
        let bench = Bench::new();
        let custody = bench.open().await;
        let key = bench.made_key(HOUR);
        custody.import(&bench.import_of(&custody, &key)).await.unwrap();
        (bench, custody, key)
    }

    fn opens(nodes: &NodeSet, key: &MadeKey, slot: u16) -> bool {
        let slot = Slot::new(slot).unwrap();
        let leaf = nodes.leaf(slot);
        leaf.is_some_and(|leaf| leaf.expose() == key.key.leaf(slot).expose())
    }

    #[tokio::test]
    async fn exactly_the_slots_that_the_span_touches_are_released() {
        let (bench, custody, key) = with_key().await;
        let start = key.context.hour.slot_start(Slot::new(100).unwrap());
        let span = Span::try_new(start + Duration::from_millis(1_999), start + Duration::from_millis(6_001))
            .unwrap();
        let request = bench.release_of(&[&key], span);
        let released = custody.release(&caller(), &request, None).await.unwrap();
        assert_eq!(released.len(), 1);
        assert_eq!(released[0].released.unwrap().start_unix_ns, start.unix_nanos());
        let end = start + 4 * SLOT_DURATION;
        assert_eq!(released[0].released.unwrap().end_unix_ns, end.unix_nanos());
        let nodes = node_set(&released[0]);
        for slot in 0..SLOTS_PER_HOUR {
            assert_eq!(opens(&nodes, &key, slot), (100..=103).contains(&slot), "slot {slot}");
            assert_eq!(nodes.leaf(Slot::new(slot).unwrap()).is_some(), (100..=103).contains(&slot));
        }
    }

    #[tokio::test]
    async fn a_span_over_two_hours_releases_the_right_part_of_each_key() {
        let (bench, custody, first) = with_key().await;
        let mut second = bench.made_key(HOUR + 1);
        second.context.camera = first.context.camera;
        custody.import(&bench.import_of(&custody, &second)).await.unwrap();
        let border = second.context.hour.slot_start(Slot::new(0).unwrap());
        let span = Span::try_new(border - SLOT_DURATION, border + SLOT_DURATION).unwrap();
        let released =
            custody.release(&caller(), &bench.release_of(&[&second, &first], span), None).await.unwrap();
        assert_eq!(released[0].key_id, second.context.key_id.to_string());
        assert!(opens(&node_set(&released[0]), &second, 0) && !opens(&node_set(&released[0]), &second, 1));
        assert!(
            opens(&node_set(&released[1]), &first, 1_799) && !opens(&node_set(&released[1]), &first, 1_798)
        );
    }

    #[tokio::test]
    async fn a_key_outside_the_grant_refuses_the_request_by_name() {
        let (bench, custody, key) = with_key().await;
        let other = bench.made_key(HOUR);
        custody.import(&bench.import_of(&custody, &other)).await.unwrap();
        let mut camera_missing = bench.release_of(&[&key], bench.hour_of(&key));
        camera_missing.key_ids.push(other.context.key_id.to_string());
        let refused = custody.release(&caller(), &camera_missing, None).await.unwrap_err();
        let Error::OutsideGrant { key_id, reason } = refused else { panic!("{refused}") };
        assert_eq!((key_id, reason), (other.context.key_id, Refusal::CameraNotGranted(other.context.camera)));

        let before =
            Span::try_new(bench.hour_of(&key).start() - SLOT_DURATION, bench.hour_of(&key).start()).unwrap();
        let refused = custody.release(&caller(), &bench.release_of(&[&key], before), None).await;
        assert!(matches!(refused, Err(Error::OutsideGrant { reason: Refusal::OutsideSpan(_), .. })));

        let mut masked = bench.made_key(HOUR);
        masked.context.layer = Layer::Masked;
        custody.import(&bench.import_of(&custody, &masked)).await.unwrap();
        let refused =
            custody.release(&caller(), &bench.release_of(&[&masked], bench.hour_of(&masked)), None).await;
        let reason = Refusal::LayerNotGranted(Layer::Masked);
        assert!(matches!(refused, Err(Error::OutsideGrant { reason: found, .. }) if found == reason));
    }

    #[tokio::test]
    async fn an_expired_grant_an_old_note_and_another_caller_are_refused() {
        let (bench, custody, key) = with_key().await;
        let request = bench.release_of(&[&key], bench.hour_of(&key));
        let stranger = "spiffe://example.org/obscura/export".parse().unwrap();
        let refused = custody.release(&stranger, &request, None).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::WrongHolder { .. }))));
        bench.clock.advance(Duration::from_secs(31));
        let refused = custody.release(&caller(), &request, None).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::StaleNote { .. }))));
        bench.clock.advance(Duration::from_secs(600));
        let fresh = ReleaseNodesRequest { status_note: Some(bench.issuer.status_note()), ..request };
        let refused = custody.release(&caller(), &fresh, None).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::Expired(_)))));
    }

    #[tokio::test]
    async fn a_grant_by_another_issuer_opens_nothing() {
        let (bench, custody, key) = with_key().await;
        let request = Bench::new().release_of(&[&key], bench.hour_of(&key));
        let refused = custody.release(&caller(), &request, None).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::BadSignature { .. }))));
    }

    #[tokio::test]
    async fn unknown_malformed_and_too_many_keys_are_told_apart() {
        let (bench, custody, key) = with_key().await;
        let request = bench.release_of(&[&key], bench.hour_of(&key));
        let with = |key_ids| ReleaseNodesRequest { key_ids, ..request.clone() };
        let unknown = LayerKeyId::generate();
        let refused = custody.release(&caller(), &with(vec![unknown.to_string()]), None).await;
        assert!(matches!(refused, Err(Error::UnknownKey(id)) if id == unknown));
        let refused = custody.release(&caller(), &with(vec!["x".into()]), None).await;
        assert!(matches!(refused, Err(Error::Malformed { .. })));
        let most = vec![key.context.key_id.to_string(); MAX_KEYS];
        assert_eq!(custody.release(&caller(), &with(most), None).await.unwrap().len(), MAX_KEYS);
        let too_many = vec![key.context.key_id.to_string(); MAX_KEYS + 1];
        assert!(matches!(
            custody.release(&caller(), &with(too_many), None).await,
            Err(Error::TooManyKeys(257))
        ));
    }

    #[tokio::test]
    async fn a_row_changed_in_the_database_fails_closed_and_is_named() {
        let changes = [
            ("layer_key", "UPDATE kept_key SET sealed_key = zeroblob(60)".to_owned()),
            ("layer_key", "UPDATE kept_key SET writer_epoch = writer_epoch + 1".to_owned()),
            ("layer_key", "UPDATE kept_key SET layer = 77".to_owned()),
            ("epoch", "UPDATE kept_key SET expiry_hour = expiry_hour + 1".to_owned()),
            ("epoch", "UPDATE epoch SET key_version = 9".to_owned()),
            ("epoch", "UPDATE epoch SET wrapped_half = x'0102'".to_owned()),
        ];
        for (what, sql) in changes {
            let (bench, custody, key) = with_key().await;
            bench.sql(&sql).await;
            let refused =
                custody.release(&caller(), &bench.release_of(&[&key], bench.hour_of(&key)), None).await;
            let Err(Error::Damaged { row }) = refused else { panic!("{sql} went unnoticed") };
            assert!(row.replace(' ', "_").starts_with(what), "{sql}: {row}");
        }
    }

    #[tokio::test]
    async fn a_damaged_row_is_no_reason_to_refuse_the_other_keys_of_a_request() {
        for damage in ["leaf = -3", "layer = 77", "sealed_key = zeroblob(60)"] {
            let (bench, custody, key) = with_key().await;
            let broken = bench.made_key(HOUR);
            bench.import(&custody, &broken).await;
            let id = &broken.context.key_id;
            bench.sql(&format!("UPDATE kept_key SET {damage} WHERE key_id = '{id}'")).await;
            let request = bench.release_of(&[&broken, &key], bench.hour_of(&key));
            let released = custody.release(&caller(), &request, None).await.unwrap();
            assert_eq!((&released[0].key_id, released[0].nodes.len()), (&id.to_string(), 0), "{damage}");
            assert!(opens(&node_set(&released[1]), &key, 777), "{damage}");
            assert_eq!(custody.damage.rows(), 1);
        }
    }

    #[tokio::test]
    async fn a_row_relabelled_to_a_granted_camera_does_not_open() {
        let (bench, custody, secret) = with_key().await;
        let granted = CameraId::generate();
        bench.sql(&format!("UPDATE kept_key SET camera_id = '{granted}'")).await;
        let mut pretended = bench.made_key(HOUR);
        pretended.context.key_id = secret.context.key_id;
        pretended.context.camera = granted;
        let request = bench.release_of(&[&pretended], bench.hour_of(&pretended));
        assert!(matches!(custody.release(&caller(), &request, None).await, Err(Error::Damaged { .. })));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn releases_go_on_while_keys_rotate_beneath_them() {
        let (bench, custody, key) = with_key().await;
        let request = bench.release_of(&[&key], bench.hour_of(&key));
        let rotations = async {
            for _ in 0..20 {
                Rotation::begin(&custody, 1, None).await.unwrap().run(|_| {}).await.unwrap();
            }
        };
        let caller = caller();
        let releases = async {
            for _ in 0..200 {
                custody.release(&caller, &request, None).await.unwrap();
            }
        };
        tokio::join!(rotations, releases);
    }
}
