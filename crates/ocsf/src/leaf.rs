//! From an event to the bytes of its leaf.

use std::{collections::BTreeSet, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use obscura_proto::audit::v1::{Event, Outcome, Person};

use crate::{
    Invalid,
    class::{VERSION, Wants},
    json::{Json, Object},
    kind,
    mapping::{Field, Mapping, Severity, map},
    named::Mention,
    validate,
    validation::is_pseudonym,
};

/// Longest leaf: entry bundles of C2SP tlog-tiles give the length in two bytes.
pub const MAX_LEAF_BYTES: usize = 65_535;
/// Stands where a field must not be missing but was sealed.
const SEALED: &str = "sealed";
/// Shorter words of a name are part of other words too often to be told from them.
const MIN_NAME_WORD_CHARS: usize = 4;

/// Where an event comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// SPIFFE id of the service that sent it: `source` of the CloudEvent.
    pub producer: String,
    /// Zone of the log.
    pub zone: String,
    /// Origin of the log, as in its checkpoints.
    pub log: String,
}

impl Source {
    /// Last part of the SPIFFE id, for example `keys`.
    pub(crate) fn service(&self) -> &str {
        self.producer.rsplit('/').next().unwrap_or(&self.producer)
    }
}

/// The keys of persons, of one period.
pub trait Persons {
    /// Pseudonym of a person in this period: 1 to 128 of `A` to `Z`, `a` to `z`, `0` to `9`, `:`,
    /// `_` and `-`.
    ///
    /// # Errors
    /// In words without personal data, where the key cannot be had.
    fn pseudonym(&mut self, person_id: &str) -> Result<String, String>;

    /// `clear` under the person's key and bound to `pointer`, in standard base64.
    ///
    /// # Errors
    /// As [`Persons::pseudonym`].
    fn seal(&mut self, person_id: &str, pointer: &str, clear: &str) -> Result<String, String>;
}

/// What the log appends, and by what it may index it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// A CloudEvent in canonical JSON, at most [`MAX_LEAF_BYTES`].
    pub bytes: Vec<u8>,
    /// One of [`crate::KINDS`].
    pub kind: &'static str,
    /// The producer's id of the event.
    pub event_id: String,
    /// Who acted; `None` where no person did.
    pub pseudonym: Option<String>,
    /// Whom it names beside who acted, each once.
    pub named: Vec<String>,
    /// Cameras it names.
    pub camera_ids: Vec<String>,
}

/// An event cannot become a leaf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The producer's fault: sending it again changes nothing.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The keys of persons cannot be had at the moment.
    #[error("cannot seal what is about a person: {0}")]
    Persons(String),
}

/// An event that passed [`validate`].
#[derive(Clone, Copy, Debug)]
pub struct Valid<'a>(&'a Event);

impl<'a> Valid<'a> {
    /// Checks the event.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn check(event: &'a Event) -> Result<Self, Invalid> {
        validate(event)?;
        Ok(Self(event))
    }

    /// Makes its leaf.
    ///
    /// # Errors
    /// [`Error::Persons`] where a key cannot be had; [`Error::Invalid`] where it is too long.
    pub fn encode(self, source: &Source, persons: &mut dyn Persons) -> Result<Leaf, Error> {
        let Self(event) = self;
        let no_body = || Invalid::new("body", "is not set");
        let (kind, mapping) = kind(event).zip(map(event, source)).ok_or_else(no_body)?;
        let mut draft = Draft::new(event, source, kind, &mapping);
        let pseudonym = draft.actor(&mapping, persons)?;
        let named = draft.fields(mapping, persons)?;
        let camera_ids = draft.cameras();
        let unwritable = |_| Invalid::new("event", "cannot be written as canonical JSON");
        let bytes = draft.finish(event, source, kind).to_canonical().map_err(unwritable)?;
        if bytes.len() > MAX_LEAF_BYTES {
            let why = format!("makes a leaf of {} bytes; at most {MAX_LEAF_BYTES} are allowed", bytes.len());
            return Err(Invalid::new("event", why).into());
        }
        Ok(Leaf { bytes, kind, event_id: event.event_id.clone(), pseudonym, named, camera_ids })
    }
}

/// Makes the leaf of an event.
///
/// # Errors
/// As [`Valid::check`] and [`Valid::encode`].
pub fn encode(event: &Event, source: &Source, persons: &mut dyn Persons) -> Result<Leaf, Error> {
    Valid::check(event)?.encode(source, persons)
}

/// `data` while it is made.
struct Draft<'a> {
    data: Object<'a>,
    sealed: Object<'a>,
    actor: Option<&'a Person>,
    schema: String,
}

impl<'a> Draft<'a> {
    fn new(event: &'a Event, source: &'a Source, kind: &str, mapping: &Mapping<'a>) -> Self {
        let class = mapping.class;
        let (activity, activity_name) = mapping.activity;
        let failed = event.outcome == i32::from(Outcome::Failure);
        let severity = if failed { mapping.severity.max(Severity::Low) } else { mapping.severity };
        let milliseconds = u64::try_from(event.time_unix_ns / 1_000_000).unwrap_or_default();
        let mut data = Object::from([
            ("activity_id", activity.into()),
            ("activity_name", activity_name.into()),
            ("category_uid", class.category().into()),
            ("class_name", class.caption.into()),
            ("class_uid", class.uid.into()),
            ("metadata", metadata(event, source, kind, mapping).into()),
            ("severity_id", (severity as u32).into()),
            ("status_id", mapping.status.unwrap_or(if failed { 2 } else { 1 }).into()),
            ("time", milliseconds.into()),
            ("type_uid", (class.uid * 100 + activity).into()),
        ]);
        if class.has_endpoint {
            data.set("/src_endpoint/svc_name", source.service());
        }
        let program =
            |name, uid| Object::from([(name, source.service().into()), (uid, Json::from(&source.producer))]);
        match class.wants {
            Wants::UserAndService => data.insert("service", program("name", "uid")),
            Wants::AppAndHostProfile => data.insert("app", program("name", "uid")),
            Wants::Actor => data.insert("actor", program("app_name", "app_uid")),
            Wants::Nothing | Wants::User | Wants::HostProfile => {}
        }
        Self { data, sealed: Object::default(), actor: event.actor.as_ref(), schema: class.schema() }
    }

    /// The person who acted: a pseudonym, and everything else sealed.
    fn actor(&mut self, mapping: &Mapping<'a>, persons: &mut dyn Persons) -> Result<Option<String>, Error> {
        let Some(person) = self.actor else { return Ok(None) };
        let pseudonym = pseudonym(&person.id, persons)?;
        let user = Object::from([("type_id", 1_u32.into()), ("uid", pseudonym.clone().into())]);
        if mapping.class.has_user() {
            self.data.insert("user", user.clone());
        }
        if mapping.class.needs_host_profile() {
            self.data.set("/metadata/profiles", ["host"]);
        }
        self.data.set("/actor/user", user);
        self.seal("/actor/user/uid_alt", &person.id, persons)?;
        self.seal("/actor/user/name", &person.name, persons)?;
        let address = match (mapping.class.has_endpoint, person.address.parse::<IpAddr>()) {
            (true, Ok(_)) => "/src_endpoint/ip",
            (true, Err(_)) => "/src_endpoint/hostname",
            (false, _) => "/unmapped/address",
        };
        self.seal(address, &person.address, persons)?;
        Ok(Some(pseudonym))
    }

    /// Everything else; returns the pseudonyms of whom it names.
    fn fields(&mut self, mapping: Mapping<'a>, persons: &mut dyn Persons) -> Result<Vec<String>, Error> {
        let mut named = BTreeSet::new();
        for (pointer, field) in mapping.fields {
            match field {
                Field::Clear(value) => self.data.set(pointer, value),
                Field::Personal(text) => self.seal(pointer, text, persons)?,
                Field::Others(mentions) => {
                    let mut sealed = Vec::with_capacity(mentions.len());
                    for mention in mentions {
                        let pseudonym = pseudonym(&mention.person_id(), persons)?;
                        named.insert(pseudonym.clone());
                        sealed.push(Json::from(mentioned(mention, pseudonym, persons)?));
                    }
                    self.data.set(pointer, Json::List(sealed));
                }
                Field::Free(text) if self.actor.is_some_and(|person| names(text, person)) => {
                    self.seal(pointer, text, persons)?;
                    self.data.set(pointer, SEALED);
                }
                Field::Free(text) => self.data.set(pointer, text),
            }
        }
        Ok(named.into_iter().collect())
    }

    fn seal(&mut self, pointer: &'static str, clear: &str, persons: &mut dyn Persons) -> Result<(), Error> {
        let Some(person) = self.actor else {
            return Err(Invalid::new("actor", "is not set, but something is about a person").into());
        };
        if clear.is_empty() {
            return Ok(());
        }
        self.sealed.insert(pointer, sealed(&person.id, pointer, clear, persons)?);
        Ok(())
    }

    fn cameras(&self) -> Vec<String> {
        let Some(Json::Object(unmapped)) = self.data.get("unmapped") else { return Vec::new() };
        let Some(Json::List(cameras)) = unmapped.get("cameras") else { return Vec::new() };
        let text = |camera: &Json<'_>| match camera {
            Json::Text(text) => Some(text.clone().into_owned()),
            _ => None,
        };
        cameras.iter().filter_map(text).collect()
    }

    fn finish(mut self, event: &'a Event, source: &'a Source, kind: &str) -> Object<'a> {
        if !self.sealed.is_empty() {
            self.data.set("/unmapped/sealed", self.sealed);
        }
        Object::from([
            ("data", self.data.into()),
            ("datacontenttype", "application/json".into()),
            ("dataschema", self.schema.into()),
            ("id", Json::from(&event.event_id)),
            ("source", Json::from(&source.producer)),
            ("specversion", "1.0".into()),
            ("time", crate::mapping::moment(event.time_unix_ns).into()),
            ("type", format!("eu.obscura.{kind}.v1").into()),
        ])
    }
}

/// What a field says about somebody else than who acted: a pseudonym, and the rest sealed.
fn mentioned<'a>(
    mention: Mention<'a>,
    pseudonym: String,
    persons: &mut dyn Persons,
) -> Result<Object<'a>, Error> {
    let id = mention.person_id();
    let sealed = sealed(&id, &mention.pointer(), mention.name, persons)?;
    Ok(Object::from([
        ("field", mention.field.into()),
        ("person", pseudonym.into()),
        ("sealed", sealed.into()),
        ("when", mention.when.into()),
    ]))
}

fn pseudonym(person_id: &str, persons: &mut dyn Persons) -> Result<String, Error> {
    let pseudonym = persons.pseudonym(person_id).map_err(Error::Persons)?;
    if is_pseudonym(&pseudonym) {
        return Ok(pseudonym);
    }
    Err(Error::Persons("the pseudonym is not of the expected form".into()))
}

fn sealed(person_id: &str, pointer: &str, clear: &str, persons: &mut dyn Persons) -> Result<String, Error> {
    let sealed = persons.seal(person_id, pointer, clear).map_err(Error::Persons)?;
    // Whatever else came back, for example the text itself, must not get into the log.
    if STANDARD.decode(&sealed).is_err() || sealed == clear {
        return Err(Error::Persons("what was sealed is not base64".into()));
    }
    Ok(sealed)
}

fn metadata<'a>(event: &'a Event, source: &'a Source, kind: &str, mapping: &Mapping<'a>) -> Object<'a> {
    let feature = Object::from([("name", source.service().into())]);
    let product = Object::from([
        ("feature", feature.into()),
        ("name", "Obscura".into()),
        ("vendor_name", "Obscura".into()),
    ]);
    let mut metadata = Object::from([
        ("event_code", format!("{kind}.{}", mapping.act).into()),
        ("log_name", Json::from(&source.log)),
        ("product", product.into()),
        ("tenant_uid", Json::from(&source.zone)),
        ("uid", Json::from(&event.event_id)),
        ("version", VERSION.into()),
    ]);
    if !mapping.grant_id.is_empty() {
        metadata.insert("correlation_uid", mapping.grant_id);
    }
    metadata
}

/// Whether a text names a person: their id, their address, their name or a longer word of it.
fn names(text: &str, person: &Person) -> bool {
    let text = text.to_lowercase();
    let long_enough = |word: &&str| word.chars().count() >= MIN_NAME_WORD_CHARS;
    let id_words = person.id.split(':').filter(long_enough);
    let name_words = person.name.split_whitespace().filter(long_enough);
    [person.id.as_str(), person.name.as_str(), person.address.as_str()]
        .into_iter()
        .filter(|whole| !whole.is_empty())
        .chain(id_words)
        .chain(name_words)
        .any(|word| text.contains(&word.to_lowercase()))
}
