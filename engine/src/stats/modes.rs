//! Counting as `restic stats` does: the same numbers in each of its modes.
//!
//! Where restic goes through every snapshot in full, a directory that several share is read once here; the numbers are
//! made so that it makes no difference.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{StatsRequest, graph::Graph, overview::root, problems::Problems};
use crate::{
    Cancel,
    browse::early::{Reader, reading},
    crypto::{Id, OVERHEAD},
    error::{Error, Result},
    files::depth::too_deep,
    format::{Invalid, index::BlobKind, tree::Entries},
    index::{Bits, Index},
    repo::{
        Repository, Snapshot,
        blobs::{BlobReader, is_content},
        descent::Descent,
        walk::{Node, Tree, Visitor, Walk},
    },
};

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatsMode {
    /// What restoring each snapshot would make.
    #[default]
    RestoreSize,
    /// Files that differ in content.
    FilesByContents,
    /// Blobs of files that differ in content, by path.
    BlobsPerFile,
    /// Blobs in the repository.
    RawData,
}

/// What was counted. A number that a mode does not count is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Snapshots that were asked for.
    pub snapshots: u64,
    /// Files, or entries of all kinds for what a restore makes.
    pub files: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes; of blobs in packs, sealed ones.
    pub bytes: u64,
    /// Raw data: bytes without compression, in repositories that may have it.
    pub uncompressed: u64,
    /// Raw data: bytes of blobs that are compressed.
    pub compressed: u64,
    /// Raw data: bytes of these without compression.
    pub compressed_plain: u64,
    /// What could not be read, so that the numbers are too small.
    pub problems: Vec<String>,
    /// How many more of these there were.
    pub problems_dropped: u64,
}

/// What an entry of a set takes, with the room that sets keep.
const ENTRY: u64 = 48;
/// What reading takes.
const READING: u64 = 64 << 20;

/// Counts in one mode. Blocks: call it on a thread of its own.
///
/// # Errors
/// `SnapshotNotFound`, `SnapshotAmbiguous`, `MemoryLimit`, `Locked`, `Cancelled`, and what the store says.
pub fn count(
    repo: &Repository,
    request: &StatsRequest,
    mode: StatsMode,
    cancel: &Cancel,
) -> Result<Totals> {
    let totals = |reader: &Reader<'_>| {
        let snapshots = reader.snapshots(&request.snapshots, &request.filter)?;
        let index = reader.index()?;
        let counting = Counting {
            repo,
            reader,
            index: &index,
            memory: request.memory,
            problems: Problems::default(),
            cancel,
        };
        let mut totals = match mode {
            StatsMode::RestoreSize => counting.restore_size(&snapshots),
            StatsMode::FilesByContents => counting.files_by_contents(&snapshots),
            StatsMode::BlobsPerFile => counting.blobs_per_file(&snapshots),
            StatsMode::RawData => counting.raw_data(&snapshots),
        }?;
        totals.snapshots = snapshots.len() as u64;
        (totals.problems, totals.problems_dropped) = counting.problems.take();
        Ok((totals, index))
    };
    reading(
        repo,
        cancel,
        totals,
        |(_, index)| index,
        |(totals, _)| Ok(totals),
    )
}

struct Counting<'a> {
    repo: &'a Repository,
    reader: &'a Reader<'a>,
    index: &'a Index,
    memory: u64,
    problems: Problems,
    cancel: &'a Cancel,
}

impl Counting<'_> {
    fn roots(&self, snapshots: &[Snapshot]) -> Result<Vec<Id>> {
        snapshots
            .iter()
            .map(|snapshot| root(self.repo, snapshot))
            .collect()
    }

    fn restore_size(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let parts = (self.repo, &self.reader.store, self.index);
        let roots = self.roots(snapshots)?;
        let graph = Graph::read(
            parts,
            &roots,
            false,
            self.memory,
            &self.problems,
            self.cancel,
        )?;
        let mut totals = Totals::default();
        for root in graph.roots.iter().flatten() {
            let sum = graph.restored(*root);
            totals.files = totals.files.saturating_add(sum.entries);
            totals.bytes = totals.bytes.saturating_add(sum.bytes);
        }
        Ok(totals)
    }

    /// Goes through every directory once.
    fn walk(&self, snapshots: &[Snapshot], seen: &Bits, visitor: &impl Visitor) -> Result<()> {
        let roots = self.roots(snapshots)?;
        Walk {
            repo: self.repo,
            store: &self.reader.store,
            index: self.index,
            seen,
            memory: self.memory / 2,
            cancel: self.cancel,
        }
        .run(&roots, visitor)
    }

    /// A set of positions.
    fn bits(&self) -> Result<Bits> {
        let needed = 2 * Bits::memory(self.index.len()) + READING;
        if needed > self.memory {
            return Err(self.too_much(needed));
        }
        Ok(Bits::new(self.index.len()))
    }

    fn too_much(&self, needed: u64) -> Error {
        Error::MemoryLimit {
            what: "counting".to_owned(),
            needed,
            limit: self.memory,
        }
    }

    fn raw_data(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let visitor = Used {
            counting: self,
            data: self.bits()?,
        };
        let seen = self.bits()?;
        self.walk(snapshots, &seen, &visitor)?;
        let mut totals = Totals::default();
        for (position, record) in self.index.records() {
            if !seen.contains(position) && !visitor.data.contains(position) {
                continue;
            }
            let place = record.place;
            let sealed = u64::from(place.plain_length()) + OVERHEAD as u64;
            totals.blobs += 1;
            totals.bytes += u64::from(place.length);
            if self.repo.version() >= 2 {
                totals.uncompressed += sealed;
                if place.plain != 0 {
                    totals.compressed += u64::from(place.length);
                    totals.compressed_plain += sealed;
                }
            }
        }
        Ok(totals)
    }

    fn files_by_contents(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let visitor = Contents {
            counting: self,
            one: self.bits()?,
            known: Mutex::default(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        let seen = self.bits()?;
        self.walk(snapshots, &seen, &visitor)?;
        Ok(Totals {
            files: visitor.files.into_inner(),
            bytes: visitor.bytes.into_inner(),
            ..Totals::default()
        })
    }

    /// In the order of paths, for content counts where it is met first.
    fn blobs_per_file(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let seen = self.bits()?;
        let mut blobs = BlobReader::new(self.repo, &self.reader.store, self.index);
        let mut sets = Sets::default();
        let mut totals = Totals::default();
        for root in self.roots(snapshots)? {
            let mut descent = Descent::default();
            let mut stack: Vec<(PathBuf, Entries)> = Vec::new();
            let mut next = Some((PathBuf::from("/"), root));
            loop {
                if self.cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                if let Some((path, id)) = next.take()
                    && let Some(entries) =
                        self.open(&mut blobs, &seen, &descent, (&path, stack.len()), &id)?
                {
                    descent.enter(&entries);
                    stack.push((path, entries));
                }
                let Some((path, entries)) = stack.last_mut() else {
                    break;
                };
                let node = match entries.next() {
                    None => {
                        descent.leave(entries);
                        stack.pop();
                        continue;
                    }
                    Some(Err(why)) => {
                        self.problems
                            .add(format_args!("an entry of {}: {why}", shown(path)));
                        continue;
                    }
                    Some(Ok(node)) => node,
                };
                // Names that no file can have are told apart, too.
                let path = path.join(node.name.replace('/', "\\x2f"));
                if node.kind == "dir" {
                    match node.subtree.as_deref().and_then(Id::parse) {
                        Some(id) => next = Some((path, id)),
                        None => self
                            .problems
                            .add(format_args!("{}: it names no content", shown(&path))),
                    }
                    continue;
                }
                let ids = node.content.iter().map(|text| Id::parse(text));
                match ids.collect::<Option<Vec<_>>>() {
                    Some(ids) => self.file(&mut sets, &mut totals, &path, &ids)?,
                    None => self.problems.add(format_args!(
                        "{}: its content list is malformed",
                        shown(&path)
                    )),
                }
            }
        }
        Ok(totals)
    }

    fn open(
        &self,
        blobs: &mut BlobReader<'_>,
        seen: &Bits,
        descent: &Descent,
        (path, depth): (&Path, usize),
        id: &Id,
    ) -> Result<Option<Entries>> {
        let known = self.index.position(BlobKind::Tree, id);
        if known.is_some_and(|position| !seen.insert(position)) {
            return Ok(None);
        }
        let refused = too_deep(depth + 1, path).or_else(|| descent.refuses(self.index, id));
        if let Some(why) = refused {
            self.problems.add(format_args!("{}: {why}", shown(path)));
            return Ok(None);
        }
        match blobs.read_tree(id) {
            Ok(entries) => Ok(Some(entries)),
            Err(error) if is_content(&error) => {
                self.problems.add(format_args!("{}: {error}", shown(path)));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn file(&self, sets: &mut Sets, totals: &mut Totals, path: &Path, ids: &[Id]) -> Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        if !sets.contents.insert(content(ids)) || ids.is_empty() {
            return Ok(());
        }
        let name = short(&Id::of(path.as_os_str().as_bytes()));
        if sets.paths.insert(name) {
            totals.files += 1;
        }
        for id in ids {
            let Some(position) = self.index.position(BlobKind::Data, id) else {
                self.problems
                    .add(format_args!("{}: blob {id} is in no index", shown(path)));
                continue;
            };
            if sets.blobs.insert((name, position)) {
                totals.blobs += 1;
                let place = self.index.record(position).map(|record| record.place);
                totals.bytes += place.map_or(0, |place| u64::from(place.plain_length()));
            }
        }
        let held = ENTRY * (sets.contents.len() + sets.paths.len() + sets.blobs.len()) as u64;
        if held + READING > self.memory {
            return Err(self.too_much(2 * (held + READING)));
        }
        Ok(())
    }
}

fn shown(path: &Path) -> String {
    crate::rows::show_path(path)
}

#[derive(Default)]
struct Sets {
    contents: HashSet<u128>,
    paths: HashSet<u128>,
    blobs: HashSet<(u128, u32)>,
}

/// Half of a hash.
fn short(id: &Id) -> u128 {
    id.0.first_chunk()
        .map_or(0, |half| u128::from_be_bytes(*half))
}

/// What stands for a list of ids.
fn content(ids: &[Id]) -> u128 {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
    short(&Id::of(&bytes))
}

/// Which blobs there are.
struct Used<'a> {
    counting: &'a Counting<'a>,
    data: Bits,
}

impl Visitor for Used<'_> {
    type Dir = u64;

    fn enter(&self, _tree: &Tree) -> Result<u64> {
        Ok(0)
    }

    fn node(&self, tree: &Tree, unknown: &mut u64, node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let done = node.and_then(|node| {
            if node.kind == "file" {
                for id in node.blobs() {
                    match self.counting.index.position(BlobKind::Data, &id?) {
                        Some(position) => {
                            self.data.insert(position);
                        }
                        None => *unknown += 1,
                    }
                }
            }
            Ok(())
        });
        if let Err(why) = done {
            let problems = &self.counting.problems;
            problems.add(format_args!("an entry of tree {}: {why}", tree.id));
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, unknown: u64) -> Result<()> {
        if unknown > 0 {
            let problems = &self.counting.problems;
            problems.add(format_args!(
                "tree {}: {unknown} blobs of files in it are in no index",
                tree.id
            ));
        }
        Ok(())
    }

    fn unreadable(&self, _tree: &Tree, error: Error) -> Result<()> {
        self.counting.problems.add(error);
        Ok(())
    }
}

/// Which contents there are.
struct Contents<'a> {
    counting: &'a Counting<'a>,
    /// Of one blob: most.
    one: Bits,
    /// Of none, and of several.
    known: Mutex<HashSet<u128>>,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Contents<'_> {
    fn is_new(&self, ids: &[Id]) -> Result<bool> {
        if let [id] = ids
            && let Some(position) = self.counting.index.position(BlobKind::Data, id)
        {
            return Ok(self.one.insert(position));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let held = ENTRY * known.len() as u64;
        if held > self.counting.memory / 4 {
            return Err(self.counting.too_much(8 * held));
        }
        Ok(known.insert(content(ids)))
    }
}

impl Visitor for Contents<'_> {
    type Dir = ();

    fn enter(&self, _tree: &Tree) -> Result<()> {
        Ok(())
    }

    fn node(&self, tree: &Tree, _dir: &mut (), node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let read =
            node.and_then(|node| Ok((node.size, node.blobs().collect::<Result<Vec<_>, _>>()?)));
        match read {
            Ok((size, ids)) => {
                if self.is_new(&ids)? {
                    self.files.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(size, Ordering::Relaxed);
                }
            }
            Err(why) => {
                let problems = &self.counting.problems;
                problems.add(format_args!("an entry of tree {}: {why}", tree.id));
            }
        }
        Ok(())
    }

    fn leave(&self, _tree: &Tree, _dir: ()) -> Result<()> {
        Ok(())
    }

    fn unreadable(&self, _tree: &Tree, error: Error) -> Result<()> {
        self.counting.problems.add(error);
        Ok(())
    }
}
