//! Which files an archive leaves out: by pattern in the syntax of `.gitignore`, by a cache's
//! marker, by size.
//!
//! Patterns are relative to the snapshot's root. A marker counts only with its signature and as a
//! plain file; a link to one does not. Does not: report what was left out.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::fd::BorrowedFd,
    path::Path,
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use crate::{
    error::{Error, Result},
    files::{beneath::open_at, meta},
};

/// The marker of a cache directory.
pub(crate) const CACHE_TAG: &str = "CACHEDIR.TAG";
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    patterns: Option<Gitignore>,
    caches: bool,
    larger_than: Option<u64>,
}

impl Filter {
    pub(crate) fn new(patterns: &[String], caches: bool, larger_than: Option<u64>) -> Result<Self> {
        let invalid = |error: ignore::Error| Error::InvalidConfig {
            what: "exclude pattern",
            message: error.to_string(),
        };
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            builder.add_line(None, pattern).map_err(invalid)?;
        }
        let compiled = match patterns {
            [] => None,
            _ => Some(builder.build().map_err(invalid)?),
        };
        Ok(Self {
            patterns: compiled,
            caches,
            larger_than,
        })
    }

    /// Whether an entry is left out by a pattern, and all that is below it.
    pub(crate) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        self.patterns.as_ref().is_some_and(|patterns| {
            patterns
                .matched(Path::new("/").join(path), is_dir)
                .is_ignore()
        })
    }

    /// Whether there are patterns at all.
    pub(crate) fn has_patterns(&self) -> bool {
        self.patterns.is_some()
    }

    /// Whether a file of so many bytes is left out.
    pub(crate) fn too_large(&self, size: u64) -> bool {
        self.larger_than.is_some_and(|limit| size > limit)
    }

    /// Whether a directory with these entries, sorted by name, is a cache to be left out.
    pub(crate) fn is_cache(&self, dir: BorrowedFd<'_>, names: &[(OsString, bool)]) -> bool {
        let tag = OsStr::new(CACHE_TAG);
        self.caches
            && names
                .binary_search_by(|(name, _)| name.as_os_str().cmp(tag))
                .is_ok_and(|at| !names[at].1)
            && has_signature(dir)
    }
}

fn has_signature(dir: BorrowedFd<'_>) -> bool {
    let Ok(fd) = open_at(dir, OsStr::new(CACHE_TAG), OFlags::NONBLOCK) else {
        return false;
    };
    let is_file = meta::Meta::of(&fd).is_ok_and(|meta| meta.kind == meta::Kind::File);
    let mut start = [0; SIGNATURE.len()];
    is_file
        && std::os::unix::fs::FileExt::read_exact_at(&File::from(fd), &mut start, 0).is_ok()
        && start == SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitignore_syntax() {
        let patterns = ["*.log", "/cache/", "!keep.log", "deep/**/x"].map(String::from);
        let filter = Filter::new(&patterns, false, None).unwrap();
        for (path, is_dir, out) in [
            ("a.log", false, true),
            ("d/a.log", false, true),
            ("keep.log", false, false),
            ("cache", true, true),
            ("cache", false, false),
            ("d/cache", true, false),
            ("deep/1/2/x", false, true),
            ("other", false, false),
        ] {
            assert_eq!(filter.excludes(Path::new(path), is_dir), out, "{path}");
        }
        assert!(Filter::new(&["[z-a]".to_owned()], false, None).is_err());
    }

    #[test]
    fn a_cache_is_known_by_its_signature() {
        use std::os::fd::AsFd as _;
        let dir = tempfile::tempdir().unwrap();
        let filter = Filter::new(&[], true, Some(10)).unwrap();
        let is_cache = || {
            let fd = File::open(dir.path()).unwrap();
            filter.is_cache(fd.as_fd(), &[(CACHE_TAG.into(), false)])
        };
        assert!(!is_cache(), "there is no tag");
        let tag = dir.path().join(CACHE_TAG);
        std::fs::write(&tag, "Signature: something else, and long enough for it").unwrap();
        assert!(!is_cache());
        std::fs::write(&tag, SIGNATURE).unwrap();
        assert!(is_cache());
        std::fs::rename(&tag, dir.path().join("else")).unwrap();
        std::os::unix::fs::symlink("else", &tag).unwrap();
        assert!(!is_cache(), "links are not followed");
        assert!(filter.too_large(11) && !filter.too_large(10));
    }
}
