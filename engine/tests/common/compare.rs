//! Comparing two trees.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What is compared of one entry. Directories' sizes and link counts are the file system's own
/// business.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    size: u64,
    content: Option<Vec<u8>>,
    target: Option<PathBuf>,
    /// Names of the same file.
    group: Vec<PathBuf>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Copy, Default)]
pub struct Options {
    pub ignore_root: bool,
    pub ignore_xattrs_of_links: bool,
}

pub fn assert_same(a: &Path, b: &Path) {
    assert_same_but(a, b, Options::default());
}

pub fn assert_same_but(a: &Path, b: &Path, options: Options) {
    let (mut a, mut b) = (read(a, options), read(b, options));
    if options.ignore_root {
        a.remove(Path::new(""));
        b.remove(Path::new(""));
    }
    let names = |tree: &BTreeMap<PathBuf, Entry>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (path, entry) in &a {
        let other = &b[path];
        if entry != other {
            let brief = |entry: &Entry| {
                format!(
                    "mode {:o} owner {:?} mtime {:?} device {} size {} target {:?} group {:?} xattrs {:?}",
                    entry.mode,
                    entry.owner,
                    entry.mtime,
                    entry.device,
                    entry.size,
                    entry.target,
                    entry.group,
                    entry.xattrs
                )
            };
            panic!(
                "{} differs:\n  {}\n  {}",
                path.display(),
                brief(entry),
                brief(other)
            );
        }
    }
}

fn read(root: &Path, options: Options) -> BTreeMap<PathBuf, Entry> {
    let mut tree = BTreeMap::new();
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        if meta.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                todo.push(path.join(entry.unwrap().file_name()));
            }
        } else {
            groups.entry(meta.ino()).or_default().push(path.clone());
            inodes.insert(path.clone(), meta.ino());
        }
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            device: meta.rdev(),
            size: if meta.is_dir() { 0 } else { meta.size() },
            content: meta.is_file().then(|| fs::read(&full).unwrap()),
            target: meta.is_symlink().then(|| fs::read_link(&full).unwrap()),
            group: Vec::new(),
            xattrs: if options.ignore_xattrs_of_links && meta.is_symlink() {
                BTreeMap::new()
            } else {
                xattrs(&full)
            },
        };
        tree.insert(path, entry);
    }
    for group in groups.values_mut() {
        group.sort();
    }
    for (path, inode) in inodes {
        tree.get_mut(&path)
            .unwrap()
            .group
            .clone_from(&groups[&inode]);
    }
    tree
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}
