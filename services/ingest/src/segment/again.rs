//! A segment that is written into the spool once more, so that its old place can be freed.

use obscura_proto::footage::v1::PackEntry;
use prost::Message as _;

use super::{Opening, Sealed, record};
use crate::spool::{Error, Extent, Position, Spool, record::Kind};

/// Copies a segment that is committed to the end of the spool, under a serial of its own. A crash in
/// between leaves both: the next start keeps the older one. Blocking.
///
/// # Errors
/// Where the spool cannot be read, or does not take the copy now.
pub fn again(spool: &Spool, sealed: &Sealed) -> Result<Sealed, Error> {
    let parts = sealed.extents.iter().map(|extent| spool.read(*extent)).collect::<Result<Vec<_>, _>>()?;
    let Some((prefix, data)) = parts.split_first() else {
        return Err(Error::Failed("a segment without a beginning".into()));
    };
    let serial = spool.next_serial();
    let start = sealed.entry.span.start();
    let opening = Opening { placement: sealed.placement.clone(), start, prefix: prefix.clone() }.encode();
    let entry = PackEntry::from(sealed.entry.clone()).encode_to_vec();
    let mut records = vec![record(Kind::Open, serial, &opening)];
    records.extend(data.iter().map(|bytes| record(Kind::Data, serial, bytes)));
    records.push(record(Kind::Close, serial, &entry));
    let (mut extents, end) = spool.append_again(&records)?;
    extents.pop();
    if let Some(first) = extents.first_mut() {
        spool.hold(serial, *first);
        *first = behind(*first, opening.len() - prefix.len());
    }
    Ok(Sealed { serial, extents, end, ..sealed.clone() })
}

/// The prefix lies behind the other fields of the `Open` record.
fn behind(open: Extent, fields: usize) -> Extent {
    let length = open.length.saturating_sub(u32::try_from(fields).unwrap_or(u32::MAX));
    Extent { start: Position(open.start.0 + fields as u64), length }
}
