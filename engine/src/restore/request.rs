//! What a restore is asked for, and what it says it did.

use std::{path::PathBuf, time::Duration};

use crate::{archive::Outcome, rows::FileError};

/// Bytes of buffers a restore takes unless said otherwise.
pub(super) const MEMORY: u64 = 64 << 20;

/// What to restore, where, and how.
///
/// The default restores everything with holes, without owners, deletes nothing, and takes 64 MiB.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Id of the snapshot, or a prefix that is unique.
    pub snapshot: String,
    /// The directory to restore into. It must exist; what else is in it stays, unless `delete_extra` is set.
    pub target: PathBuf,
    /// Leave holes where the content is zeros.
    pub sparse: bool,
    /// Set owners, which only root can.
    pub restore_owner: bool,
    /// What to restore: absolute paths in the snapshot, each with everything below it. They keep
    /// their places below the target. Empty: everything.
    pub select: Vec<PathBuf>,
    /// Delete what is in the restored directories of the target and not in the snapshot. Only in
    /// directories that the backup read whole, as far as the snapshot tells; what its patterns
    /// leave out stays.
    pub delete_extra: bool,
    /// With `delete_extra`: take it that the backup read every directory whole, if the snapshot
    /// does not say. Those of other programs do not.
    pub assume_whole: bool,
    /// With `delete_extra`, without `select`: the target may be the root of this machine's file
    /// system.
    pub delete_in_root: bool,
    /// Restore also into other file systems that are mounted in the target. Nothing is deleted
    /// there.
    pub across_mounts: bool,
    /// On the way to what is selected, go through links in the target that lead to directories,
    /// instead of putting directories in their places. Only through links of root and of who runs
    /// this. For targets in which nobody else can put a link.
    pub through_links: bool,
    /// Touch nothing, and report what would be done.
    pub dry_run: bool,
    /// Most bytes for buffers, at least 32 MiB (less counts as that). The index, 40 bytes a blob,
    /// directories on the way down and some 300 bytes for each hard link come on top.
    pub memory: u64,
    /// Most bytes for all of it, the program and the index of a large repository among them: buffers get less then, and
    /// `MemoryLimit` if that is too little. No ceiling when absent, for who must restore must not be refused.
    pub ceiling: Option<u64>,
}

impl Default for RestoreRequest {
    fn default() -> Self {
        Self {
            snapshot: String::new(),
            target: PathBuf::new(),
            sparse: true,
            restore_owner: false,
            select: Vec::new(),
            delete_extra: false,
            assume_whole: false,
            delete_in_root: false,
            across_mounts: false,
            through_links: false,
            dry_run: false,
            memory: MEMORY,
            ceiling: None,
        }
    }
}

/// What a restore did; with `dry_run`, what it would do.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Id of the snapshot, 64 hexadecimal digits.
    pub snapshot_id: String,
    /// Files (everything that is not a directory) that are now as in the snapshot.
    pub files: u64,
    /// Of these, how many had the right content before and were not written. Their metadata may
    /// have been set.
    pub files_unchanged: u64,
    /// Of these, how many were made or written.
    pub files_written: u64,
    /// Directories restored, the root not counted.
    pub dirs: u64,
    /// Entries of the target that were deleted because the snapshot does not have them, each file
    /// and each directory counted.
    pub deleted: u64,
    /// Bytes of content of the files restored.
    pub bytes: u64,
    /// Of these, how many were written, holes among them.
    pub bytes_written: u64,
    /// Bytes of file content fetched from the store, as they lie there. A dry run fetches none.
    pub bytes_fetched: u64,
    /// With `dry_run`: what would be done, by path. At most 10,000 changes; the counts above are
    /// exact.
    pub plan: Vec<PlannedChange>,
    /// Changes beyond those.
    pub plan_dropped: u64,
    /// What could not be restored as it was. At most 10,000 rows.
    pub errors: Vec<FileError>,
    /// Rows beyond those.
    pub errors_dropped: u64,
    /// Things a user may want to know that are no failure: sockets left out, a size that was wrong.
    pub notes: Vec<FileError>,
    /// How long it took.
    pub duration: Duration,
}

impl RestoreReport {
    /// `Partial` if there is any error row.
    pub fn outcome(&self) -> Outcome {
        if self.errors.is_empty() && self.errors_dropped == 0 {
            Outcome::Complete
        } else {
            Outcome::Partial
        }
    }
}

/// One change a dry run would make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedChange {
    /// The path below the target, without a leading slash, safe to show as those of rows are. `.`
    /// is the target.
    pub path: String,
    /// What would be done to it.
    pub action: RestoreAction,
}

/// What would be done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RestoreAction {
    /// It is not there and is made.
    Create,
    /// Something else is there: of another kind, or a name of a file that has other names as well.
    /// It is removed, and made anew.
    Replace,
    /// Its content differs; the parts that differ are written.
    Update,
    /// Its content is right; owner, attributes, mode or time are not.
    Metadata,
    /// The snapshot does not have it; it is deleted.
    Delete,
}

impl RestoreAction {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Metadata => "metadata",
            Self::Delete => "delete",
        }
    }
}
