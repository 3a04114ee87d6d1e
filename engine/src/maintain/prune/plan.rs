//! Which packs stay, which are written anew, and which go: a function of what they hold and of what
//! was asked for.
//!
//! What nothing is used of goes. Of what is partly used, packs with directories are always written
//! anew, for everybody reads those; packs of file content only until no more is unused than may be,
//! those with the largest unused share first. Packs much smaller than usual are joined once there
//! are enough of them, so that a repository does not fill with them, and is not rewritten for one.
//! Never is more written anew than allowed. Does no I/O and does not fail.

use super::{PruneReport, Unused};
use crate::crypto::Id;

/// Packs below this size are joined when there are many of them.
const SMALL: u64 = 1 << 20;
/// How many that are.
const MANY: usize = 10;
/// When it is asked for, packs below this size are joined, even two of them. A pack is full when
/// the next blob does not fit, and then it has at least so much: what was joined is not joined
/// again.
const SMALLER_THAN_USUAL: u64 = 8 << 20;

/// Blobs, and their size in a pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) blobs: u64,
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn join(&mut self, other: Self) {
        self.blobs += other.blobs;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackUse {
    pub(super) id: Id,
    /// Blobs that are needed, and needed from here: of several copies one counts.
    pub(super) used: Tally,
    /// All others.
    pub(super) unused: Tally,
    /// Whether some are of directories.
    pub(super) trees: bool,
    /// Whether some are of file content.
    pub(super) data: bool,
    /// Whether some are not compressed.
    pub(super) uncompressed: bool,
    /// Marked for removal by another program, in the index.
    pub(super) marked: bool,
}

impl PackUse {
    pub(super) fn size(&self) -> u64 {
        self.used.bytes.saturating_add(self.unused.bytes)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) max_unused: Unused,
    pub(super) max_repack: Option<u64>,
    /// Join packs much smaller than usual, however few.
    pub(super) small: bool,
    /// Compress what is not.
    pub(super) uncompressed: bool,
}

impl Limits {
    /// Whether a pack would better be written anew, even if all of it is used. Another pack with
    /// the same content is preferred: it is what an earlier run has made of it.
    pub(super) fn dislikes(&self, pack: &PackUse) -> bool {
        pack.size() < self.small_size()
            || (self.uncompressed && pack.uncompressed)
            || (pack.trees && pack.data)
    }

    fn small_size(&self) -> u64 {
        if self.small {
            SMALLER_THAN_USUAL
        } else {
            SMALL
        }
    }

    /// The most bytes that may stay unused beside so many used ones.
    fn may_stay(&self, used: u64) -> u64 {
        match self.max_unused {
            Unused::Unlimited => u64::MAX,
            Unused::Bytes(bytes) => bytes,
            Unused::Percent(percent) => {
                let percent = u128::from(percent.min(99));
                let bytes = u128::from(used) * percent / (100 - percent);
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    WrittenAnew,
    Goes,
}

/// Why a pack may be written anew; in the order in which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// It holds directories, and something unused.
    Trees,
    /// It holds what is to be compressed.
    Uncompressed,
    /// It is one of many small ones.
    Small,
    /// It holds something unused.
    Unused,
}

/// Decides for each pack.
pub(super) fn decide(packs: &[PackUse], limits: &Limits) -> Vec<Fate> {
    let mut fates = vec![Fate::Stays; packs.len()];
    let (mut used, mut unused) = (0_u64, 0_u64);
    for (pack, fate) in packs.iter().zip(&mut fates) {
        if pack.used.blobs == 0 {
            *fate = Fate::Goes;
        } else {
            used = used.saturating_add(pack.used.bytes);
            unused = unused.saturating_add(pack.unused.bytes);
        }
    }
    let limit = limits.may_stay(used);
    let mut room = limits.max_repack.unwrap_or(u64::MAX);
    for (n, reason) in candidates(packs, limits) {
        let pack = &packs[n];
        if pack.size() > room || (reason == Reason::Unused && unused <= limit) {
            continue;
        }
        fates[n] = Fate::WrittenAnew;
        room -= pack.size();
        unused = unused.saturating_sub(pack.unused.bytes);
    }
    fates
}

/// Packs that may be written anew, those first where it is worth the most.
fn candidates(packs: &[PackUse], limits: &Limits) -> Vec<(usize, Reason)> {
    let small = |pack: &PackUse| {
        pack.used.blobs > 0 && pack.unused.blobs == 0 && pack.size() < limits.small_size()
    };
    let enough = if limits.small { 2 } else { MANY };
    let many = |trees: bool| {
        let such = packs
            .iter()
            .filter(|pack| small(pack) && pack.trees == trees);
        such.count() >= enough
    };
    let (many_data, many_trees) = (many(false), many(true));
    let reason = |pack: &PackUse| match pack {
        _ if pack.used.blobs == 0 => None,
        _ if pack.trees && pack.unused.blobs > 0 => Some(Reason::Trees),
        _ if pack.uncompressed && limits.uncompressed => Some(Reason::Uncompressed),
        _ if small(pack) && if pack.trees { many_trees } else { many_data } => Some(Reason::Small),
        _ if pack.unused.blobs > 0 => Some(Reason::Unused),
        _ => None,
    };
    let mut found: Vec<_> = packs
        .iter()
        .enumerate()
        .filter_map(|(n, pack)| Some((n, reason(pack)?)))
        .collect();
    found.sort_by(|(a, reason_a), (b, reason_b)| {
        let (a, b) = (&packs[*a], &packs[*b]);
        // a.unused / a.used > b.unused / b.used
        let share = |one: &PackUse, other: &PackUse| {
            u128::from(one.unused.bytes) * u128::from(other.used.bytes)
        };
        reason_a
            .cmp(reason_b)
            .then_with(|| share(b, a).cmp(&share(a, b)))
            .then_with(|| a.id.cmp(&b.id))
    });
    found
}

/// What that does, in numbers; packs in no index are not among them.
pub(super) fn report(packs: &[PackUse], fates: &[Fate]) -> PruneReport {
    let (mut anew, mut dropped, mut gone) = <(Tally, Tally, Tally)>::default();
    let (mut remain, mut report) = (Tally::default(), PruneReport::default());
    for (pack, fate) in packs.iter().zip(fates) {
        match fate {
            Fate::Stays => {
                remain.join(pack.used);
                remain.join(pack.unused);
                report.unused_bytes += pack.unused.bytes;
            }
            Fate::WrittenAnew => {
                anew.join(pack.used);
                anew.join(pack.unused);
                dropped.join(pack.unused);
                remain.join(pack.used);
            }
            Fate::Goes if pack.marked => {
                report.unreferenced_packs += 1;
                report.unreferenced_bytes += pack.size();
            }
            Fate::Goes => gone.join(pack.unused),
        }
    }
    (report.repacked_blobs, report.repacked_bytes) = (anew.blobs, anew.bytes);
    (report.repack_dropped_blobs, report.repack_dropped_bytes) = (dropped.blobs, dropped.bytes);
    (report.deleted_blobs, report.deleted_bytes) = (gone.blobs, gone.bytes);
    (report.remaining_blobs, report.remaining_bytes) = (remain.blobs, remain.bytes);
    report
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
