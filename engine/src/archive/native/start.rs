//! The beginning of a run: its memory shared out, the index read, threads counted.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicBool};

use super::{
    Counts, Done, Input, Run,
    budget::Budget,
    fresh::Fresh,
    packer::Buffers,
    prints::Prints,
    queue::Queue,
    synced::Devices,
    upload::{self, Uploads},
};
use crate::{
    ceiling::{Beside, Ceiling},
    chunk::{
        Polynomial,
        rabin::{self, Rabin},
    },
    error::{Error, Result},
    format::{Invalid, pack},
    index::{Copies, Packs},
    seal::Sealer,
};

/// Bytes of a pack's buffer: what restic makes packs of, and the list.
pub(crate) const PACK: usize = 16 << 20;
/// How hard blobs are compressed.
pub(crate) const LEVEL: i32 = 1;
/// Bytes of a thread that reads: a chunk, a chunk of a stream that waits, and what compresses.
const WORKER: u64 = rabin::MAX + (2 << 20);
/// With fewer buffers for packs nothing goes on: one of data, one of trees, one on its way.
const LEAST_PACKS: u64 = 3;

/// What is needed beside the index.
const BESIDE: Beside = Beside {
    bytes: WORKER * 2 + (PACK + pack::header_room(0)) as u64 * LEAST_PACKS,
    bits: 0,
};

/// How many workers: as many as there are processors, unless they took more than half of what is
/// left. The other half is for packs on their way, directories and new blobs.
fn workers(left: u64, size: u64, cores: usize) -> usize {
    let able = (left / 2).saturating_sub(WORKER + 2 * size) / (WORKER + size);
    usize::try_from(able)
        .unwrap_or(cores)
        .clamp(1, cores.max(1))
}

/// Archives. The snapshot is the caller's to write.
pub(in crate::archive) fn archive(input: Input<'_>) -> Result<Done> {
    let repo = input.repo;
    let mut ceiling = Ceiling::new(input.memory);
    let index = ceiling.readable_index((repo, input.store), Packs::Live, Copies::First, BESIDE);
    let index = repo.block_on(index)?;
    let budget = Budget::new(input.memory);
    let mut held = budget.take(ceiling.taken(), "the program and the index")?;
    let polynomial = &repo.config().chunker_polynomial;
    let rabin = Polynomial::parse(polynomial)
        .and_then(Rabin::new)
        .ok_or_else(|| {
            repo.damaged(
                "configuration",
                &Invalid::new("its polynomial cannot be used"),
            )
        })?;
    let size = PACK + pack::header_room(0);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let workers = workers(budget.left(), size as u64, cores);
    held.join(budget.take(WORKER * (workers as u64 + 1), "the least number of threads")?);
    // Every worker and the trees fill a pack; the others are on their way.
    let least = workers + 2;
    held.join(budget.take((size * least) as u64, "the least number of packs")?);
    let buffers = Arc::new(Buffers::new(
        size,
        least,
        workers + 1 + upload::PARALLEL,
        &budget,
    ));
    let reserve = Arc::downgrade(&buffers);
    budget.set_reserve(reserve);
    let prints = Prints::open(&input, &budget)?;
    let run = Run {
        repo,
        sealer: Sealer::new(repo.key()),
        level: (repo.version() >= 2).then_some(LEVEL),
        index,
        fresh: Fresh::new(&budget),
        budget,
        _held: held,
        rabin,
        prints,
        synced: Devices::new(input.synced),
        buffers,
        uploads: Uploads::new(),
        queue: Queue::new(workers),
        windows: Mutex::default(),
        trees: Mutex::new(None),
        left: Mutex::default(),
        root: Mutex::new(None),
        devices: Mutex::default(),
        counts: Counts::default(),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
        input,
    };
    run.threads(workers)?;
    let Run {
        index,
        uploads,
        root,
        counts,
        prints,
        synced,
        ..
    } = run;
    let (packs, indexes, written) = uploads.written();
    let root = root.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (tree, root_is_whole) =
        root.ok_or_else(|| Error::Bug("the root directory was not written".to_owned()))?;
    Ok(Done {
        tree,
        root_is_whole,
        index,
        packs,
        indexes,
        written,
        counts,
        synced: synced.list(),
        prints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_as_many_as_memory_allows() {
        let size = 17 << 20;
        for (left, cores, expected) in [
            (208 << 20, 2, 2),
            (208 << 20, 64, 2),
            (1 << 40, 64, 64),
            (1 << 40, 0, 1),
            (0, 8, 1),
        ] {
            assert_eq!(workers(left, size, cores), expected, "{left} {cores}");
        }
    }
}
