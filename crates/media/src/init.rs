//! `ftyp` and `moov`: of a segment, whose samples come in fragments, and of a clip, whose sample
//! table stands in the `moov`.

use mp4_atom::{Dinf, Dref, FourCC, Ftyp, Hdlr, Mdhd, Mvex, Mvhd, Tkhd, Trex, Url, Vmhd};

use crate::{
    Error, TIMESCALE, VideoParameters,
    boxes::{write_atom, write_box},
};

/// The only track.
pub const TRACK_ID: u32 = 1;

/// What begins every segment: `ftyp` and a `moov` that says that fragments follow.
///
/// # Errors
/// When the sample entry is not a complete `avc1` box.
pub fn init_segment(parameters: &VideoParameters) -> Result<Vec<u8>, Error> {
    VideoParameters::from_sample_entry(parameters.sample_entry.clone())?;
    let mut out = Vec::with_capacity(1024);
    write_atom(&mut out, &ftyp(b"iso6", &[b"iso6", b"cmfc", b"mp41"]))?;
    let movie =
        Movie { creation_time: 0, duration: 0, entries: std::slice::from_ref(parameters), fragmented: true };
    movie.write(&mut out, write_empty_table)?;
    Ok(out)
}

/// The box that names the file formats that a file follows.
pub fn ftyp(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Ftyp {
    let compatible_brands = compatible.iter().map(|brand| FourCC::new(brand)).collect();
    Ftyp { major_brand: FourCC::new(major), minor_version: 0, compatible_brands }
}

/// A movie with one video track.
#[derive(Debug)]
pub struct Movie<'a> {
    /// Seconds since 1904 (ISO/IEC 14496-12 8.2.2.3); 0 where that is not known.
    pub creation_time: u64,
    /// In units of [`TIMESCALE`].
    pub duration: u64,
    /// One sample entry each.
    pub entries: &'a [VideoParameters],
    /// Whether the samples come in fragments.
    pub fragmented: bool,
}

impl Movie<'_> {
    /// Writes the `moov` box; `table` writes what follows the sample entries in the `stbl` box.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        table: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        write_box(out, b"moov", |out| {
            write_atom(out, &self.mvhd())?;
            write_box(out, b"trak", |out| {
                write_atom(out, &self.tkhd())?;
                write_box(out, b"mdia", |out| self.write_media(out, table))
            })?;
            if self.fragmented { write_atom(out, &mvex()) } else { Ok(()) }
        })
    }

    fn write_media(
        &self,
        out: &mut Vec<u8>,
        table: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        write_atom(out, &self.mdhd())?;
        write_atom(out, &Hdlr { handler: FourCC::new(b"vide"), name: "video".to_owned() })?;
        write_box(out, b"minf", |out| {
            write_atom(out, &Vmhd::default())?;
            write_atom(out, &Dinf { dref: Dref { entries: vec![Url::default().into()] } })?;
            write_box(out, b"stbl", |out| {
                write_box(out, b"stsd", |out| self.write_sample_entries(out))?;
                table(out)
            })
        })
    }

    /// Sample entries go in byte for byte: a decoded and encoded one might differ from the camera's.
    fn write_sample_entries(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&[0; 4]); // version and flags
        out.extend_from_slice(&count.to_be_bytes());
        for entry in self.entries {
            out.extend_from_slice(&entry.sample_entry);
        }
        Ok(())
    }

    fn mvhd(&self) -> Mvhd {
        Mvhd {
            creation_time: self.creation_time,
            modification_time: self.creation_time,
            timescale: TIMESCALE,
            duration: self.duration,
            rate: 1.into(),
            volume: 1.into(),
            matrix: mp4_atom::Matrix::default(),
            next_track_id: TRACK_ID + 1,
        }
    }

    fn tkhd(&self) -> Tkhd {
        let largest = |size: fn(&VideoParameters) -> u16| self.entries.iter().map(size).max().unwrap_or(0);
        Tkhd {
            creation_time: self.creation_time,
            modification_time: self.creation_time,
            track_id: TRACK_ID,
            duration: self.duration,
            enabled: true,
            in_movie: true,
            width: largest(|entry| entry.width).into(),
            height: largest(|entry| entry.height).into(),
            ..Tkhd::default()
        }
    }

    fn mdhd(&self) -> Mdhd {
        Mdhd {
            creation_time: self.creation_time,
            modification_time: self.creation_time,
            timescale: TIMESCALE,
            duration: self.duration,
            language: "und".to_owned(),
        }
    }
}

fn mvex() -> Mvex {
    let trex = Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() };
    Mvex { mehd: None, trex: vec![trex] }
}

/// The four mandatory tables without a row.
fn write_empty_table(out: &mut Vec<u8>) -> Result<(), Error> {
    write_atom(out, &mp4_atom::Stts::default())?;
    write_atom(out, &mp4_atom::Stsc::default())?;
    write_atom(out, &mp4_atom::Stsz::default())?;
    write_atom(out, &mp4_atom::Stco::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::tests::parameters;
    use mp4_atom::{Codec, Decode, Moov};

    #[test]
    fn another_reader_finds_one_fragmented_video_track() {
        let init = init_segment(&parameters()).unwrap();
        let mut rest = init.as_slice();
        assert_eq!(Ftyp::decode(&mut rest).unwrap().major_brand, FourCC::new(b"iso6"));
        let moov = Moov::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(moov.mvex.unwrap().trex[0].track_id, moov.trak[0].tkhd.track_id);
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, TIMESCALE);
        assert!(matches!(moov.trak[0].mdia.minf.stbl.stsd.codecs[..], [Codec::Avc1(_)]));
    }

    #[test]
    fn the_sample_entry_is_kept_byte_for_byte() {
        let parameters = parameters();
        let init = init_segment(&parameters).unwrap();
        assert!(init.windows(parameters.sample_entry.len()).any(|window| window == parameters.sample_entry));
    }

    #[test]
    fn an_incomplete_sample_entry_is_refused() {
        let mut broken = parameters();
        broken.sample_entry.truncate(40);
        assert!(init_segment(&broken).is_err());
    }
}
