//! Chunks of one size: cuts are a function of the offset alone.
//!
//! A page-structured file changes in place, so the same bytes stay at the same offsets and small
//! chunks find what changed. A file that grows keeps all its cuts.

/// The smallest size chosen.
pub(crate) const MIN_CHUNK: u64 = 64 << 10;
/// The smallest size chosen for what is not changed in its middle.
pub(crate) const LOG_CHUNK: u64 = 1 << 20;
/// The largest size chosen.
pub(crate) const MAX_CHUNK: u64 = 8 << 20;
/// Most chunks the files of one directory should have together: each costs 67 bytes in the
/// directory's entry, which is written anew whenever anything in it changes.
pub(crate) const MAX_IDS_PER_DIRECTORY: u64 = 512 << 10;

/// The chunk size for a directory whose large files have so many bytes together.
pub(crate) fn chunk_size(directory_bytes: u64) -> u64 {
    let mut size = MIN_CHUNK;
    while size < MAX_CHUNK && directory_bytes.div_ceil(size) > MAX_IDS_PER_DIRECTORY {
        size *= 2;
    }
    size
}

/// The chunk size that gave a file its blobs, if they are of one size: every one but the last as
/// long as the first, the last no longer, and the size one that [`chunk_size`] can choose. Blobs of
/// the largest size are taken for holes.
pub(crate) fn size_of_blobs(lengths: impl Iterator<Item = u64>) -> Option<u64> {
    let mut lengths = lengths.filter(|len| *len != MAX_CHUNK);
    let size = lengths.next()?;
    if !size.is_power_of_two() || !(MIN_CHUNK..MAX_CHUNK).contains(&size) {
        return None;
    }
    let mut last = lengths.next()?;
    for len in lengths {
        if last != size {
            return None;
        }
        last = len;
    }
    (last <= size).then_some(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_follow_the_directory() {
        assert_eq!(chunk_size(0), 64 << 10);
        assert_eq!(chunk_size(32 << 30), 64 << 10);
        assert_eq!(chunk_size((32 << 30) + 1), 128 << 10);
        assert_eq!(chunk_size(1 << 40), 2 << 20);
        assert_eq!(chunk_size(u64::MAX), MAX_CHUNK);
    }

    #[test]
    fn blobs_tell_the_size() {
        let of = |lengths: &[u64]| size_of_blobs(lengths.iter().copied());
        assert_eq!(of(&[65536, 65536, 100]), Some(65536));
        assert_eq!(of(&[65536, 65536]), Some(65536));
        assert_eq!(of(&[65536]), None, "one blob tells nothing");
        assert_eq!(of(&[65536, 8 << 20, 65536, 1]), Some(65536), "with a hole");
        assert_eq!(of(&[65536, 100, 65536]), None);
        assert_eq!(of(&[524_288, 700_000, 100]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn ids_stay_below_the_cap(bytes in 0_u64..1 << 42) {
            let size = chunk_size(bytes);
            prop_assert!(size.is_power_of_two());
            prop_assert!(size == MAX_CHUNK || bytes.div_ceil(size) <= MAX_IDS_PER_DIRECTORY);
            prop_assert!(size == MIN_CHUNK || bytes.div_ceil(size / 2) > MAX_IDS_PER_DIRECTORY);
        }
    }
}
