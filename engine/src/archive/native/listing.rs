//! Names of a directory, sorted.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::BorrowedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
    sync::Arc,
};

use rustix::{fs::FileType, io::Errno};

use super::budget::{Budget, Permit};
use crate::{
    archive::source::Plan,
    error::Result,
    files::meta::{Kind, Meta},
};

/// Bytes of a name in a list, beside its own: half of it in the list, half at its own place.
const NAME: u64 = 64;

/// Bytes taken at once while a list grows.
const STEP: u64 = 64 << 10;

/// Names of a directory with whether each is one, sorted by name, and the memory for them.
pub(super) struct Listed {
    pub(super) names: Vec<(OsString, bool)>,
    pub(super) memory: Permit,
    /// What ended the reading before its end.
    pub(super) failed: Option<Errno>,
}

/// Memory for a list of names, part of which is there.
pub(super) fn memory(
    mut memory: Permit,
    budget: &Arc<Budget>,
    dir: &Path,
    names: &[(OsString, bool)],
) -> Result<Permit> {
    let bytes = names.iter().map(|(name, _)| bytes_of(name)).sum();
    grow(&mut memory, bytes, budget, dir, names.len())?;
    memory.give_back(memory.bytes().saturating_sub(bytes));
    Ok(memory)
}

fn bytes_of(name: &OsString) -> u64 {
    NAME + name.len() as u64
}

fn grow(
    memory: &mut Permit,
    bytes: u64,
    budget: &Arc<Budget>,
    dir: &Path,
    count: usize,
) -> Result<()> {
    let missing = bytes.saturating_sub(memory.bytes());
    if missing > 0 {
        let what = || format!("the list of {count} names in {}", dir.display());
        let taken = budget.try_take(missing);
        memory.join(taken.map_or_else(|| budget.take(missing, &what()), Ok)?);
    }
    Ok(())
}

/// What names occupy that are in a list no longer.
pub(super) fn without_list(names: &[OsString]) -> u64 {
    names.iter().map(|name| NAME / 2 + name.len() as u64).sum()
}

/// The names listed, and those that were asked for.
pub(super) fn with_planned(
    mut names: Vec<(OsString, bool)>,
    plan: &Plan,
    dir: BorrowedFd<'_>,
) -> Vec<(OsString, bool)> {
    let listed = |name: &OsString| {
        names
            .binary_search_by(|(listed, _)| listed.cmp(name))
            .is_ok()
    };
    let is_dir =
        |name: &OsString| Meta::at(dir, name.as_os_str()).is_ok_and(|meta| meta.kind == Kind::Dir);
    let missing = plan.below.keys().filter(|name| !listed(name));
    let missing: Vec<_> = missing.map(|name| (name.clone(), is_dir(name))).collect();
    names.extend(missing);
    names.sort_unstable();
    names
}

/// Lists a directory: what of it could be read.
pub(super) fn list(dir: BorrowedFd<'_>, budget: &Arc<Budget>, path: &Path) -> Result<Listed> {
    let mut names = Vec::new();
    let mut memory = Permit::empty(budget);
    let (mut bytes, mut failed) = (0, None);
    match rustix::fs::Dir::read_from(dir) {
        Ok(entries) => {
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let is_dir = match entry.file_type() {
                    FileType::Unknown => Meta::at(dir, OsStr::from_bytes(name))
                        .is_ok_and(|meta| meta.kind == Kind::Dir),
                    known => known == FileType::Directory,
                };
                let name = OsString::from_vec(name.to_vec());
                bytes += bytes_of(&name);
                if bytes > memory.bytes() {
                    grow(&mut memory, bytes + STEP, budget, path, names.len())?;
                }
                names.push((name, is_dir));
            }
        }
        Err(error) => failed = Some(error),
    }
    Ok(Listed {
        names: sorted(names),
        memory,
        failed,
    })
}

/// Sorted by name. One that is removed and made again while the directory is read may be listed
/// twice.
fn sorted(mut names: Vec<(OsString, bool)>) -> Vec<(OsString, bool)> {
    names.sort_unstable();
    names.dedup_by(|second, first| second.0 == first.0);
    names
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::error::Error;

    #[test]
    fn a_list_does_not_outgrow_its_memory() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3000 {
            std::fs::File::create(dir.path().join(format!("{n:04}"))).unwrap();
        }
        let open = std::fs::File::open(dir.path()).unwrap();
        // 68 bytes for each name.
        let budget = Budget::new(150_000);
        let listed = list(open.as_fd(), &budget, dir.path());
        assert!(matches!(listed, Err(Error::MemoryLimit { .. })));
        assert_eq!(budget.left(), 150_000);
        let budget = Budget::new(300_000);
        let open = std::fs::File::open(dir.path()).unwrap();
        let Listed { names, memory, .. } = list(open.as_fd(), &budget, dir.path()).unwrap();
        let memory = super::memory(memory, &budget, dir.path(), &names).unwrap();
        assert_eq!((names.len(), memory.bytes()), (3000, 3000 * 68));
        assert_eq!(budget.left(), 300_000 - 3000 * 68);
    }

    #[test]
    fn a_name_listed_twice_counts_once() {
        let names = ["b", "a", "b", "c"].map(|name| (OsString::from(name), false));
        let listed = sorted(names.to_vec());
        let listed: Vec<_> = listed.iter().map(|(name, _)| name.as_os_str()).collect();
        assert_eq!(listed, ["a", "b", "c"]);
    }
}
