//! Walking and writing the box structure itself.
//!
//! The walker goes down known paths only, so that boxes nested a thousand deep cost nothing; the
//! contents of leaf boxes are left to `mp4_atom`.

use mp4_atom::{Decode, Encode, FourCC, Header};

use crate::Error;

/// Bytes of a box header with a 32-bit size.
pub const HEADER_BYTES: usize = 8;

/// One box as it stands in its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct RawBox<'a> {
    /// What it is.
    pub kind: FourCC,
    /// Where it begins, in bytes from the start of its surroundings.
    pub at: usize,
    /// Header and content.
    pub whole: &'a [u8],
    /// Content only.
    pub body: &'a [u8],
}

impl RawBox<'_> {
    /// Where the next box begins.
    pub const fn end(&self) -> usize {
        self.at + self.whole.len()
    }

    /// Reads the box as one whose content `mp4_atom` knows.
    pub fn decode<T: mp4_atom::Atom>(&self) -> Result<T, Error> {
        T::decode(&mut &*self.whole).map_err(Error::in_box(self.kind))
    }
}

/// What stands at a position.
#[derive(Debug)]
pub enum Found<'a> {
    /// Nothing: the surroundings end here.
    End,
    /// The beginning of a box whose end is missing.
    Cut,
    /// A whole box.
    Whole(RawBox<'a>),
}

/// Looks at the box that begins at byte `at`.
pub fn box_at(bytes: &[u8], at: usize) -> Result<Found<'_>, Error> {
    let Some(mut rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { return Ok(Found::End) };
    let start = rest;
    let header = match Header::decode(&mut rest) {
        Ok(header) => header,
        Err(mp4_atom::Error::OutOfBounds) => return Ok(Found::Cut),
        Err(_) => {
            return Err(Error::Malformed { kind: kind_of(start), why: "its size is less than its header" });
        }
    };
    let Some(size) = header.size else {
        return Err(Error::Malformed { kind: header.kind, why: "it has no size of its own" });
    };
    let Some(body) = rest.get(..size) else { return Ok(Found::Cut) };
    let whole = start.get(..start.len() - rest.len() + size).unwrap_or(start);
    Ok(Found::Whole(RawBox { kind: header.kind, at, whole, body }))
}

/// The four characters after the size.
fn kind_of(header: &[u8]) -> FourCC {
    FourCC::from(header.get(4..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default())
}

/// All boxes of a parent's content; a cut one is an error.
pub fn children(parent: FourCC, body: &[u8]) -> impl Iterator<Item = Result<RawBox<'_>, Error>> {
    let mut at = 0;
    std::iter::from_fn(move || match box_at(body, at) {
        Ok(Found::End) => None,
        Ok(Found::Whole(child)) => {
            at = child.end();
            Some(Ok(child))
        }
        Ok(Found::Cut) => {
            at = body.len();
            Some(Err(Error::Malformed { kind: parent, why: "a box in it runs past its end" }))
        }
        Err(error) => {
            at = body.len();
            Some(Err(error))
        }
    })
}

/// The only child of this kind.
pub fn only_child<'a>(parent: &RawBox<'a>, kind: FourCC) -> Result<RawBox<'a>, Error> {
    let mut found = None;
    for child in children(parent.kind, parent.body) {
        let child = child?;
        if child.kind == kind && found.replace(child).is_some() {
            return Err(Error::Malformed {
                kind: parent.kind,
                why: "a box that may occur once occurs twice",
            });
        }
    }
    found.ok_or(Error::MissingBox { missing: kind })
}

/// Writes a box whose content `content` writes.
pub fn write_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    content(out)?;
    let size = u32::try_from(out.len() - start)
        .map_err(|_| Error::Malformed { kind: FourCC::new(kind), why: "it grew past 4 GiB" })?;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    Ok(())
}

/// Writes a box that `mp4_atom` knows.
pub fn write_atom<T: mp4_atom::Atom>(out: &mut Vec<u8>, atom: &T) -> Result<(), Error> {
    atom.encode(out).map_err(Error::in_box(T::KIND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_box_without_a_size_is_refused() {
        assert!(matches!(box_at(b"\0\0\0\0mdatxxxx", 0), Err(Error::Malformed { .. })));
    }

    #[test]
    fn a_box_with_a_64_bit_size_is_walked() {
        let bytes = b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x12xy";
        let Ok(Found::Whole(found)) = box_at(bytes, 0) else { panic!("not found") };
        assert_eq!((found.body, found.end()), (&b"xy"[..], bytes.len()));
    }

    #[test]
    fn a_written_box_is_found_again() {
        let mut out = b"before".to_vec();
        write_box(&mut out, b"free", |out| {
            out.extend_from_slice(b"content");
            Ok(())
        })
        .unwrap();
        let Ok(Found::Whole(found)) = box_at(&out, 6) else { panic!("not found") };
        assert_eq!((found.kind, found.body), (FourCC::new(b"free"), &b"content"[..]));
    }

    proptest! {
        #[test]
        fn walking_arbitrary_bytes_always_ends(bytes: Vec<u8>) {
            let count = children(FourCC::new(b"moov"), &bytes).count();
            prop_assert!(count <= bytes.len());
        }
    }
}
