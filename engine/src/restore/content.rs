//! Writing bytes into a file, with holes where asked. Pure decisions about zeros beside it.

use std::os::fd::BorrowedFd;

use rustix::{fs::FallocateFlags, io::Errno};

/// Zeros become holes in whole blocks of this size.
const BLOCK: usize = 4096;
/// Shorter runs of zeros are written: a file full of small holes is slow to read and to extend.
const LEAST_HOLE: usize = 8 * BLOCK;

/// How zeros are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    /// As zeros.
    Write,
    /// Not at all: the file is new, and what is not written is zero.
    Skip,
    /// As holes punched into what is there.
    Punch,
}

/// Writes `data` at an offset.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    data: &[u8],
    offset: u64,
    zeros: Zeros,
) -> Result<(), Errno> {
    if zeros == Zeros::Write {
        return write_all(fd, data, offset);
    }
    let mut end = 0;
    for (start, next) in data_runs(data, offset) {
        hole(fd, &data[end..start], offset + end as u64, zeros)?;
        write_all(fd, &data[start..next], offset + start as u64)?;
        end = next;
    }
    hole(fd, &data[end..], offset + end as u64, zeros)
}

fn hole(fd: BorrowedFd<'_>, data: &[u8], offset: u64, zeros: Zeros) -> Result<(), Errno> {
    if zeros == Zeros::Skip || data.is_empty() {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(fd, flags, offset, data.len() as u64) {
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => write_all(fd, data, offset),
        result => result,
    }
}

pub(super) fn write_all(fd: BorrowedFd<'_>, mut data: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::pwrite(fd, data, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(len) => {
                data = &data[len..];
                offset += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ranges of `data`, which starts at `offset` of the file, outside long runs of whole blocks of
/// zeros.
fn data_runs(data: &[u8], offset: u64) -> Vec<(usize, usize)> {
    let first = (BLOCK - usize::try_from(offset % BLOCK as u64).unwrap_or(0)) % BLOCK;
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let end = if start < first { first } else { start + BLOCK }.min(data.len());
        let whole = end - start == BLOCK;
        if !(whole && is_zero(&data[start..end])) {
            match runs.last_mut() {
                Some(last) if start - last.1 < LEAST_HOLE => last.1 = end,
                None if start < LEAST_HOLE => runs.push((0, end)),
                _ => runs.push((start, end)),
            }
        }
        start = end;
    }
    // A short run of zeros at the end goes with what is before it.
    if let Some(last) = runs.last_mut()
        && data.len() - last.1 < LEAST_HOLE
    {
        last.1 = data.len();
    }
    runs
}

pub(super) fn is_zero(data: &[u8]) -> bool {
    let (head, rest) = data.split_at(data.len().min(16));
    let none = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    none(head) && rest.chunks(BLOCK).all(none)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_runs_of_whole_aligned_blocks_of_zeros_are_left_out() {
        let mut data = vec![0; 40 * BLOCK + 10];
        assert_eq!(data_runs(&data, 0), [(40 * BLOCK, 40 * BLOCK + 10)]);
        data[10 * BLOCK] = 1;
        data[12 * BLOCK] = 1;
        assert_eq!(
            data_runs(&data, 0),
            [(10 * BLOCK, 13 * BLOCK), (40 * BLOCK, 40 * BLOCK + 10)]
        );
        // Blocks are those of the file, not of the blob.
        assert_eq!(data_runs(&data, 4095)[0], (0, 1));
        assert!(data_runs(&[], 3).is_empty());
        assert!(data_runs(&vec![0; 20 * BLOCK], 0).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_same_bytes_whatever_is_done_about_zeros(
            runs in proptest::collection::vec((any::<bool>(), 1_usize..60_000), 1..8),
            offset in 0_u64..10_000,
        ) {
            let data: Vec<u8> = runs.iter().flat_map(|&(zero, len)| vec![if zero { 0 } else { 7 }; len]).collect();
            let mut expected = vec![0; usize::try_from(offset).unwrap()];
            expected.extend(&data);
            let dir = tempfile::tempdir().unwrap();
            for (name, zeros) in [("write", Zeros::Write), ("skip", Zeros::Skip), ("punch", Zeros::Punch)] {
                let path = dir.path().join(name);
                let file = File::create(&path).unwrap();
                if zeros == Zeros::Punch {
                    write_all(file.as_fd(), &vec![9; data.len()], offset).unwrap();
                }
                write(file.as_fd(), &data, offset, zeros).unwrap();
                file.set_len(expected.len() as u64).unwrap();
                prop_assert!(std::fs::read(&path).unwrap() == expected);
            }
        }
    }
}
