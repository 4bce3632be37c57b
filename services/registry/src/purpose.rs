//! Why a camera films. No purpose, no recording (Art. 5(1)(b) GDPR).

use jiff::civil::Date;
use obscura_clock::Timestamp;
use obscura_proto::registry::v1::{LegalBasis, Purpose as Message};

use crate::words;

/// Longest retention, in hours: one year.
pub const MAX_RETENTION_HOURS: u32 = 8_760;
/// Longest retention that needs no reason, in hours (EDPB guidelines 3/2019, paragraph 121).
pub const UNEXPLAINED_RETENTION_HOURS: u32 = 72;
/// Longest time to the next review, in years.
const MAX_REVIEW_YEARS: i32 = 2;
/// Paused last when the spool runs full; 1 is paused first, and 0 leaves it to the recorder.
const MAX_PRIORITY: u32 = 9;

/// A purpose in which every field makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    text: String,
    legal_basis: LegalBasis,
    retention_hours: u32,
    longer_retention_reason: Option<String>,
    owner: String,
    review_on: Date,
    priority: u32,
}

/// What is wrong with a purpose: all of it, so that it can be put right in one go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a camera needs a purpose before it may record. {}", .0.join("; "))]
pub struct Error(pub Vec<String>);

impl Purpose {
    /// Reads what came in a request at `now`.
    ///
    /// # Errors
    /// [`Error`] with a sentence for each field that is missing or makes no sense.
    pub fn read(message: &Message, now: Timestamp) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let text = noted(words::explanation("the purpose text (why it films)", &message.text), &mut faults);
        let legal_basis = noted(legal_basis(message), &mut faults);
        let retention_hours = noted(retention(message), &mut faults);
        let longer_retention_reason = noted(longer_retention_reason(message), &mut faults);
        let owner = noted(words::person("the owner of the purpose", &message.owner), &mut faults);
        let review_on = noted(review(&message.review_on, now), &mut faults);
        let priority = noted(priority(message), &mut faults);
        match (text, legal_basis, retention_hours, longer_retention_reason, owner, review_on, priority) {
            (
                Some(text),
                Some(legal_basis),
                Some(retention_hours),
                Some(longer_retention_reason),
                Some(owner),
                Some(review_on),
                Some(priority),
            ) => Ok(Self {
                text,
                legal_basis,
                retention_hours,
                longer_retention_reason,
                owner,
                review_on,
                priority,
            }),
            _ => Err(Error(faults)),
        }
    }

    /// How long footage is kept at most, 1 to 8 760 hours.
    #[must_use]
    pub const fn retention_hours(&self) -> u32 {
        self.retention_hours
    }
}

impl From<Purpose> for Message {
    fn from(purpose: Purpose) -> Self {
        Self {
            text: purpose.text,
            legal_basis: purpose.legal_basis.into(),
            retention_hours: purpose.retention_hours,
            longer_retention_reason: purpose.longer_retention_reason.unwrap_or_default(),
            owner: purpose.owner,
            review_on: purpose.review_on.to_string(),
            priority: purpose.priority,
        }
    }
}

/// The value, or a note of what is wrong with it.
fn noted<T, E: ToString>(field: Result<T, E>, faults: &mut Vec<String>) -> Option<T> {
    field.map_err(|error| faults.push(error.to_string())).ok()
}

fn legal_basis(message: &Message) -> Result<LegalBasis, String> {
    match message.legal_basis() {
        LegalBasis::Unspecified => Err("the legal basis is missing (Art. 6(1) GDPR)".to_owned()),
        basis => Ok(basis),
    }
}

fn retention(message: &Message) -> Result<u32, String> {
    if (1..=MAX_RETENTION_HOURS).contains(&message.retention_hours) {
        return Ok(message.retention_hours);
    }
    Err(format!("the retention must be 1 to {MAX_RETENTION_HOURS} hours"))
}

fn priority(message: &Message) -> Result<u32, String> {
    if message.priority <= MAX_PRIORITY {
        return Ok(message.priority);
    }
    Err(format!("the priority must be 1 (paused first when the spool runs full) to {MAX_PRIORITY} (last)"))
}

fn longer_retention_reason(message: &Message) -> Result<Option<String>, String> {
    let needed = message.retention_hours > UNEXPLAINED_RETENTION_HOURS;
    if !needed && message.longer_retention_reason.trim().is_empty() {
        return Ok(None);
    }
    let field = "the reason for keeping footage longer than 72 hours";
    words::explanation(field, &message.longer_retention_reason).map(Some).map_err(|error| error.to_string())
}

/// Holds the retention of a stored purpose against the same rules as that of a new one. The review date may
/// have passed since.
///
/// # Errors
/// [`Error`] with a sentence for each fault.
pub fn check_retention(message: &Message) -> Result<(), Error> {
    let mut faults = Vec::new();
    noted(retention(message), &mut faults);
    noted(longer_retention_reason(message), &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Error(faults)) }
}

/// Days are those of UTC.
fn review(text: &str, now: Timestamp) -> Result<Date, String> {
    let expected = "the review date must be a day written YYYY-MM-DD";
    let date = Date::strptime("%Y-%m-%d", text.trim()).map_err(|_| expected.to_owned())?;
    let today = day(now).ok_or("the clock of the registry shows no usable time")?;
    let latest = today.saturating_add(jiff::Span::new().years(MAX_REVIEW_YEARS));
    if date < today || date > latest {
        return Err(format!("the review date must be {today} to {latest}"));
    }
    Ok(date)
}

fn day(now: Timestamp) -> Option<Date> {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(now.unix_nanos())).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_datetime(moment).date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn good() -> Message {
        Message {
            text: "Against theft at the till.".into(),
            legal_basis: LegalBasis::LegitimateInterests.into(),
            retention_hours: 72,
            longer_retention_reason: String::new(),
            owner: "Shop manager".into(),
            review_on: "2027-11-23".into(),
            priority: 7,
        }
    }

    fn faults(message: &Message) -> Vec<String> {
        Purpose::read(message, now()).map_or_else(|error| error.0, |_| Vec::new())
    }

    #[test]
    fn a_good_purpose_reads_back() {
        let purpose = Purpose::read(&good(), now()).unwrap();
        assert_eq!(Message::from(purpose), good());
    }

    #[test]
    fn the_priority_reaches_the_recorder_as_it_was_chosen() {
        for priority in 0..=9 {
            let purpose = Purpose::read(&Message { priority, ..good() }, now()).unwrap();
            assert_eq!(Message::from(purpose).priority, priority);
        }
    }

    #[test]
    fn no_purpose_names_every_field_that_is_missing() {
        let error = Purpose::read(&Message::default(), now()).unwrap_err().to_string();
        for field in ["purpose text", "legal basis", "retention", "owner", "review date"] {
            assert!(error.contains(field), "{field}: {error}");
        }
        assert!(error.starts_with("a camera needs a purpose"), "{error}");
    }

    #[test]
    fn each_fault_is_named_alone() {
        let cases = [
            (Message { text: "theft".into(), ..good() }, "purpose text"),
            (Message { legal_basis: 0, ..good() }, "legal basis"),
            (Message { legal_basis: 99, ..good() }, "legal basis"),
            (Message { retention_hours: 0, ..good() }, "1 to 8760 hours"),
            (Message { retention_hours: 73, ..good() }, "longer than 72 hours"),
            (Message { owner: "  ".into(), ..good() }, "owner"),
            (Message { priority: 10, ..good() }, "priority"),
            (Message { review_on: "23.11.2027".into(), ..good() }, "YYYY-MM-DD"),
            (Message { review_on: "2027-02-30".into(), ..good() }, "YYYY-MM-DD"),
            (Message { review_on: "2026-11-22".into(), ..good() }, "2026-11-23 to 2028-11-23"),
            (Message { review_on: "2028-11-24".into(), ..good() }, "2026-11-23 to 2028-11-23"),
        ];
        for (message, fault) in cases {
            let faults = faults(&message);
            assert!(faults.len() == 1 && faults[0].contains(fault), "{fault}: {faults:?}");
        }
    }

    #[test]
    fn the_bounds_themselves_are_allowed() {
        let reason = "The insurer asks for a year.".to_owned();
        let bounds = [
            Message { retention_hours: 1, ..good() },
            Message { retention_hours: 8_760, longer_retention_reason: reason, ..good() },
            Message { priority: 0, ..good() },
            Message { priority: 9, ..good() },
            Message { review_on: "2026-11-23".into(), ..good() },
            Message { review_on: "2028-11-23".into(), ..good() },
        ];
        for message in bounds {
            assert_eq!(faults(&message), Vec::<String>::new(), "{message:?}");
        }
        let beyond = Message { retention_hours: 8_761, longer_retention_reason: "x".repeat(20), ..good() };
        assert_eq!(faults(&beyond).len(), 1);
    }

    proptest! {
        #[test]
        fn any_message_is_refused_with_faults_or_reads_back(
            text in any::<String>(),
            legal_basis: i32,
            retention_hours: u32,
            longer_retention_reason in any::<String>(),
            owner in any::<String>(),
            review_on in any::<String>(),
            priority: u32,
            now: i64,
        ) {
            let message =
                Message { text, legal_basis, retention_hours, longer_retention_reason, owner, review_on, priority };
            let now = Timestamp::from_unix_nanos(now);
            match Purpose::read(&message, now) {
                Ok(purpose) => {
                    let again = Purpose::read(&Message::from(purpose.clone()), now);
                    prop_assert_eq!(again, Ok(purpose));
                }
                Err(error) => prop_assert!(!error.0.is_empty()),
            }
        }
    }
}
