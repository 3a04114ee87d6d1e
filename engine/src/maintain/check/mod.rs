//! Checking a repository.
//!
//! ```text
//!   lock ─► keys ─► snapshots ─► index ─► packs listed ─► directories, once each ─► packs read ─► who is affected ─► unlock
//! ```
//!
//! Does: read every key, snapshot and index file; compare the packs there are with the index, by
//! their sizes; go through all directories of all snapshots and see that each entry makes sense and
//! that the index has every blob; and read a share of the packs, each once and whole: its SHA-256
//! is its name, its list of blobs is what the index says, every blob is authentic, decompresses to
//! its length, and is what its id says. Packs whose sizes do not agree are read in any case, to
//! tell which of their blobs are lost. When there is damage, the directories are gone through once
//! more to tell whom it affects.
//!
//! Does not: write, or repair. Packs that nobody's index names are not read. Snapshots are listed
//! before the index, and the index before the packs: what a backup beside it adds is not taken for
//! damage. All of it begins while the lock settles; if an index file that was read is gone by the
//! time the lock is held, all is checked anew.
//!
//! Memory: [`CheckRequest::memory`] is kept: the index (40 bytes a blob), two bits a blob, 12 bytes
//! a directory, some 250 a pack, and the rest for packs and directories being read.
//!
//! What is wrong with the repository is a [`Finding`]; an error means that the check itself could not be done: `Locked`,
//! `Cancelled`, `MemoryLimit`, and what the store says.

mod affected;
mod finding;
mod hashes;
mod known;
mod log;
mod packs;
mod pieces;
mod share;
mod slow;
mod trees;

use std::collections::BTreeMap;

pub use finding::{AffectedPath, Finding, Object, Problem, Severity};
pub use share::DataShare;

use known::Known;
use log::{Cause, Log};

use crate::{
    Cancel, Progress, Repository,
    browse::early::{Reader, reading_all},
    ceiling::{self, Beside, Ceiling},
    crypto::Id,
    error::{Error, Result},
    format::Invalid,
    index::{self, Bits, Copies, Index, Loading, Packs},
    maintain::unfinished,
    repo::{keys, walk::Walk},
    storage::Store,
};

/// Memory a check may take unless something else is asked for.
pub const MEMORY: u64 = ceiling::MEMORY;
/// Bytes for a pack that is listed: its name and size, twice for a moment, and what is known of it.
const LISTED: u64 = 250;
/// What there has to be beside the index: what going through directories takes, two bits for each
/// blob, and packs of some 200 blobs.
const BESIDE: Beside = Beside {
    bytes: 24 << 20,
    bits: 24,
};

/// How to check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckRequest {
    /// How much of the data is read.
    pub data: DataShare,
    /// The most memory to take, in bytes.
    pub memory: u64,
}

impl Default for CheckRequest {
    /// No data, in [`MEMORY`].
    fn default() -> Self {
        Self {
            data: DataShare::None,
            memory: MEMORY,
        }
    }
}

/// What a check found. Sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong, damage first.
    pub findings: Vec<Finding>,
    /// Damage beyond that, which was too much to be kept.
    pub damage_dropped: u64,
    /// Oddities beyond that.
    pub oddities_dropped: u64,
    /// Whom damage affects could not be told in the memory there was.
    pub affected_unknown: bool,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Directories, each counted once.
    pub trees: u64,
    /// Packs that an index names.
    pub packs: u64,
    /// Blobs that an index names.
    pub blobs: u64,
    /// Further copies of them in other packs.
    pub duplicate_blobs: u64,
    /// Their size.
    pub duplicate_bytes: u64,
    /// Blobs that no snapshot needs.
    pub unused_blobs: u64,
    /// Their size.
    pub unused_bytes: u64,
    /// Unfinished uploads: what writes that were killed have left, and those under way.
    pub unfinished_files: u64,
    /// Their size.
    pub unfinished_bytes: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Their size.
    pub bytes_read: u64,
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_ok(&self) -> bool {
        self.damage_dropped == 0 && self.of(Severity::Damage).next().is_none()
    }

    /// The findings of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        let of = move |finding: &&Finding| finding.severity() == severity;
        self.findings.iter().filter(of)
    }
}

/// Checks a repository; with `read_data` also every byte of it. Blocks: call it on a thread of its
/// own.
///
/// # Errors
/// As [`check_with`].
pub fn check(repo: &Repository, read_data: bool, cancel: &Cancel) -> Result<CheckReport> {
    let data = if read_data {
        DataShare::All
    } else {
        DataShare::None
    };
    let request = CheckRequest {
        data,
        ..CheckRequest::default()
    };
    check_with(repo, &request, &Progress::new(), cancel)
}

/// Checks a repository. Counts directories as files, and bytes of packs that are read. Blocks: call
/// it on a thread of its own.
///
/// # Errors
/// `Locked`, `Cancelled`, `MemoryLimit` and what the store says; `InvalidConfig` for a share that cannot be had.
pub fn check_with(
    repo: &Repository,
    request: &CheckRequest,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<CheckReport> {
    request.data.validate()?;
    let done = reading_all(repo, cancel, |reader| {
        let run = Run {
            repo,
            store: &reader.store,
            request,
            progress,
            cancel: &reader.cancel,
            log: Log::default(),
        };
        run.all(reader)
    });
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    done
}

/// One check.
struct Run<'a> {
    repo: &'a Repository,
    store: &'a Store,
    request: &'a CheckRequest,
    progress: &'a Progress,
    cancel: &'a Cancel,
    log: Log,
}

/// A snapshot, as much of it as matters.
#[derive(Debug, Clone)]
struct Root {
    time: jiff::Timestamp,
    id: Id,
    tree: Id,
}

impl Run<'_> {
    fn all(&self, reader: &Reader<'_>) -> Result<CheckReport> {
        // An attempt before this one may have counted.
        self.progress.reset();
        self.repo.block_on(self.keys())?;
        let roots = self.snapshots()?;
        let mut ceiling = Ceiling::new(self.request.memory);
        let index = self.index(&mut ceiling)?;
        reader.read(&index);
        let packs = self.repo.block_on(index::pack_sizes(self.store))?;
        let uploads = self.repo.block_on(unfinished::list(self.store))?;
        let known = Known::of(&index);
        let suspects = self.compare(&index, &known, &packs);
        let (used, seen) = (Bits::new(index.len()), Bits::new(index.len()));
        let listed = packs.len() as u64 + index.pack_count() as u64;
        ceiling.take(2 * Bits::memory(index.len()) + listed * LISTED);
        let room = ceiling.left();
        let walk = Walk {
            repo: self.repo,
            store: self.store,
            index: &index,
            seen: &seen,
            memory: room,
            cancel: self.cancel,
        };
        let trees: Vec<Id> = roots.iter().map(|root| root.tree).collect();
        let visitor = trees::Trees::new(&index, &used, &self.log, self.progress);
        let in_all = |error| ceiling.in_all(error);
        walk.run(&trees, &visitor).map_err(in_all)?;
        let mut report = CheckReport {
            snapshots: roots.len() as u64,
            trees: visitor.count(),
            packs: known.packs() as u64,
            unfinished_files: uploads.len() as u64,
            unfinished_bytes: uploads.iter().map(|one| one.size).sum(),
            ..CheckReport::default()
        };
        count_blobs(&mut report, &index, &used, &seen);
        let chosen = self.choose(&index, &packs, &suspects);
        let read = packs::read(self, &index, &known, &chosen, room).map_err(in_all)?;
        (report.packs_read, report.bytes_read) = read;
        report.affected_unknown = !affected::tell(self, &index, &roots, room).map_err(in_all)?;
        self.log.report(&mut report);
        Ok(report)
    }

    async fn keys(&self) -> Result<()> {
        for id in keys::list(self.store).await? {
            if let Some(Err(why)) = keys::read(self.store, id).await? {
                let problem = Problem::Unreadable {
                    message: why.to_string(),
                };
                let object = Object::Key(id.to_string());
                self.log.add(object, problem, Cause::Nothing);
            }
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        let read = self.repo.each_snapshot(self.store, |id, snapshot| {
            let found = snapshot.and_then(|snapshot| {
                let why = Invalid::new("its tree is not an id");
                let damaged = || self.repo.damaged(format!("snapshot {id}"), &why);
                let tree = Id::parse(&snapshot.tree).ok_or_else(damaged)?;
                let time = snapshot.time;
                Ok(Root { time, id, tree })
            });
            match found {
                Ok(root) => roots.push(root),
                Err(error) if error.is_content() => {
                    let object = Object::Snapshot(id.to_string());
                    self.log.add(object, unreadable(&error), Cause::Nothing);
                }
                Err(error) => return Err(error),
            }
            Ok(())
        });
        self.repo.block_on(read)?;
        roots.sort_by_key(|root| (root.time, root.id));
        Ok(roots)
    }

    fn index(&self, ceiling: &mut Ceiling) -> Result<Index> {
        let mut left_out = |id: Id, error: Error| {
            let object = Object::Index(id.to_string());
            self.log.add(object, unreadable(&error), Cause::Nothing);
            Ok(())
        };
        let loading = Loading {
            which: Packs::Live,
            copies: Copies::All,
            limit: u64::MAX,
            unreadable: Some(&mut left_out),
        };
        let parts = (self.repo, self.store);
        self.repo.block_on(ceiling.index_as(parts, loading, BESIDE))
    }

    /// Compares the packs there are with the index. Returns those whose sizes do not agree.
    fn compare(&self, index: &Index, known: &Known, packs: &BTreeMap<Id, u64>) -> Vec<u32> {
        let mut suspects = Vec::new();
        let mut named = std::collections::HashSet::with_capacity(index.pack_count());
        for (number, id) in (0_u32..).zip(index.pack_ids()) {
            named.insert(id);
            let Some(pack) = known.get(number) else {
                continue;
            };
            let add = |problem, cause| self.log.add(Object::Pack(id.to_string()), problem, cause);
            if pack.is_mixed() {
                add(Problem::PackMixed, Cause::Nothing);
            }
            match packs.get(&id) {
                None => add(Problem::PackMissing, Cause::Pack(number)),
                Some(found) if *found != pack.size() => {
                    let expected = pack.size();
                    let found = *found;
                    add(Problem::PackSize { expected, found }, Cause::Nothing);
                    suspects.push(number);
                }
                Some(_) if !pack.is_filled() => suspects.push(number),
                Some(_) => {}
            }
        }
        for (id, bytes) in packs {
            if !named.contains(id) && !index.marked().contains(id) {
                let problem = Problem::PackUnreferenced { bytes: *bytes };
                let object = Object::Pack(id.to_string());
                self.log.add(object, problem, Cause::Nothing);
            }
        }
        suspects
    }

    /// The packs to read: number, name and size.
    fn choose(
        &self,
        index: &Index,
        packs: &BTreeMap<Id, u64>,
        suspects: &[u32],
    ) -> Vec<(u32, Id, u64)> {
        let ids = (0_u32..).zip(index.pack_ids());
        let there = ids.filter_map(|(number, id)| Some((id, (number, *packs.get(&id)?))));
        let there: BTreeMap<Id, (u32, u64)> = there.collect();
        let sizes = there.iter().map(|(id, (_, size))| (*id, *size)).collect();
        let random = |below| rand::random_range(0..below);
        let mut chosen: std::collections::BTreeSet<Id> = self
            .request
            .data
            .choose(&sizes, random)
            .into_iter()
            .collect();
        chosen.extend(suspects.iter().map(|number| index.pack(*number).0));
        let job = |id: Id| there.get(&id).map(|(number, size)| (*number, id, *size));
        chosen.into_iter().filter_map(job).collect()
    }
}

/// Counts what the index has twice, and what nobody needs.
fn count_blobs(report: &mut CheckReport, index: &Index, used: &Bits, seen: &Bits) {
    let mut before = None;
    for (position, record) in index.records() {
        let bytes = u64::from(record.place.length);
        if before.is_some_and(|before| record.is_copy_of(&before)) {
            report.duplicate_blobs += 1;
            report.duplicate_bytes += bytes;
        } else {
            report.blobs += 1;
            if !used.contains(position) && !seen.contains(position) {
                report.unused_blobs += 1;
                report.unused_bytes += bytes;
            }
        }
        before = Some(record);
    }
}

/// What an error says of an object that cannot be read.
fn unreadable(error: &Error) -> Problem {
    let message = match error {
        Error::Damaged { message, .. } => message.clone(),
        error => error.to_string(),
    };
    Problem::Unreadable { message }
}
