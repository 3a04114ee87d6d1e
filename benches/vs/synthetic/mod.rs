//! A repository with any number of blobs, made in minutes and hardly any room: what is listed and
//! never read is a hole.
//!
//! Does: write packs of file content that have their true lengths and true lists at their ends,
//! with a hole where the blobs would be; packs of directories that are real; index files as restic
//! writes them, 50,000 blobs each; snapshots. All is sealed with the repository's own key, so that
//! both programs take it for what any backup could have left. Five of eight blobs are used: of four
//! packs two are used in full, one by half, one not at all. Does not: make the repository, or
//! content. What reads content finds zeros.
//!
//! Two repositories made for one count differ in nonces only. Memory: a pack of directories and an
//! index file for each thread.
//!
//! Also compiled by the engine's tests, which have the engine's `crypto` at the same place.

mod content;
mod directories;
mod writer;

use std::{io, path::Path, sync::Mutex, thread};

use crate::crypto::{Id, Key};

/// Blobs of a pack: with 64 KiB each that is as large as packs are.
pub(crate) const PER_PACK: u64 = 256;
/// Packs of an index file.
const PER_INDEX: u64 = 200;
/// Blobs of a file.
const PER_FILE: u64 = 16;

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Blobs of file content.
    pub(crate) data: u64,
    /// Of these, how many a snapshot needs.
    pub(crate) used: u64,
    /// Directories.
    pub(crate) trees: u64,
    /// Packs of both.
    pub(crate) packs: u64,
    /// Index files.
    pub(crate) indexes: u64,
    /// Snapshots.
    pub(crate) snapshots: u64,
    /// Bytes of all packs, holes counted.
    pub(crate) bytes: u64,
}

impl Made {
    fn add(&mut self, other: Self) {
        self.data += other.data;
        self.used += other.used;
        self.trees += other.trees;
        self.packs += other.packs;
        self.indexes += other.indexes;
        self.snapshots += other.snapshots;
        self.bytes += other.bytes;
    }
}

/// Where it is written, and sealed with what.
#[derive(Clone, Copy)]
struct Repo<'a> {
    dir: &'a Path,
    key: &'a Key,
}

/// A blob of file content: its number tells all about it.
#[derive(Debug, Clone, Copy)]
struct Data {
    id: Id,
    /// Sealed.
    length: u32,
    plain: u32,
}

impl Data {
    fn of(number: u64) -> Self {
        let id = Id::of(&[&b"data "[..], &number.to_be_bytes()].concat());
        let random = u32::from(u16::from_be_bytes([id.0[30], id.0[31]]));
        let length = (32 << 10) + random;
        Self {
            id,
            length,
            plain: 2 * length,
        }
    }
}

/// How much of the pack of this number is used, in eighths.
fn used_eighths(pack: u64) -> u64 {
    match pack % 4 {
        0 | 1 => 8,
        2 => 4,
        _ => 0,
    }
}

/// Writes so many blobs of file content, with what belongs to them, into a new repository.
pub(crate) fn write(dir: &Path, key: &Key, blobs: u64) -> io::Result<Made> {
    let repo = Repo { dir, key };
    let mut made = Made::default();
    let packs = blobs.div_ceil(PER_PACK);
    let indexes = packs.div_ceil(PER_INDEX);
    for part in shared(indexes, |index| content::index(repo, index, blobs))? {
        made.add(part);
    }
    let directories = directories::write(repo, packs, blobs)?;
    made.add(directories);
    Ok(made)
}

/// Does `work` for all numbers below `count`, on all processors; the results in order.
fn shared<T: Send>(count: u64, work: impl Fn(u64) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    let next = Mutex::new(0..count);
    let take = || next.lock().ok()?.next();
    let run = || -> io::Result<Vec<(u64, T)>> {
        let mut done = Vec::new();
        while let Some(number) = take() {
            done.push((number, work(number)?));
        }
        Ok(done)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::new();
    thread::scope(|scope| -> io::Result<()> {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in running {
            let done = thread
                .join()
                .map_err(|_| io::Error::other("a thread that writes is gone"))?;
            all.extend(done?);
        }
        Ok(())
    })?;
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, done)| done).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_random_and_lengths_are_those_of_blobs() {
        let some: Vec<Data> = (0..1000).map(Data::of).collect();
        let mean = some.iter().map(|data| u64::from(data.length)).sum::<u64>() / 1000;
        assert!((60 << 10..68 << 10).contains(&mean), "{mean}");
        let firsts: std::collections::BTreeSet<u8> = some.iter().map(|data| data.id.0[0]).collect();
        assert!(firsts.len() > 240, "{}", firsts.len());
        assert_eq!((0..8).map(used_eighths).sum::<u64>(), 40);
    }

    #[test]
    fn shared_work_comes_in_order_and_fails_as_a_whole() {
        assert_eq!(
            shared(100, |n| Ok(2 * n)).unwrap(),
            (0..100).map(|n| 2 * n).collect::<Vec<_>>()
        );
        let failed = shared(10, |n| {
            if n == 7 {
                Err(io::Error::other("seven"))
            } else {
                Ok(())
            }
        });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
