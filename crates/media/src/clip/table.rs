//! The index of a clip: where each sample is, how long it lasts, where decoding can start
//! (ISO/IEC 14496-12 8.6 and 8.7).

use mp4_atom::{Co64, Ctts, CttsEntry, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts, SttsEntry};

use crate::{Error, StoredSample, boxes::write_atom};

/// Most samples in a clip: 38 hours at 120 frames a second.
pub const MAX_SAMPLES: usize = 1 << 24;

/// The index of a clip, grown chunk by chunk.
#[derive(Debug, Default)]
pub struct SampleTable {
    sizes: Vec<u32>,
    /// Numbers of the samples at which decoding can start, from 1.
    random_access: Vec<u32>,
    durations: Vec<SttsEntry>,
    composition_offsets: Vec<CttsEntry>,
    chunk_offsets: Vec<u64>,
    chunks: Vec<StscEntry>,
    duration: u64,
}

impl SampleTable {
    /// Appends samples that stand one behind the other from byte `offset` of the file, all with the
    /// sample entry of this number, from 1.
    pub fn add_chunk(&mut self, offset: u64, entry: u32, samples: &[StoredSample]) -> Result<(), Error> {
        if self.sizes.len().saturating_add(samples.len()) > MAX_SAMPLES {
            return Err(Error::TooMany { what: "samples in a clip", limit: MAX_SAMPLES });
        }
        self.chunk_offsets.push(offset);
        let row = StscEntry {
            first_chunk: count(self.chunk_offsets.len()),
            samples_per_chunk: count(samples.len()),
            sample_description_index: entry,
        };
        let same = |last: &StscEntry| {
            (last.samples_per_chunk, last.sample_description_index)
                == (row.samples_per_chunk, row.sample_description_index)
        };
        if !self.chunks.last().is_some_and(same) {
            self.chunks.push(row);
        }
        samples.iter().for_each(|sample| self.add_sample(sample));
        Ok(())
    }

    fn add_sample(&mut self, sample: &StoredSample) {
        self.sizes.push(count(sample.range.len()));
        if sample.random_access {
            self.random_access.push(self.samples());
        }
        self.duration = self.duration.saturating_add(sample.duration.into());
        match self.durations.last_mut() {
            Some(last) if last.sample_delta == sample.duration => last.sample_count += 1,
            _ => self.durations.push(SttsEntry { sample_count: 1, sample_delta: sample.duration }),
        }
        let sample_offset = i64::from(sample.composition_offset);
        match self.composition_offsets.last_mut() {
            Some(last) if last.sample_offset == sample_offset => last.sample_count += 1,
            _ => self.composition_offsets.push(CttsEntry { sample_count: 1, sample_offset }),
        }
    }

    /// Number of samples.
    pub fn samples(&self) -> u32 {
        count(self.sizes.len())
    }

    /// Sum of their durations, in units of [`TIMESCALE`](crate::TIMESCALE).
    pub const fn duration(&self) -> u64 {
        self.duration
    }

    /// Writes what follows `stsd` in the `stbl` box.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        write_atom(out, &Stts { entries: self.durations.clone() })?;
        // Only streams that send pictures out of order need the box.
        if self.composition_offsets.iter().any(|entry| entry.sample_offset != 0) {
            write_atom(out, &Ctts { entries: self.composition_offsets.clone() })?;
        }
        write_atom(out, &Stss { entries: self.random_access.clone() })?;
        write_atom(out, &Stsc { entries: self.chunks.clone() })?;
        write_atom(out, &Stsz { samples: StszSamples::Different { sizes: self.sizes.clone() } })?;
        write_atom(out, &Co64 { entries: self.chunk_offsets.clone() })
    }
}

/// Counts here are bounded by [`MAX_SAMPLES`], and sizes by the 32 bits they were read from.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(size: usize, duration: u32) -> StoredSample {
        StoredSample {
            range: 0..size,
            decode_time: 0,
            duration,
            random_access: size > 10,
            composition_offset: 0,
        }
    }

    #[test]
    fn equal_chunks_and_equal_durations_share_a_row() {
        let mut table = SampleTable::default();
        for (offset, entry) in [(0, 1), (30, 1), (60, 2)] {
            table.add_chunk(offset, entry, &[sample(20, 3600), sample(10, 3600)]).unwrap();
        }
        let row = |first_chunk, sample_description_index| StscEntry {
            first_chunk,
            samples_per_chunk: 2,
            sample_description_index,
        };
        assert_eq!(table.chunks, [row(1, 1), row(3, 2)]);
        assert_eq!(table.durations, [SttsEntry { sample_count: 6, sample_delta: 3600 }]);
        assert_eq!(table.random_access, [1, 3, 5]);
        assert_eq!((table.samples(), table.duration()), (6, 6 * 3600));
    }

    #[test]
    fn the_table_has_a_limit() {
        let mut table = SampleTable { sizes: vec![0; MAX_SAMPLES], ..SampleTable::default() };
        assert!(matches!(table.add_chunk(0, 1, &[sample(1, 1)]), Err(Error::TooMany { .. })));
    }
}
