//! How a state is laid out.
//!
//! ```text
//!  header    magic, version, generation                      plain; bound into every segment
//!  segments  records of blocks, 860 each, zeros behind        sealed
//!            entries of files, 2,334 each, zeros behind       sealed, in the order of their keys
//!  trailer   how many records and entries there are           sealed, the only one marked as last
//! ```
//!
//! All numbers are little-endian. Segments have one size, so the place of each follows from its
//! number, and the number of segments from the file's size. Does: encode and decode plain bytes.
//! Does not: seal, or read files. What decodes may still say anything: whoever uses a record
//! compares it with what was read.

/// Names the format, version included.
pub(crate) const MAGIC: [u8; 16] = *b"ark prints v1\0\0\0";
/// Bytes that tell one state from every other, chosen at random.
pub(crate) const GENERATION: usize = 32;
/// Bytes before the first segment.
pub(crate) const HEADER: usize = MAGIC.len() + GENERATION;
/// Bytes of a record.
pub(crate) const RECORD: usize = 8 + 4 + 32 + 32;
/// Records of a segment.
pub(crate) const RECORDS: usize = 860;
/// Plain bytes of a segment.
pub(crate) const SEGMENT: usize = RECORDS * RECORD;
/// Bytes of an entry.
pub(crate) const ENTRY: usize = 16 + 8 + 4;
/// Entries of a segment.
pub(crate) const ENTRIES: usize = SEGMENT / ENTRY;
/// Plain bytes of the trailer.
pub(crate) const TRAILER: usize = 16;
/// Bytes a seal adds.
pub(crate) const TAG: usize = 16;
/// Bytes of an entry in memory.
pub(crate) const ENTRY_MEMORY: u64 = size_of::<Entry>() as u64;

/// No chunk is longer than two bits less than four bytes can tell.
const LENGTH: u32 = (1 << 30) - 1;

/// The keyed BLAKE3 of a block, in full: a match means the same bytes as surely as an equal SHA-256
/// does, even to somebody who knows the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Print(pub(crate) [u8; 32]);

/// Why a block ended where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Somebody decided so without looking at it.
    Arithmetic,
    /// The cutter found no place to cut in it, and what was to be cut ended.
    Forced,
    /// The cutter cut here because of what is in it.
    Natural,
}

/// One block as it was once read, and the blob it became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it began in its file.
    pub(crate) offset: u64,
    /// Its bytes, more than none.
    pub(crate) length: u32,
    pub(crate) cut: Cut,
    pub(crate) print: Print,
    /// The SHA-256 of its bytes.
    pub(crate) id: [u8; 32],
}

impl Record {
    /// Where it ended. `None` if no file is that long.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.length))
    }

    /// Whether the cutter, beginning a chunk at `start` where what is to be cut ends at `end`,
    /// would end that chunk where this one ended, *if its bytes are the same*. The cutter looks at
    /// nothing before a chunk's start, and at nothing behind the place it cuts at; so it cuts at
    /// the same place for the same reason, and where it was only stopped by the end it needs the
    /// same end.
    pub(crate) fn is_cut_again(&self, start: u64, end: u64) -> bool {
        self.offset == start
            && match self.cut {
                Cut::Arithmetic => false,
                Cut::Forced => self.end() == Some(end),
                Cut::Natural => self.end().is_some_and(|at| at <= end),
            }
    }

    /// Appends it.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        let cut = match self.cut {
            Cut::Arithmetic => 0,
            Cut::Forced => 1,
            Cut::Natural => 2,
        };
        to.extend_from_slice(&self.offset.to_le_bytes());
        to.extend_from_slice(&(self.length & LENGTH | cut << 30).to_le_bytes());
        to.extend_from_slice(&self.print.0);
        to.extend_from_slice(&self.id);
    }

    /// From its bytes. `None` if they are of no block.
    pub(crate) fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (print, id) = rest.split_first_chunk::<32>()?;
        let length = u32::from_le_bytes(*length);
        let cut = match length >> 30 {
            0 => Cut::Arithmetic,
            1 => Cut::Forced,
            2 => Cut::Natural,
            _ => return None,
        };
        let record = Self {
            offset: u64::from_le_bytes(*offset),
            length: length & LENGTH,
            cut,
            print: Print(*print),
            id: *id.first_chunk()?,
        };
        (record.length > 0 && record.end().is_some()).then_some(record)
    }
}

/// One file: which of the state's records are its.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Its path, hashed under a key.
    pub(crate) key: [u8; 16],
    /// Its first record.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: u32,
}

impl Entry {
    /// Appends it.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key);
        to.extend_from_slice(&self.first.to_le_bytes());
        to.extend_from_slice(&self.count.to_le_bytes());
    }

    /// From its bytes. `None` if the state has no such records.
    pub(crate) fn decode(bytes: &[u8; ENTRY], records: u64) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<16>()?;
        let (first, count) = rest.split_first_chunk::<8>()?;
        let entry = Self {
            key: *key,
            first: u64::from_le_bytes(*first),
            count: u32::from_le_bytes(*count.first_chunk()?),
        };
        let end = entry.first.checked_add(u64::from(entry.count))?;
        (entry.count > 0 && end <= records).then_some(entry)
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) records: u64,
    pub(crate) entries: u64,
}

impl Trailer {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.records.to_le_bytes(), self.entries.to_le_bytes()].concat()
    }

    /// From its bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (records, rest) = bytes.split_first_chunk::<8>()?;
        let (entries, rest) = rest.split_first_chunk::<8>()?;
        rest.is_empty().then_some(Self {
            records: u64::from_le_bytes(*records),
            entries: u64::from_le_bytes(*entries),
        })
    }

    /// Segments of records, and of entries.
    pub(crate) fn segments(&self) -> (u64, u64) {
        (
            self.records.div_ceil(RECORDS as u64),
            self.entries.div_ceil(ENTRIES as u64),
        )
    }

    /// Bytes of the whole file, if each seal takes `tag` bytes.
    pub(crate) fn file_size(&self, tag: usize) -> Option<u64> {
        let (records, entries) = self.segments();
        let segments = records.checked_add(entries)?;
        segments
            .checked_mul((SEGMENT + tag) as u64)?
            .checked_add((HEADER + TRAILER + tag) as u64)
    }
}

/// The entries of a segment, of which the state has so many in all. `None` if one is none, or they
/// are in disorder.
pub(crate) fn decode_entries(plain: &[u8], count: usize, records: u64) -> Option<Vec<Entry>> {
    let (chunks, _) = plain.as_chunks::<ENTRY>();
    let entries: Vec<Entry> = chunks
        .get(..count)?
        .iter()
        .map(|bytes| Entry::decode(bytes, records))
        .collect::<Option<_>>()?;
    entries
        .is_sorted_by(|a, b| a.key < b.key)
        .then_some(entries)
}

/// A record of a segment. `None` if there is none at this place.
pub(crate) fn record_at(plain: &[u8], at: usize) -> Option<Record> {
    let (chunks, _) = plain.as_chunks::<RECORD>();
    Record::decode(chunks.get(at)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64, length: u32, cut: Cut) -> Record {
        Record {
            offset,
            length,
            cut,
            print: Print([7; 32]),
            id: [9; 32],
        }
    }

    #[test]
    fn records_round_trip_and_impossible_ones_are_none() {
        for cut in [Cut::Arithmetic, Cut::Forced, Cut::Natural] {
            let record = record(1 << 40, 8 << 20, cut);
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(record_at(&bytes, 0), Some(record));
            assert_eq!(record_at(&bytes, 1), None);
            bytes[11] |= 0xc0;
            assert_eq!(record_at(&bytes, 0), None, "no such cut");
        }
        assert_eq!(
            record_at(&vec![0; SEGMENT], 3),
            None,
            "what is behind the last"
        );
        let mut bytes = Vec::new();
        record(u64::MAX, 1, Cut::Natural).encode(&mut bytes);
        assert_eq!(record_at(&bytes, 0), None, "no file is that long");
    }

    #[test]
    fn entries_name_records_that_exist_and_are_in_order() {
        let entry = |key: u8, first, count| Entry {
            key: [key; 16],
            first,
            count,
        };
        let encoded = |entries: &[Entry]| {
            let mut bytes = Vec::new();
            for entry in entries {
                entry.encode(&mut bytes);
            }
            bytes.resize(SEGMENT, 0);
            bytes
        };
        let good = [entry(1, 5, 5), entry(2, 0, 5)];
        assert_eq!(decode_entries(&encoded(&good), 2, 10).unwrap(), good);
        assert_eq!(decode_entries(&encoded(&good), 2, 9), None);
        assert_eq!(decode_entries(&encoded(&good), 3, 10), None, "an empty one");
        let twice = [entry(1, 0, 5), entry(1, 5, 5)];
        assert_eq!(decode_entries(&encoded(&twice), 2, 10), None);
        let endless = [entry(1, u64::MAX, 5)];
        assert_eq!(decode_entries(&encoded(&endless), 1, 10), None);
        assert_eq!(decode_entries(&encoded(&good), ENTRIES + 1, 10), None);
    }

    #[test]
    fn sizes_follow_from_numbers_and_do_not_overflow() {
        let of = |records, entries| Trailer { records, entries };
        assert_eq!(of(0, 0).file_size(16), Some(48 + 32));
        assert_eq!(of(861, 1).segments(), (2, 1));
        assert_eq!(of(861, 1).file_size(16), Some(48 + 32 + 3 * 65_376));
        assert_eq!(of(u64::MAX, u64::MAX).file_size(16), None);
        let trailer = of(861, 1);
        assert_eq!(Trailer::decode(&trailer.encode()), Some(trailer));
        assert_eq!(Trailer::decode(&[0; 17]), None);
    }

    #[test]
    fn a_chunk_is_cut_again_where_it_was_and_for_the_same_reason() {
        let natural = record(100, 50, Cut::Natural);
        assert!(natural.is_cut_again(100, 1000) && natural.is_cut_again(100, 150));
        assert!(!natural.is_cut_again(101, 1000), "another start");
        assert!(!natural.is_cut_again(100, 149), "it ends before");
        let forced = record(100, 50, Cut::Forced);
        assert!(forced.is_cut_again(100, 150));
        assert!(!forced.is_cut_again(100, 151), "what followed is new");
        assert!(!record(100, 50, Cut::Arithmetic).is_cut_again(100, 150));
    }
}
