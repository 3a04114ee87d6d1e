//! The index made anew from what packs say of themselves.
//!
//! Does: read the lists at the ends of those packs that no readable index file names, or that have
//! another size than it follows from their index entries (or of all packs, if asked); write index
//! files of them; and replace index files that cannot be read for certain, by anybody, or that name
//! packs which are not there, or are not as they say. Does not: read blobs, repair snapshots, or
//! remove packs. A pack whose list cannot be read is reported, and left out of the index.
//!
//! Order: exclusive lock; index files of packs that were read; index files in place of those that
//! name what is not there; then the old and the unreadable ones removed. Whatever ends it earlier
//! leaves more index files than needed, and the next repair begins with what is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    pin::pin,
};

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    Cancel, Repository,
    crypto::{Id, OVERHEAD},
    error::{Error, Result},
    format::{
        Invalid,
        index::{self as format, IndexFile},
        pack::{self, Blob},
        unpacked,
    },
    index,
    maintain::lists::{Lists, Stale},
    repo::{
        Locked,
        proof::{self, Proof},
    },
    storage::Store,
};

/// Packs read at the same time.
const PARALLEL: usize = 8;
/// What is read of a pack's end at first: enough for most lists.
const TAIL: u64 = 16 << 10;
/// Bytes for a pack: its name in a few sets, what is known of it, and its place in the list of
/// them.
const PACK: u64 = 300;
/// Bytes for lists that are read, and for the index file that is written.
const READING: u64 = 32 << 20;
/// Blobs of one index file.
const FULL: usize = 50_000;

/// What a repair of the index did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairIndexReport {
    /// Packs whose lists were read and are in the index now.
    pub packs_indexed: u64,
    /// Packs that the index named, and that are not there.
    pub packs_missing: u64,
    /// Packs whose lists cannot be read, with the reason. They stay, and what they hold is lost.
    pub packs_unreadable: Vec<String>,
    /// Index files that cannot be read, with the reason.
    pub indexes_unreadable: Vec<String>,
    /// Those of them that stay: they are as somebody wrote them, and may be of another key.
    pub indexes_kept: u64,
    /// Index files removed, because others took their place. Not counted in a dry run.
    pub indexes_removed: u64,
}

impl RepairIndexReport {
    /// Whether there was nothing to repair.
    pub fn is_clean(&self) -> bool {
        self.packs_indexed == 0
            && self.packs_missing == 0
            && self.packs_unreadable.is_empty()
            && self.indexes_unreadable.is_empty()
    }
}

/// Makes the index name what is there. With `read_all_packs` no index entry is believed; with `dry_run` nothing is
/// changed. Blocks: call it on a thread of its own.
///
/// # Errors
/// `Locked`, `LockLost`, `Cancelled`, `MemoryLimit` ([`OpenOptions::memory`](crate::OpenOptions)), and what the store says. What is wrong with the repository is in the report.
pub fn repair_index(
    repo: &Repository,
    read_all_packs: bool,
    dry_run: bool,
    cancel: &Cancel,
) -> Result<RepairIndexReport> {
    let kind = if dry_run {
        Locked::Shared
    } else {
        Locked::Exclusive
    };
    let lock = repo.block_on(repo.lock(kind, cancel))?;
    let held = lock.checker();
    let cancelled = cancel.clone();
    let allowed = move || {
        if cancelled.is_cancelled() {
            return Err(Error::Cancelled);
        }
        held()
    };
    let repair = Repair {
        repo,
        store: repo.store().with_cancel(cancel.clone()),
        allowed: &allowed,
    };
    let done = repo.block_on(repair.run(read_all_packs, dry_run));
    repo.runtime().block_on(lock.release(cancel));
    done
}

struct Repair<'a> {
    repo: &'a Repository,
    store: Store,
    allowed: &'a (dyn Fn() -> Result<()> + Send + Sync),
}

/// What the readable index files say.
#[derive(Default)]
struct Known {
    /// Sizes of packs, as they follow from their entries; `None` where entries differ or make no
    /// sense.
    packs: HashMap<Id, Option<u64>>,
    /// How many times one was named.
    count: u64,
    /// Readable index files with their sizes.
    files: BTreeMap<Id, u64>,
    /// The others.
    unreadable: BTreeSet<Id>,
}

impl Repair<'_> {
    async fn run(&self, read_all: bool, dry_run: bool) -> Result<RepairIndexReport> {
        let mut report = RepairIndexReport::default();
        let mut known = self.known(&mut report).await?;
        for id in std::mem::take(&mut known.unreadable) {
            let look = proof::look(self.repo, &self.store, ("index", &id), index::LIMIT);
            match look.await? {
                Proof::Damaged | Proof::Ours => drop(known.unreadable.insert(id)),
                Proof::Unknown => report.indexes_kept += 1,
                Proof::Gone => {}
            }
        }
        let there = index::pack_sizes(&self.store).await?;
        let mut ceiling = self.repo.ceiling();
        ceiling.take(known.count.saturating_add(there.len() as u64) * PACK);
        if ceiling.left() < READING {
            let error = Error::MemoryLimit {
                what: "what is known of the packs".to_owned(),
                needed: READING,
                limit: 0,
            };
            return Err(ceiling.in_all(error));
        }
        let as_said = |id: &Id, size: &u64| known.packs.get(id) == Some(&Some(*size));
        let to_read: Vec<(Id, u64)> = there
            .iter()
            .filter(|(id, size)| read_all || !as_said(id, size))
            .map(|(id, size)| (*id, *size))
            .collect();
        let missing = known.packs.keys().filter(|id| !there.contains_key(id));
        let mut going: HashSet<Id> = missing.copied().collect();
        report.packs_missing = going.len() as u64;
        going.extend(to_read.iter().map(|(id, _)| *id));
        let read_packs = self.read(to_read, dry_run, &mut report).await?;
        if dry_run || (report.is_clean() && read_packs == 0) {
            return Ok(report);
        }
        let lists = Lists {
            repo: self.repo,
            store: &self.store,
            allowed: self.allowed,
            going: &going,
        };
        let stale = Stale::find((self.repo, &self.store), &known.files, &going).await?;
        let mut old = lists.replace(stale).await?;
        old.extend(&known.unreadable);
        report.indexes_removed = old.len() as u64;
        for id in old {
            (self.allowed)()?;
            self.store.delete(&format!("index/{id}")).await?;
        }
        Ok(report)
    }

    async fn known(&self, report: &mut RepairIndexReport) -> Result<Known> {
        let mut known = Known::default();
        let room = self.repo.ceiling().left();
        let files = index::files(&self.store).await?;
        let mut reading = pin!(index::read_all(self.repo, &self.store, files.clone()));
        while let Some((id, read)) = reading.next().await {
            let size = files.get(&id).copied().unwrap_or(0);
            if known.count.saturating_mul(PACK) > room {
                // They are only counted from here on, to say what would do.
                known.packs = HashMap::new();
            }
            match read {
                Ok(Some(file)) => {
                    if known.take(&file) {
                        known.files.insert(id, size);
                        continue;
                    }
                    report
                        .indexes_unreadable
                        .push(format!("index {id}: it names a pack without an id"));
                }
                Ok(None) => continue,
                Err(error) if error.is_content() => {
                    report.indexes_unreadable.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
            known.unreadable.insert(id);
        }
        Ok(known)
    }

    /// Reads the lists of packs, and writes index files of them. Returns how many could be read.
    async fn read(
        &self,
        packs: Vec<(Id, u64)>,
        dry_run: bool,
        report: &mut RepairIndexReport,
    ) -> Result<u64> {
        let mut reading = futures::stream::iter(packs)
            .map(|(id, size)| async move {
                match self.list(&id, size).await {
                    Err(error) if !error.is_content() => Err(error),
                    list => Ok((id, list)),
                }
            })
            .buffer_unordered(PARALLEL);
        let (mut json, mut blobs) = (format::START.to_vec(), 0);
        while let Some((id, list)) = reading.try_next().await? {
            self.allowed_if(dry_run)?;
            match list {
                Ok(list) => {
                    report.packs_indexed += 1;
                    format::encode_pack(&mut json, &id, &list);
                    blobs += list.len();
                }
                Err(error) => report.packs_unreadable.push(error.to_string()),
            }
            if blobs >= FULL && !dry_run {
                self.write(std::mem::replace(&mut json, format::START.to_vec()))
                    .await?;
                blobs = 0;
            } else if dry_run {
                json.truncate(format::START.len());
            }
        }
        if blobs > 0 && !dry_run {
            self.write(json).await?;
        }
        report.packs_unreadable.sort();
        Ok(report.packs_indexed)
    }

    /// A dry run may be made without a lock.
    fn allowed_if(&self, dry_run: bool) -> Result<()> {
        if dry_run { Ok(()) } else { (self.allowed)() }
    }

    /// What a pack says it holds.
    async fn list(&self, id: &Id, size: u64) -> Result<Vec<Blob>> {
        let path = pack::path(id);
        let damaged = |why: &Invalid| self.repo.damaged(format!("pack {id}"), why);
        let short = || damaged(&Invalid::new("it is too short"));
        let tail_len = size.min(TAIL);
        let tail = self
            .store
            .read_range(&path, size - tail_len, tail_len)
            .await?;
        let (rest, trailer) = tail
            .split_last_chunk::<{ pack::TRAILER }>()
            .ok_or_else(short)?;
        let length = pack::header_length(*trailer, size).map_err(|why| damaged(&why))?;
        let list = if let Some(at) = rest.len().checked_sub(length as usize) {
            self.repo.key().open(&rest[at..])
        } else {
            let start = size - u64::from(length) - pack::TRAILER as u64;
            let length = u64::from(length);
            let sealed = self.store.read_range(&path, start, length).await?;
            self.repo.key().open(&sealed)
        };
        let list =
            list.map_err(|_| damaged(&Invalid::new("its list of blobs is not authentic")))?;
        pack::decode_header(&list, size).map_err(|why| damaged(&why))
    }

    async fn write(&self, mut json: Vec<u8>) -> Result<()> {
        json.extend_from_slice(format::END);
        let (id, sealed) = unpacked::encode(self.repo.key(), &json, self.repo.version())
            .map_err(|why| Error::Bug(format!("an index cannot be encoded: {why}")))?;
        (self.allowed)()?;
        self.store
            .write(&format!("index/{id}"), sealed.into())
            .await
    }
}

impl Known {
    /// Takes what an index file says. `false` if it cannot be kept.
    fn take(&mut self, file: &IndexFile) -> bool {
        let ids: Option<Vec<Id>> = file.packs.iter().map(|pack| pack.id.id()).collect();
        let Some(ids) = ids else { return false };
        self.count += ids.len() as u64;
        for (id, pack) in ids.into_iter().zip(&file.packs) {
            let size = size(pack);
            let known = self.packs.entry(id).or_insert(size);
            if *known != size {
                *known = None;
            }
        }
        true
    }
}

/// The size of a pack with just these blobs; `None` if they do not lie one behind the other.
fn size(pack: &format::Pack) -> Option<u64> {
    let mut places: Vec<(u64, u64)> = Vec::with_capacity(pack.blobs.len());
    let mut list = (OVERHEAD + pack::TRAILER) as u64;
    for blob in &pack.blobs {
        blob.id.id()?;
        places.push((u64::from(blob.offset), u64::from(blob.length)));
        list += pack::entry_length(blob.uncompressed_length.is_some()) as u64;
    }
    places.sort_unstable();
    let mut end = 0;
    for (offset, length) in places {
        if offset != end {
            return None;
        }
        end += length;
    }
    Some(end + list)
}
