//! The local state of fingerprints, when its seals are open: who has the repository's key can make
//! any of it.

use crate::archive::fingerprints::format::{self, ENTRY, RECORD, TAG, Trailer};

/// Records, then the same bytes as a table of so many entries for so many records, then as a
/// trailer.
pub(super) fn prints(data: &[u8]) {
    let Some((numbers, plain)) = data.split_first_chunk::<10>() else {
        return;
    };
    let [count, records @ .., _] = *numbers;
    let records = u64::from_le_bytes(records);
    for at in 0..=plain.len() / RECORD {
        let Some(record) = format::record_at(plain, at) else {
            continue;
        };
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, plain[at * RECORD..][..RECORD]);
        let end = record.end().expect("only those with an end are decoded");
        assert!(record.length > 0 && end > record.offset);
        // Wherever it is cut again, its bytes are there.
        for limit in [record.offset, end - 1, end, u64::MAX] {
            assert!(!record.is_cut_again(record.offset, limit) || end <= limit);
        }
    }
    let count = usize::from(count);
    if let Some(entries) = format::decode_entries(plain, count, records) {
        assert_eq!(entries.len(), count);
        let mut again = Vec::new();
        for entry in &entries {
            assert!(entry.first < records && u64::from(entry.count) <= records - entry.first);
            entry.encode(&mut again);
        }
        assert_eq!(again, plain[..count * ENTRY]);
    }
    if let Some(trailer) = Trailer::decode(plain) {
        assert_eq!(trailer.encode(), plain);
        let (segments, tables) = trailer.segments();
        assert!(segments <= trailer.records && tables <= trailer.entries);
        assert!(trailer.file_size(TAG).is_none_or(|size| size > TAG as u64));
    }
}
