//! Whom damage affects: snapshots, and for each finding one path where it shows.
//!
//! A walk over all directories notes which directory is in which, 8 bytes each, and which need what
//! is damaged. From there it goes up to the roots. Only done when there is damage.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{AffectedPath, Root, Run, log::Cause};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind, name},
    index::{Bits, Index, Place},
    repo::{
        blobs::BlobReader,
        walk::{Node, Tree, Visitor, Walk},
    },
};

/// Findings for which a path is looked for.
const PATHS: usize = 100;

/// Adds to the findings whom they affect. `false`: that could not be told within so many bytes of
/// memory.
pub(super) fn tell(run: &Run<'_>, index: &Index, roots: &[Root], room: u64) -> Result<bool> {
    let causes = run.log.causes();
    if causes.is_empty() {
        return Ok(true);
    }
    let lost = Lost::of(&causes);
    let seen = Bits::new(index.len());
    // A part for the walk, a part for what it notes.
    let walk = Walk {
        repo: run.repo,
        store: run.store,
        index,
        seen: &seen,
        memory: room / 2,
        cancel: run.cancel,
    };
    let above = Above {
        index,
        lost: &lost,
        // Notes grow by doubling.
        limit: usize::try_from(room / 4 / size_of::<(u32, u32)>() as u64).unwrap_or(usize::MAX),
        noted: Mutex::default(),
        too_many: AtomicBool::new(Bits::memory(index.len()) > room / 8),
    };
    let trees: Vec<Id> = roots.iter().map(|root| root.tree).collect();
    match walk.run(&trees, &above) {
        Err(Error::MemoryLimit { .. }) => return Ok(false),
        done => done?,
    }
    if above.too_many.into_inner() {
        return Ok(false);
    }
    let noted = above
        .noted
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let mut up = Up::new(run, index, &lost, noted, roots);
    for (count, (number, cause)) in causes.into_iter().enumerate() {
        up.tell(number, cause, count < PATHS)?;
    }
    Ok(true)
}

/// What is lost, with the numbers of the findings.
#[derive(Default)]
struct Lost {
    packs: HashMap<u32, usize>,
    records: HashMap<u32, usize>,
    missing: HashMap<(BlobKind, Id), usize>,
}

impl Lost {
    fn of(causes: &[(usize, Cause)]) -> Self {
        let mut lost = Self::default();
        for (number, cause) in causes.iter().copied() {
            match cause {
                Cause::Pack(pack) => drop(lost.packs.insert(pack, number)),
                Cause::Record(record) => drop(lost.records.entry(record).or_insert(number)),
                Cause::Missing(kind, id) => drop(lost.missing.insert((kind, id), number)),
                Cause::Inside(_) | Cause::Nothing => {}
            }
        }
        lost
    }

    /// The findings by which a blob is lost: one for each of its copies. Empty if any copy is
    /// whole.
    fn blob(&self, index: &Index, kind: BlobKind, id: &Id) -> Vec<usize> {
        let Some(first) = index.position(kind, id) else {
            return self
                .missing
                .get(&(kind, *id))
                .copied()
                .into_iter()
                .collect();
        };
        let copy = |(position, place): (u32, Place)| {
            let record = self.records.get(&position);
            record.or_else(|| self.packs.get(&place.pack)).copied()
        };
        let copies = (first..).zip(index.places(first));
        copies.map(copy).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Notes which directory is in which, by positions: (inner, outer); and which need what a finding
/// lost.
#[derive(Default)]
struct Noted {
    inside: Vec<(u32, u32)>,
    needs: Vec<(usize, u32)>,
}

struct Above<'a> {
    index: &'a Index,
    lost: &'a Lost,
    limit: usize,
    noted: Mutex<Noted>,
    too_many: AtomicBool,
}

impl Above<'_> {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor for Above<'_> {
    type Dir = (BTreeSet<u32>, BTreeSet<usize>);

    fn enter(&self, _tree: &Tree) -> Result<Self::Dir> {
        Ok(Self::Dir::default())
    }

    fn node(
        &self,
        _tree: &Tree,
        (inside, needs): &mut Self::Dir,
        node: Result<&Node<'_>, Invalid>,
    ) -> Result<()> {
        // What makes no sense was found before.
        let Ok(node) = node else { return Ok(()) };
        if let Ok(Some(id)) = node.directory() {
            inside.extend(self.index.position(BlobKind::Tree, &id));
            needs.extend(self.lost.blob(self.index, BlobKind::Tree, &id));
        }
        for id in node.blobs().flatten() {
            needs.extend(self.lost.blob(self.index, BlobKind::Data, &id));
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, (inside, needs): Self::Dir) -> Result<()> {
        let Some(outer) = tree.position else {
            return Ok(());
        };
        if self.too_many.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut noted = self.noted();
        noted
            .inside
            .extend(inside.into_iter().map(|inner| (inner, outer)));
        noted
            .needs
            .extend(needs.into_iter().map(|number| (number, outer)));
        if noted.inside.len() + 2 * noted.needs.len() > self.limit {
            *noted = Noted::default();
            self.too_many.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn unreadable(&self, _tree: &Tree, error: Error) -> Result<()> {
        // What is damaged was told when the trees were read.
        if error.is_content() {
            Ok(())
        } else {
            Err(error)
        }
    }
}

/// The way up.
struct Up<'a> {
    run: &'a Run<'a>,
    index: &'a Index,
    lost: &'a Lost,
    noted: Noted,
    roots: &'a [Root],
    /// Snapshots by the position of their root.
    by_root: HashMap<u32, Vec<usize>>,
    blobs: BlobReader<'a>,
}

impl<'a> Up<'a> {
    fn new(
        run: &'a Run<'a>,
        index: &'a Index,
        lost: &'a Lost,
        mut noted: Noted,
        roots: &'a [Root],
    ) -> Self {
        noted.inside.sort_unstable();
        noted.needs.sort_unstable();
        let mut by_root: HashMap<u32, Vec<usize>> = HashMap::new();
        for (n, root) in roots.iter().enumerate() {
            if let Some(position) = index.position(BlobKind::Tree, &root.tree) {
                by_root.entry(position).or_default().push(n);
            }
        }
        Self {
            run,
            index,
            lost,
            noted,
            roots,
            by_root,
            blobs: BlobReader::new(run.repo, run.store, index),
        }
    }

    fn tell(&mut self, number: usize, cause: Cause, with_path: bool) -> Result<()> {
        let mut affected: BTreeSet<usize> = BTreeSet::new();
        // A snapshot whose root itself is lost.
        for (n, root) in self.roots.iter().enumerate() {
            let lost = self.lost.blob(self.index, BlobKind::Tree, &root.tree);
            if lost.contains(&number) {
                affected.insert(n);
            }
        }
        let at_root = affected.first().copied();
        let first = self.noted.needs.partition_point(|(n, _)| *n < number);
        let needs = self.noted.needs[first..].iter();
        let mut todo: Vec<u32> = needs
            .take_while(|(n, _)| *n == number)
            .map(|(_, at)| *at)
            .collect();
        if let Cause::Inside(position) = cause {
            todo.push(position);
        }
        // Where one comes to a directory from.
        let mut seen: HashSet<u32> = todo.iter().copied().collect();
        let mut from: HashMap<u32, u32> = HashMap::new();
        let mut reached: Option<(usize, u32)> = None;
        while let Some(inner) = todo.pop() {
            if self.run.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            for snapshot in self.by_root.get(&inner).into_iter().flatten() {
                affected.insert(*snapshot);
                if reached.is_none_or(|(first, _)| *snapshot < first) {
                    reached = Some((*snapshot, inner));
                }
            }
            let first = self.noted.inside.partition_point(|(n, _)| *n < inner);
            let outer = self.noted.inside[first..].iter();
            for (_, outer) in outer.take_while(|(n, _)| *n == inner) {
                if seen.insert(*outer) {
                    from.insert(*outer, inner);
                    todo.push(*outer);
                }
            }
        }
        let path = match (at_root, reached) {
            (Some(root), _) => Some((root, PathBuf::from("/"))),
            (None, Some((snapshot, root))) if with_path => {
                self.path(number, root, &from)?.map(|path| (snapshot, path))
            }
            _ => None,
        };
        let id = |n: usize| self.roots[n].id.to_string();
        let path = path.map(|(snapshot, path)| AffectedPath {
            snapshot: id(snapshot),
            path,
        });
        let snapshots = affected.into_iter().map(id).collect();
        self.run.log.change(number, |finding| {
            finding.snapshots = snapshots;
            finding.path = path;
        });
        Ok(())
    }

    /// The path from a root to what a finding lost.
    fn path(
        &mut self,
        number: usize,
        root: u32,
        from: &HashMap<u32, u32>,
    ) -> Result<Option<PathBuf>> {
        let mut path = PathBuf::from("/");
        let roots = self.roots.iter().map(|root| root.tree);
        let at = |id: &Id| self.index.position(BlobKind::Tree, id);
        let Some(mut id) = roots.into_iter().find(|id| at(id) == Some(root)) else {
            return Ok(None);
        };
        let mut next = from.get(&root).copied();
        loop {
            let entries = match self.blobs.read_tree(&id) {
                Ok(entries) => entries,
                Err(error) if error.is_content() => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut inner = None;
            for node in entries.flatten() {
                let subtree = node.subtree.as_deref().and_then(Id::parse);
                let found = match next {
                    Some(next) => subtree.is_some_and(|id| at(&id) == Some(next)),
                    None => self.needs(number, subtree.as_ref(), &node.content),
                };
                if found {
                    let name = name::decode(&node.name);
                    inner = Some((subtree, name.unwrap_or_else(|_| OsString::from("?"))));
                    break;
                }
            }
            match (inner, next) {
                (Some((_, name)), None) => {
                    path.push(name);
                    return Ok(Some(path));
                }
                (Some((Some(subtree), name)), Some(position)) => {
                    path.push(name);
                    id = subtree;
                    next = from.get(&position).copied();
                }
                // Something of the directory itself.
                (None, None) => return Ok(Some(path)),
                _ => return Ok(None),
            }
        }
    }

    fn needs(&self, number: usize, subtree: Option<&Id>, content: &[Option<Id>]) -> bool {
        let tree = subtree
            .into_iter()
            .flat_map(|id| self.lost.blob(self.index, BlobKind::Tree, id));
        let data = content.iter().flatten();
        let mut data = data.flat_map(|id| self.lost.blob(self.index, BlobKind::Data, id));
        tree.into_iter().any(|n| n == number) || data.any(|n| n == number)
    }
}
