//! Why footage is kept beyond its retention, for exactly which slots, and how much of it there may be.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use jiff::civil::Date;
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer};
use obscura_proto::{footage::v1 as footage, keys::v1 as messages};
use obscura_seal::{Hour, SLOT_DURATION, SlotSet};
use uuid::Uuid;

use crate::error::Error;

const ALL_LAYERS: [Layer; 3] = [Layer::Original, Layer::Masked, Layer::Metadata];
const DAY: Duration = Duration::from_secs(24 * 3_600);
const HOUR_NANOS: i64 = 3_600_000_000_000;
/// Longest name of a person or function, in characters.
pub const MAX_PERSON: usize = 128;
/// Longest reason or basis, in characters.
pub const MAX_TEXT: usize = 2_000;

/// One hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldId(Uuid);

impl HoldId {
    /// A new id that no one else has.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HoldId({})", self.0)
    }
}

impl FromStr for HoldId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text).map(Self).map_err(|_| Error::malformed("hold id", "expected a UUID"))
    }
}

/// Bounds of holds and of early destruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most holds that stand at a time.
    pub holds: u64,
    /// Longest span of one hold or one early destruction, in days.
    pub days: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { holds: 1_000, days: 31 }
    }
}

/// Slots of one camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The camera.
    pub camera: CameraId,
    /// Layers, at least one.
    pub layers: BTreeSet<Layer>,
    /// Whole slots.
    pub span: Span,
}

impl Selection {
    /// Reads what came in a request: all layers where none is named, the span rounded out to slots.
    pub fn read(
        camera: &str,
        layers: &[i32],
        span: Option<&footage::Span>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let camera = camera
            .parse()
            .map_err(|error: obscura_ids::InvalidId| Error::malformed("camera", error.to_string()))?;
        let mut named = layers.iter().map(|code| layer(*code)).collect::<Result<BTreeSet<_>, _>>()?;
        if named.is_empty() {
            named.extend(ALL_LAYERS);
        }
        let span = span.and_then(rounded_out);
        let span = span.ok_or_else(|| {
            Error::malformed("span", "it is missing, empty, runs backwards or lies before 1970 or after 2261")
        })?;
        if span.duration() > DAY * limits.days {
            return Err(Error::SpanTooLong(limits.days));
        }
        Ok(Self { camera, layers: named, span })
    }

    /// Hours that it touches, since the Unix epoch.
    pub fn hours(&self) -> RangeInclusive<u32> {
        let hour = |nanos: i64| u32::try_from(nanos.div_euclid(HOUR_NANOS)).unwrap_or_default();
        hour(self.span.start().unix_nanos())..=hour(self.span.end().unix_nanos().saturating_sub(1))
    }

    /// The slots of an hour and layer that it touches.
    pub fn slots(&self, hour: Hour, layer: Layer) -> SlotSet {
        let slots = self.layers.contains(&layer).then(|| hour.slots_overlapping(self.span)).flatten();
        slots.map(SlotSet::from).unwrap_or_default()
    }
}

/// Footage kept for a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// The camera.
    pub camera: CameraId,
    /// Layers, at least one.
    pub layers: BTreeSet<Layer>,
    /// Whole slots.
    pub span: Span,
    /// Who answers for it.
    pub owner: String,
    /// Legal basis or case.
    pub basis: String,
    /// Day of the next review, `YYYY-MM-DD`.
    pub review_on: String,
    /// When it was placed.
    pub placed: Timestamp,
    /// When it was released; `None` while it stands.
    pub released: Option<Timestamp>,
}

impl Hold {
    /// Reads what came in a request at `now`.
    pub fn read(message: &messages::Hold, limits: &Limits, now: Timestamp) -> Result<Self, Error> {
        let Selection { camera, layers, span } =
            Selection::read(&message.camera_id, &message.layers, message.span.as_ref(), limits)?;
        Ok(Self {
            id: HoldId::generate(),
            camera,
            layers,
            span,
            owner: text("owner", &message.owner, 1..=MAX_PERSON)?,
            basis: text("basis", &message.basis, 1..=MAX_TEXT)?,
            review_on: review(&message.review_on, now)?,
            placed: now,
            released: None,
        })
    }

    /// What it holds.
    pub fn selection(&self) -> Selection {
        Selection { camera: self.camera, layers: self.layers.clone(), span: self.span }
    }
}

impl From<Hold> for messages::Hold {
    fn from(hold: Hold) -> Self {
        Self {
            hold_id: hold.id.to_string(),
            camera_id: hold.camera.to_string(),
            layers: hold.layers.iter().map(|layer| i32::from(layer.code())).collect(),
            span: Some(footage::Span {
                start_unix_ns: hold.span.start().unix_nanos(),
                end_unix_ns: hold.span.end().unix_nanos(),
            }),
            owner: hold.owner,
            basis: hold.basis,
            review_on: hold.review_on,
            placed_unix_ns: hold.placed.unix_nanos(),
            released_unix_ns: hold.released.map(Timestamp::unix_nanos).unwrap_or_default(),
        }
    }
}

/// A text of so many characters, trimmed, on one line.
pub fn text(what: &'static str, text: &str, length: RangeInclusive<usize>) -> Result<String, Error> {
    let text = text.trim();
    if !length.contains(&text.chars().count()) || text.chars().any(char::is_control) {
        let (least, most) = (length.start(), length.end());
        return Err(Error::malformed(what, format!("it must have {least} to {most} characters on one line")));
    }
    Ok(text.to_owned())
}

/// Days are those of UTC.
fn review(text: &str, now: Timestamp) -> Result<String, Error> {
    let wrong = || Error::malformed("review date", "it must be a day from today on, written YYYY-MM-DD");
    let day = Date::strptime("%Y-%m-%d", text.trim()).map_err(|_| wrong())?;
    if day < today(now).ok_or_else(wrong)? { Err(wrong()) } else { Ok(day.to_string()) }
}

/// The day in UTC; written out it sorts as it follows. `None` for a moment that no calendar has.
pub fn today(now: Timestamp) -> Option<Date> {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(now.unix_nanos())).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_datetime(moment).date())
}

fn layer(code: i32) -> Result<Layer, Error> {
    let layer = u8::try_from(code).ok().and_then(Layer::from_code);
    layer.ok_or_else(|| Error::malformed("layers", format!("there is no layer {code}")))
}

fn rounded_out(span: &footage::Span) -> Option<Span> {
    let slot = i64::try_from(SLOT_DURATION.as_nanos()).ok()?;
    let start = span.start_unix_ns.checked_sub(span.start_unix_ns.rem_euclid(slot))?;
    let end = span.end_unix_ns.checked_add((slot - span.end_unix_ns.rem_euclid(slot)) % slot)?;
    let last = Hour::of(Timestamp::from_unix_nanos(end.checked_sub(1)?));
    let whole = span.start_unix_ns < span.end_unix_ns && start >= 0 && last.is_some();
    whole.then(|| Span::try_new(Timestamp::from_unix_nanos(start), Timestamp::from_unix_nanos(end))).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T10:00:00Z".parse().unwrap()
    }

    fn message() -> messages::Hold {
        let start = now().unix_nanos();
        messages::Hold {
            camera_id: CameraId::generate().to_string(),
            span: Some(footage::Span { start_unix_ns: start + 1, end_unix_ns: start + 3_000_000_000 }),
            owner: "Ada Ventura".into(),
            basis: "case 12".into(),
            review_on: "2026-12-24".into(),
            ..messages::Hold::default()
        }
    }

    fn read(change: impl FnOnce(&mut messages::Hold)) -> Result<Hold, Error> {
        let mut message = message();
        change(&mut message);
        Hold::read(&message, &Limits::default(), now())
    }

    #[test]
    fn a_span_is_rounded_out_to_whole_slots_and_no_layer_means_all() {
        let hold = read(|_| {}).unwrap();
        assert_eq!((hold.span.start(), hold.span.end()), (now(), now() + 2 * SLOT_DURATION));
        assert_eq!(hold.layers.len(), 3);
        let hour = Hour::of(now()).unwrap().0;
        assert_eq!(hold.selection().slots(hour, Layer::Masked).len(), 2);
        assert_eq!(hold.selection().hours(), hour.get()..=hour.get());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let changes: [fn(&mut messages::Hold); 10] = [
            |hold| hold.camera_id = "door".into(),
            |hold| hold.layers = vec![4],
            |hold| hold.span = None,
            |hold| hold.span = Some(footage::Span { start_unix_ns: 5, end_unix_ns: 5 }),
            |hold| hold.span = Some(footage::Span { start_unix_ns: -5, end_unix_ns: 5 }),
            |hold| hold.span = Some(footage::Span { start_unix_ns: i64::MAX - 5, end_unix_ns: i64::MAX }),
            |hold| hold.owner = "  ".into(),
            |hold| hold.basis = "case\n12".into(),
            |hold| hold.review_on = "2026-11-23".into(),
            |hold| hold.review_on = "soon".into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(matches!(read(change), Err(Error::Malformed { .. })), "change {number}");
        }
        let month = |hold: &mut messages::Hold| {
            let start = now().unix_nanos();
            hold.span =
                Some(footage::Span { start_unix_ns: start, end_unix_ns: start + 31 * 24 * HOUR_NANOS + 1 });
        };
        assert!(matches!(read(month), Err(Error::SpanTooLong(31))));
        assert!(read(|hold| hold.review_on = "2026-11-24".into()).is_ok());
    }

    proptest! {
        #[test]
        fn a_rounded_span_holds_the_span_and_less_than_a_slot_more(start: i64, length in 1..i64::MAX) {
            let span = footage::Span { start_unix_ns: start, end_unix_ns: start.saturating_add(length) };
            if let Some(rounded) = rounded_out(&span) {
                let (from, to) = (rounded.start().unix_nanos(), rounded.end().unix_nanos());
                prop_assert!(from <= start && start - from < 2_000_000_000 && from % 2_000_000_000 == 0);
                prop_assert!(to >= span.end_unix_ns && to - span.end_unix_ns < 2_000_000_000 && to % 2_000_000_000 == 0);
            }
        }
    }
}
