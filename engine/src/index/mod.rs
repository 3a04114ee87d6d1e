//! Which blob lies where.
//!
//! Does: read all index files, several at a time, into a sorted table of about 56 bytes a blob. Does
//! not: trust lengths (they are checked against the format's limits here) or count on packs that are
//! marked for deletion. An index file that cannot be read is an error.

use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    crypto::{Id, OVERHEAD},
    error::Result,
    format::{
        Invalid,
        index::{BlobKind, IndexFile, Pack},
        unpacked,
    },
    repo::Repository,
    storage::Store,
};

/// Larger index files are refused.
const LIMIT: u64 = 512 << 20;
/// Index files read at the same time.
const PARALLEL: usize = 4;
/// Larger blobs are refused: no chunker makes them, and no directory of ours is that large.
pub(crate) const MAX_BLOB: u32 = 512 << 20;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    /// Sealed length.
    pub(crate) length: u32,
    /// Length after decompression; 0 if it is not compressed.
    pub(crate) plain: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: BlobKind,
    id: Id,
    marked: bool,
    place: Place,
}

/// Which packs an index is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packs {
    /// Only those nobody has marked for deletion.
    Live,
    /// Also marked ones, which may still be there: for reading.
    All,
}

/// All blobs of a repository.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// Name, and end of the last known blob.
    packs: Vec<(Id, u32)>,
}

impl Index {
    /// Reads the index files there are now.
    pub(crate) async fn load(repo: &Repository, store: &Store, which: Packs) -> Result<Self> {
        let ids: Vec<Id> = store
            .list("index")
            .await?
            .iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| Id::parse(&entry.name))
            .collect();
        let mut files = futures::stream::iter(ids)
            .map(|id| async move {
                let path = format!("index/{id}");
                let Some(sealed) = store.read(&path, LIMIT).await? else {
                    // Replaced by another since it was listed.
                    return Ok((id, None));
                };
                unpacked::decode(repo.key(), &sealed)
                    .and_then(|json| IndexFile::decode(&json))
                    .map(|file| (id, Some(file)))
                    .map_err(|why| repo.damaged(format!("index {id}"), &why))
            })
            .buffer_unordered(PARALLEL);
        let mut index = Self::default();
        while let Some((id, file)) = files.try_next().await? {
            let Some(file) = file else { continue };
            let marked = match which {
                Packs::Live => Vec::new(),
                Packs::All => file.packs_to_delete,
            };
            let live = file.packs.into_iter().map(|pack| (pack, false));
            for (pack, marked) in live.chain(marked.into_iter().map(|pack| (pack, true))) {
                index
                    .add(pack, marked)
                    .map_err(|why| repo.damaged(format!("index {id}"), &why))?;
            }
        }
        // Of several places of one blob, live ones come first.
        index
            .entries
            .sort_unstable_by_key(|entry| (entry.kind, entry.id, entry.marked));
        index.entries.dedup_by_key(|entry| (entry.kind, entry.id));
        Ok(index)
    }

    fn add(&mut self, pack: Pack, marked: bool) -> Result<(), Invalid> {
        let id = |text: &str| Id::parse(text).ok_or_else(|| Invalid::new("it contains a bad id"));
        let number = u32::try_from(self.packs.len()).map_err(Invalid::new)?;
        let mut end = 0;
        for blob in pack.blobs {
            let plain = blob.uncompressed_length.unwrap_or(0);
            let last = blob.offset.checked_add(blob.length);
            let fits =
                blob.length as usize >= OVERHEAD && blob.length <= MAX_BLOB && plain <= MAX_BLOB;
            let Some(last) = last.filter(|_| fits) else {
                return Err(Invalid::new("it contains an impossible length"));
            };
            end = end.max(last);
            self.entries.push(Entry {
                kind: blob.kind,
                id: id(&blob.id)?,
                marked,
                place: Place {
                    pack: number,
                    offset: blob.offset,
                    length: blob.length,
                    plain,
                },
            });
        }
        self.packs.push((id(&pack.id)?, end));
        Ok(())
    }

    /// Where a blob lies; `None` if it is in no index.
    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        let at = self
            .entries
            .binary_search_by(|entry| (entry.kind, &entry.id).cmp(&(kind, id)))
            .ok()?;
        Some(self.entries[at].place)
    }

    /// Name of a pack, and the end of its last known blob.
    pub(crate) fn pack(&self, number: u32) -> (Id, u32) {
        self.packs[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64) -> IndexFile {
        let (a, b) = (Id::of(b"a"), Id::of(b"b"));
        let json = format!(
            r#"{{"packs":[{{"id":"{b}","blobs":[{{"id":"{a}","type":"data","offset":7,"length":{length},"uncompressed_length":99}}]}}]}}"#
        );
        IndexFile::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn finds_by_kind_and_id() {
        let mut index = Index::default();
        for pack in file(50).packs {
            index.add(pack, false).unwrap();
        }
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
                assert!(Index::default().add(pack, false).is_err());
            }
        }
    }
}
