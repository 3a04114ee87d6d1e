//! Reading blobs: by id, verified.
//!
//! Does: find a blob in the index, fetch its bytes (more than asked for when reads turn out to be
//! sequential), open, decompress within the length the index claims, and compare its SHA-256 with its id. When a blob is
//! wrong, or the store does not hand it out, read it from the other packs that the index names for it, if it was read with
//! all of them. Does not: retry. Errors for which [`Error::is_content`] holds are of the repository's content; others are
//! the store's.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Repository;
use crate::{
    crypto::{Id, Key},
    error::{Error, Result},
    format::{
        Invalid,
        compressed::{self, Unpacker},
        index::BlobKind,
        pack,
        tree::Entries,
    },
    index::{Index, Place},
    storage::Store,
};

/// The most fetched ahead at once.
const MAX_AHEAD: u32 = 4 << 20;
/// Windows kept: one file's blobs and the directories' own usually lie in different packs.
const WINDOWS: usize = 2;

/// Reads blobs of one repository with one index.
pub(crate) struct BlobReader<'a> {
    repo: &'a Repository,
    store: &'a Store,
    index: &'a Index,
    windows: Windows,
}

/// What was fetched ahead.
#[derive(Default)]
pub(crate) struct Windows(VecDeque<Window>);

/// The sealed bytes of a blob.
pub(crate) struct Sealed {
    data: Bytes,
    /// Length when decompressed; 0 if it is not compressed.
    plain: u32,
}

struct Window {
    kind: BlobKind,
    pack: u32,
    start: u32,
    data: Bytes,
    /// Bytes of it that were asked for.
    used: u32,
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(repo: &'a Repository, store: &'a Store, index: &'a Index) -> Self {
        Self {
            repo,
            store,
            index,
            windows: Windows::default(),
        }
    }

    /// The plain bytes of a blob.
    pub(crate) fn read(&mut self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let parts = (self.repo, self.store, self.index);
        let read = self.windows.fetch(parts, kind, id);
        match read.and_then(|sealed| sealed.open(self.repo, id)) {
            Err(error) if error.is_of_one_object() => {
                another_copy(parts, kind, id, |_| true)?.ok_or(error)
            }
            read => read,
        }
    }

    /// How long the plain bytes of a blob are, by the index.
    pub(crate) fn plain_length(&self, kind: BlobKind, id: &Id) -> Result<u32> {
        let place = self.index.find(kind, id).ok_or_else(|| {
            let why = Invalid::new("it is in no index");
            self.repo.damaged(format!("blob {id}"), &why)
        })?;
        Ok(place.plain_length())
    }

    /// The entries of a directory, each valid or not.
    pub(crate) fn read_tree(&mut self, id: &Id) -> Result<Entries> {
        let json = self.read(BlobKind::Tree, id)?;
        Entries::parse(json).map_err(|why| self.repo.damaged(format!("tree {id}"), &why))
    }
}

impl Sealed {
    /// The plain bytes, if they are the blob's.
    pub(crate) fn open(&self, repo: &Repository, id: &Id) -> Result<Vec<u8>> {
        let damaged = |why: Invalid| repo.damaged(format!("blob {id}"), &why);
        let plain = repo
            .key()
            .open(&self.data)
            .map_err(|_| damaged(Invalid::new("it is not authentic")))?;
        let plain = match self.plain {
            0 => plain,
            length => compressed::decompress(&plain, length).map_err(damaged)?,
        };
        if Id::of(&plain) != *id {
            return Err(damaged(Invalid::new("its content does not match its id")));
        }
        Ok(plain)
    }
}

/// The plain bytes of a blob, from another place than the first that the index names, of those that
/// will do. `None`: there is none, or none is whole.
///
/// # Errors
/// What the store says of something else than one object; and, if no copy is whole, what it said of one that it does not
/// hand out: that one may be whole.
pub(crate) fn another_copy(
    (repo, store, index): (&Repository, &Store, &Index),
    kind: BlobKind,
    id: &Id,
    will_do: impl Fn(&Place) -> bool,
) -> Result<Option<Vec<u8>>> {
    let Some(position) = index.position(kind, id) else {
        return Ok(None);
    };
    let mut refused = None;
    for place in index.places(position).skip(1).filter(will_do) {
        let path = pack::path(&index.pack(place.pack).0);
        let (start, length) = (u64::from(place.offset), u64::from(place.length));
        let read = repo.block_on(store.read_range(&path, start, length));
        let plain = place.plain;
        match read.and_then(|data| Sealed { data, plain }.open(repo, id)) {
            Ok(plain) => {
                tracing::warn!(%id, "one copy of a blob cannot be had; read from another");
                return Ok(Some(plain));
            }
            Err(error) if error.is_content() => {}
            Err(error) if error.is_of_one_object() => {
                refused.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Keeps the first of the errors that the places of one blob gave. A place that the store does not
/// hand out may be whole, so that such an error outranks those of content: nobody may take the blob
/// for lost.
pub(crate) fn worst(kept: &mut Option<Error>, error: Error) {
    if kept
        .as_ref()
        .is_none_or(|kept| kept.is_content() && !error.is_content())
    {
        *kept = Some(error);
    }
}

/// Bytes that can be opened where they are.
pub(crate) fn owned(data: Bytes) -> BytesMut {
    data.try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// So many bytes of a pack, from here on.
pub(crate) fn read_sealed(
    (repo, store, index): (&Repository, &Store, &Index),
    pack: u32,
    start: u32,
    length: u32,
) -> Result<BytesMut> {
    let path = pack::path(&index.pack(pack).0);
    let reading = store.read_range(&path, u64::from(start), u64::from(length));
    repo.block_on(reading).map(owned)
}

/// The plain bytes of a sealed blob; `plain_length` is 0 if it is not compressed. Whether they are
/// the blob's is not asked. Opened in place: `sealed` cannot be opened again, unless it was not
/// authentic.
pub(crate) fn unseal<'a>(
    key: &Key,
    plain_length: u32,
    sealed: &'a mut [u8],
    unpacker: &'a mut Unpacker,
) -> Result<&'a [u8], Invalid> {
    let opened: &[u8] = key
        .open_in_place(sealed)
        .map_err(|_| Invalid::new("it is not authentic"))?;
    match plain_length {
        0 => Ok(opened),
        length => unpacker.decompress(opened, length),
    }
}

/// The same, if they are the blob's.
pub(crate) fn open_in_place<'a>(
    key: &Key,
    id: &Id,
    plain_length: u32,
    sealed: &'a mut [u8],
    unpacker: &'a mut Unpacker,
) -> Result<&'a [u8], Invalid> {
    let plain = unseal(key, plain_length, sealed, unpacker)?;
    if Id::of(plain) == *id {
        Ok(plain)
    } else {
        Err(Invalid::new("its content does not match its id"))
    }
}

impl Windows {
    /// The sealed bytes of a blob, from a window if one has them. A window that served all its
    /// bytes was worth it: the next one in that pack is twice as large.
    pub(crate) fn fetch(
        &mut self,
        (repo, store, index): (&Repository, &Store, &Index),
        kind: BlobKind,
        id: &Id,
    ) -> Result<Sealed> {
        let place = index.find(kind, id).ok_or_else(|| {
            let why = Invalid::new("it is in no index");
            repo.damaged(format!("blob {id}"), &why)
        })?;
        let sealed = |data| Sealed {
            data,
            plain: place.plain,
        };
        let (name, known_end) = index.pack(place.pack);
        let end = place.offset + place.length;
        let mut ahead = place.length;
        for window in &mut self.0 {
            if window.pack != place.pack || window.kind != kind {
                continue;
            }
            let window_end = window.start + u32::try_from(window.data.len()).unwrap_or(u32::MAX);
            if place.offset >= window.start && end <= window_end {
                let at = (place.offset - window.start) as usize;
                window.used = window.used.saturating_add(place.length);
                return Ok(sealed(window.data.slice(at..at + place.length as usize)));
            }
            if window.used >= (window_end - window.start) / 2 {
                ahead = (window_end - window.start).saturating_mul(2).max(256 << 10);
            }
        }
        let ahead = ahead.min(MAX_AHEAD).max(place.length);
        let length = ahead
            .min(known_end.saturating_sub(place.offset))
            .max(place.length);
        let (path, start) = (pack::path(&name), u64::from(place.offset));
        let read = |length| repo.block_on(store.read_range(&path, start, u64::from(length)));
        let data = match read(length) {
            // What is missing or damaged may be what was not asked for.
            Err(error) if length > place.length && error.is_of_one_object() => {
                return read(place.length).map(sealed);
            }
            read => read?,
        };
        self.0
            .retain(|window| window.pack != place.pack || window.kind != kind);
        self.0.push_front(Window {
            kind,
            pack: place.pack,
            start: place.offset,
            data: data.clone(),
            used: place.length,
        });
        self.0.truncate(WINDOWS);
        Ok(sealed(data.slice(..place.length as usize)))
    }
}
