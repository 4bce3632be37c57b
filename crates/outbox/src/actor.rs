//! Who is behind a call, in its metadata: the caller of an rpc is a program, and a person uses it.
//!
//! Until people log on, the command line says who they are, as the operating system knows them. A service
//! believes it as far as it believes the program, whose certificate was checked.

use obscura_proto::audit::v1::Person;
use prost::Message as _;
use tonic::{
    Request, Status,
    metadata::{BinaryMetadataValue, MetadataMap},
    service::Interceptor,
};

/// Key of the metadata: one serialised `obscura.audit.v1.Person`.
const KEY: &str = "obscura-actor-bin";
/// Longest value: an id, a name and an address at their limits.
const MAX_BYTES: usize = 1_024;

/// Adds a person to every call.
#[derive(Clone, Debug)]
pub struct ActingFor {
    value: BinaryMetadataValue,
}

impl ActingFor {
    /// Calls are on behalf of `person`.
    #[must_use]
    pub fn new(person: &Person) -> Self {
        Self { value: BinaryMetadataValue::from_bytes(&person.encode_to_vec()) }
    }
}

impl Interceptor for ActingFor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert_bin(KEY, self.value.clone());
        Ok(request)
    }
}

/// The person behind a call, where the caller names one that makes sense.
#[must_use]
pub fn actor(metadata: &MetadataMap) -> Option<Person> {
    let bytes = metadata.get_bin(KEY)?.to_bytes().ok()?;
    if bytes.len() > MAX_BYTES {
        return None;
    }
    Person::decode(bytes).ok().filter(|person| !person.id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person() -> Person {
        Person { id: "unix:1000".into(), name: "Ada Ventüra".into(), address: String::new() }
    }

    #[test]
    fn the_person_behind_a_call_arrives() {
        let request = ActingFor::new(&person()).call(Request::new(())).unwrap();
        assert_eq!(actor(request.metadata()), Some(person()));
        assert_eq!(actor(&MetadataMap::new()), None);
    }

    #[test]
    fn nonsense_is_nobody() {
        for bytes in [&b"\xff\xff"[..], b"", &[0; MAX_BYTES + 1]] {
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(KEY, BinaryMetadataValue::from_bytes(bytes));
            assert_eq!(actor(&metadata), None);
        }
    }
}
