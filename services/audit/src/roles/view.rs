//! What somebody may see of the log.

use bytes::Bytes;

use crate::{
    error::Error,
    log::Log,
    store::{About, Filter, Row},
};

/// Begins the id of a person who is known to a change by name only (`crates/ocsf`, `Mention`).
const BY_NAME: &str = "name:";

/// What somebody may see. Only [`super::Roles`] makes one.
#[derive(Debug)]
pub enum View {
    /// Everything, with names.
    Auditor(AuditorView),
    /// What is about one person, with what is sealed under their keys.
    Own(OwnView),
    /// Destructions, as they are in the log.
    Destructions(DestructionsView),
    /// Manifests and destructions in which no person acted, as they are in the log.
    Footage(FootageView),
}

/// Everything, with names.
#[derive(Debug)]
pub struct AuditorView(());

/// What is about one person: they acted, or are named.
#[derive(Debug)]
pub struct OwnView {
    person_id: String,
}

/// Destructions.
#[derive(Debug)]
pub struct DestructionsView(());

/// Manifests and destructions in which no person acted.
#[derive(Debug)]
pub struct FootageView(());

impl AuditorView {
    pub(super) const fn new() -> Self {
        Self(())
    }
}

impl View {
    pub(super) fn own(person_id: &str) -> Self {
        Self::Own(OwnView { person_id: person_id.to_owned() })
    }

    pub(super) const fn destructions() -> Self {
        Self::Destructions(DestructionsView(()))
    }

    pub(super) const fn footage() -> Self {
        Self::Footage(FootageView(()))
    }

    /// What the view shows of `asked` now, by the keys that exist now: to be asked anew for each page, because keys
    /// are made each month and destroyed.
    ///
    /// # Errors
    /// Where keys cannot be looked up.
    pub async fn scope(&self, log: &Log, asked: &Filter, person_id: Option<&str>) -> Result<Scope, Error> {
        let (about, opens) = match self {
            Self::Auditor(_) => match person_id {
                Some(id) => (About::One(log.parts.persons.pseudonyms(id).await?), Opens::All),
                None => (About::Anybody, Opens::All),
            },
            Self::Own(own) => {
                let pseudonyms = own.pseudonyms(log).await?;
                (About::One(pseudonyms.clone()), Opens::Only(pseudonyms))
            }
            Self::Destructions(_) => (About::Anybody, Opens::Nothing),
            Self::Footage(_) => (About::Nobody, Opens::Nothing),
        };
        Ok(Scope { filter: Filter { about, ..asked.clone() }, opens })
    }
}

impl OwnView {
    /// In every month whose key still exists; also where a change names the person by their id.
    async fn pseudonyms(&self, log: &Log) -> Result<Vec<String>, Error> {
        let persons = &log.parts.persons;
        let mut found = persons.pseudonyms(&self.person_id).await?;
        found.extend(persons.pseudonyms(&format!("{BY_NAME}{}", self.person_id)).await?);
        Ok(found)
    }
}

/// What a view shows at one moment.
#[derive(Debug)]
pub struct Scope {
    filter: Filter,
    opens: Opens,
}

/// Whose sealed words are opened.
#[derive(Debug)]
enum Opens {
    All,
    Only(Vec<String>),
    Nothing,
}

impl Scope {
    /// At most `limit` kept entries from `from` on, before `to`, by index.
    ///
    /// # Errors
    /// Those of the tables.
    pub async fn entries(&self, log: &Log, from: u64, to: u64, limit: u64) -> Result<Vec<Row>, Error> {
        Ok(log.parts.store.entries(from, to, limit, &self.filter).await?)
    }

    /// At most `limit` of the highest indexes in `[from, to)`, highest first.
    ///
    /// # Errors
    /// Those of the tables.
    pub async fn newest(&self, log: &Log, from: u64, to: u64, limit: u64) -> Result<Vec<u64>, Error> {
        Ok(log.parts.store.newest(from, to, limit, &self.filter).await?)
    }

    /// Whether what is sealed under the key of this pseudonym is opened.
    pub fn opens(&self, pseudonym: &str) -> bool {
        match &self.opens {
            Opens::All => true,
            Opens::Only(own) => own.iter().any(|own| own == pseudonym),
            Opens::Nothing => false,
        }
    }
}

/// A leaf that nobody has decided yet to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen(Bytes);

impl Unseen {
    /// What is not shown yet.
    pub const fn new(leaf: Bytes) -> Self {
        Self(leaf)
    }

    /// Pseudonyms of whom it is about; `None` for a leaf that says so in no way that is known.
    fn persons(&self) -> Option<Vec<String>> {
        let entry = obscura_ocsf::read(&self.0).ok()?;
        let others = entry.others.into_iter().map(|sealed| sealed.person);
        Some(entry.pseudonym.into_iter().chain(others).collect())
    }

    /// The bytes, for tests.
    #[cfg(test)]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is about a person, or may be.
    pub fn is_about_somebody(&self) -> bool {
        self.persons().is_none_or(|persons| !persons.is_empty())
    }

    /// The leaf where it is about nobody.
    pub fn if_about_nobody(self) -> Option<Bytes> {
        (!self.is_about_somebody()).then_some(self.0)
    }

    /// The leaf where the view shows it.
    ///
    /// # Errors
    /// Where keys cannot be looked up.
    pub async fn through(self, view: &View, log: &Log) -> Result<Option<Bytes>, Error> {
        let is_shown = match view {
            View::Auditor(_) => true,
            View::Own(own) => {
                let mine = own.pseudonyms(log).await?;
                self.persons().is_some_and(|persons| persons.iter().any(|person| mine.contains(person)))
            }
            View::Destructions(_) | View::Footage(_) => false,
        };
        Ok(is_shown.then_some(self.0))
    }
}
