//! Snapshots without what is lost, in place of those that need it.
//!
//! Does: find which directories of the chosen snapshots lack something ([`damage`]), write those
//! anew without it ([`rewrite`], [`mend`]), and the snapshots that lead to them; say which paths
//! lost what ([`tell`]). A file keeps the content that is left, and its size is that of it; a
//! directory that cannot be read becomes an empty one; an entry that makes no sense goes. A
//! snapshot whose root cannot be read cannot be mended. Does not: read file content, rewrite what
//! is whole, or change the index.
//!
//! Two things count as lost: a blob that is in no index, and a directory of which every copy was
//! read, twice, and is not what its id says. A request that fails is never a loss: whatever the
//! store says ends it. An index that names packs which are not there is refused, and has to be
//! repaired first.
//!
//! Order: exclusive lock; snapshots and index read; everything decided; packs of new directories;
//! index files of them; new snapshots, each read back; only then, if asked, the old ones removed;
//! unlock. Whatever ends it earlier leaves directories that nothing needs, or both the old and some
//! new snapshots: nothing that was readable is less so. The next run finds the new snapshots and
//! goes on from there. A dry run takes a shared lock and does the same up to the packs.

mod damage;
mod mend;
mod rewrite;
mod tell;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use self::{
    damage::{Damage, Search},
    mend::{Mender, Root},
};
use crate::{
    Cancel, Progress, Repository,
    archive::{MEMORY, native::budget::Budget},
    ceiling::{Beside, Ceiling},
    crypto::Id,
    error::{Error, Result},
    format::snapshot::SnapshotFile,
    index::{self, Bits, Copies, Index, Packs},
    maintain::{
        packing::{Allowed, Packing},
        same,
    },
    repo::{Locked, Snapshot, proof, snapshots::LIMIT},
    storage::Store,
};

/// What is needed beside the index: directories being read and written, some bits for each blob,
/// and of directories that wait for a few hundred blobs one.
const BESIDE: Beside = Beside {
    bytes: 48 << 20,
    bits: damage::SETS + 4,
};

/// What mended snapshots are marked with, as restic does it.
pub(in crate::maintain) const TAG: &str = "repaired";

/// Which snapshots to repair, and how.
#[derive(Debug, Clone)]
pub struct RepairSnapshotsRequest {
    /// These. What is gone by the time it begins is left out.
    pub snapshots: Vec<Snapshot>,
    /// Remove those that were mended, and those that cannot be.
    pub forget: bool,
    /// With `forget`: remove also snapshot files that are damaged for certain, of which nothing is
    /// known.
    pub unreadable: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// Bytes of memory it may take.
    pub memory: u64,
}

impl RepairSnapshotsRequest {
    /// Of these snapshots, in the usual memory, removing none.
    pub fn new(snapshots: Vec<Snapshot>) -> Self {
        Self {
            snapshots,
            forget: false,
            unreadable: false,
            dry_run: false,
            memory: MEMORY,
        }
    }
}

/// What became of a damaged snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mending {
    /// There is a snapshot without what is lost.
    Mended {
        /// Its id; `None` in a dry run that would write it.
        id: Option<String>,
        /// An earlier repair wrote it.
        was_there: bool,
    },
    /// Its root directory cannot be read, so nothing of it is left.
    RootLost,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A file lacks a part of its content, or all.
    Content {
        /// Bytes lost, by the size that it had.
        lost: u64,
        /// Bytes left.
        left: u64,
    },
    /// Nothing is lost, but the file said another size than it has.
    Size {
        /// Bytes it said.
        stated: u64,
        /// Bytes it has.
        content: u64,
    },
    /// A directory that cannot be read is empty now. How much was in it is not known.
    Directory,
    /// An entry that makes no sense is gone.
    Entry,
}

impl Loss {
    /// Bytes that are known to be lost.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Content { lost, .. } => *lost,
            Self::Size { .. } | Self::Directory | Self::Entry => 0,
        }
    }
}

/// A path, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPath {
    /// Absolute, in the snapshot. Names that no file can have are shown escaped.
    pub path: PathBuf,
    /// What happened.
    pub loss: Loss,
}

/// A damaged snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedSnapshot {
    /// The damaged one.
    pub snapshot: Snapshot,
    /// What became of it.
    pub mending: Mending,
    /// It was removed, or would be.
    pub forgotten: bool,
    /// The first paths that lost something.
    pub lost: Vec<LostPath>,
    /// How many there are.
    pub lost_paths: u64,
    /// Bytes of file content that they lost, as far as that is known.
    pub lost_bytes: u64,
}

/// A snapshot file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableSnapshot {
    /// Its name.
    pub id: String,
    /// Why it cannot be read.
    pub message: String,
    /// Its content is not that of its name, so that nobody can read it.
    pub damaged: bool,
    /// It was removed, or would be.
    pub removed: bool,
}

/// What a repair of snapshots did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairSnapshotsReport {
    /// Snapshot files that cannot be read.
    pub unreadable: Vec<UnreadableSnapshot>,
    /// Those with damage, oldest first.
    pub snapshots: Vec<RepairedSnapshot>,
    /// How many have none.
    pub sound: u64,
    /// Directories written.
    pub directories: u64,
}

/// Mends snapshots that lack something, and with `forget` removes the damaged ones. Blocks: call it
/// on a thread of its own.
///
/// # Errors
/// `Refused` if the index names packs that are not there or cannot be read; `Locked`, `LockLost`, `MemoryLimit`, `Cancelled`,
/// `Damaged` for an index file that cannot be read, and what the store says.
pub fn repair_snapshots(
    repo: &Repository,
    request: &RepairSnapshotsRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<RepairSnapshotsReport> {
    let kind = if request.dry_run {
        Locked::Shared
    } else {
        Locked::Exclusive
    };
    let lock = repo.block_on(repo.lock(kind, cancel))?;
    let held = lock.checker();
    let allowed = || {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        held()
    };
    let repair = Repair {
        repo,
        store: repo.store().with_cancel(cancel.clone()),
        request,
        allowed: &allowed,
        progress,
        cancel,
    };
    // What was read under a lock that was lost may be missing something.
    let done = lock.outcome(repair.run());
    repo.runtime().block_on(lock.release(cancel));
    done
}

struct Repair<'a> {
    repo: &'a Repository,
    store: Store,
    request: &'a RepairSnapshotsRequest,
    allowed: Allowed<'a>,
    progress: &'a Progress,
    cancel: &'a Cancel,
}

impl Repair<'_> {
    fn run(&self) -> Result<RepairSnapshotsReport> {
        let (there, unreadable) = self.snapshots()?;
        let ids: HashSet<&str> = self.request.snapshots.iter().map(|s| &*s.id).collect();
        let wanted: Vec<&Snapshot> = there.iter().filter(|s| ids.contains(&*s.id)).collect();

        let mut ceiling = Ceiling::new(self.request.memory);
        let parts = (self.repo, &self.store);
        let index = ceiling.index(parts, Packs::All, Copies::All, BESIDE);
        let index = self.repo.block_on(index)?;
        ceiling.take(damage::SETS * Bits::memory(index.len()));
        let budget = Budget::new(self.request.memory);
        let memory = budget.take(ceiling.taken(), "the program and the index")?;
        self.packs_are_there(&index)?;
        let roots = wanted
            .iter()
            .map(|snapshot| self.root(snapshot))
            .collect::<Result<Vec<Id>>>()?;
        let search = Search {
            repo: self.repo,
            store: &self.store,
            index: &index,
            budget: &budget,
            cancel: self.cancel,
        };
        let damage = search.run(&roots)?;
        let mut mender = Mender::new(self.repo, &self.store, &index, &budget, self.cancel)?;
        self.mend(&mut mender, &damage)?;

        let mut report = RepairSnapshotsReport {
            unreadable,
            directories: mender.written(),
            ..RepairSnapshotsReport::default()
        };
        for (snapshot, root) in wanted.into_iter().zip(&roots) {
            match mender.root(root) {
                Root::Whole => report.sound += 1,
                Root::Lost => report
                    .snapshots
                    .push(self.repaired(snapshot, Mending::RootLost)),
                Root::Mended(tree) => {
                    let mending = self.replace(snapshot, &tree, &there)?;
                    let mut repaired = self.repaired(snapshot, mending);
                    tell::of(&mender, root, &mut repaired);
                    report.snapshots.push(repaired);
                }
            }
        }
        if self.request.forget && !self.request.dry_run {
            let unreadable = report.unreadable.iter().filter(|one| one.removed);
            let old = report.snapshots.iter().map(|one| &one.snapshot.id);
            for id in old.chain(unreadable.map(|one| &one.id)) {
                (self.allowed)()?;
                let path = format!("snapshots/{id}");
                self.repo.block_on(self.store.delete(&path))?;
            }
        }
        drop(memory);
        Ok(report)
    }

    /// The snapshots there are, and the snapshot files that cannot be read.
    fn snapshots(&self) -> Result<(Vec<Snapshot>, Vec<UnreadableSnapshot>)> {
        let mut unreadable: Vec<(Id, String)> = Vec::new();
        let there = self.repo.listed_snapshots(&self.store, |id, error| {
            let message = match error {
                Error::Damaged { message, .. } => message,
                error @ Error::ObjectTooLarge { .. } => error.to_string(),
                error => return Err(error),
            };
            unreadable.push((id, message));
            Ok(())
        })?;
        let mut found = Vec::new();
        for (id, message) in unreadable {
            let look = proof::look(self.repo, &self.store, ("snapshots", &id), LIMIT);
            let damaged = self.repo.block_on(look)?.is_damage();
            found.push(UnreadableSnapshot {
                id: id.to_string(),
                message,
                damaged,
                removed: damaged && self.request.forget && self.request.unreadable,
            });
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((there, found))
    }

    /// Has all directories rewritten that need it, in packs that the store has and index files.
    fn mend(&self, mender: &mut Mender<'_>, damage: &Damage) -> Result<()> {
        if damage.order.is_empty() {
            return Ok(());
        }
        if self.request.dry_run {
            return mender.all(damage, &mut |_, _| Ok(()));
        }
        (self.allowed)()?;
        let packing = Packing::new(
            (self.repo, &self.store),
            1,
            mender.budget(),
            self.allowed,
            (self.progress, self.cancel),
        )?;
        let mender = Mutex::new(mender);
        packing.run(1, |filler| {
            let mut mender = mender.lock().unwrap_or_else(PoisonError::into_inner);
            mender.all(damage, &mut |id, json| {
                filler.add(crate::format::index::BlobKind::Tree, id, json)
            })
        })
    }

    /// Whether the store has all packs that the index names: if not, it is not known what is lost.
    fn packs_are_there(&self, index: &Index) -> Result<()> {
        let there = self.repo.block_on(index::pack_sizes(&self.store))?;
        let missing = index.pack_ids().filter(|id| !there.contains_key(id));
        let count = missing.count();
        if count == 0 {
            return Ok(());
        }
        Err(refused(
            self.repo,
            format!("the index names {count} packs that are not there"),
        ))
    }

    fn root(&self, snapshot: &Snapshot) -> Result<Id> {
        let why = crate::format::Invalid::new("its tree is not an id");
        Id::parse(&snapshot.tree)
            .ok_or_else(|| self.repo.damaged(format!("snapshot {}", snapshot.id), &why))
    }

    fn repaired(&self, snapshot: &Snapshot, mending: Mending) -> RepairedSnapshot {
        RepairedSnapshot {
            snapshot: snapshot.clone(),
            mending,
            forgotten: self.request.forget,
            lost: Vec::new(),
            lost_paths: 0,
            lost_bytes: 0,
        }
    }

    /// Writes the snapshot of a mended tree, unless it is there.
    fn replace(&self, snapshot: &Snapshot, tree: &Id, there: &[Snapshot]) -> Result<Mending> {
        let file = file(snapshot, tree, self.request.forget);
        if let Some(id) = same::mended(snapshot, &file.tree, there) {
            return Ok(Mending::Mended {
                id: Some(id),
                was_there: true,
            });
        }
        if self.request.dry_run {
            return Ok(Mending::Mended {
                id: None,
                was_there: false,
            });
        }
        (self.allowed)()?;
        let id = self.repo.block_on(self.repo.save_snapshot(&file))?;
        self.repo.find_snapshot_in(&self.store, &id)?;
        Ok(Mending::Mended {
            id: Some(id),
            was_there: false,
        })
    }
}

/// The document of a mended snapshot. One that takes the place of its original needs no mark.
fn file(snapshot: &Snapshot, tree: &Id, forget: bool) -> SnapshotFile {
    let mut file = snapshot.to_file();
    file.tree = tree.to_string();
    file.original = Some(snapshot.id.clone());
    // What is lost was in directories that count as read whole.
    file.ark_coverage = None;
    if !forget && !file.tags.iter().any(|tag| tag == TAG) {
        file.tags.push(TAG.to_owned());
    }
    file
}

fn refused(repo: &Repository, message: String) -> Error {
    Error::Refused {
        location: repo.location(),
        what: "repairing snapshots",
        message,
        hint: "repair the index first, so that it names what is there; if packs are there and cannot be read, see to the store",
    }
}
