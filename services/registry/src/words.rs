//! Words that people typed: trimmed, bounded, without characters that cannot be seen.

use std::{fmt, ops::RangeInclusive};

/// Longest name, in characters.
const MAX_NAME: usize = 64;
/// Longest name of a person or function, in characters.
const MAX_PERSON: usize = 128;
/// Longest explanation, in characters.
const MAX_TEXT: usize = 2_000;
/// Shortest text that explains anything, in characters.
const MIN_TEXT: usize = 10;

/// A field of a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct Invalid {
    /// Which field, in words.
    pub field: &'static str,
    /// What is wrong with it and what is expected.
    pub why: String,
}

impl Invalid {
    /// `field` is wrong because of `why`.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// Name of a site or camera: 1 to 64 characters, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Reads a name; `field` says in words what it names.
    ///
    /// # Errors
    /// [`Invalid`] where it is empty, too long, or has characters that cannot be seen.
    pub fn read(field: &'static str, text: &str) -> Result<Self, Invalid> {
        line(field, text, 1..=MAX_NAME).map(Self)
    }

    /// The name as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What must be unique: `Door` and `door` are one name.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a person or function: 1 to 128 characters.
///
/// # Errors
/// [`Invalid`] as for a name.
pub fn person(field: &'static str, text: &str) -> Result<String, Invalid> {
    line(field, text, 1..=MAX_PERSON)
}

/// An explanation: 10 to 2 000 characters, line breaks allowed.
///
/// # Errors
/// [`Invalid`] where it is too short to explain anything, too long, or has other characters that
/// cannot be seen.
pub fn explanation(field: &'static str, text: &str) -> Result<String, Invalid> {
    bounded(field, text, MIN_TEXT..=MAX_TEXT, |character| character == '\n')
}

fn line(field: &'static str, text: &str, length: RangeInclusive<usize>) -> Result<String, Invalid> {
    bounded(field, text, length, |_| false)
}

fn bounded(
    field: &'static str,
    text: &str,
    length: RangeInclusive<usize>,
    allowed: fn(char) -> bool,
) -> Result<String, Invalid> {
    let text = text.trim();
    if !length.contains(&text.chars().count()) {
        let (least, most) = (length.start(), length.end());
        return Err(Invalid::new(field, format!("must have {least} to {most} characters")));
    }
    if text.chars().any(|character| is_invisible(character) && !allowed(character)) {
        return Err(Invalid::new(
            field,
            "has control characters or characters that cannot be seen: remove them",
        ));
    }
    Ok(text.to_owned())
}

/// Control characters, zero-width characters and marks that turn the direction of writing: two
/// names with them can look the same and a log line can look like two.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_trimmed_and_counted_in_characters() {
        assert_eq!(Name::read("the name", "  Ladentür ").unwrap().as_str(), "Ladentür");
        assert!(Name::read("the name", &"ü".repeat(64)).is_ok());
        assert!(Name::read("the name", &"ü".repeat(65)).is_err());
    }

    #[test]
    fn names_that_are_empty_or_cannot_be_told_apart_are_refused() {
        for name in ["", "  ", "a\u{200b}b", "a\nb", "\u{202e}rood", "a\0"] {
            assert!(Name::read("the name", name).is_err(), "{name:?}");
        }
        assert_eq!(Name::read("n", "Door").unwrap().key(), Name::read("n", "dOOR").unwrap().key());
    }

    #[test]
    fn a_refusal_names_the_field_and_the_bounds() {
        let error = explanation("the purpose text", "theft").unwrap_err();
        assert_eq!(error.to_string(), "the purpose text must have 10 to 2000 characters");
        assert!(explanation("the purpose text", "Against theft.\nAt the till.").is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_back_as_itself(text in any::<String>()) {
            if let Ok(name) = Name::read("the name", &text) {
                prop_assert_eq!(Name::read("the name", name.as_str()), Ok(name.clone()));
                prop_assert!((1..=64).contains(&name.as_str().chars().count()));
            }
        }
    }
}
