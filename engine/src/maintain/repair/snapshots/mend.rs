//! Directories written anew, from below, each once.
//!
//! Does: read a directory from any of its copies, have it written without what is lost
//! ([`rewrite`](super::rewrite)), and hand the new document on. One that could not be read is tried
//! once more: if it can be read now, nothing is believed any more. Keeps what each lost, in the
//! budget's memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Loss,
    damage::Damage,
    refused,
    rewrite::{EMPTY, Inner, Known, rewrite},
};
use crate::{
    Cancel,
    archive::native::budget::{Budget, Permit},
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, compressed::Unpacker, index::BlobKind},
    index::{Index, Place},
    repo::{
        Repository,
        blobs::{read_sealed, unseal},
    },
    storage::Store,
};

/// Takes a new directory.
pub(super) type Sink<'s> = &'s mut dyn FnMut(Id, &[u8]) -> Result<()>;

/// What became of a directory that was affected.
enum Done {
    /// Nothing, after all.
    Whole,
    Lost,
    Mended(Mended),
}

/// A directory written anew.
pub(super) struct Mended {
    id: Id,
    /// Stored names in it, and what happened.
    pub(super) losses: Vec<(Box<str>, Loss)>,
    /// Stored names of directories in it that lost something, with their positions.
    pub(super) below: Vec<(Box<str>, u32)>,
    /// Paths in it and below that lost something.
    pub(super) paths: u64,
    /// Bytes that they lost.
    pub(super) bytes: u64,
}

/// What became of a snapshot's root.
pub(super) enum Root {
    Whole,
    Lost,
    Mended(Id),
}

pub(super) struct Mender<'a> {
    repo: &'a Repository,
    store: &'a Store,
    index: &'a Index,
    budget: &'a Arc<Budget>,
    cancel: &'a Cancel,
    unpacker: Unpacker,
    done: HashMap<u32, Done>,
    /// What was handed on, or is there.
    stored: HashSet<Id>,
    written: u64,
    memory: Permit,
}

impl<'a> Mender<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        store: &'a Store,
        index: &'a Index,
        budget: &'a Arc<Budget>,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        Ok(Self {
            repo,
            store,
            index,
            budget,
            cancel,
            unpacker: Unpacker::new().map_err(|why| Error::Bug(why.to_string()))?,
            done: HashMap::new(),
            stored: HashSet::new(),
            written: 0,
            memory: Permit::empty(budget),
        })
    }

    pub(super) fn budget(&self) -> &'a Arc<Budget> {
        self.budget
    }

    /// How many directories were handed on.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Mends everything that is affected.
    pub(super) fn all(&mut self, damage: &Damage, sink: Sink<'_>) -> Result<()> {
        for position in &damage.order {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let unreadable = damage.unreadable.contains(*position);
            let done = self.one(*position, unreadable, sink)?;
            self.keep(*position, done)?;
        }
        Ok(())
    }

    /// What became of a root.
    pub(super) fn root(&self, id: &Id) -> Root {
        match self.index.position(BlobKind::Tree, id) {
            None => Root::Lost,
            Some(position) => match self.done.get(&position) {
                None | Some(Done::Whole) => Root::Whole,
                Some(Done::Lost) => Root::Lost,
                Some(Done::Mended(mended)) => Root::Mended(mended.id),
            },
        }
    }

    /// A directory that was mended, and its position.
    pub(super) fn mended(&self, id: &Id) -> Option<(u32, &Mended)> {
        let position = self.index.position(BlobKind::Tree, id)?;
        Some((position, self.mended_at(position)?))
    }

    pub(super) fn mended_at(&self, position: u32) -> Option<&Mended> {
        match self.done.get(&position)? {
            Done::Mended(mended) => Some(mended),
            Done::Whole | Done::Lost => None,
        }
    }

    fn one(&mut self, position: u32, unreadable: bool, sink: Sink<'_>) -> Result<Done> {
        let largest = self
            .index
            .places(position)
            .map(|place| needed(&place))
            .max();
        let _memory = self.budget.take(largest.unwrap_or(0), "one directory")?;
        let plain = self.read(position)?;
        let rewritten = plain.as_deref().map(|plain| rewrite(plain, &*self));
        let rewritten = match (rewritten, unreadable) {
            (Some(Ok(_)), true) | (None | Some(Err(_)), false) => {
                return Err(refused(
                    self.repo,
                    "a directory was read in two ways, once whole and once damaged".to_owned(),
                ));
            }
            (Some(Ok(rewritten)), false) => rewritten,
            (None | Some(Err(_)), true) => {
                let empty = Id::of(EMPTY);
                if !self.is(position, &empty) {
                    return Ok(Done::Lost);
                }
                // What was in it is known nevertheless.
                self.hand_on(empty, EMPTY, sink)?;
                return Ok(Done::Whole);
            }
        };
        if rewritten.needs_empty {
            self.hand_on(Id::of(EMPTY), EMPTY, sink)?;
        }
        if !rewritten.changed {
            return Ok(Done::Whole);
        }
        let id = Id::of(&rewritten.json);
        self.hand_on(id, &rewritten.json, sink)?;
        let mut mended = Mended {
            id,
            paths: rewritten.losses.len() as u64,
            bytes: 0,
            losses: rewritten.losses,
            below: rewritten.below,
        };
        let lost = mended.losses.iter().map(|(_, loss)| loss.bytes());
        mended.bytes = lost.fold(0, u64::saturating_add);
        for (_, inner) in &mended.below {
            if let Some(inner) = self.mended_at(*inner) {
                mended.paths = mended.paths.saturating_add(inner.paths);
                mended.bytes = mended.bytes.saturating_add(inner.bytes);
            }
        }
        Ok(Done::Mended(mended))
    }

    fn is(&self, position: u32, id: &Id) -> bool {
        let record = self.index.record(position);
        record.is_some_and(|record| id.0.starts_with(&record.prefix))
    }

    fn keep(&mut self, position: u32, done: Done) -> Result<()> {
        let mut bytes = 2 * size_of::<(u32, Done)>() + 2 * size_of::<Id>();
        if let Done::Mended(mended) = &done {
            let losses = mended.losses.iter().map(|(name, _)| name.len());
            let below = mended.below.iter().map(|(name, _)| name.len());
            bytes += losses.map(|name| name + 64).sum::<usize>();
            bytes += below.map(|name| name + 40).sum::<usize>();
        }
        self.memory
            .join(self.budget.take(bytes as u64, "what directories lost")?);
        self.done.insert(position, done);
        Ok(())
    }

    /// Hands on a new directory, unless it is there and can be read.
    fn hand_on(&mut self, id: Id, json: &[u8], sink: Sink<'_>) -> Result<()> {
        if !self.stored.insert(id) || self.is_stored(&id)? {
            return Ok(());
        }
        self.written += 1;
        sink(id, json)
    }

    /// Whether a directory can be read from a pack that nobody has marked for deletion.
    fn is_stored(&mut self, id: &Id) -> Result<bool> {
        let Some(position) = self.index.position(BlobKind::Tree, id) else {
            return Ok(false);
        };
        let marked = |place: Place| self.index.marked().contains(&self.index.pack(place.pack).0);
        if self.index.places(position).all(marked) {
            return Ok(false);
        }
        Ok(self.read(position)?.is_some())
    }

    /// The plain bytes of a directory, from the first of its places where it is whole; `None` if it
    /// is damaged in all.
    fn read(&mut self, position: u32) -> Result<Option<Vec<u8>>> {
        let mut failed = None;
        for place in self.index.places(position) {
            let parts = (self.repo, self.store, self.index);
            match read_sealed(parts, place.pack, place.offset, place.length) {
                Ok(mut sealed) => {
                    if let Ok(plain) = self.open(position, place, &mut sealed) {
                        return Ok(Some(plain));
                    }
                }
                Err(error) if error.is_of_one_object() => {
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match failed {
            None => Ok(None),
            Some(error) => Err(refused(
                self.repo,
                format!("what the index names cannot be read: {error}"),
            )),
        }
    }

    fn open(&mut self, position: u32, place: Place, sealed: &mut [u8]) -> Result<Vec<u8>, Invalid> {
        let plain = unseal(self.repo.key(), place.plain, sealed, &mut self.unpacker)?;
        let plain = plain.to_vec();
        if self.is(position, &Id::of(&plain)) {
            Ok(plain)
        } else {
            Err(Invalid::new("its content does not match its id"))
        }
    }
}

/// Memory for a directory: sealed, opened, copied and written anew.
fn needed(place: &Place) -> u64 {
    u64::from(place.length) + 3 * u64::from(place.plain_length()) + (64 << 10)
}

impl Known for Mender<'_> {
    fn data(&self, id: &Id) -> Option<u64> {
        let place = self.index.find(BlobKind::Data, id)?;
        Some(u64::from(place.plain_length()))
    }

    fn directory(&self, id: &Id) -> Inner {
        let Some(position) = self.index.position(BlobKind::Tree, id) else {
            return Inner::Lost;
        };
        match self.done.get(&position) {
            None | Some(Done::Whole) => Inner::Whole,
            Some(Done::Lost) => Inner::Lost,
            Some(Done::Mended(mended)) => Inner::Mended(mended.id, position),
        }
    }
}
