//! What is still needed of packs that are to go, copied into new ones.
//!
//! Blobs are copied as they are sealed, for the key stays the same; but each is opened and its
//! content compared with its id before, so that no damage is carried on. Only what is to be
//! compressed is sealed anew. Does: read the wanted parts of packs, several at a time, neighbours
//! together. Does not: remove anything, or trust lengths beyond their bounds. A pack counts as
//! copied when all of it has been handed on, and that is worth something only when all threads have
//! ended well.
//!
//! Fails with `Damaged` when a blob is not what it should be: then nothing is removed, for the old
//! pack may be all there is.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::survey::Survey;
use crate::{
    Cancel, Progress, Repository,
    archive::native::budget::{Budget, Permit},
    error::Result,
    format::{Invalid, compressed, pack},
    index::Record,
    maintain::packing::{Allowed, Filler, Packing},
    seal::Sealer,
    storage::Store,
};

/// Blobs whose places are looked up together.
const BATCH: u64 = 100_000;
/// Bytes of the places of that many.
const BATCH_MEMORY: u64 = BATCH * 2 * size_of::<Record>() as u64;
/// What the index takes for a blob, when all is looked at again at the end.
const BLOB: u64 = 40;
/// The most read at once, unless one blob is larger.
const WINDOW: u32 = 4 << 20;
/// What lies between two wanted blobs is read as well, if it is less than this.
const GAP: u32 = 64 << 10;
/// Bytes of a thread: what it reads, an opened blob and what that decompresses to.
const WORKER: u64 = 24 << 20;
/// A blob that takes more, opened and decompressed, asks for it.
const USUAL: u64 = 16 << 20;

/// How packs are copied.
pub(super) struct Copying<'a> {
    pub(super) repo: &'a Repository,
    pub(super) store: &'a Store,
    pub(super) survey: &'a Survey,
    /// Compress what is not.
    pub(super) compress: bool,
    /// When to stop beginning with another pack.
    pub(super) until: Option<Instant>,
    /// Bytes.
    pub(super) memory: u64,
    pub(super) allowed: Allowed<'a>,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
}

/// One pack and what is wanted of it, in the order in which it lies there.
struct Job {
    number: u32,
    blobs: Vec<Record>,
}

/// What is still to be done.
struct Jobs {
    packs: VecDeque<u32>,
    ready: VecDeque<Job>,
}

impl Copying<'_> {
    /// Copies what is needed of these packs; returns those of which all has been.
    pub(super) fn copy(&self, packs: Vec<u32>) -> Result<BTreeSet<u32>> {
        if packs.is_empty() {
            return Ok(BTreeSet::new());
        }
        let budget = Budget::new(self.memory);
        let mut held = budget.take(self.survey.taken, "the program and the index")?;
        let blobs = packs
            .iter()
            .map(|n| self.survey.packs[*n as usize].used.blobs);
        let again = blobs.sum::<u64>() * BLOB;
        // There when the copies are looked up, after the rest of this has gone.
        drop(budget.take(again, "the index of what is copied")?);
        held.join(budget.take(BATCH_MEMORY, "the places of blobs")?);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let able = usize::try_from(budget.left() / 3 / WORKER).unwrap_or(1);
        let workers = able.clamp(1, cores);
        held.join(budget.take(WORKER * workers as u64, "the least number of threads")?);
        let packing = Packing::new(
            (self.repo, self.store),
            workers,
            &budget,
            self.allowed,
            (self.progress, self.cancel),
        )?;
        let jobs = Mutex::new(Jobs {
            packs: packs.into(),
            ready: VecDeque::new(),
        });
        let done = Mutex::new(BTreeSet::new());
        let opener = Sealer::new(self.repo.key());
        packing.run(workers, |filler| {
            while let Some(job) = self.next(&jobs) {
                self.copy_pack(&job, filler, &opener, &budget)?;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.insert(job.number);
            }
            Ok(())
        })?;
        drop(held);
        Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn next(&self, jobs: &Mutex<Jobs>) -> Option<Job> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.ready.is_empty() {
            jobs.ready = self.look_up(&mut jobs.packs);
        }
        jobs.ready.pop_front()
    }

    /// Some packs, with the places of what is wanted of them.
    fn look_up(&self, packs: &mut VecDeque<u32>) -> VecDeque<Job> {
        let (mut blobs, mut wanted) = (0, Vec::new());
        while let Some(number) = packs.front().copied() {
            let more = self.survey.packs[number as usize].used.blobs;
            if !wanted.is_empty() && blobs + more > BATCH {
                break;
            }
            blobs += more;
            wanted.push(number);
            packs.pop_front();
        }
        let place: HashMap<u32, usize> = wanted.iter().copied().zip(0..).collect();
        let job = |number| Job {
            number,
            blobs: Vec::new(),
        };
        let mut jobs: Vec<Job> = wanted.into_iter().map(job).collect();
        if jobs.is_empty() {
            return VecDeque::new();
        }
        self.survey.blobs(|used, copies| {
            if !used {
                return;
            }
            let chosen = &copies[self.survey.chosen(copies)];
            if let Some(n) = place.get(&chosen.place.pack) {
                jobs[*n].blobs.push(*chosen);
            }
        });
        for job in &mut jobs {
            job.blobs.sort_by_key(|record| record.place.offset);
        }
        jobs.into()
    }

    fn copy_pack(
        &self,
        job: &Job,
        filler: &mut Filler<'_, '_>,
        opener: &Sealer,
        budget: &Arc<Budget>,
    ) -> Result<()> {
        let path = pack::path(&self.survey.index.pack(job.number).0);
        let mut scratch = Vec::new();
        let mut rest = &job.blobs[..];
        while let Some(first) = rest.first() {
            let start = first.place.offset;
            let mut end = first.place.end();
            let mut count = 1;
            for record in &rest[1..] {
                let next = record.place;
                let near = next.offset <= end.saturating_add(GAP);
                if !near || next.end().max(end) - start > WINDOW {
                    break;
                }
                end = end.max(next.end());
                count += 1;
            }
            let length = u64::from(end - start);
            let large = large(budget, length)?;
            let read = self
                .store
                .read_range(&path, u64::from(start), u64::from(end - start));
            let bytes = self.repo.block_on(read)?;
            let (run, later) = rest.split_at(count);
            for record in run {
                let at = (record.place.offset - start) as usize;
                let sealed = bytes.get(at..at + record.place.length as usize);
                let sealed = sealed
                    .ok_or_else(|| self.repo.damaged(&*path, &Invalid::new("it is too short")))?;
                self.copy_blob(record, sealed, &mut scratch, filler, opener, budget)?;
            }
            drop(large);
            rest = later;
        }
        Ok(())
    }

    fn copy_blob(
        &self,
        record: &Record,
        sealed: &[u8],
        scratch: &mut Vec<u8>,
        filler: &mut Filler<'_, '_>,
        opener: &Sealer,
        budget: &Arc<Budget>,
    ) -> Result<()> {
        let place = record.place;
        let large = large(
            budget,
            u64::from(place.length) + u64::from(place.plain_length()),
        )?;
        scratch.clear();
        scratch.extend_from_slice(sealed);
        let damaged = |why: &str| {
            let (pack, _) = self.survey.index.pack(place.pack);
            let what = format!("a blob at {} of pack {pack}", place.offset);
            self.repo.damaged(what, &Invalid::new(why))
        };
        let text = opener.open(scratch);
        let text = text.map_err(|_| damaged("it is not authentic"))?;
        let decompressed;
        let plain: &[u8] = if place.plain == 0 {
            text
        } else {
            decompressed = compressed::decompress(text, place.plain)
                .map_err(|why| damaged(&why.to_string()))?;
            &decompressed
        };
        let id = filler.id_of(plain);
        if !id.0.starts_with(&record.prefix) {
            return Err(damaged("its content does not match its id"));
        }
        if place.plain == 0 && self.compress {
            filler.add(record.kind, id, plain)?;
        } else {
            let plain_length = (place.plain != 0).then_some(place.plain);
            filler.add_sealed(record.kind, id, sealed, plain_length)?;
        }
        drop(large);
        Ok(())
    }
}

/// Memory for what is not usual.
fn large(budget: &Arc<Budget>, bytes: u64) -> Result<Option<Permit>> {
    (bytes > USUAL)
        .then(|| budget.take(bytes, "one blob of a pack that is written anew"))
        .transpose()
}
