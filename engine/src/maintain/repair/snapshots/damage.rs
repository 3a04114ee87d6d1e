//! Which directories have to be written anew: those that lack something, and those that lead to
//! them.
//!
//! A first walk over all directories of the chosen snapshots finds what lacks something. Only if
//! there is damage, a second one notes which directory is in which, 8 bytes each; from there it
//! goes up to the roots. Memory: a budget, beside [`SETS`] bits for each position of the index.
//!
//! Fails with what the store says, and with `Refused` if what the index names cannot be read: then
//! it is not known what is lost.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    refused,
    rewrite::{Verdict, judge},
};
use crate::{
    Cancel,
    archive::native::budget::{Budget, Permit},
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, index::BlobKind},
    index::{Bits, Index},
    repo::{
        Repository,
        walk::{Node, Tree, Visitor, Walk},
    },
    storage::Store,
};

/// Sets of positions that are kept.
pub(super) const SETS: u64 = 4;
/// Of the memory that is left, a walk has one of so many parts.
const PARTS: u64 = 2;
/// Bytes for each directory that has to be written anew, while their order is found.
const ORDERED: u64 = 48;

/// What to look through.
pub(super) struct Search<'a> {
    pub(super) repo: &'a Repository,
    /// Its requests should end when `cancel` does.
    pub(super) store: &'a Store,
    pub(super) index: &'a Index,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) cancel: &'a Cancel,
}

/// What was found.
pub(super) struct Damage {
    /// Positions of directories to be written anew or given up, each behind those that are in it.
    pub(super) order: Vec<u32>,
    /// Those that cannot be read.
    pub(super) unreadable: Bits,
    _memory: Permit,
}

impl Search<'_> {
    pub(super) fn run(&self, roots: &[Id]) -> Result<Damage> {
        let sets = || Bits::new(self.index.len());
        let mut visitor = Found {
            search: self,
            lacking: sets(),
            unreadable: sets(),
            inside: None,
        };
        self.walk(roots, &visitor)?;
        if visitor.unreadable.count() + visitor.lacking.count() > 0 {
            visitor.inside = Some(Mutex::new(Inside {
                pairs: Vec::new(),
                memory: Permit::empty(self.budget),
            }));
            self.walk(roots, &visitor)?;
        }
        let Found {
            lacking,
            unreadable,
            inside,
            ..
        } = visitor;
        let inside =
            inside.map(|inside| inside.into_inner().unwrap_or_else(PoisonError::into_inner));
        let Inside { pairs, mut memory } = inside.unwrap_or(Inside {
            pairs: Vec::new(),
            memory: Permit::empty(self.budget),
        });
        let order = self.order(&lacking, &unreadable, pairs, &mut memory)?;
        Ok(Damage {
            order,
            unreadable,
            _memory: memory,
        })
    }

    fn walk(&self, roots: &[Id], visitor: &Found<'_>) -> Result<()> {
        let walk = Walk {
            repo: self.repo,
            store: self.store,
            index: self.index,
            seen: &Bits::new(self.index.len()),
            // Beside what is noted.
            memory: self.budget.left() / PARTS,
            cancel: self.cancel,
        };
        walk.run(roots, visitor)
    }

    /// Everything that lacks something or leads to it, from below.
    fn order(
        &self,
        lacking: &Bits,
        unreadable: &Bits,
        mut pairs: Vec<(u32, u32)>,
        memory: &mut Permit,
    ) -> Result<Vec<u32>> {
        pairs.sort_unstable();
        let affected = Bits::new(self.index.len());
        let hurt = |at: &u32| lacking.contains(*at) || unreadable.contains(*at);
        let first = self
            .index
            .records()
            .map(|(position, _)| position)
            .filter(hurt);
        let mut todo: Vec<u32> = first.filter(|at| affected.insert(*at)).collect();
        while let Some(inner) = todo.pop() {
            todo.extend(outer(&pairs, inner).filter(|outer| affected.insert(*outer)));
        }
        memory.join(
            self.budget
                .take(ORDERED * affected.count(), "the directories to be mended")?,
        );
        pairs.retain(|(inner, outer)| affected.contains(*inner) && affected.contains(*outer));
        pairs.shrink_to_fit();
        memory.give_back(memory.bytes());
        memory.join(self.budget.take(
            ORDERED * affected.count() + 8 * pairs.len() as u64,
            "the directories to be mended",
        )?);
        let mut waits: HashMap<u32, u32> = HashMap::new();
        for (_, outer) in &pairs {
            *waits.entry(*outer).or_default() += 1;
        }
        let all = self.index.records().map(|(position, _)| position);
        let mut order: Vec<u32> = all
            .filter(|at| affected.contains(*at) && !waits.contains_key(at))
            .collect();
        let mut next = 0;
        while let Some(inner) = order.get(next).copied() {
            next += 1;
            for outer in outer(&pairs, inner) {
                if let Some(left) = waits.get_mut(&outer) {
                    *left -= 1;
                    if *left == 0 {
                        order.push(outer);
                    }
                }
            }
        }
        if order.len() as u64 == affected.count() {
            Ok(order)
        } else {
            Err(Error::Bug("a directory lies in itself".to_owned()))
        }
    }
}

/// The directories that one lies in.
fn outer(pairs: &[(u32, u32)], inner: u32) -> impl Iterator<Item = u32> {
    let first = pairs.partition_point(|(at, _)| *at < inner);
    let of = pairs[first..]
        .iter()
        .take_while(move |(at, _)| *at == inner);
    of.map(|(_, outer)| *outer)
}

/// Which directory lies in which: (inner, outer).
struct Inside {
    pairs: Vec<(u32, u32)>,
    memory: Permit,
}

struct Found<'a> {
    search: &'a Search<'a>,
    lacking: Bits,
    unreadable: Bits,
    /// Noted in the second walk.
    inside: Option<Mutex<Inside>>,
}

/// What is known of one directory.
#[derive(Default)]
struct Dir {
    lacks: bool,
    inside: BTreeSet<u32>,
}

impl Visitor for Found<'_> {
    type Dir = Dir;

    fn enter(&self, _: &Tree) -> Result<Dir> {
        Ok(Dir::default())
    }

    fn node(&self, _: &Tree, dir: &mut Dir, node: Result<&Node<'_>, Invalid>) -> Result<()> {
        let index = self.search.index;
        let data = |id: &Id| {
            let place = index.find(BlobKind::Data, id)?;
            Some(u64::from(place.plain_length()))
        };
        match node.map(|node| judge(node, data)) {
            Ok(Verdict::Whole) => {}
            Ok(Verdict::Directory(Some(id))) => match index.position(BlobKind::Tree, &id) {
                Some(position) if self.inside.is_some() => drop(dir.inside.insert(position)),
                Some(_) => {}
                None => dir.lacks = true,
            },
            _ => dir.lacks = true,
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, dir: Dir) -> Result<()> {
        let Some(outer) = tree.position else {
            return Ok(());
        };
        if dir.lacks {
            self.lacking.insert(outer);
        }
        let Some(inside) = &self.inside else {
            return Ok(());
        };
        let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
        let Inside { pairs, memory } = &mut *inside;
        let needed = pairs.len() + dir.inside.len();
        if needed > pairs.capacity() {
            // The old and the new list are there at once while it grows.
            let room = needed.next_power_of_two().max(1 << 12);
            let bytes = (room * size_of::<(u32, u32)>()) as u64;
            let grown = self
                .search
                .budget
                .take(bytes, "which directory lies in which")?;
            pairs.reserve_exact(room - pairs.len());
            memory.give_back(memory.bytes());
            memory.join(grown);
        }
        pairs.extend(dir.inside.into_iter().map(|inner| (inner, outer)));
        Ok(())
    }

    fn unreadable(&self, tree: &Tree, error: Error) -> Result<()> {
        match (tree.position, error) {
            // Whoever names it lacks it.
            (None, Error::Damaged { .. }) => Ok(()),
            (Some(position), Error::Damaged { .. }) => {
                self.unreadable.insert(position);
                Ok(())
            }
            (_, error) if error.is_content() => Err(refused(
                self.search.repo,
                format!("what the index names cannot be read: {error}"),
            )),
            (_, error) => Err(error),
        }
    }

    fn too_large(&self, _: &Tree, error: Error) -> Result<()> {
        Err(match error {
            Error::MemoryLimit { what, needed, .. } => {
                self.search.budget.short(PARTS * needed, &what)
            }
            error => error,
        })
    }
}
