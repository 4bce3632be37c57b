//! One check for each shape of field.

use std::fmt::Debug;

use obscura_proto::footage::v1::{Layer, Span};
use uuid::Uuid;

use super::Invalid;

/// Nothing, or the first field that is wrong.
pub type Checked = Result<(), Invalid>;

/// Longest name of a kind, field, subject or alarm.
const MAX_TOKEN_BYTES: usize = 64;
/// Longest text without personal data.
pub const MAX_FREE_TEXT_BYTES: usize = 512;
/// Longest SPIFFE id (SPIFFE-ID, section 2.3, allows 2,048; ours are short).
const MAX_SPIFFE_BYTES: usize = 512;
/// Numbers above this are not the same in every reader of JSON (RFC 8259, section 6).
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A UUID in its hyphenated, lower-case form, so that the same id is always the same bytes.
pub fn uuid(field: &str, value: &str) -> Checked {
    let mut text = Uuid::encode_buffer();
    let canonical = Uuid::try_parse(value).is_ok_and(|id| id.hyphenated().encode_lower(&mut text) == value);
    require(canonical, field, "is not a UUID in lower case with hyphens")
}

/// A UUID or nothing.
pub fn optional_uuid(field: &str, value: &str) -> Checked {
    if value.is_empty() { Ok(()) } else { uuid(field, value) }
}

/// At most so many UUIDs.
pub fn uuids(field: &str, values: &[String], limit: usize) -> Checked {
    at_most(field, values.len(), limit)?;
    values.iter().try_for_each(|value| uuid(field, value))
}

/// A value of an enum of the protos, and not its zero.
pub fn known<E: TryFrom<i32> + Debug>(field: &str, value: i32) -> Checked {
    require(value != 0 && E::try_from(value).is_ok(), field, "is not set or not known")
}

/// Any text up to a number of bytes.
pub fn text(field: &str, value: &str, limit: usize) -> Checked {
    if value.len() > limit {
        return Err(Invalid::new(field, format!("has {} bytes; at most {limit} are allowed", value.len())));
    }
    Ok(())
}

/// Words that stand in the leaf in clear: control characters would only blow them up and confuse
/// terminals.
pub fn free_text(field: &str, value: &str) -> Checked {
    text(field, value, MAX_FREE_TEXT_BYTES)?;
    require(!value.chars().any(char::is_control), field, "contains control characters")
}

/// Words that stand in the leaf in clear and may not be missing.
pub fn required_text(field: &str, value: &str) -> Checked {
    require(!value.is_empty(), field, "is empty")?;
    free_text(field, value)
}

/// A stable name, for example of a kind of thing.
pub fn token(field: &str, value: &str) -> Checked {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
    let good = (1..=MAX_TOKEN_BYTES).contains(&value.len()) && value.bytes().all(allowed);
    require(good, field, "is not a name of 1 to 64 of A-Z, a-z, 0-9, `_`, `.`, `/` and `-`")
}

/// A SPIFFE id, by its shape.
pub fn spiffe(field: &str, value: &str) -> Checked {
    let good = value.starts_with("spiffe://")
        && value.len() <= MAX_SPIFFE_BYTES
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    require(good, field, "is not a SPIFFE id")
}

/// 32 bytes.
pub fn sha256(field: &str, value: &[u8]) -> Checked {
    require(value.len() == 32, field, "is not a SHA-256 hash of 32 bytes")
}

/// 32 bytes or none.
pub fn optional_sha256(field: &str, value: &[u8]) -> Checked {
    if value.is_empty() { Ok(()) } else { sha256(field, value) }
}

/// A moment after the epoch.
pub fn moment(field: &str, unix_ns: i64) -> Checked {
    require(unix_ns > 0, field, "is not set; expected nanoseconds since the Unix epoch")
}

/// A span that is there and does not run backwards.
pub fn span(field: &str, value: Option<&Span>) -> Checked {
    let good = value.is_some_and(|span| span.start_unix_ns >= 0 && span.start_unix_ns <= span.end_unix_ns);
    require(good, field, "is missing, before 1970, or ends before it starts")
}

/// A span, or everything.
pub fn optional_span(field: &str, value: Option<&Span>) -> Checked {
    if value.is_none() { Ok(()) } else { span(field, value) }
}

/// At most so many spans.
pub fn spans(field: &str, values: &[Span], limit: usize) -> Checked {
    at_most(field, values.len(), limit)?;
    values.iter().try_for_each(|value| span(field, Some(value)))
}

/// Known layers, each once.
pub fn layers(field: &str, values: &[i32]) -> Checked {
    at_most(field, values.len(), 3)?;
    values.iter().try_for_each(|value| known::<Layer>(field, *value))
}

/// A number that every reader of JSON understands alike.
pub fn number(field: &str, value: u64) -> Checked {
    require(value <= MAX_NUMBER, field, "is above 2^53 - 1, which not every reader of JSON understands")
}

/// A list with a limit.
pub fn at_most(field: &str, length: usize, limit: usize) -> Checked {
    if length > limit {
        return Err(Invalid::new(field, format!("has {length} elements; at most {limit} are allowed")));
    }
    Ok(())
}

/// A list with something in it.
pub fn not_empty<T>(field: &str, values: &[T]) -> Checked {
    require(!values.is_empty(), field, "is empty")
}

/// Anything else.
pub fn require(good: bool, field: &str, why: &str) -> Checked {
    if good { Ok(()) } else { Err(Invalid::new(field, why)) }
}
