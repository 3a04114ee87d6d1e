//! One ceiling of memory over all that an operation takes: the program, the index, what is kept for
//! each blob, the rest.
//!
//! Does: read an index within what the ceiling leaves beside what must follow it, and turn "the
//! rest is too little" into "it is too little in all", so that the number an error names is one to
//! be given. Does not: count what the rest is used for.

use crate::{
    crypto::Id,
    error::{Error, Result},
    index::{Copies, Index, Loading, Packs},
    repo::Repository,
    storage::Store,
};

/// Bytes that an operation takes unless something else is asked for.
pub(crate) const MEMORY: u64 = 256 << 20;
/// The program, its runtime and connections, index files being read or written.
pub(crate) const BASE: u64 = 48 << 20;
/// Bits of the index for a blob, at least.
const RECORD: u64 = 40 * 8;
/// Of an index, the part that an allocator wastes while it is made.
const WASTED: u64 = 8;

/// What an operation needs beside an index, so that there is no use in reading that if it is not
/// there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside {
    /// Bytes, however large the index is.
    pub(crate) bytes: u64,
    /// Bits for each blob of the index.
    pub(crate) bits: u64,
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling {
    limit: u64,
    taken: u64,
}

impl Ceiling {
    /// Of which only the program takes something.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, taken: BASE }
    }

    /// Bytes not taken.
    pub(crate) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.taken)
    }

    /// Bytes taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes so many bytes. Whoever takes of what is left is told when that is too little.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// The error of somebody who was given all that is left, or some of it, as one of everything.
    pub(crate) fn in_all(&self, error: Error) -> Error {
        self.in_all_but(0, error)
    }

    /// The same of somebody who was given so many bytes less.
    pub(crate) fn in_all_but(&self, bytes: u64, error: Error) -> Error {
        match plus(self.taken.saturating_add(bytes), error) {
            Error::MemoryLimit { what, needed, .. } => Error::MemoryLimit {
                what,
                needed,
                limit: self.limit,
            },
            error => error,
        }
    }

    /// Reads an index, and takes what it takes.
    ///
    /// # Errors
    /// `MemoryLimit` with what would do for it and for what is needed beside it; what the store says.
    pub(crate) async fn index(
        &mut self,
        parts: (&Repository, &Store),
        which: Packs,
        copies: Copies,
        beside: Beside,
    ) -> Result<Index> {
        let loading = Loading {
            which,
            copies,
            limit: u64::MAX,
            unreadable: None,
        };
        self.index_as(parts, loading, beside).await
    }

    /// The same of the index files that can be read; the others are left out, and remembered.
    pub(crate) async fn readable_index(
        &mut self,
        (repo, store): (&Repository, &Store),
        which: Packs,
        copies: Copies,
        beside: Beside,
    ) -> Result<Index> {
        let mut leave_out = |id: Id, error| repo.leave_out(&format!("index {id}"), error);
        let loading = Loading {
            which,
            copies,
            limit: u64::MAX,
            unreadable: Some(&mut leave_out),
        };
        self.index_as((repo, store), loading, beside).await
    }

    /// The same, with more to choose. The limit is the ceiling's.
    pub(crate) async fn index_as(
        &mut self,
        (repo, store): (&Repository, &Store),
        loading: Loading<'_>,
        beside: Beside,
    ) -> Result<Index> {
        let room = self.left().saturating_sub(beside.bytes);
        let loading = Loading {
            limit: beside.part(room),
            ..loading
        };
        let index = Index::load_as(repo, store, loading).await;
        let index = index.map_err(|error| match error {
            Error::MemoryLimit {
                what,
                needed,
                limit,
            } => {
                let needed = beside.whole(needed);
                let error = Error::MemoryLimit {
                    what,
                    needed,
                    limit,
                };
                self.in_all_but(beside.bytes, error)
            }
            error => error,
        })?;
        self.take(Beside::default().whole(index.memory()));
        Ok(index)
    }
}

impl Beside {
    /// Bits for each blob in all.
    fn all(self) -> u128 {
        u128::from(RECORD + RECORD / WASTED + self.bits)
    }

    /// Of so many bytes, those for the index itself, beside what an allocator wastes on it.
    fn part(self, bytes: u64) -> u64 {
        let part = u128::from(bytes) * u128::from(RECORD) / self.all();
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// The bytes of which so many are for the index.
    fn whole(self, index: u64) -> u64 {
        let whole = (u128::from(index) * self.all()).div_ceil(u128::from(RECORD));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }
}

/// The error of somebody who was given so many bytes less than there are, as one of all that there
/// are.
pub(crate) fn plus(bytes: u64, error: Error) -> Error {
    of_more(error, |part| part.saturating_add(bytes))
}

/// The error of somebody who was given one of so many equal parts, as one of all parts.
pub(crate) fn times(parts: u64, error: Error) -> Error {
    of_more(error, |part| part.saturating_mul(parts))
}

/// The error of somebody who was given a part, as one of the whole.
fn of_more(error: Error, whole: impl Fn(u64) -> u64) -> Error {
    match error {
        Error::MemoryLimit {
            what,
            needed,
            limit,
        } => Error::MemoryLimit {
            what,
            needed: whole(needed),
            limit: whole(limit),
        },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// With what is named, the part for the index suffices.
        #[test]
        fn what_is_named_suffices(index in any::<u64>(), bits in 0_u64..100) {
            let beside = Beside { bytes: 0, bits };
            let whole = beside.whole(index);
            prop_assert!(whole == u64::MAX || beside.part(whole) >= index);
        }
    }

    #[test]
    fn errors_count_everything() {
        let short = || Error::MemoryLimit {
            what: "x".to_owned(),
            needed: 10,
            limit: 5,
        };
        let mut ceiling = Ceiling::new(100);
        ceiling.take(7);
        assert_eq!((ceiling.left(), ceiling.taken()), (0, BASE + 7));
        let of = |error| match error {
            Error::MemoryLimit { needed, limit, .. } => (needed, limit),
            error => panic!("{error}"),
        };
        assert_eq!(of(ceiling.in_all_but(1, short())), (BASE + 18, 100));
        assert_eq!(of(times(3, short())), (30, 15));
        assert!(matches!(
            ceiling.in_all(times(2, Error::Cancelled)),
            Error::Cancelled
        ));
    }
}
