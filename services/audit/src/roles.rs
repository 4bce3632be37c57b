//! Who may read what of the log: decided here and nowhere else.
//!
//! [`Roles`] makes a [`View`] from who asks and what they ask for, or refuses. Entries and copies of the log leave the
//! service through a view alone: what sends them takes one, and nobody else can make one. An auditor sees everything;
//! everybody else sees what is about themselves, and what storage and custody state about footage where no person
//! acted, without which nobody could verify footage. Custody reads what was destroyed.
//!
//! Who a person is says the program that calls, whose certificate was checked; the role is worth as much as the
//! identity of that program is guarded.

#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;

use obscura_proto::audit::v1::{Change, NamedField, Person, event::Body};

pub use view::{AuditorView, Scope, Unseen, View};

use crate::error::Error;

/// End of the name of custody, which reads the receipts of destruction after it was put back from a backup.
const CUSTODY: &str = "/obscura/keys";
/// What storage and custody state about footage.
const ABOUT_FOOTAGE: [&str; 2] = ["manifest", "destruction"];
/// Persons that one event of a change may name.
const NAMED_IN_EVENT: usize = 4;

/// Who asks: the program by its certificate, and the person behind it by what the program says.
#[derive(Clone, Debug)]
pub struct Reader {
    program: String,
    person: Option<Person>,
}

impl Reader {
    /// A program (SPIFFE id), and the person on whose behalf it calls where it names one.
    pub const fn new(program: String, person: Option<Person>) -> Self {
        Self { program, person }
    }

    /// The program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Who acts in the entry about it: the person, or where there is none the program itself.
    pub fn actor(&self) -> Person {
        let program = || Person { id: self.program.clone(), ..Person::default() };
        self.person.clone().unwrap_or_else(program)
    }

    /// The person behind the call.
    ///
    /// # Errors
    /// [`Error::NobodyAsks`] where the program names none.
    pub fn person(&self) -> Result<&Person, Error> {
        self.person.as_ref().ok_or(Error::NobodyAsks)
    }

    fn person_id(&self) -> Result<&str, Error> {
        Ok(self.person()?.id.as_str())
    }
}

/// What of the log is asked for, as far as it matters to who may see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Kinds; empty for all.
    pub kinds: &'a [String],
    /// Only entries of this person.
    pub person_id: Option<&'a str>,
    /// What is sealed as well.
    pub open_names: bool,
    /// Only entries about who asks.
    pub own: bool,
}

impl Asked<'_> {
    fn is_nothing_but(&self, kinds: &[&str]) -> bool {
        let is_one = |kind: &String| kinds.contains(&kind.as_str());
        let about_nobody = self.person_id.is_none() && !self.open_names && !self.own;
        about_nobody && !self.kinds.is_empty() && self.kinds.iter().all(is_one)
    }
}

/// Who has which role, by the settings of the service.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    auditors: BTreeSet<String>,
    officers: BTreeSet<String>,
}

impl Roles {
    /// These persons, by id, are auditors and data-protection officers, and nobody else is.
    pub fn new(
        auditors: impl IntoIterator<Item = String>,
        officers: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { auditors: auditors.into_iter().collect(), officers: officers.into_iter().collect() }
    }

    /// Whether the person with this id is a data-protection officer.
    pub fn is_officer(&self, person_id: &str) -> bool {
        self.officers.contains(person_id)
    }

    /// Whether the person with this id is an auditor.
    pub fn is_auditor(&self, person_id: &str) -> bool {
        self.auditors.contains(person_id)
    }

    /// What `reader` may see of what is asked for.
    ///
    /// # Errors
    /// [`Error::NotAuditor`] and [`Error::NotYours`] for what is not theirs; [`Error::NobodyAsks`] where no person is
    /// behind the call; [`Error::Malformed`] for own entries of somebody else.
    pub fn view(&self, reader: &Reader, asked: Asked<'_>) -> Result<View, Error> {
        if reader.program.ends_with(CUSTODY) {
            let is_its_own = asked.is_nothing_but(&["destruction"]);
            return is_its_own.then(View::destructions).ok_or(Error::NotYours);
        }
        let person = reader.person_id()?;
        let is_of_self = asked.person_id.is_none_or(|id| id == person);
        if asked.own && !is_of_self {
            return Err(Error::malformed("person id", "one's own entries are nobody else's"));
        }
        if asked.own || (asked.person_id.is_some() && is_of_self) {
            return Ok(View::own(person));
        }
        if self.is_auditor(person) {
            return Ok(View::Auditor(AuditorView::new()));
        }
        if asked.is_nothing_but(&ABOUT_FOOTAGE) {
            return Ok(View::footage());
        }
        Err(Error::NotAuditor)
    }

    /// Through what a reader sees single leaves: everything, or what is about themselves; nothing where no person is
    /// behind the call.
    pub fn leaf_view(&self, reader: &Reader) -> Option<View> {
        let person = reader.person_id().ok()?;
        let is_auditor = self.is_auditor(person);
        Some(if is_auditor { View::Auditor(AuditorView::new()) } else { View::own(person) })
    }

    /// What a reader of the whole log has to have.
    ///
    /// # Errors
    /// As [`Roles::view`].
    pub fn auditor(&self, reader: &Reader) -> Result<AuditorView, Error> {
        match self.view(reader, Asked::default())? {
            View::Auditor(view) => Ok(view),
            View::Own(_) | View::Destructions(_) | View::Footage(_) => Err(Error::NotAuditor),
        }
    }

    /// What the log is told at each start: who has which role, so that it shows who could read and erase when.
    pub fn told(&self) -> Vec<Body> {
        let auditors = told("auditor", &self.auditors);
        auditors.into_iter().chain(told("data_protection_officer", &self.officers)).collect()
    }
}

/// Who has this role.
fn told(role: &str, persons: &BTreeSet<String>) -> Vec<Body> {
    let named = |id: &String| NamedField { field: role.to_owned(), before: String::new(), after: id.clone() };
    let named: Vec<NamedField> = persons.iter().map(named).collect();
    let change = |named: &[NamedField]| {
        Body::Change(Change {
            object_kind: "role".to_owned(),
            object_id: role.to_owned(),
            changed_fields: vec!["persons".to_owned()],
            named: named.to_vec(),
            ..Change::default()
        })
    };
    if named.is_empty() {
        return vec![change(&[])];
    }
    named.chunks(NAMED_IN_EVENT).map(change).collect()
}
