//! Holes of sparse files.
//!
//! Does: tell which parts of a file hold data. A hole counts from [`BLOB`] bytes on and is stored
//! as blobs of that many zeros; what is left of it, and smaller holes, are read as data. Does not:
//! read. Where the file system cannot tell, everything is data.

use std::{io, os::fd::AsFd};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// Bytes of zeros in one blob.
pub(crate) const BLOB: u64 = 8 << 20;

/// More holes than this are read like data.
const MAX_HOLES: usize = 1 << 16;

/// A part of a file. Parts follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// To be read and cut.
    Data {
        /// Where it starts.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// So many blobs of zeros.
    Zeros {
        /// Where it starts.
        start: u64,
        /// How many.
        blobs: u64,
    },
}

/// The parts of a file of `size` bytes that occupies `blocks` blocks of 512 bytes. Data that starts
/// behind a hole starts at a multiple of `align` (a divisor of [`BLOB`]).
pub(crate) fn parts(fd: impl AsFd, size: u64, blocks: u64, align: u64) -> io::Result<Vec<Part>> {
    let whole = vec![Part::Data {
        start: 0,
        end: size,
    }];
    if blocks.saturating_mul(512).saturating_add(BLOB) > size {
        return Ok(whole);
    }
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size && holes.len() < MAX_HOLES {
        let hole = match seek(&fd, SeekFrom::Hole(at)) {
            Ok(hole) => hole,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if hole >= size {
            break;
        }
        at = match seek(&fd, SeekFrom::Data(hole)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        if at <= hole {
            break;
        }
        if at - hole >= BLOB {
            holes.push((hole, at));
        }
    }
    Ok(lay_out(&holes, size, align))
}

/// The parts of a file with these holes, in order of offset.
fn lay_out(holes: &[(u64, u64)], size: u64, align: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut done = 0;
    for (start, end) in holes {
        let start = start.next_multiple_of(align.max(1)).max(done);
        let blobs = end.saturating_sub(start) / BLOB;
        if blobs == 0 {
            continue;
        }
        if start > done {
            parts.push(Part::Data {
                start: done,
                end: start,
            });
        }
        parts.push(Part::Zeros { start, blobs });
        done = start + blobs * BLOB;
    }
    if done < size {
        parts.push(Part::Data {
            start: done,
            end: size,
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::fs::{FileExt as _, MetadataExt as _},
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sparse_file_has_few_parts() {
        let file = tempfile::tempfile().unwrap();
        let size = 1 << 40;
        file.set_len(size).unwrap();
        file.write_all_at(&vec![1; 1 << 20], 100 << 30).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        let parts = parts(&file, size, blocks, 65536).unwrap();
        assert!(parts.len() <= 4, "{parts:?}");
        let read: u64 = parts
            .iter()
            .map(|part| {
                if let Part::Data { start, end } = part {
                    end - start
                } else {
                    0
                }
            })
            .sum();
        assert!((1 << 20..4 * BLOB).contains(&read), "{read}");
    }

    #[test]
    fn a_full_file_is_one_part() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 100]).unwrap();
        assert_eq!(
            parts(&file, 100, 8, 1).unwrap(),
            [Part::Data { start: 0, end: 100 }]
        );
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_and_zeros_lie_in_holes(
            cuts in proptest::collection::btree_set(0_u64..200 << 20, 0..12),
            size in 200_u64 << 20..220 << 20,
            fine in any::<bool>(),
        ) {
            let align = if fine { 1 } else { 65536 };
            let cuts: Vec<_> = cuts.into_iter().collect();
            let holes: Vec<_> = cuts.chunks_exact(2).map(|c| (c[0], c[1])).collect();
            let mut at = 0;
            for part in lay_out(&holes, size, align) {
                match part {
                    Part::Data { start, end } => {
                        prop_assert_eq!(start, at);
                        prop_assert!(end > start);
                        at = end;
                    }
                    Part::Zeros { start, blobs } => {
                        prop_assert_eq!(start, at);
                        prop_assert!(blobs > 0);
                        prop_assert_eq!(start % align, 0);
                        at = start + blobs * BLOB;
                        prop_assert!(holes.iter().any(|(s, e)| *s <= start && at <= *e));
                    }
                }
            }
            prop_assert_eq!(at, size);
        }
    }
}
