//! Which OCSF event each kind becomes: one function per kind, without I/O.

mod access;
mod administration;
mod operation;
mod values;

pub use values::moment;

use obscura_proto::audit::v1::{Event, Outcome, event::Body};

use crate::{class::Class, json::Json, leaf::Source, named::Mention};

/// Every kind of event, by the name of its field in `Event.body`.
pub const KINDS: [&str; 16] = [
    "session",
    "grant",
    "view",
    "export",
    "search",
    "change",
    "key",
    "camera",
    "hold",
    "destruction",
    "manifest",
    "service",
    "overflow",
    "erasure",
    "test",
    "heartbeat",
];

/// The kind of an event: the name of the field of `Event.body` that is set; `None` where none is.
#[must_use]
pub fn kind(event: &Event) -> Option<&'static str> {
    event.body.as_ref().map(|body| match body {
        Body::Session(_) => "session",
        Body::Grant(_) => "grant",
        Body::View(_) => "view",
        Body::Export(_) => "export",
        Body::Search(_) => "search",
        Body::Change(_) => "change",
        Body::Key(_) => "key",
        Body::Camera(_) => "camera",
        Body::Hold(_) => "hold",
        Body::Destruction(_) => "destruction",
        Body::Manifest(_) => "manifest",
        Body::Service(_) => "service",
        Body::Overflow(_) => "overflow",
        Body::Erasure(_) => "erasure",
        Body::Test(_) => "test",
        Body::Heartbeat(_) => "heartbeat",
    })
}

/// `severity_id` of OCSF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Informational = 1,
    /// Worth a look some day.
    Low = 2,
    /// Worth a look.
    Medium = 3,
    /// Look now.
    High = 4,
}

/// What becomes of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<'a> {
    /// Never about a person.
    Clear(Json<'a>),
    /// Words of a producer: clear, unless they name the person who acted.
    Free(&'a str),
    /// About the person who acted: always sealed.
    Personal(&'a str),
    /// About other persons: each sealed under their own key.
    Others(Vec<Mention<'a>>),
}

/// An event in the words of OCSF, before anything is sealed.
#[derive(Clone, Debug)]
pub struct Mapping<'a> {
    /// Class.
    pub class: Class,
    /// What was done, in Obscura's words; with the kind it is `metadata.event_code`.
    pub act: &'static str,
    /// `activity_id` and `activity_name`.
    pub activity: (u32, &'static str),
    /// How much it matters where it was done.
    pub severity: Severity,
    /// UUID of the grant it belongs to; empty where there is none.
    pub grant_id: &'a str,
    /// `status_id`, where the class has other ones than success and failure.
    pub status: Option<u32>,
    /// Fields by JSON pointer.
    pub fields: Vec<(&'static str, Field<'a>)>,
}

impl<'a> Mapping<'a> {
    fn new(class: Class, act: &'static str, activity: (u32, &'static str)) -> Self {
        let severity = Severity::Informational;
        Self { class, act, activity, severity, grant_id: "", status: None, fields: Vec::new() }
    }

    fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    fn grant(mut self, grant_id: &'a str) -> Self {
        self.grant_id = grant_id;
        self
    }

    /// Adds a field that is never about a person; not where it is empty.
    fn clear(mut self, pointer: &'static str, value: impl Into<Json<'a>>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.fields.push((pointer, Field::Clear(value)));
        }
        self
    }

    /// Adds words of a producer; not where there are none.
    fn free(mut self, pointer: &'static str, text: &'a str) -> Self {
        if !text.is_empty() {
            self.fields.push((pointer, Field::Free(text)));
        }
        self
    }

    /// Adds what is about the person who acted; not where it is empty.
    pub fn personal(mut self, pointer: &'static str, text: &'a str) -> Self {
        if !text.is_empty() {
            self.fields.push((pointer, Field::Personal(text)));
        }
        self
    }
}

impl<'a> Mapping<'a> {
    /// Adds what is about others than who acted; not where there is nothing.
    fn others(mut self, pointer: &'static str, mentions: impl Iterator<Item = Mention<'a>>) -> Self {
        let mentions: Vec<_> = mentions.collect();
        if !mentions.is_empty() {
            self.fields.push((pointer, Field::Others(mentions)));
        }
        self
    }
}

/// The mapping of a valid event; `None` where it has no body.
pub fn map<'a>(event: &'a Event, source: &Source) -> Option<Mapping<'a>> {
    let done = event.outcome == i32::from(Outcome::Success);
    Some(match event.body.as_ref()? {
        Body::Session(body) => access::session(body),
        Body::Grant(body) => access::grant(body, done),
        Body::View(body) => access::view(body),
        Body::Export(body) => access::export(body),
        Body::Search(body) => access::search(body),
        Body::Change(body) => administration::change(body),
        Body::Key(body) => administration::key(body, source),
        Body::Hold(body) => administration::hold(body),
        Body::Destruction(body) => administration::destruction(body),
        Body::Erasure(body) => administration::erasure(body),
        Body::Camera(body) => operation::camera(body),
        Body::Manifest(body) => operation::manifest(body),
        Body::Service(body) => operation::service(body, source),
        Body::Overflow(body) => operation::overflow(body),
        Body::Test(body) => operation::test(body, event.actor.is_some()),
        Body::Heartbeat(body) => operation::heartbeat(body),
    })
}
