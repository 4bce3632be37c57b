//! What derives from a person's key of a month.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::BASE32_NOPAD;
use obscura_row_cipher::{self as row_cipher, Failed, Key};
use zeroize::Zeroizing;

/// Bytes of a pseudonym: 128 bits never meet.
const PSEUDONYM_BYTES: usize = 16;

/// The key of one person for one month.
#[derive(Clone)]
pub struct PeriodKey {
    secret: Key,
    fields: Key,
    pseudonym: String,
}

impl std::fmt::Debug for PeriodKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeriodKey({})", self.pseudonym)
    }
}

impl PeriodKey {
    /// A new random key.
    pub fn generate() -> Result<Self, Failed> {
        Self::new(row_cipher::generate()?)
    }

    /// The key with these 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut secret = Key::default();
        (bytes.len() == secret.len()).then(|| secret.copy_from_slice(bytes))?;
        Self::new(secret).ok()
    }

    fn new(secret: Key) -> Result<Self, Failed> {
        let fields = row_cipher::derive(&secret, b"obscura sealed field v1")?;
        let name = row_cipher::derive(&secret, b"obscura pseudonym v1")?;
        let name = BASE32_NOPAD.encode(name.get(..PSEUDONYM_BYTES).unwrap_or_default());
        Ok(Self { secret, fields, pseudonym: format!("p-{}", name.to_ascii_lowercase()) })
    }

    /// The bytes, to be wrapped.
    pub fn expose(&self) -> &[u8; 32] {
        &self.secret
    }

    /// What the log calls the person in this month.
    pub fn pseudonym(&self) -> &str {
        &self.pseudonym
    }

    /// Opens a sealed field (standard base64) of the event.
    pub fn open(&self, event_id: &str, pointer: &str, sealed: &str) -> Option<Zeroizing<String>> {
        let sealed = STANDARD.decode(sealed).ok()?;
        let clear = row_cipher::open(&self.fields, &context(event_id, pointer), &sealed)?;
        std::str::from_utf8(&clear).ok().map(|text| Zeroizing::new(text.to_owned()))
    }
}

/// Seals the fields of one event, each under the key of whom it is about.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// Whom it names, by id, with their keys.
    pub persons: &'a [(String, Arc<PeriodKey>)],
    /// Id of the event, to which each field is bound.
    pub event_id: &'a str,
}

impl Sealing<'_> {
    fn key(&self, person_id: &str) -> Result<&PeriodKey, String> {
        let found = self.persons.iter().find(|(id, _)| id == person_id);
        found
            .map(|(_, key)| &**key)
            .ok_or_else(|| "a field is about a person whose key is not there".to_owned())
    }
}

impl obscura_ocsf::Persons for Sealing<'_> {
    fn pseudonym(&mut self, person_id: &str) -> Result<String, String> {
        Ok(self.key(person_id)?.pseudonym().to_owned())
    }

    fn seal(&mut self, person_id: &str, pointer: &str, clear: &str) -> Result<String, String> {
        let key = self.key(person_id)?;
        let sealed = row_cipher::seal(&key.fields, &context(self.event_id, pointer), clear.as_bytes());
        Ok(STANDARD.encode(sealed.map_err(|failed| failed.to_string())?))
    }
}

/// Associated data of a field; the pointer is the last part, so there is one encoding of each place.
fn context(event_id: &str, pointer: &str) -> Vec<u8> {
    let length = u32::try_from(event_id.len()).unwrap_or(u32::MAX).to_be_bytes();
    [b"obscura sealed field v1\0", &length[..], event_id.as_bytes(), pointer.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use obscura_ocsf::Persons as _;

    use super::*;

    #[test]
    fn a_sealed_field_opens_only_at_its_own_place_in_its_own_event() {
        let key = Arc::new(PeriodKey::generate().unwrap());
        let persons = [("user:alice".to_owned(), Arc::clone(&key))];
        let mut sealing = Sealing { persons: &persons, event_id: "e-1" };
        let sealed = sealing.seal("user:alice", "/unmapped/reason", "theft").unwrap();
        assert_eq!(*key.open("e-1", "/unmapped/reason", &sealed).unwrap(), "theft");
        assert!(key.open("e-2", "/unmapped/reason", &sealed).is_none());
        assert!(key.open("e-1", "/unmapped/query", &sealed).is_none());
        assert!(PeriodKey::generate().unwrap().open("e-1", "/unmapped/reason", &sealed).is_none());
        assert!(key.open("e-1", "/unmapped/reason", "no base64!").is_none());
        assert!(sealing.seal("user:bob", "/unmapped/reason", "theft").is_err());
    }

    #[test]
    fn a_pseudonym_follows_from_the_key_and_says_nothing_else() {
        let key = PeriodKey::generate().unwrap();
        assert_eq!(PeriodKey::from_bytes(key.expose()).unwrap().pseudonym(), key.pseudonym());
        assert!(key.pseudonym().starts_with("p-") && key.pseudonym().len() == 28, "{}", key.pseudonym());
        assert!(
            key.pseudonym().bytes().skip(2).all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
        assert!(PeriodKey::from_bytes(&[1; 31]).is_none());
    }
}
