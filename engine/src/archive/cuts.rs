//! How the files of an archive were cut, and why, for its report.
//!
//! Does: count files and bytes by way and reason, and remember the largest few of each by name.
//! Does not: count files of at most one piece, for which it makes no difference, or files that were
//! not read because they are the same as in the parent. There are few ways and reasons, so its
//! memory is bounded.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::{
    chunk::policy::{self, Cuts, Reason},
    rows::show_path,
};

/// Files remembered by name for each way and reason.
const NAMED: usize = 3;

/// Files that were cut in one way for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutFiles {
    /// How they were cut.
    pub cuts: Cuts,
    /// Why.
    pub reason: Reason,
    /// How many they are.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// The three largest, the largest first.
    pub largest: Vec<CutFile>,
}

/// One of the files that were cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutFile {
    /// Its path, safe to show like those of [`FileError`](crate::FileError).
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What was cut so far.
#[derive(Default)]
pub(super) struct Tally(Mutex<BTreeMap<(Cuts, Reason), CutFiles>>);

impl Tally {
    /// Counts a file that was read and stored.
    pub(super) fn add(&self, path: &Path, bytes: u64, cuts: Cuts, reason: Reason) {
        if bytes <= policy::SMALL {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let group = all.entry((cuts, reason)).or_insert_with(|| CutFiles {
            cuts,
            reason,
            files: 0,
            bytes: 0,
            largest: Vec::new(),
        });
        group.files += 1;
        group.bytes += bytes;
        let smallest = group.largest.get(NAMED - 1).map_or(0, |file| file.bytes);
        if bytes >= smallest {
            let path = show_path(path);
            group.largest.push(CutFile { path, bytes });
            // The same whichever thread was first.
            group
                .largest
                .sort_by(|a, b| (Reverse(a.bytes), &a.path).cmp(&(Reverse(b.bytes), &b.path)));
            group.largest.truncate(NAMED);
        }
    }

    /// All, in the order of ways and reasons.
    pub(super) fn take(&self) -> Vec<CutFiles> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *all).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::pages::PageFormat;

    #[test]
    fn counts_by_way_and_reason_and_names_the_largest() {
        let tally = Tally::default();
        let pages = Reason::Pages(PageFormat::PostgreSql);
        for (path, bytes, cuts, reason) in [
            ("a", 600 << 10, Cuts::Rabin, Reason::Default),
            ("d", 1 << 20, Cuts::Rabin, Reason::Default),
            ("c\n", 1 << 20, Cuts::Rabin, Reason::Default),
            ("b", 2 << 20, Cuts::Rabin, Reason::Default),
            ("one piece", 512 << 10, Cuts::Rabin, Reason::Default),
            ("p", 1 << 20, Cuts::Fixed(65536), pages),
            ("q", 1 << 20, Cuts::Fixed(131_072), pages),
            ("r", 1 << 20, Cuts::Fixed(65536), Reason::Parent),
        ] {
            tally.add(Path::new(path), bytes, cuts, reason);
        }
        let all = tally.take();
        let groups: Vec<_> = all.iter().map(|g| (g.cuts, g.reason, g.files)).collect();
        assert_eq!(
            groups,
            [
                (Cuts::Rabin, Reason::Default, 4),
                (Cuts::Fixed(65536), Reason::Parent, 1),
                (Cuts::Fixed(65536), pages, 1),
                (Cuts::Fixed(131_072), pages, 1),
            ]
        );
        assert_eq!(all[0].bytes, (4 << 20) + (600 << 10));
        let names: Vec<_> = all[0].largest.iter().map(|file| &file.path[..]).collect();
        assert_eq!(names, ["b", "c\\n", "d"]);
        assert_eq!(tally.take(), []);
    }
}
