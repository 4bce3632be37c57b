//! One RFC 5424 message in the octet-counting frame of RFC 5425, section 4.3.

use obscura_ocsf::read;

use crate::feed::{Entry, sink::Trouble};

/// Facility "log audit" (RFC 5424, section 6.2.1).
const FACILITY: u8 = 13;
/// The enterprise number that RFC 5612 reserves for examples: Obscura has none of its own.
const STRUCTURED_DATA_ID: &str = "obscura@32473";
/// RFC 5424 allows six digits of a second.
const FRACTION_DIGITS: usize = 6;

/// Appends the frame of an entry.
pub fn append_frame(frames: &mut Vec<u8>, entry: &Entry, hostname: &str) -> Result<(), Trouble> {
    let unreadable = || Trouble::Again(format!("entry {} cannot be read", entry.index));
    let leaf = read(&entry.leaf).map_err(|_| unreadable())?;
    let time: jiff::Timestamp = leaf.time.parse().map_err(|_| unreadable())?;
    let priority = FACILITY * 8 + severity(leaf.severity);
    // Kinds are names of our own, and ids are UUIDs: nothing in them needs escaping.
    let header = format!(
        "<{priority}>1 {time:.FRACTION_DIGITS$} {hostname} obscura-audit - {} [{STRUCTURED_DATA_ID} index=\"{}\" id=\"{}\"] ",
        leaf.kind, entry.index, leaf.event_id
    );
    let length = header.len().saturating_add(entry.leaf.len());
    frames.extend_from_slice(format!("{length} ").as_bytes());
    frames.extend_from_slice(header.as_bytes());
    frames.extend_from_slice(&entry.leaf);
    Ok(())
}

/// Severity of syslog (RFC 5424, section 6.2.1) for `severity_id` of OCSF.
const fn severity(ocsf: u8) -> u8 {
    match ocsf {
        // Notice, warning, error, critical, alert; everything else is informational.
        2 => 5,
        3 => 4,
        4 => 3,
        5 => 2,
        6 => 1,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use obscura_clock::Timestamp;
    use obscura_ocsf::{ExamplePersons, encode, example_source, examples};

    use super::*;

    #[test]
    fn a_frame_counts_its_octets_and_carries_the_leaf_byte_for_byte() {
        for (event, index) in examples().iter().zip(7..) {
            let leaf = encode(event, &example_source(), &mut ExamplePersons).unwrap();
            let entry =
                Entry { index, leaf: leaf.bytes.clone().into(), committed: Timestamp::from_unix_nanos(0) };
            let mut frame = Vec::new();
            append_frame(&mut frame, &entry, "recorder.example").unwrap();
            let text = String::from_utf8(frame).unwrap();
            let (count, message) = text.split_once(' ').unwrap();
            assert_eq!(count.parse::<usize>().unwrap(), message.len());
            let (header, body) = message.split_once("] ").unwrap();
            assert_eq!(body.as_bytes(), leaf.bytes);
            let expected = format!(
                "recorder.example obscura-audit - {} [obscura@32473 index=\"{index}\" id=\"{}\"",
                leaf.kind, leaf.event_id
            );
            assert!(header.ends_with(&expected), "{header}");
            let (priority, rest) = header.split_once(">1 ").unwrap();
            assert!((105..=110).contains(&priority[1..].parse::<u8>().unwrap()), "{header}");
            let time = rest.split(' ').next().unwrap();
            assert_eq!((time.len(), time.chars().last()), ("2026-11-23T10:00:00.000000Z".len(), Some('Z')));
        }
    }

    #[test]
    fn an_entry_that_is_no_leaf_is_named_by_its_index() {
        let entry = Entry { index: 9, leaf: "{}".into(), committed: Timestamp::from_unix_nanos(0) };
        assert!(append_frame(&mut Vec::new(), &entry, "-").unwrap_err().text().contains("entry 9"));
    }
}
