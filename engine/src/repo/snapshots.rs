//! Snapshots: listing, finding, saving.
//!
//! Reads every snapshot file, several at a time. One whose content makes no sense is left out and remembered
//! ([`Repository::left_out`]); who must know of all asks for [`Repository::all_snapshots_in`]. What the store cannot read is an
//! error, never a shorter list. Saving writes one file, last of all; the callers' modules say what must come before.

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::{Timestamp, tz::Offset};

use super::Repository;
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{
        Invalid,
        root::RootMeta,
        snapshot::{Coverage, SnapshotFile, Summary, Synced},
        time, unpacked,
    },
    storage::Store,
};

/// Larger snapshot files are refused.
pub(crate) const LIMIT: u64 = 64 << 20;
/// Snapshot files read at the same time.
const PARALLEL: usize = 8;

/// A snapshot: one directory tree at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was taken, by the clock of the machine that took it.
    pub time: Timestamp,
    /// That machine's offset from UTC at the time.
    pub offset: Offset,
    /// Host name given at the backup.
    pub hostname: String,
    /// User name given at the backup.
    pub username: String,
    /// User id of the process that took it.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// Paths it is of, as shown to people.
    pub paths: Vec<String>,
    /// Tags, as `key=value` where we wrote them.
    pub tags: Vec<String>,
    /// Patterns of what was left out.
    pub excludes: Vec<String>,
    /// Id of the snapshot this one was made from by a change of its tags or content.
    pub original: Option<String>,
    /// Id of its root directory.
    pub tree: String,
    /// Id of the snapshot it was compared with.
    pub parent: Option<String>,
    /// Which program wrote it.
    pub program_version: String,
    /// What the backup did, if its program wrote that down.
    pub summary: Option<Summary>,
    /// Which of its directories were read whole.
    pub coverage: Coverage,
    /// What the next backup may know of files of fixed chunks.
    pub(crate) synced: Option<Synced>,
}

impl Snapshot {
    /// A snapshot of which only its id and its time are known: all that rules of retention without
    /// groups look at.
    pub fn dated(id: impl Into<String>, time: Timestamp, offset: Offset) -> Self {
        Self {
            id: id.into(),
            time,
            offset,
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            paths: Vec::new(),
            tags: Vec::new(),
            excludes: Vec::new(),
            original: None,
            tree: String::new(),
            parent: None,
            program_version: String::new(),
            summary: None,
            coverage: Coverage::default(),
            synced: None,
        }
    }

    fn from_file(id: Id, file: SnapshotFile) -> Result<Self, Invalid> {
        let taken = file.timestamp()?;
        Id::parse(&file.tree).ok_or_else(|| Invalid::new("its tree is not an id"))?;
        Ok(Self {
            id: id.to_string(),
            time: taken,
            offset: time::offset(&file.time),
            hostname: file.hostname,
            username: file.username,
            uid: file.uid,
            gid: file.gid,
            paths: file.paths,
            tags: file.tags,
            excludes: file.excludes,
            original: file.original,
            tree: file.tree,
            parent: file.parent,
            program_version: file.program_version,
            summary: file.summary,
            coverage: Coverage::of(file.ark_coverage.as_deref()),
            synced: file.synced,
        })
    }

    /// Its document for a copy of it, with all that is known of it but for what only its own
    /// repository's next backup may know.
    pub(crate) fn to_file(&self) -> SnapshotFile {
        SnapshotFile {
            time: time::format_at(self.time, self.offset),
            parent: self.parent.clone(),
            tree: self.tree.clone(),
            paths: self.paths.clone(),
            hostname: self.hostname.clone(),
            username: self.username.clone(),
            uid: self.uid,
            gid: self.gid,
            excludes: self.excludes.clone(),
            tags: self.tags.clone(),
            original: self.original.clone(),
            program_version: self.program_version.clone(),
            summary: self.summary.clone(),
            ark_coverage: self.coverage.word(),
            synced: None,
        }
    }

    /// Whether it has all these tags; an empty tag fits a snapshot that has none, but for those
    /// that hold the root directory's metadata. Blanks at the ends do not count: earlier versions
    /// stored them as they were typed.
    pub fn has_tags(&self, tags: &[String]) -> bool {
        let has_none = || self.tags.iter().all(|tag| RootMeta::is_tag(tag));
        let same = |tag: &str| self.tags.iter().any(|own| own.trim() == tag);
        let has = |tag: &str| (tag.is_empty() && has_none()) || same(tag);
        tags.iter().all(|tag| has(tag.trim()))
    }
}

fn path(id: Id) -> String {
    format!("snapshots/{id}")
}

/// The snapshot files there are, with their sizes.
async fn snapshot_ids(store: &Store) -> Result<Vec<(Id, u64)>> {
    let entries = store.list("snapshots").await?;
    Ok(entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Some((Id::parse(&entry.name)?, entry.size)))
        .collect())
}

impl Repository {
    /// All snapshots that can be read, oldest first; the others are in [`Repository::left_out`] then. Blocks; see the module of
    /// [`Repository`].
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.snapshots_in(self.store())
    }

    /// The snapshot with this id, or the only one whose id starts with it. Blocks.
    pub fn find_snapshot(&self, id_or_prefix: &str) -> Result<Snapshot> {
        self.find_snapshot_in(self.store(), id_or_prefix)
    }

    /// The same, through a store that the caller can cancel.
    pub(crate) fn find_snapshot_in(&self, store: &Store, id_or_prefix: &str) -> Result<Snapshot> {
        let not_found = || Error::SnapshotNotFound {
            location: self.location(),
            id: id_or_prefix.to_owned(),
        };
        let id = self.snapshot_id_in(store, id_or_prefix)?;
        self.block_on(async {
            let there = store.stat(&path(id)).await?;
            let size = there.ok_or_else(not_found)?.size;
            let found = self.read_snapshot(store, id, size).await?;
            found.ok_or_else(not_found)
        })
    }

    /// The id of the only snapshot file whose name is this, or begins so, readable or not.
    pub(crate) fn snapshot_id_in(&self, store: &Store, id_or_prefix: &str) -> Result<Id> {
        let not_found = || Error::SnapshotNotFound {
            location: self.location(),
            id: id_or_prefix.to_owned(),
        };
        if id_or_prefix.is_empty() {
            return Err(not_found());
        }
        if let Some(id) = Id::parse(id_or_prefix) {
            return Ok(id);
        }
        let mut ids = self.block_on(snapshot_ids(store))?;
        ids.retain(|(id, _)| id.to_string().starts_with(id_or_prefix));
        match ids[..] {
            [] => Err(not_found()),
            [(id, _)] => Ok(id),
            _ => Err(Error::SnapshotAmbiguous {
                location: self.location(),
                id: id_or_prefix.to_owned(),
                count: ids.len(),
            }),
        }
    }

    /// All snapshots that can be read, through a store that the caller can cancel.
    pub(crate) fn snapshots_in(&self, store: &Store) -> Result<Vec<Snapshot>> {
        self.listed_snapshots(store, |id, error| {
            self.leave_out(&format!("snapshot {id}"), error)
        })
    }

    /// All snapshots; one that cannot be read is an error.
    pub(crate) fn all_snapshots_in(&self, store: &Store) -> Result<Vec<Snapshot>> {
        self.listed_snapshots(store, |_, error| Err(error))
    }

    /// All snapshots that can be read; `unreadable` decides about each of the others.
    pub(crate) fn listed_snapshots(
        &self,
        store: &Store,
        mut unreadable: impl FnMut(Id, Error) -> Result<()>,
    ) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        self.block_on(self.each_snapshot(store, |id, read| {
            match read {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) => unreadable(id, error)?,
            }
            Ok(())
        }))?;
        snapshots.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.id.cmp(&b.id)));
        Ok(snapshots)
    }

    /// Hands over each snapshot, readable or not, in no order. An error that `each` returns ends
    /// it.
    pub(crate) async fn each_snapshot(
        &self,
        store: &Store,
        mut each: impl FnMut(Id, Result<Snapshot>) -> Result<()>,
    ) -> Result<()> {
        let ids = snapshot_ids(store).await?;
        let mut reading = futures::stream::iter(ids)
            .map(|(id, size)| async move { (id, self.read_snapshot(store, id, size).await) })
            .buffer_unordered(PARALLEL);
        while let Some((id, read)) = reading.next().await {
            // One that was there a moment ago and is gone now has been forgotten.
            if let Some(read) = read.transpose() {
                each(id, read)?;
            }
        }
        Ok(())
    }

    /// A snapshot file of this size; `None` if it is gone. The time that reading it may take
    /// follows from its size.
    async fn read_snapshot(&self, store: &Store, id: Id, size: u64) -> Result<Option<Snapshot>> {
        let path = path(id);
        let sealed = match self.remembered(&path) {
            Some(sealed) => sealed,
            None => match store.read(&path, size.min(LIMIT)).await? {
                Some(sealed) => sealed,
                None => return Ok(None),
            },
        };
        let read = unpacked::decode_named(self.key(), &id, &sealed, unpacked::MAX_DOCUMENT)
            .and_then(|json| SnapshotFile::decode(&json))
            .and_then(|file| Snapshot::from_file(id, file))
            .map_err(|why| self.damaged(format!("snapshot {id}"), &why))?;
        self.remember(&path, &sealed);
        Ok(Some(read))
    }

    /// Writes a snapshot and returns its id.
    pub(crate) async fn save_snapshot(&self, file: &SnapshotFile) -> Result<String> {
        let (id, sealed) = file
            .encode()
            .and_then(|json| unpacked::encode(self.key(), &json, self.version()))
            .map_err(|why| self.damaged("new snapshot", &why))?;
        self.store().write(&path(id), Bytes::from(sealed)).await?;
        Ok(id.to_string())
    }
}
