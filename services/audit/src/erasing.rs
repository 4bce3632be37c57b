//! Erasing a person before retention ends: two approvers, and an entry that says so.

use obscura_ocsf::ground;
use obscura_proto::audit::v1::{
    Change, ErasePersonRequest, Erasure, ErasureGround, Event, Outcome, Person, event::Body,
};
use prost::Message as _;

use crate::{
    error::Error,
    event_id::EventId,
    log::{Appended, Log},
    persons::{Doomed, Telling},
    pruning::PSEUDONYMS_IN_EVENT,
    roles::Roles,
};

/// Longest id of a person, in bytes: `name:` and a name as changes give it.
const MAX_ID_BYTES: usize = 5 + 512;

/// A checked request.
#[derive(Debug)]
pub struct Erasing {
    person_id: String,
    ground: ErasureGround,
    case_number: String,
    dpo: Person,
    auditor: Person,
}

impl Erasing {
    /// Checks the request. Keys end by themselves with retention, so every request is an early one.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::NeedsTwo`] without two different approvers, neither of whom is erased;
    /// [`Error::NeedsAuditor`] where the second has not that role.
    pub fn try_new(request: ErasePersonRequest, roles: &Roles) -> Result<Self, Error> {
        let ground = request.ground();
        let ErasePersonRequest { person_id, case_number, dpo, auditor, .. } = request;
        if person_id.is_empty() || person_id.len() > MAX_ID_BYTES {
            return Err(Error::malformed("person id", "expected 1 to 517 bytes"));
        }
        if !ground::may_be_given(ground) {
            return Err(Error::malformed("ground", "expected one that a person may give"));
        }
        if !case_number.is_empty() && !ground::is_case_number(&case_number) {
            let expected = "expected at most 32 of 0 to 9, `-`, `/` and `.` that begin with a digit";
            return Err(Error::malformed("case number", expected));
        }
        let (Some(dpo), Some(auditor)) = (dpo, auditor) else { return Err(Error::NeedsTwo) };
        let ids = [&dpo.id, &auditor.id];
        if dpo.id == auditor.id || ids.iter().any(|id| id.is_empty() || **id == person_id) {
            return Err(Error::NeedsTwo);
        }
        if !roles.is_auditor(&auditor.id) {
            return Err(Error::NeedsAuditor);
        }
        Ok(Self { person_id, ground, case_number, dpo, auditor })
    }

    /// Destroys all keys of the person and returns how many there were, and the entry that says so. With none
    /// left, as after a repeated request, the entry says that as well.
    ///
    /// # Errors
    /// After an error it is either all done or not at all; asking again settles it.
    pub async fn run(&self, log: &Log, producer: &str) -> Result<(usize, Appended), Error> {
        log.settle_pending().await?;
        // The approvers' own keys are made before, so that nobody has to wait for anybody in between.
        let now = log.parts.clock.wall();
        for approver in [&self.dpo, &self.auditor] {
            log.parts.persons.current(&approver.id, now).await?;
        }
        let id = EventId::generate();
        let tell = |pseudonyms: &[String]| self.owed(log, id, pseudonyms);
        let erased = log.parts.persons.destroy(Doomed::Person(&self.person_id), tell).await?;
        let appended = log.append(producer, &self.said(log, id, &erased.pseudonyms)).await?;
        log.settle_pending().await?;
        log.append(producer, &self.approval(log, id)).await?;
        Ok((erased.pseudonyms.len(), appended))
    }

    /// The entry, with the first approver as who acted.
    fn said(&self, log: &Log, id: EventId, pseudonyms: &[String]) -> Event {
        let first = pseudonyms.chunks(PSEUDONYMS_IN_EVENT).next().unwrap_or_default();
        Event { actor: Some(self.dpo.clone()), ..self.erasure(log, id, first) }
    }

    /// What the log is owed whatever happens next. Nobody is named in it, because it waits in clear; the entry of
    /// the approver has the same id, comes first where nothing goes wrong, and then stands alone.
    fn owed(&self, log: &Log, id: EventId, pseudonyms: &[String]) -> Vec<Telling> {
        let chunks = pseudonyms.chunks(PSEUDONYMS_IN_EVENT).enumerate();
        let telling = chunks.map(|(number, chunk)| {
            let id = if number == 0 { id } else { EventId::generate() };
            (id, self.erasure(log, id, chunk).encode_to_vec())
        });
        telling.collect()
    }

    fn erasure(&self, log: &Log, id: EventId, pseudonyms: &[String]) -> Event {
        let erasure = Erasure {
            pseudonyms: pseudonyms.to_vec(),
            early: true,
            ground: self.ground.into(),
            case_number: self.case_number.clone(),
        };
        log.own(id, Body::Erasure(erasure))
    }

    /// The second approver's own entry.
    fn approval(&self, log: &Log, erasure: EventId) -> Event {
        let change = Change {
            object_kind: "erasure".to_owned(),
            object_id: erasure.to_string(),
            changed_fields: vec!["approval".to_owned()],
            ..Change::default()
        };
        Event {
            event_id: EventId::generate().to_string(),
            time_unix_ns: log.parts.clock.wall().unix_nanos(),
            outcome: Outcome::Success.into(),
            actor: Some(self.auditor.clone()),
            body: Some(Body::Change(change)),
        }
    }
}
