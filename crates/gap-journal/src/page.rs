//! Pages: the gaps of one day, in an object that is named after its bytes.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    str::FromStr,
};

use aws_lc_rs::digest::{SHA256, digest};
use obscura_ids::{Digest, GapId};
use obscura_pack::Day;

use crate::{Error, Record, record::BYTES};

/// Records in one page at most: a camera that is lost every ten seconds has fewer in a day.
pub const MAX_RECORDS: usize = 10_000;
/// Bytes of the longest page.
pub const MAX_PAGE_BYTES: usize = MAGIC.len() + MAX_RECORDS * BYTES;
const MAGIC: &[u8; 8] = b"OBSGAPS\x01";
const PREFIX: &str = "gap-journal";
const SUFFIX: &str = ".gaps";

/// Gaps that started on one day: at least one, at most [`MAX_RECORDS`], by start and id, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    day: Day,
    records: Vec<Record>,
}

/// Name of the object of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageName {
    /// Day on which its gaps started.
    pub day: Day,
    /// SHA-256 of the object.
    pub hash: Digest,
}

/// The pages that hold these records. Of several reports of one gap the one that counts is kept. The same gaps give
/// the same pages, in whatever order they come.
#[must_use]
pub fn pages(records: impl IntoIterator<Item = Record>) -> Vec<Page> {
    let mut days: BTreeMap<Day, Vec<Record>> = BTreeMap::new();
    for record in settled(records).into_values() {
        days.entry(record.day()).or_default().push(record);
    }
    let mut pages = Vec::new();
    for (day, mut records) in days {
        records.sort_unstable_by_key(Record::place);
        pages.extend(records.chunks(MAX_RECORDS).map(|records| Page { day, records: records.to_vec() }));
    }
    pages
}

fn settled(records: impl IntoIterator<Item = Record>) -> BTreeMap<GapId, Record> {
    let mut settled = BTreeMap::new();
    for record in records {
        match settled.entry(record.gap) {
            Entry::Vacant(entry) => drop(entry.insert(record)),
            Entry::Occupied(mut entry) => *entry.get_mut() = record.settle(*entry.get()),
        }
    }
    settled
}

impl Page {
    /// Its records, by start and id.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The bytes of its object: at most [`MAX_PAGE_BYTES`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(MAGIC.len() + self.records.len() * BYTES);
        page.extend_from_slice(MAGIC);
        self.records.iter().for_each(|record| record.encode(&mut page));
        page
    }

    /// Name of the object with these bytes.
    #[must_use]
    pub fn name(&self, encoded: &[u8]) -> PageName {
        PageName { day: self.day, hash: sha256(encoded) }
    }

    /// Reads what [`Page::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`Error::Magic`], [`Error::Length`], [`Error::Record`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let body = bytes.strip_prefix(MAGIC).ok_or(Error::Magic)?;
        let count = body.len() / BYTES;
        if body.len() % BYTES != 0 || count == 0 || count > MAX_RECORDS {
            return Err(Error::Length(bytes.len()));
        }
        let mut records: Vec<Record> = Vec::with_capacity(count);
        for (index, bytes) in body.chunks_exact(BYTES).enumerate() {
            let wrong = |why| Error::Record { index, why };
            let record = Record::decode(bytes).map_err(wrong)?;
            if let Some(last) = records.last() {
                check_order(last, &record).map_err(wrong)?;
            }
            records.push(record);
        }
        let day = records.first().map(Record::day).ok_or(Error::Length(bytes.len()))?;
        Ok(Self { day, records })
    }

    /// Reads the object of this name.
    ///
    /// # Errors
    /// As [`Page::decode`]; [`Error::Renamed`] where the name is that of other bytes.
    pub fn open(name: PageName, bytes: &[u8]) -> Result<Self, Error> {
        let page = Self::decode(bytes)?;
        if page.name(bytes) == name { Ok(page) } else { Err(Error::Renamed) }
    }
}

fn check_order(last: &Record, record: &Record) -> Result<(), &'static str> {
    match () {
        () if record.place() <= last.place() => Err("it is not behind the record before it"),
        () if record.day() != last.day() => Err("it is of another day than the record before it"),
        () => Ok(()),
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest::from_bytes(hash)
}

impl PageName {
    /// With what the keys of all pages start.
    pub const PREFIX: &str = "gap-journal/";

    /// With what the keys of the pages of a day start, and no others.
    #[must_use]
    pub fn prefix_of(day: Day) -> String {
        format!("{PREFIX}/{day}/")
    }
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, hash } = self;
        write!(f, "{PREFIX}/{day}/{hash}{SUFFIX}")
    }
}

impl FromStr for PageName {
    type Err = Error;

    /// Any text that is not written by `Display` is refused, be it only in capitals.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = read(text).ok_or(Error::Name)?;
        if name.to_string() == text { Ok(name) } else { Err(Error::Name) }
    }
}

fn read(text: &str) -> Option<PageName> {
    let (day, hash) = text.strip_prefix(PageName::PREFIX)?.strip_suffix(SUFFIX)?.split_once('/')?;
    Some(PageName { day: day.parse().ok()?, hash: hash.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use obscura_clock::Timestamp;
    use obscura_ids::{CameraId, WriterEpoch};
    use obscura_proto::footage::v1::GapReason;
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_unix_nanos(nanos)
    }

    fn gap(id: u8, start: i64, end: Option<i64>) -> Record {
        Record {
            gap: GapId::from_bytes([id; 16]),
            camera: CameraId::from_bytes([1; 16]),
            start: at(start),
            end: end.map(at),
            reason: GapReason::FrameTimeout,
            writer: Some(WriterEpoch(7)),
        }
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (0..20_u8, 0..3_u8, any::<i64>(), any::<Option<u32>>(), 1..14_i32, any::<Option<u32>>());
        let record = record.prop_map(|(id, camera, start, length, reason, writer)| Record {
            gap: GapId::from_bytes([id; 16]),
            camera: CameraId::from_bytes([camera; 16]),
            start: at(start),
            end: length.map(|length| at(start.saturating_add(length.into()))),
            reason: GapReason::try_from(reason).unwrap(),
            writer: writer.map(|writer| WriterEpoch(writer.into())),
        });
        prop::collection::vec(record, 0..30)
    }

    proptest! {
        #[test]
        fn pages_read_back_and_hold_every_gap_once(records in records()) {
            let pages = pages(records.clone());
            let mut held = Vec::new();
            for page in &pages {
                let bytes = page.encode();
                let name = page.name(&bytes);
                prop_assert_eq!(name.to_string().parse::<PageName>(), Ok(name));
                prop_assert!(name.to_string().starts_with(&PageName::prefix_of(name.day)));
                prop_assert_eq!(&Page::open(name, &bytes).unwrap(), page);
                held.extend(page.records().iter().map(|record| record.gap));
            }
            let mut told: Vec<GapId> = records.iter().map(|record| record.gap).collect();
            for ids in [&mut held, &mut told] {
                ids.sort_unstable();
            }
            told.dedup();
            prop_assert_eq!(held, told);
        }

        #[test]
        fn the_pages_do_not_depend_on_the_order_of_reports(
            reports in records().prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        ) {
            prop_assert_eq!(pages(reports.0), pages(reports.1));
        }

        #[test]
        fn a_changed_byte_never_goes_unnoticed(at: prop::sample::Index, flip in 1..=255_u8) {
            let page = &pages([gap(1, 10, Some(20)), gap(2, 15, None)])[0];
            let mut bytes = page.encode();
            let name = page.name(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Page::open(name, &bytes).is_err());
        }

        #[test]
        fn whatever_reads_has_exactly_one_encoding(mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic: bool) {
            if magic {
                bytes.splice(0..0, *MAGIC);
                bytes.truncate(MAGIC.len() + (bytes.len() - MAGIC.len()) / BYTES * BYTES);
            }
            if let Ok(page) = Page::decode(&bytes) {
                prop_assert_eq!(page.encode(), bytes);
            }
        }

        #[test]
        fn arbitrary_text_is_no_name_or_reads_back(text in "gap-journal/.{0,90}|\\PC{0,90}") {
            if let Ok(name) = text.parse::<PageName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn what_a_page_cannot_hold_is_refused_in_words() {
        let page = |records: &[Record]| {
            let mut bytes = MAGIC.to_vec();
            records.iter().for_each(|record| record.encode(&mut bytes));
            Page::decode(&bytes)
        };
        const DAY: i64 = 86_400_000_000_000;
        let (one, later) = (gap(1, 10, Some(20)), gap(2, 10 + DAY, None));
        for (records, words) in [
            (vec![one, one], "not behind"),
            (vec![gap(2, 15, None), one], "not behind"),
            (vec![one, later], "another day"),
            (vec![gap(1, 10, Some(9))], "ends before"),
            (vec![Record { reason: GapReason::Unspecified, ..one }], "no reason"),
            (vec![Record { writer: Some(WriterEpoch(u64::MAX)), ..one }], "writer epoch"),
            (vec![], "no page"),
            ((0..=MAX_RECORDS).map(|_| one).collect(), "no page"),
        ] {
            let error = page(&records).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(Page::decode(b"OBSPACK\x01"), Err(Error::Magic));
        let mut flagged = pages([one])[0].encode();
        flagged[MAGIC.len() + 32] |= 4;
        assert!(Page::decode(&flagged).unwrap_err().to_string().contains("flags"));
        let mut rest = pages([gap(1, 10, None)])[0].encode();
        rest[MAGIC.len() + 48] = 1;
        assert!(Page::decode(&rest).unwrap_err().to_string().contains("not zero"));
    }

    #[test]
    fn a_day_with_more_gaps_than_a_page_holds_has_several() {
        let gap = |number: usize| Record {
            gap: GapId::from_bytes((number as u128).to_be_bytes()),
            ..gap(0, i64::try_from(number).unwrap(), None)
        };
        let pages = pages((0..=MAX_RECORDS).map(gap));
        let lengths: Vec<usize> = pages.iter().map(|page| page.encode().len()).collect();
        assert_eq!(lengths, [MAX_PAGE_BYTES, MAGIC.len() + BYTES]);
    }

    #[test]
    fn an_end_a_longer_loss_and_a_better_reason_count() {
        let lost = Record { reason: GapReason::ConnectionLost, ..gap(1, 10, None) };
        let refused = Record { reason: GapReason::Unauthorized, ..lost };
        let (ended, longer) = (gap(1, 10, Some(20)), gap(1, 10, Some(30)));
        for (less, more) in [(lost, refused), (refused, ended), (ended, longer), (lost, longer)] {
            assert_eq!(less.settle(more), more);
            assert_eq!(more.settle(less), more);
        }
    }
}
