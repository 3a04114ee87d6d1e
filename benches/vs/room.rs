//! How much data there is, and whether this machine has the room for it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{statfs, statvfs};

const GIB: u64 = 1 << 30;
/// `TMPFS_MAGIC` of the kernel.
const TMPFS: u64 = 0x0102_1994;

/// How much data each case has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Pages of the database file.
    pub(crate) pages: u64,
    /// Small files.
    pub(crate) small: u64,
    /// Snapshots of small files that change.
    pub(crate) snapshots: u64,
    /// Empty files.
    pub(crate) empty: u64,
    /// Bytes that do not compress.
    pub(crate) compressed: u64,
    /// Pages that go to MinIO.
    pub(crate) remote_pages: u64,
    /// pgbench's scale: 15 MB each.
    pub(crate) scale: u64,
    /// Seconds for which pgbench runs.
    pub(crate) seconds: u64,
}

impl Sizes {
    /// As the gates are meant.
    pub(crate) const FULL: Self = Self {
        pages: 524_288,
        small: 50_000,
        snapshots: 100,
        empty: 1_000_000,
        compressed: 2 * GIB,
        remote_pages: 131_072,
        scale: 100,
        seconds: 60,
    };
    /// An eighth, for a quick look.
    pub(crate) const QUICK: Self = Self {
        pages: 65_536,
        small: 6_250,
        snapshots: 25,
        empty: 125_000,
        compressed: GIB / 4,
        remote_pages: 32_768,
        scale: 12,
        seconds: 10,
    };

    /// One or the other.
    pub(crate) fn of(quick: bool) -> Self {
        if quick { Self::QUICK } else { Self::FULL }
    }

    /// Bytes that the cases on one kind of data take at most, in memory: source, repositories,
    /// restored copy.
    fn need(&self, case: &str) -> u64 {
        let file = self.pages * 8192;
        let small = self.small * (33 << 10);
        let tenths = |bytes: u64, count: u64| bytes / 10 * count;
        match case {
            "initial-dense" | "initial-padded" => tenths(file, 18),
            "reread-rabin" | "reread-fixed" | "check-data" => tenths(file, 35),
            "changed" => tenths(file, 42),
            "restore-large" => tenths(file, 45),
            "postgres-first" | "postgres-later" => tenths(self.scale * 16_000_000 + GIB, 33),
            "small-first" => tenths(small, 20),
            "small-unchanged" | "restore-small" => tenths(small, 45),
            "prune" => tenths(small, 80),
            // Files of 2 KiB on average take a page each; three repositories keep all versions, and
            // directories anew.
            "stats" | "find" => self.small * (8 << 10) + self.small * self.snapshots * 500,
            // Nodes of a file system in memory, and what a program notes of each.
            "empty-files" => self.empty * 1_800,
            "compressed" => tenths(self.compressed, 21),
            _ => tenths(self.remote_pages * 8192, 20),
        }
    }
}

/// Bytes that can be written below a folder before it or the machine's memory is full.
pub(crate) fn left(dir: &Path) -> Result<u64> {
    let room = statvfs(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    let available = available().context("cannot read how much memory there is")?;
    Ok(available.min(room.f_bavail * room.f_frsize))
}

/// Checks that `work` is in memory and that there is room for the largest of the cases.
pub(crate) fn check(work: &Path, sizes: &Sizes, cases: &[&str]) -> Result<()> {
    let need = cases.iter().map(|case| sizes.need(case)).max().unwrap_or(0) + GIB;
    let many = cases.contains(&"empty-files");
    let nodes = if many { sizes.empty * 12 / 10 } else { 0 };
    let less = "`--quick` takes an eighth, `--case` chooses";
    enough(work, (need, need), nodes, less)
}

/// Checks that `work` is in memory, and that there are so many bytes in it, so many of memory, and
/// so many inodes. `less` says how to get by with less.
pub(crate) fn enough(
    work: &Path,
    (room_needed, memory_needed): (u64, u64),
    nodes: u64,
    less: &str,
) -> Result<()> {
    let failed = || format!("cannot look at {}", work.display());
    let system = statfs(work).with_context(failed)?;
    ensure!(
        u64::try_from(system.f_type).is_ok_and(|kind| kind == TMPFS),
        "{} is no tmpfs: a disk would be measured instead of the programs; choose one with --work",
        work.display()
    );
    let room = statvfs(work).with_context(failed)?;
    let free = room.f_bavail * room.f_frsize;
    let available = available().context("cannot read how much memory there is")?;
    let mut missing = Vec::new();
    for (what, has, need) in [
        ("free in the file system", free, room_needed),
        ("of available memory", available, memory_needed),
    ] {
        if has < need {
            missing.push(format!(
                "{} {what}, where {} are needed",
                shown(has),
                shown(need)
            ));
        }
    }
    if room.f_favail < nodes {
        missing.push(format!(
            "{} free inodes, where {nodes} are needed",
            room.f_favail
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "not enough room in {}: {}; {less}, and a tmpfs can be enlarged with `mount -o remount,size=`",
        work.display(),
        missing.join("; ")
    )
}

fn shown(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

/// What the kernel says can be used without swapping.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_needs_room() {
        for case in crate::case::ALL {
            let (full, quick) = (Sizes::FULL.need(case.name), Sizes::QUICK.need(case.name));
            assert!(quick > 0 && full > quick, "{}", case.name);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let huge = Sizes {
            pages: 1 << 40,
            ..Sizes::QUICK
        };
        let error = check(Path::new("/dev/shm"), &huge, &["changed"]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("free in the file system") && text.contains("--quick"),
            "{text}"
        );
        let error = check(Path::new("/proc"), &huge, &["changed"]).unwrap_err();
        assert!(error.to_string().contains("no tmpfs"), "{error}");
    }
}
