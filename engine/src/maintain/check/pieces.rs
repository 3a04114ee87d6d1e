//! The bytes of a pack, in the order in which they lie there.
//!
//! A store behind a network is asked once, for all of them. A directory is asked for pieces so
//! small that they are in a processor's cache until they were hashed, opened and compared, and so
//! that a check of it takes little memory. Does not: verify.

use std::ops::Range;

use bytes::BytesMut;

use crate::{
    error::{Error, Result},
    repo::{Repository, blobs::owned},
    storage::Store,
};

/// Bytes of a piece, unless a blob is larger. Two, and the content of a blob, are in the cache
/// together.
const PIECE: u64 = 512 << 10;

/// A pack.
pub(super) struct Pieces<'a> {
    repo: &'a Repository,
    store: &'a Store,
    path: String,
    size: u64,
    /// Bytes to ask for.
    piece: u64,
    /// What is read through, and what was before it.
    now: Piece,
    before: Piece,
    /// The end of the pack.
    tail: Piece,
}

/// Some of the bytes.
#[derive(Default)]
struct Piece {
    from: u64,
    data: BytesMut,
}

impl Piece {
    /// Where these bytes of the pack are in it.
    fn range(&self, range: &Range<u64>) -> Option<Range<usize>> {
        let from = usize::try_from(range.start.checked_sub(self.from)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.from)?).ok()?;
        (from <= to && to <= self.data.len()).then_some(from..to)
    }
}

impl<'a> Pieces<'a> {
    /// Of the pack of this name and size; nothing is read yet.
    pub(super) fn new((repo, store): (&'a Repository, &'a Store), path: String, size: u64) -> Self {
        Self {
            repo,
            store,
            path,
            size,
            piece: if store.is_local() { PIECE } else { size },
            now: Piece::default(),
            before: Piece::default(),
            tail: Piece::default(),
        }
    }

    /// Bytes of memory that a pack of this size takes, whose largest blob has so many sealed or
    /// plain bytes, and its list of blobs so many sealed ones.
    pub(super) fn memory(store: &Store, size: u64, largest: u64, list: u64) -> u64 {
        if store.is_local() {
            (2 * largest.max(PIECE) + list.max(PIECE)).min(size.saturating_mul(3))
        } else {
            size
        }
    }

    /// The last bytes: so many, if there are, or more.
    pub(super) fn tail(&mut self, length: u64) -> Result<&[u8]> {
        let from = match self.size {
            size if size <= self.piece => 0,
            size => size - length.min(size),
        };
        if self.tail.data.is_empty() || self.tail.from > from {
            self.tail = self.read(from..self.size)?;
        }
        Ok(&self.tail.data)
    }

    /// Reads these bytes, unless they are at hand. Those that were wanted before stay at hand.
    pub(super) fn want(&mut self, range: Range<u64>) -> Result<()> {
        if self.get(range.clone()).is_none() {
            let to = range.start.saturating_add(self.piece).min(self.size);
            // What was before that goes first: there are never more than two.
            self.before = std::mem::take(&mut self.now);
            self.now = self.read(range.start..to.max(range.end))?;
        }
        Ok(())
    }

    /// Some bytes from here on, one at least.
    pub(super) fn next(&mut self, from: u64) -> Result<&[u8]> {
        let to = from.saturating_add(self.piece).min(self.size);
        self.want(from..to)?;
        let bytes = self.get(from..to).unwrap_or_default();
        if bytes.is_empty() {
            return Err(Error::Bug(
                "a pack has no bytes where it should have".to_owned(),
            ));
        }
        Ok(bytes)
    }

    /// These bytes, as they are now, if they are at hand.
    pub(super) fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        [&self.now, &self.before, &self.tail]
            .into_iter()
            .find_map(|piece| piece.data.get(piece.range(&range)?))
    }

    /// The same, to be changed where they are.
    pub(super) fn get_mut(&mut self, range: Range<u64>) -> Option<&mut [u8]> {
        [&mut self.now, &mut self.before, &mut self.tail]
            .into_iter()
            .find_map(|piece| {
                let range = piece.range(&range)?;
                piece.data.get_mut(range)
            })
    }

    fn read(&self, range: Range<u64>) -> Result<Piece> {
        let length = range.end - range.start;
        let reading = self.store.read_range(&self.path, range.start, length);
        let data = self.repo.block_on(reading)?;
        if data.len() as u64 != length {
            return Err(Error::Bug(format!(
                "{} bytes of {length} were read",
                data.len()
            )));
        }
        Ok(Piece {
            from: range.start,
            data: owned(data),
        })
    }
}
