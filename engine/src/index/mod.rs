//! Which blob lies where.
//!
//! Does: read all index files, several at a time, into a [`compact`] table of at most 40 bytes a
//! blob. Does not: trust lengths (they are checked against the format's limits here) or count on
//! packs that are marked for deletion. An index file that cannot be read is an error.

pub(crate) mod bits;
pub(crate) mod builder;
pub(crate) mod compact;
pub(crate) mod ranges;
mod reading;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

pub(crate) use bits::Bits;
pub(crate) use builder::Copies;
pub(crate) use compact::{MAX_BLOB, Place, Record};
pub(crate) use reading::{LIMIT, read_all};

use builder::Builder;
use compact::CompactIndex;
use futures::StreamExt as _;

use crate::{
    crypto::Id,
    error::{Error, Result},
    format::index::{BlobKind, Pack},
    repo::Repository,
    storage::Store,
};

/// Bytes of an index file's name, or a marked pack's, in a set.
const FILE: usize = size_of::<Id>() * 2;

/// Which packs an index is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packs {
    /// Only those nobody has marked for deletion.
    Live,
    /// Also marked ones, which may still be there: for reading.
    All,
    /// Of all of them the directories: for who reads no file content.
    Trees,
}

/// All blobs of a repository.
#[derive(Debug, Default)]
pub(crate) struct Index {
    blobs: CompactIndex,
    /// The index files it was read from.
    files: BTreeSet<Id>,
    /// Packs that are marked for deletion.
    marked: BTreeSet<Id>,
}

/// What is done about an index file that cannot be read: an error ends it all.
type Unreadable<'a> = &'a mut (dyn FnMut(Id, Error) -> Result<()> + Send);

/// How to read an index.
pub(crate) struct Loading<'a> {
    /// Which packs.
    pub(crate) which: Packs,
    /// What is kept of blobs in several packs.
    pub(crate) copies: Copies,
    /// Bytes it may take.
    pub(crate) limit: u64,
    /// Asked about each index file that is damaged or gone, which is left out then. Without it that
    /// is an error.
    pub(crate) unreadable: Option<Unreadable<'a>>,
}

impl Index {
    /// Reads the index files there are now.
    ///
    /// # Errors
    /// `MemoryLimit`, with what it takes: all index files are read for that.
    pub(crate) async fn load_as(
        repo: &Repository,
        store: &Store,
        loading: Loading<'_>,
    ) -> Result<Self> {
        let listed = files(store).await?;
        Self::load_files(repo, store, listed, loading).await
    }

    /// Reads these index files, of these sizes.
    ///
    /// # Errors
    /// `MemoryLimit`, with what it takes: all of them are read for that.
    pub(crate) async fn load_files(
        repo: &Repository,
        store: &Store,
        listed: BTreeMap<Id, u64>,
        mut loading: Loading<'_>,
    ) -> Result<Self> {
        let mut reading = pin!(read_all(repo, store, listed.clone()));
        let mut builder = Builder::keeping(loading.copies);
        if loading.which != Packs::Trees {
            let sealed = listed.values().copied().fold(0, u64::saturating_add);
            builder.make_room(sealed, loading.limit);
        }
        // The names of the files stay, too.
        let mut needed = (listed.len() * FILE) as u64;
        // Of several places of one blob, the pack added first counts: live ones come first.
        let mut later = Vec::new();
        let mut marked = BTreeSet::new();
        while let Some((id, read)) = reading.next().await {
            let mut file = match (read, &mut loading.unreadable) {
                (Ok(Some(file)), _) => file,
                (Ok(None), _) => continue,
                (Err(error), Some(unreadable)) if error.is_content() => {
                    unreadable(id, error)?;
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            if loading.which == Packs::Trees {
                only_trees(&mut file.packs);
                only_trees(&mut file.packs_to_delete);
            }
            for pack in &file.packs {
                let added = builder.add_listed(pack);
                if let Err(why) = added {
                    let error = repo.damaged(format!("index {id}"), &why);
                    match &mut loading.unreadable {
                        Some(unreadable) => unreadable(id, error)?,
                        None => return Err(error),
                    }
                }
            }
            if builder.memory().saturating_add(needed) > loading.limit {
                needed += builder.memory() - Builder::default().memory();
                builder.clear();
            }
            let gone = file.packs_to_delete.iter();
            marked.extend(gone.filter_map(|pack| pack.id.id()));
            if loading.which != Packs::Live {
                later.extend(file.packs_to_delete);
            }
        }
        for pack in later {
            builder
                .add_listed(&pack)
                .map_err(|why| repo.damaged("index of packs to delete", &why))?;
        }
        needed += builder.memory();
        if needed > loading.limit {
            return Err(Error::MemoryLimit {
                what: format!("the index of the repository {}", repo.location()),
                needed,
                limit: loading.limit,
            });
        }
        Ok(Self {
            blobs: builder.build(),
            files: listed.into_keys().collect(),
            marked,
        })
    }

    /// Where a blob lies; `None` if it is in no index.
    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        self.blobs.get(id, kind)
    }

    /// Position of a blob, which stands for it as long as the index lives; `None` if it is in no
    /// index.
    pub(crate) fn position(&self, kind: BlobKind, id: &Id) -> Option<u32> {
        self.blobs.position(id, kind)
    }

    /// The record at a position.
    pub(crate) fn record(&self, position: u32) -> Option<Record> {
        self.blobs.record(position)
    }

    /// Where the record at a position lies, without looking for the beginning of its id.
    pub(crate) fn place(&self, position: u32) -> Option<Place> {
        self.blobs.place(position)
    }

    /// All records with their positions, in order; the copies of one blob side by side.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u32, Record)> {
        self.blobs.records()
    }

    /// All places of the blob at a position. One only, unless the index was read with [`Copies::All`].
    pub(crate) fn places(&self, position: u32) -> impl Iterator<Item = Place> {
        self.blobs.places(position)
    }

    /// How many records there are; positions are all below.
    pub(crate) fn len(&self) -> usize {
        self.blobs.len()
    }

    /// How many of them are of trees.
    pub(crate) fn trees(&self) -> usize {
        self.blobs.trees()
    }

    /// How many packs there are; their numbers are all below.
    pub(crate) fn pack_count(&self) -> usize {
        self.blobs.pack_count()
    }

    /// Packs that are marked for deletion. They may be live ones as well.
    pub(crate) fn marked(&self) -> &BTreeSet<Id> {
        &self.marked
    }

    /// The same, and from now on its pack counts as used.
    pub(crate) fn use_blob(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        self.blobs.use_blob(id, kind)
    }

    /// The packs that were used, each with the end of its last known blob.
    pub(crate) fn used_packs(&self) -> impl Iterator<Item = (Id, u32)> {
        self.blobs.used_packs()
    }

    /// All packs, in the order of their numbers.
    pub(crate) fn pack_ids(&self) -> impl Iterator<Item = Id> {
        self.blobs.pack_ids()
    }

    /// Bytes it occupies.
    pub(crate) fn memory(&self) -> u64 {
        (self.blobs.memory() + (self.files.len() + self.marked.len()) * FILE) as u64
    }

    /// The index files it was read from.
    pub(crate) fn files(&self) -> &BTreeSet<Id> {
        &self.files
    }

    /// Name of a pack, and the end of its last known blob.
    pub(crate) fn pack(&self, number: u32) -> (Id, u32) {
        self.blobs.pack(number).unwrap_or((Id([0; 32]), 0))
    }
}

/// Leaves out file content, and packs of nothing else.
fn only_trees(packs: &mut Vec<Pack>) {
    for pack in &mut *packs {
        pack.blobs.retain(|blob| blob.kind == BlobKind::Tree);
    }
    packs.retain(|pack| !pack.blobs.is_empty());
}

/// The index files there are, with their sizes.
pub(crate) async fn files(store: &Store) -> Result<BTreeMap<Id, u64>> {
    let entries = store.list("index").await?;
    let files = entries.iter().filter(|entry| !entry.is_dir);
    Ok(files
        .filter_map(|entry| Some((Id::parse(&entry.name)?, entry.size)))
        .collect())
}

/// The packs there are, with their sizes.
pub(crate) async fn pack_sizes(store: &Store) -> Result<BTreeMap<Id, u64>> {
    let entries = store.list_recursive("data").await?;
    let named = entries.into_iter().filter_map(|entry| {
        let (dir, name) = entry.name.split_once('/')?;
        // In another directory it would not be found.
        let id = Id::parse(name).filter(|_| name.starts_with(dir) && dir.len() == 2)?;
        Some((id, entry.size))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index::IndexFile;

    fn file(length: u64) -> IndexFile {
        let (a, b) = (Id::of(b"a"), Id::of(b"b"));
        let json = format!(
            r#"{{"packs":[{{"id":"{b}","blobs":[{{"id":"{a}","type":"data","offset":7,"length":{length},"uncompressed_length":99}}]}}]}}"#
        );
        IndexFile::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn finds_by_kind_and_id() {
        let mut builder = Builder::default();
        for pack in file(50).packs {
            builder.add_listed(&pack).unwrap();
        }
        let index = Index {
            blobs: builder.build(),
            ..Index::default()
        };
        let place = index.find(BlobKind::Data, &Id::of(b"a")).unwrap();
        assert_eq!((place.offset, place.length, place.plain), (7, 50, 99));
        assert_eq!(index.pack(place.pack), (Id::of(b"b"), 57));
        assert_eq!(index.find(BlobKind::Tree, &Id::of(b"a")), None);
        assert_eq!(index.find(BlobKind::Data, &Id::of(b"c")), None);
    }

    #[test]
    fn absurd_lengths_are_errors() {
        for length in [0, 31, u64::from(MAX_BLOB) + 1, u64::from(u32::MAX)] {
            for pack in file(length).packs {
                assert!(Builder::default().add_listed(&pack).is_err());
            }
        }
    }
}
