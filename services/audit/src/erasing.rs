//! Erasing a person before retention ends: two approvers with the roles for it, one of whom asks, and entries that
//! say so. Who agreed is in the log before anything is destroyed: nobody has to be asked afterwards, whatever fails.

use obscura_ocsf::ground;
use obscura_proto::audit::v1::{
    Change, ErasePersonRequest, Erasure, ErasureGround, Event, Outcome, Person, event::Body,
};
use prost::Message as _;

use crate::{
    error::Error,
    event_id::EventId,
    fault::Step,
    guard::Guard,
    log::{Appended, Log},
    persons::{Doomed, Telling},
    pruning::PSEUDONYMS_IN_EVENT,
    roles::{Reader, Roles},
};

/// What the entries of the approvers say that they gave.
const OFFICER: &str = "approval_of_data_protection_officer";
const AUDITOR: &str = "approval_of_auditor";
/// Longest id of a person, in bytes: `name:` and a name as changes give it.
const MAX_ID_BYTES: usize = 5 + 512;

/// A checked request.
#[derive(Debug)]
pub struct Erasing {
    person_id: String,
    ground: ErasureGround,
    case_number: String,
    officer: Person,
    auditor: Person,
    asking: Reader,
}

impl Erasing {
    /// Checks the request. Keys end by themselves with retention, so every request is an early one.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::NeedsTwo`] without two different approvers, neither of whom is erased;
    /// [`Error::NeedsOfficer`] and [`Error::NeedsAuditor`] where one of them has not that role;
    /// [`Error::NeedsApprover`] where neither of them asks, and [`Error::NobodyAsks`] where nobody does.
    pub fn try_new(request: ErasePersonRequest, roles: &Roles, asking: Reader) -> Result<Self, Error> {
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
        let (officer, auditor) = approvers(dpo, auditor, &person_id)?;
        if !roles.is_auditor(&auditor.id) {
            return Err(Error::NeedsAuditor);
        }
        if !roles.is_officer(&officer.id) {
            return Err(Error::NeedsOfficer);
        }
        let by = &asking.person()?.id;
        if ![&officer.id, &auditor.id].contains(&by) {
            return Err(Error::NeedsApprover);
        }
        Ok(Self { person_id, ground, case_number, officer, auditor, asking })
    }

    /// Destroys all keys of the person, at the moment that the guard believes, and returns how many there were, and the entry that says so. With none
    /// left, as after a repeated request, the entry says that as well.
    ///
    /// # Errors
    /// After an error it is either all done or not at all, and the approvals are in the log in any case where it is
    /// done; asking again settles it.
    pub async fn run(&self, log: &Log, guard: &Guard) -> Result<(usize, Appended), Error> {
        log.settle_pending().await?;
        let (producer, id) = (self.asking.program(), EventId::generate());
        for (approver, role) in [(&self.officer, OFFICER), (&self.auditor, AUDITOR)] {
            log.append(producer, &self.approval(log, id, approver, role)).await?;
        }
        log.parts.faults.at(Step::Approved)?;
        let tell = |pseudonyms: &[String]| self.owed(log, id, pseudonyms);
        let doomed = Doomed::Person(&self.person_id, guard.moment().await?);
        let erased = log.parts.persons.destroy(doomed, tell).await?;
        let appended = log.append(producer, &self.said(log, id, &erased.pseudonyms)).await?;
        log.settle_pending().await?;
        Ok((erased.pseudonyms.len(), appended))
    }

    /// The entry, with who asked as who acted.
    fn said(&self, log: &Log, id: EventId, pseudonyms: &[String]) -> Event {
        let first = pseudonyms.chunks(PSEUDONYMS_IN_EVENT).next().unwrap_or_default();
        Event { actor: Some(self.asking.actor()), ..self.erasure(log, id, first) }
    }

    /// What the log is owed whatever happens next. Nobody is named in it, because it waits in clear; the entry of
    /// who asked has the same id, comes first where nothing goes wrong, and then stands alone. The approvals name
    /// that id in either case.
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

    /// An approver's own entry. Of who asks more is known than the request says.
    fn approval(&self, log: &Log, erasure: EventId, approver: &Person, role: &str) -> Event {
        let asking = self.asking.actor();
        let approver = if asking.id == approver.id { &asking } else { approver };
        let change = Change {
            object_kind: "erasure".to_owned(),
            object_id: erasure.to_string(),
            changed_fields: vec![role.to_owned()],
            ..Change::default()
        };
        Event {
            event_id: EventId::generate().to_string(),
            time_unix_ns: log.parts.clock.wall().unix_nanos(),
            outcome: Outcome::Success.into(),
            actor: Some(approver.clone()),
            body: Some(Body::Change(change)),
        }
    }
}

/// Two different persons, neither of whom is erased.
fn approvers(
    officer: Option<Person>,
    auditor: Option<Person>,
    person_id: &str,
) -> Result<(Person, Person), Error> {
    let (Some(officer), Some(auditor)) = (officer, auditor) else { return Err(Error::NeedsTwo) };
    let ids = [&officer.id, &auditor.id];
    if officer.id == auditor.id || ids.iter().any(|id| id.is_empty() || **id == person_id) {
        return Err(Error::NeedsTwo);
    }
    Ok((officer, auditor))
}
