//! Freeing the space of what no snapshot needs, while backups go on.
//!
//! Does: look at what is there and what is needed ([`survey`]); decide which packs stay, are
//! written anew, and go ([`plan`]); copy what is needed of those to be written anew ([`repack`]):
//! all that beside backups and restores, under a shared lock, for it only adds. Then, alone, for a
//! short time ([`commit`]): look at what came since, keep what that needs, prove that the rest can
//! go ([`proof`]), remove it. Does not: leave marks for later deletion, which programs that share
//! the format do not know.
//!
//! Order: shared lock; new packs; index files of them; unlock; exclusive lock; index files in place
//! of those that name what goes; proof; old index files removed; packs removed; unlock. Whatever
//! ends it earlier leaves packs that no index file names, or blobs that are in two packs. A later
//! prune removes the ones ([`strays`]) and takes the copies for what they are: nothing is copied
//! twice.

mod clock;
mod commit;
mod later;
mod plan;
mod proof;
mod reach;
mod repack;
mod strays;
mod survey;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use self::{
    commit::{Commit, Planned},
    plan::{Fate, Limits},
    repack::Copying,
    strays::Strays,
    survey::Survey,
};
use crate::{
    Cancel, Progress, Repository,
    archive::MEMORY,
    crypto::Id,
    error::{Error, Result},
    index,
    repo::{Locked, lock::Guard},
    storage::Store,
};

/// No backup is expected to go on for so long without an index file that names what it wrote.
pub const STRAYS_OLDER_THAN: Duration = Duration::from_hours(24);

/// How much unused data may stay, in packs that are also used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of what remains, below 100.
    Percent(u8),
    /// Any.
    Unlimited,
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// How much unused data may stay.
    pub max_unused: Unused,
    /// The most bytes to write anew; no limit when absent.
    pub max_repack: Option<u64>,
    /// Write packs anew that are much smaller than usual.
    pub repack_small: bool,
    /// Write packs anew that hold data without compression; format version 2 only.
    pub repack_uncompressed: bool,
    /// Begin with no other pack to be written anew after so long.
    pub max_time: Option<Duration>,
    /// Packs that no index file names, and unfinished uploads, stay until they are so old, by the
    /// store's clock: a backup that takes no lock, as rustic's do, may be about to name them.
    pub strays_older_than: Duration,
    /// Bytes of memory it may take.
    pub memory: u64,
    /// Only say what would be done.
    pub dry_run: bool,
    /// With `dry_run`: full ids of snapshots that are taken for forgotten.
    pub assume_forgotten: Vec<String>,
}

impl Default for PruneRequest {
    /// As restic prunes: 5 % may stay.
    fn default() -> Self {
        Self {
            max_unused: Unused::Percent(5),
            max_repack: None,
            repack_small: false,
            repack_uncompressed: false,
            max_time: None,
            strays_older_than: STRAYS_OLDER_THAN,
            memory: MEMORY,
            dry_run: false,
            assume_forgotten: Vec::new(),
        }
    }
}

/// What a prune did, or would do. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Blobs in packs that are written anew.
    pub repacked_blobs: u64,
    /// Their size.
    pub repacked_bytes: u64,
    /// Those of them that are left out.
    pub repack_dropped_blobs: u64,
    /// Their size.
    pub repack_dropped_bytes: u64,
    /// Blobs in packs that are removed.
    pub deleted_blobs: u64,
    /// Their size.
    pub deleted_bytes: u64,
    /// Blobs that remain.
    pub remaining_blobs: u64,
    /// Their size.
    pub remaining_bytes: u64,
    /// Size of what remains unused.
    pub unused_bytes: u64,
    /// Packs removed that no index names, or that were marked for removal.
    pub unreferenced_packs: u64,
    /// Their size.
    pub unreferenced_bytes: u64,
    /// Packs that no index names and that stay, because they are not old enough.
    pub young_packs: u64,
    /// Their size.
    pub young_bytes: u64,
    /// Unfinished uploads removed: what writes that were killed have left.
    pub unfinished_files: u64,
    /// Their size.
    pub unfinished_bytes: u64,
}

/// Frees the space of what no snapshot needs. Blocks: call it on a thread of its own.
///
/// Backups may run beside it until its end, when it has to be alone for a moment: then it waits for
/// them as long as the repository was opened to wait, and says `Locked`. What it wrote by then is
/// not lost.
///
/// # Errors
/// `Locked`; `Damaged` if a snapshot already lacks something, `Refused` if clocks disagree: nothing is removed then;
/// `MemoryLimit`, `LockLost`, `Cancelled`, and what the store says.
pub fn prune(
    repo: &Repository,
    request: &PruneRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<PruneReport> {
    let begun = Instant::now();
    let run = Run {
        repo,
        store: repo.store().with_cancel(cancel.clone()),
        request,
        limits: limits(repo, request)?,
        without: forgotten(request)?,
        until: request.max_time.and_then(|time| begun.checked_add(time)),
        progress,
        cancel,
    };
    let lock = repo.block_on(repo.lock_early(Locked::Shared, cancel))?;
    let planned = lock.outcome(run.under(&lock).plan(&lock));
    repo.runtime().block_on(lock.release(cancel));
    let planned = planned?;
    if request.dry_run {
        return Ok(planned.would_do());
    }
    let lock = repo.block_on(repo.lock_early(Locked::Exclusive, cancel))?;
    let done = lock.outcome(run.under(&lock).commit(planned, &lock));
    repo.runtime().block_on(lock.release(cancel));
    done
}

fn invalid(message: &str) -> Error {
    Error::InvalidConfig {
        what: "prune setting",
        message: message.to_owned(),
    }
}

fn limits(repo: &Repository, request: &PruneRequest) -> Result<Limits> {
    if request.repack_uncompressed && repo.version() < 2 {
        return Err(invalid(
            "repositories of format version 1 are never compressed",
        ));
    }
    if matches!(request.max_unused, Unused::Percent(100..)) {
        return Err(invalid("the unused share must be below 100 %"));
    }
    Ok(Limits {
        max_unused: request.max_unused,
        max_repack: request.max_repack,
        small: request.repack_small,
        uncompressed: request.repack_uncompressed,
    })
}

/// The snapshots that do not count.
fn forgotten(request: &PruneRequest) -> Result<BTreeSet<String>> {
    if !request.dry_run && !request.assume_forgotten.is_empty() {
        return Err(invalid(
            "only a dry run can take snapshots for forgotten; forget them first, or make it a dry run",
        ));
    }
    for id in &request.assume_forgotten {
        if Id::parse(id).is_none() {
            return Err(invalid(&format!("{id:?} is not the full id of a snapshot")));
        }
    }
    Ok(request.assume_forgotten.iter().cloned().collect())
}

/// One prune.
struct Run<'a> {
    repo: &'a Repository,
    store: Store,
    request: &'a PruneRequest,
    limits: Limits,
    without: BTreeSet<String>,
    until: Option<Instant>,
    progress: &'a Progress,
    cancel: &'a Cancel,
}

impl Run<'_> {
    /// The same, ended as well when this lock turns out not to be had.
    fn under<'b>(&'b self, lock: &'b Guard) -> Run<'b> {
        Run {
            store: self.repo.store().with_cancel(lock.cancel().clone()),
            cancel: lock.cancel(),
            without: self.without.clone(),
            ..*self
        }
    }

    /// Looks, decides and copies. Nothing is taken away by that.
    fn plan(&self, lock: &Guard) -> Result<Planned> {
        let (survey, fates) = self.survey(lock)?;
        let mut planned = Planned::new(survey, fates);
        if self.request.dry_run {
            let now = clock::now(self.repo, lock)?;
            let age = self.request.strays_older_than;
            let strays = Strays::find((self.repo, &self.store), &planned.survey, None, now, age)?;
            planned.strays = Some(strays);
            return Ok(planned);
        }
        let anew = (0..).zip(&planned.fates);
        let anew = anew.filter(|(_, fate)| **fate == Fate::WrittenAnew);
        let anew: Vec<u32> = anew.map(|(n, _)| n).collect();
        if anew.is_empty() {
            // Nothing has been done yet that the lock is needed for.
            return Ok(planned);
        }
        let allowed = self.allowed(lock);
        let copying = Copying {
            repo: self.repo,
            store: &self.store,
            survey: &planned.survey,
            compress: self.request.repack_uncompressed,
            until: self.until,
            memory: self.request.memory,
            allowed: &allowed,
            progress: self.progress,
            cancel: self.cancel,
        };
        let copied = copying.copy(anew);
        // What went wrong first is why the rest did.
        allowed()?;
        planned.copied = copied?;
        Ok(planned)
    }

    /// Looks at everything, while it is not known yet whether the lock is held. If something is to
    /// be done before the lock that excludes others, what was read has to be still there when it
    /// is.
    fn survey(&self, lock: &Guard) -> Result<(Survey, Vec<Fate>)> {
        let take = || {
            let survey = Survey::take(
                self.repo,
                &self.store,
                &self.without,
                &self.limits,
                self.request.memory,
                self.cancel,
            )?;
            let fates = plan::decide(&survey.packs, &self.limits);
            Ok((survey, fates))
        };
        let early = take();
        match &early {
            Ok((_, fates)) if !self.request.dry_run && !fates.contains(&Fate::WrittenAnew) => {
                return early;
            }
            // What could not be read may have been somebody else's doing.
            Err(error) if !error.is_content() => return lock.outcome(early),
            _ => {}
        }
        self.repo.block_on(lock.held())?;
        if let Ok((survey, _)) = &early {
            let there = self.repo.block_on(index::files(&self.store))?;
            if survey.index.files().iter().all(|id| there.contains_key(id)) {
                return early;
            }
        }
        drop(early);
        take()
    }

    fn commit(&self, planned: Planned, lock: &Guard) -> Result<PruneReport> {
        let allowed = self.allowed(lock);
        let commit = Commit {
            repo: self.repo,
            store: &self.store,
            limits: self.limits,
            strays_older_than: self.request.strays_older_than,
            memory: self.request.memory,
            allowed: &allowed,
            cancel: self.cancel,
            lock,
        };
        commit.run(planned)
    }

    /// Says whether writing and removing is still allowed.
    fn allowed(&self, lock: &Guard) -> impl Fn() -> Result<()> + Send + Sync + use<> {
        let (held, cancel) = (lock.checker(), self.cancel.clone());
        move || {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            held()
        }
    }
}
