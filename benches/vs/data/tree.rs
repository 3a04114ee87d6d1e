//! What lies below a folder: sizes, what came since, and whether two trees hold the same.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// The regular files below a folder, with their lengths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing(BTreeMap<PathBuf, u64>);

impl Listing {
    /// Looks. A folder that is not there has nothing in it.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut todo = vec![dir.to_owned()];
        while let Some(folder) = todo.pop() {
            let failed = || format!("cannot list {}", folder.display());
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder == dir => {
                    break;
                }
                other => other.with_context(failed)?,
            };
            for entry in entries {
                let entry = entry.with_context(failed)?;
                let metadata = entry.metadata().with_context(failed)?;
                if metadata.is_dir() {
                    todo.push(entry.path());
                } else if metadata.is_file() {
                    found.insert(entry.path(), metadata.len());
                }
            }
        }
        Ok(Self(found))
    }

    /// How many files.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each file's length.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.0.values().copied()
    }

    /// The files themselves, with their lengths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.0.iter().map(|(path, len)| (path.as_path(), *len))
    }

    /// Removes what came into `dir` since this listing, so that it is as it was. What a program
    /// removed or rewrote meanwhile cannot be brought back, and is an error.
    pub(crate) fn roll_back(&self, dir: &Path) -> Result<()> {
        let now = Self::of(dir)?;
        for (path, len) in &self.0 {
            ensure!(
                now.0.get(path) == Some(len),
                "{} was removed or rewritten: the next run would not start where this one did",
                path.display()
            );
        }
        for path in now.0.keys().filter(|path| !self.0.contains_key(*path)) {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }
}

/// Whether every file of `source` lies in `copy` with the same content, and no other file does.
pub(crate) fn same(source: &Path, copy: &Path) -> Result<()> {
    let (one, two) = (Listing::of(source)?, Listing::of(copy)?);
    ensure!(
        one.len() == two.len(),
        "{} files were restored of {}",
        two.len(),
        one.len()
    );
    for (path, len) in &one.0 {
        let relative = path
            .strip_prefix(source)
            .context("a path outside its folder")?;
        let other = copy.join(relative);
        ensure!(
            two.0.get(&other) == Some(len) && same_content(path, &other)?,
            "{} was not restored as it was",
            relative.display()
        );
    }
    Ok(())
}

fn same_content(one: &Path, two: &Path) -> Result<bool> {
    let open =
        |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (mut one, mut two) = (open(one)?, open(two)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let len = one.read(&mut left).context("cannot read")?;
        two.read_exact(&mut right[..len]).context("cannot read")?;
        if left[..len] != right[..len] {
            return Ok(false);
        }
        if len == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_removed_and_what_went_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/old"), "old").unwrap();
        let before = Listing::of(dir.path()).unwrap();
        fs::write(at("sub/new"), "new").unwrap();
        before.roll_back(dir.path()).unwrap();
        assert!(!at("sub/new").exists() && at("sub/old").exists());
        fs::write(at("sub/old"), "older").unwrap();
        before.roll_back(dir.path()).unwrap_err();
    }

    #[test]
    fn a_changed_byte_or_another_file_is_no_copy() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for tree in ["a", "b"] {
            fs::create_dir(at(tree)).unwrap();
            fs::write(at(tree).join("f"), "content").unwrap();
        }
        same(&at("a"), &at("b")).unwrap();
        fs::write(at("b/f"), "c0ntent").unwrap();
        same(&at("a"), &at("b")).unwrap_err();
        fs::write(at("b/f"), "content").unwrap();
        fs::write(at("b/g"), "").unwrap();
        same(&at("a"), &at("b")).unwrap_err();
    }
}
