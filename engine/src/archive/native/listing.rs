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

/// Memory for a list of names.
pub(super) fn memory(
    budget: &Arc<Budget>,
    dir: &Path,
    names: &[(OsString, bool)],
) -> Result<Permit> {
    let bytes = names.iter().map(|(name, _)| NAME + name.len() as u64).sum();
    budget.try_take(bytes).map_or_else(
        || {
            budget.take(
                bytes,
                &format!("the list of {} names in {}", names.len(), dir.display()),
            )
        },
        Ok,
    )
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

/// Names in a directory with whether each is one, sorted by name; what could be read, and the error that
/// ended the reading.
pub(super) fn list(dir: BorrowedFd<'_>) -> (Vec<(OsString, bool)>, Option<Errno>) {
    let mut names = Vec::new();
    let mut failed = None;
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
                names.push((OsString::from_vec(name.to_vec()), is_dir));
            }
        }
        Err(error) => failed = Some(error),
    }
    (sorted(names), failed)
}

/// Sorted by name. One that is removed and made again while the directory is read may be listed twice.
fn sorted(mut names: Vec<(OsString, bool)>) -> Vec<(OsString, bool)> {
    names.sort_unstable();
    names.dedup_by(|second, first| second.0 == first.0);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_listed_twice_counts_once() {
        let names = ["b", "a", "b", "c"].map(|name| (OsString::from(name), false));
        let listed = sorted(names.to_vec());
        let listed: Vec<_> = listed.iter().map(|(name, _)| name.as_os_str()).collect();
        assert_eq!(listed, ["a", "b", "c"]);
    }
}
