//! Snapshots copied to another repository, with what they need that is not there yet.
//!
//! Does: find out which snapshots the destination has already, which blobs the others need and the
//! destination lacks ([`needed`]), open and verify those and seal them with the destination's key
//! ([`blobs`]), and write the snapshots. Does not: change the source, or cut content anew:
//! repositories with different chunkers share nothing afterwards.
//!
//! Order: shared locks on both; packs; index files; look whether the destination's lock still
//! holds; snapshots, oldest first; unlock. Whatever ends it earlier leaves blobs in the destination
//! that nothing needs yet, and some snapshots that are whole. The next copy finds both and goes on.

mod blobs;
mod needed;

use self::blobs::Moving;
use crate::{
    Cancel, Progress, Repository,
    archive::{MEMORY, native::budget::Budget},
    ceiling::{Beside, Ceiling},
    error::{Error, Result},
    format::snapshot::SnapshotFile,
    index::{Bits, Copies, Index, Packs},
    maintain::same,
    repo::{Locked, Snapshot, lock::Guard},
    storage::Store,
};

/// What copying takes beside the indexes, with one thread; and for each blob two bits and four
/// bytes.
const BESIDE: Beside = Beside {
    bytes: 88 << 20,
    bits: 2 + 32,
};

/// What to copy, and how.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// Snapshots of the source.
    pub snapshots: Vec<Snapshot>,
    /// Bytes of memory it may take.
    pub memory: u64,
}

impl CopyRequest {
    /// Of these snapshots, in the usual memory.
    pub fn new(snapshots: Vec<Snapshot>) -> Self {
        Self {
            snapshots,
            memory: MEMORY,
        }
    }
}

/// A snapshot and what it is in the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedSnapshot {
    /// Its id in the source.
    pub source: String,
    /// Its id in the destination.
    pub id: String,
    /// It was there already.
    pub was_there: bool,
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// All that were asked for, oldest first.
    pub snapshots: Vec<CopiedSnapshot>,
    /// Blobs copied.
    pub blobs: u64,
    /// Their bytes, decrypted and decompressed.
    pub bytes: u64,
}

/// Copies snapshots, and only what the destination lacks. Blocks: call it on a thread of its own.
///
/// # Errors
/// `InvalidConfig` if both are the same repository; `Damaged` if something needed cannot be read: then no snapshot that was
/// not there is; `Locked`, `LockLost`, `MemoryLimit`, `Cancelled`, and what the stores say.
pub fn copy(
    source: &Repository,
    destination: &Repository,
    request: &CopyRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<CopyReport> {
    if source.id() == destination.id() {
        return Err(Error::InvalidConfig {
            what: "destination of a copy",
            message: "it is the repository to copy from".to_owned(),
        });
    }
    let reading = source.block_on(source.lock(Locked::Shared, cancel))?;
    let done = match destination.block_on(destination.lock(Locked::Shared, cancel)) {
        Ok(writing) => {
            let done = locked((source, destination), request, progress, cancel, &writing);
            destination.runtime().block_on(writing.release(cancel));
            done
        }
        Err(error) => Err(error),
    };
    // What was read under a lock that was lost may be missing something.
    let done = reading.outcome(done);
    source.runtime().block_on(reading.release(cancel));
    done
}

fn locked(
    (source, destination): (&Repository, &Repository),
    request: &CopyRequest,
    progress: &Progress,
    cancel: &Cancel,
    lock: &Guard,
) -> Result<CopyReport> {
    let from = source.store().with_cancel(cancel.clone());
    let to = destination.store().with_cancel(cancel.clone());
    let held = lock.checker();
    let allowed = || {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        held()
    };
    let there = destination.snapshots_in(&to)?;
    let mut wanted = request.snapshots.clone();
    wanted.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.id.cmp(&b.id)));
    wanted.dedup_by(|a, b| a.id == b.id);
    let missing: Vec<&Snapshot> = wanted
        .iter()
        .filter(|snapshot| same::copied(snapshot, &there).is_none())
        .collect();

    let mut ceiling = Ceiling::new(request.memory);
    let (has, index) = indexes((source, &from), (destination, &to), &mut ceiling)?;
    ceiling.take(2 * Bits::memory(index.len()));
    let needed = needed::of(
        (source, &from),
        &index,
        &has,
        &missing,
        ceiling.left(),
        cancel,
    )
    .map_err(|error| ceiling.in_all(error))?;
    let budget = Budget::new(request.memory);
    let mut memory = budget.take(ceiling.taken(), "the program and the indexes")?;
    memory.give_back(has.memory());
    drop(has);
    let moving = Moving {
        source: (source, &from),
        destination: (destination, &to),
        index: &index,
        budget: &budget,
        allowed: &allowed,
        progress,
        cancel,
    };
    let (blobs, bytes) = moving.all(&needed)?;
    let mut report = CopyReport {
        blobs,
        bytes,
        ..CopyReport::default()
    };
    let mut there = there;
    for snapshot in wanted {
        let (id, was_there) = if let Some(id) = same::copied(&snapshot, &there) {
            (id, true)
        } else {
            allowed()?;
            let file = file(&snapshot);
            let id = destination.block_on(destination.save_snapshot(&file))?;
            (id, false)
        };
        report.snapshots.push(CopiedSnapshot {
            source: snapshot.id.clone(),
            id: id.clone(),
            was_there,
        });
        // Asked for twice under two ids, it is copied once.
        if !was_there {
            there.push(Snapshot {
                original: Some(same::first(&snapshot).to_owned()),
                id,
                ..snapshot
            });
        }
    }
    drop(memory);
    Ok(report)
}

/// The destination's index, and the source's. If there is too little for the first, what both take
/// is named.
fn indexes(
    (source, from): (&Repository, &Store),
    (destination, to): (&Repository, &Store),
    ceiling: &mut Ceiling,
) -> Result<(Index, Index)> {
    let all = |ceiling: &mut Ceiling, beside| {
        let index = ceiling.index((source, from), Packs::All, Copies::All, beside);
        source.block_on(index)
    };
    let has = ceiling.index((destination, to), Packs::Live, Copies::First, BESIDE);
    match destination.block_on(has) {
        Ok(has) => Ok((has, all(ceiling, BESIDE)?)),
        Err(Error::MemoryLimit {
            what,
            needed,
            limit,
        }) => {
            // With nothing at all it says what it takes, and the program, which is counted already.
            let mut nothing = Ceiling::new(0);
            let alone = Beside { bytes: 0, ..BESIDE };
            let other = match all(&mut nothing, alone) {
                Err(Error::MemoryLimit { needed, .. }) => needed.saturating_sub(nothing.taken()),
                Err(error) => return Err(error),
                Ok(index) => index.memory(),
            };
            Err(Error::MemoryLimit {
                what,
                needed: needed.saturating_add(other),
                limit,
            })
        }
        Err(error) => Err(error),
    }
}

/// The snapshot's document in the destination. It has no parent there.
fn file(snapshot: &Snapshot) -> SnapshotFile {
    SnapshotFile {
        original: Some(same::first(snapshot).to_owned()),
        parent: None,
        ..snapshot.to_file()
    }
}
