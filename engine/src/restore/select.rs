//! Selecting paths of a snapshot.
//!
//! Pure: turns absolute paths into a tree of names that is walked along with the snapshot's own.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use crate::error::{Error, Result};

/// What is selected of one entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selected {
    Not,
    /// Something in it.
    Part(Select),
    Whole,
}

/// What is selected at one place and below.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Select {
    below: BTreeMap<OsString, Select>,
    whole: bool,
}

impl Select {
    /// `None` if everything is selected.
    ///
    /// # Errors
    /// `InvalidConfig` for paths that are not absolute or go up.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Option<Self>> {
        if paths.is_empty() {
            return Ok(None);
        }
        let mut root = Self::default();
        for path in paths {
            root.add(path).ok_or_else(|| Error::InvalidConfig {
                what: "selected path, which must be absolute and without ..",
                message: format!("{}", path.display()),
            })?;
        }
        Ok(root.or_everything())
    }

    fn add(&mut self, path: &Path) -> Option<()> {
        let mut at = self;
        let mut parts = path.components();
        if parts.next() != Some(Component::RootDir) {
            return None;
        }
        for part in parts {
            let Component::Normal(name) = part else {
                return None;
            };
            at = at.below.entry(name.to_owned()).or_default();
        }
        at.whole = true;
        Some(())
    }

    fn or_everything(self) -> Option<Self> {
        (!self.whole).then_some(self)
    }

    /// What of an entry of this directory is selected. Each name can be asked for once.
    pub(super) fn take(&mut self, name: &OsStr) -> Selected {
        match self.below.remove(name).map(Self::or_everything) {
            None => Selected::Not,
            Some(None) => Selected::Whole,
            Some(Some(part)) => Selected::Part(part),
        }
    }

    /// What was never asked for, as paths.
    pub(super) fn left(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut todo = vec![(PathBuf::new(), self)];
        while let Some((path, at)) = todo.pop() {
            if at.whole {
                paths.push(path.clone());
            }
            todo.extend(at.below.iter().map(|(name, at)| (path.join(name), at)));
        }
        paths.sort();
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(paths: &[&str]) -> Option<Select> {
        let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
        Select::new(&paths).unwrap()
    }

    #[test]
    fn walks_along() {
        assert_eq!(select(&[]), None);
        assert_eq!(select(&["/a", "/"]), None);
        let mut root = select(&["/a/b", "/a//c/", "/d", "/d/e", "/f/g"]).unwrap();
        assert_eq!(root.take(OsStr::new("x")), Selected::Not);
        assert_eq!(root.take(OsStr::new("d")), Selected::Whole);
        let Selected::Part(mut a) = root.take(OsStr::new("a")) else {
            panic!("not selected")
        };
        assert_eq!(a.take(OsStr::new("b")), Selected::Whole);
        assert_eq!(a.take(OsStr::new("d")), Selected::Not);
        assert_eq!(a.left(), [PathBuf::from("c")]);
        assert_eq!(root.left(), [PathBuf::from("f/g")]);
    }

    #[test]
    fn other_paths_are_refused() {
        for bad in ["a", "", "/a/../b", "./a"] {
            let error = Select::new(&[PathBuf::from(bad)]).unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { .. }), "{bad}");
        }
    }
}
