//! The cases, and what each should reach.

/// A limit besides those of wall time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Also {
    /// Peak of Ark's resident memory, in bytes.
    Memory(u64),
    /// Ark's processor time against restic's.
    Processor(f64),
    /// Bytes Ark added against what each of the others did.
    Added(f64),
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) title: &'static str,
    /// Ark's wall time against restic's, at most.
    pub(crate) restic: f64,
    /// Against rustic's.
    pub(crate) rustic: f64,
    /// Other limits.
    pub(crate) also: &'static [Also],
}

const fn case(
    name: &'static str,
    title: &'static str,
    gates: (f64, f64),
    also: &'static [Also],
) -> Case {
    Case {
        name,
        title,
        restic: gates.0,
        rustic: gates.1,
        also,
    }
}

const BACKUP_MEMORY: Also = Also::Memory(128 << 20);
const HISTORY_MEMORY: Also = Also::Memory(256 << 20);
const RESTORE_MEMORY: Also = Also::Memory(96 << 20);

/// All cases, in the order in which they run: those on the same data stand together.
pub(crate) const ALL: [Case; 21] = [
    case(
        "initial-dense",
        "first backup of one database file, dense pages",
        (0.38, 0.60),
        &[BACKUP_MEMORY, Also::Processor(0.45)],
    ),
    case(
        "untouched",
        "the same, untouched, on a file system of a disk",
        (0.60, 0.60),
        &[],
    ),
    case(
        "reread-rabin",
        "the same, touched but unchanged, all read again, content-defined chunks",
        (0.55, 0.40),
        &[],
    ),
    case(
        "reread-fixed",
        "the same, touched but unchanged, all read again, fixed chunks",
        (0.28, 0.22),
        &[],
    ),
    case(
        "reread-prints",
        "the same, touched but unchanged, all read again, with fingerprints",
        (0.12, 0.08),
        &[],
    ),
    case(
        "changed",
        "1 % of its 8 KiB pages changed at random",
        (0.10, 0.14),
        &[Also::Added(0.12)],
    ),
    case(
        "changed-prints",
        "1 % of its 8 KiB pages changed at random, with fingerprints",
        (0.06, 0.08),
        &[Also::Added(0.10)],
    ),
    case(
        "restore-large",
        "restore of the database file",
        (0.65, 0.65),
        &[RESTORE_MEMORY],
    ),
    case(
        "check-data",
        "check of that repository, all data read and verified",
        (0.60, 0.60),
        &[],
    ),
    case(
        "initial-padded",
        "first backup of one database file, padded pages",
        (0.30, 0.65),
        &[BACKUP_MEMORY, Also::Processor(0.45)],
    ),
    case(
        "postgres-first",
        "first backup of a real PostgreSQL after pgbench's initialisation",
        (0.40, 0.65),
        &[],
    ),
    case(
        "postgres-later",
        "the same after pgbench ran against it",
        (0.30, 0.40),
        &[],
    ),
    case(
        "small-first",
        "first backup of many small files",
        (0.40, 0.38),
        &[],
    ),
    case("small-unchanged", "the same, unchanged", (0.30, 0.30), &[]),
    case(
        "restore-small",
        "restore of the small files",
        (0.65, 0.65),
        &[RESTORE_MEMORY],
    ),
    case(
        "prune",
        "prune after half of the snapshots were forgotten, at most 5 % unused, any amount written anew",
        (0.40, 0.80),
        &[],
    ),
    case(
        "stats",
        "how much is stored, for which snapshot, over many snapshots of small files",
        (0.30, 0.50),
        &[HISTORY_MEMORY],
    ),
    case(
        "find",
        "a few files by name in all of these snapshots",
        (0.30, 0.50),
        &[HISTORY_MEMORY],
    ),
    case(
        "empty-files",
        "first backup of empty files in many folders",
        (0.50, 0.60),
        &[],
    ),
    case(
        "compressed",
        "first backup of already compressed data",
        (0.60, 0.75),
        &[],
    ),
    case(
        "minio",
        "first backup to MinIO, 50 ms added to each request",
        (0.60, 0.60),
        &[],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
