//! What is archived, and where it will be in the snapshot.
//!
//! Does: put the paths asked for together as one plan from the root down, and open where the walk
//! starts. Does not: read anything below. Paths are made absolute by their own text alone: `..`
//! takes back the name before it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    error::{Error, Result},
    files::{beneath::Root, meta::Meta},
};

/// What to archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, whose content becomes the root of the snapshot.
    Directory(PathBuf),
    /// Files and directories, each at its own place below the root of the snapshot, as restic lays
    /// them out. They must be absolute.
    Paths(Vec<PathBuf>),
}

impl Default for Source {
    fn default() -> Self {
        Self::Directory(PathBuf::new())
    }
}

/// What is to be taken of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// It was asked for: all of it is taken.
    pub(super) whole: bool,
    /// What was asked for below it.
    pub(super) below: BTreeMap<OsString, Plan>,
}

/// Where the walk starts.
pub(super) struct Origin {
    pub(super) root: Root,
    /// The root's path in reports.
    pub(super) path: PathBuf,
    pub(super) plan: Plan,
    /// The paths shown in the snapshot.
    pub(super) shown: Vec<String>,
}

impl Origin {
    /// Opens the source. `shown` is the snapshot's path where the source does not say it.
    pub(super) fn open(source: &Source, shown: &str) -> Result<Self> {
        match source {
            Source::Directory(path) => Self::directory(path, shown),
            Source::Paths(paths) => Self::paths(paths),
        }
    }

    fn directory(path: &Path, shown: &str) -> Result<Self> {
        if !shown.starts_with('/') {
            return Err(Error::InvalidConfig {
                what: "snapshot path, which must be absolute",
                message: format!("{shown:?}"),
            });
        }
        let root = Root::open(path).map_err(|error| unusable(path, error))?;
        // A directory that cannot be listed must not look like an empty one.
        root.can_list().map_err(|error| unusable(path, error))?;
        Ok(Self {
            root,
            path: PathBuf::new(),
            plan: Plan {
                whole: true,
                below: BTreeMap::new(),
            },
            shown: vec![shown.to_owned()],
        })
    }

    fn paths(paths: &[PathBuf]) -> Result<Self> {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| clean(path))
            .collect::<Result<_>>()?;
        let first = paths.first().ok_or_else(|| Error::InvalidConfig {
            what: "list of paths",
            message: "it is empty".to_owned(),
        })?;
        // One that is missing is a row; if all are, there is nothing to make a snapshot of.
        let missing = |path: &PathBuf| Meta::at(rustix::fs::CWD, path.as_path()).err();
        let errors: Option<Vec<_>> = paths.iter().map(missing).collect();
        if let Some(error) = errors.and_then(|errors| errors.first().copied()) {
            return Err(unusable(first, error));
        }
        let root = Path::new("/");
        let mut plan = Plan::default();
        let mut shown: Vec<String> = Vec::new();
        for path in &paths {
            plan.add(path);
            let text = path.to_string_lossy().into_owned();
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        Ok(Self {
            root: Root::open(root).map_err(|error| unusable(root, error))?,
            path: root.to_owned(),
            plan,
            shown,
        })
    }
}

impl Plan {
    fn add(&mut self, path: &Path) {
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let at = names.fold(self, |at, name| {
            at.below.entry(name.to_owned()).or_default()
        });
        at.whole = true;
    }
}

fn clean(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() {
        return Err(Error::InvalidConfig {
            what: "path to archive, which must be absolute",
            message: path.display().to_string(),
        });
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    Ok(clean)
}

fn unusable(path: &Path, error: Errno) -> Error {
    Error::Source {
        path: path.to_owned(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_merged_from_the_root_down() {
        let mut plan = Plan::default();
        for path in ["/a/b", "/a/c/d", "/a/b/e"] {
            plan.add(Path::new(path));
        }
        assert!(!plan.whole && !plan.below[OsString::from("a").as_os_str()].whole);
        let a = &plan.below[OsString::from("a").as_os_str()];
        let names: Vec<_> = a.below.keys().collect();
        assert_eq!(names, ["b", "c"]);
        let b = &a.below[OsString::from("b").as_os_str()];
        assert!(b.whole && b.below[OsString::from("e").as_os_str()].whole);
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        assert_eq!(
            clean(Path::new("/a//b/./c/../d/")).unwrap(),
            Path::new("/a/b/d")
        );
        assert_eq!(clean(Path::new("/../..")).unwrap(), Path::new("/"));
        assert!(clean(Path::new("a")).is_err());
    }

    #[test]
    fn of_several_paths_one_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let (there, gone) = (dir.path().to_owned(), dir.path().join("gone"));
        assert!(Origin::paths(&[gone.clone(), there]).is_ok());
        assert!(matches!(Origin::paths(&[gone]), Err(Error::Source { .. })));
        assert!(Origin::paths(&[]).is_err());
    }
}
