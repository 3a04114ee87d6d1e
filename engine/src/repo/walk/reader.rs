//! One thread of a walk: reads ranges, opens and verifies the directories in them, shows their
//! nodes.

use bytes::BytesMut;

use super::{
    Tree, Visitor, Walk,
    frontier::{Frontier, Wanted},
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, compressed::Unpacker, nodes},
    index::{Place, ranges::Range},
    permits::Pool,
    repo::blobs::{open_in_place, read_sealed, worst},
};

/// Nodes between two looks whether to go on.
const LOOK: usize = 1024;

pub(super) struct Reader<'a, V> {
    walk: &'a Walk<'a>,
    frontier: &'a Frontier<'a>,
    pool: &'a Pool,
    visitor: &'a V,
    /// Bytes of a range.
    range: u32,
    unpacker: Unpacker,
}

impl<'a, V: Visitor> Reader<'a, V> {
    pub(super) fn new(
        walk: &'a Walk<'a>,
        frontier: &'a Frontier<'a>,
        pool: &'a Pool,
        visitor: &'a V,
        range: u32,
    ) -> Result<Self> {
        let unpacker = Unpacker::new().map_err(|why| Error::Bug(why.to_string()))?;
        Ok(Self {
            walk,
            frontier,
            pool,
            visitor,
            range,
            unpacker,
        })
    }

    /// Works until all is done.
    pub(super) fn run(&mut self) -> Result<()> {
        while let Some(range) = self.frontier.next(self.range) {
            self.together(&range)?;
            self.frontier.done();
        }
        Ok(())
    }

    /// Reads the directories of a range at once, and those that cannot be read so one by one.
    fn together(&mut self, range: &Range<Wanted>) -> Result<()> {
        let mut left = Vec::new();
        if range.wants.len() > 1 {
            let largest = range.wants.iter().map(|wanted| wanted.place.plain_length());
            let needed = needed(range.length, largest.max().unwrap_or(0));
            if needed > self.pool.all() {
                left.extend(&range.wants);
            } else {
                let go = || self.frontier.go();
                let permit = self.pool.take(needed, "directories", go)?;
                match self.read(range.pack, range.start, range.length) {
                    Ok(mut data) => {
                        for wanted in &range.wants {
                            let from = (wanted.place.offset - range.start) as usize;
                            let sealed = &mut data[from..][..wanted.place.length as usize];
                            if self.open(wanted, wanted.place, sealed)?.is_err() {
                                left.push(wanted);
                            }
                        }
                    }
                    // What is missing or damaged may be one of them only.
                    Err(error) if error.is_of_one_object() => left.extend(&range.wants),
                    Err(error) => return Err(error),
                }
                drop(permit);
            }
        } else {
            left.extend(&range.wants);
        }
        left.into_iter().try_for_each(|wanted| self.alone(wanted))
    }

    /// Reads one directory, from the first of its places where it is whole.
    fn alone(&mut self, wanted: &Wanted) -> Result<()> {
        let index = self.walk.index;
        let mut first = None;
        for place in index.places(wanted.position) {
            let needed = needed(place.length, place.plain_length());
            let what = format!("tree {}", wanted.id);
            let go = || self.frontier.go();
            let error = match self.pool.take(needed, &what, go) {
                Err(error @ Error::MemoryLimit { .. }) => error,
                Err(error) => return Err(error),
                Ok(_permit) => match self.read(place.pack, place.offset, place.length) {
                    Ok(mut sealed) => match self.open(wanted, place, &mut sealed)? {
                        Ok(()) => return Ok(()),
                        Err(why) => self.walk.repo.damaged(what, &why),
                    },
                    Err(error) if error.is_of_one_object() => error,
                    Err(error) => return Err(error),
                },
            };
            worst(&mut first, error);
        }
        let tree = wanted.tree();
        match first.unwrap_or_else(|| self.walk.not_indexed(&tree)) {
            error @ Error::MemoryLimit { .. } => self.visitor.too_large(&tree, error),
            error => self.visitor.unreadable(&tree, error),
        }
    }

    fn read(&self, pack: u32, start: u32, length: u32) -> Result<BytesMut> {
        self.frontier.go()?;
        let walk = self.walk;
        read_sealed((walk.repo, walk.store, walk.index), pack, start, length)
    }

    /// Shows a directory, if the bytes are its; else says why not.
    fn open(
        &mut self,
        wanted: &Wanted,
        place: Place,
        sealed: &mut [u8],
    ) -> Result<Result<(), Invalid>> {
        let key = self.walk.repo.key();
        let opened = open_in_place(key, &wanted.id, place.plain, sealed, &mut self.unpacker);
        let plain = match opened {
            Ok(plain) => plain,
            Err(why) => return Ok(Err(why)),
        };
        let tree = wanted.tree();
        let mut below = Vec::new();
        if let Err(why) = show(self.visitor, self.frontier, &tree, plain, &mut below)? {
            // Its bytes are what its id says: another copy has the same.
            let error = self.walk.repo.damaged(format!("tree {}", tree.id), &why);
            self.visitor.unreadable(&tree, error)?;
        }
        for missing in self.frontier.offer(below.into_iter()) {
            let error = self.walk.not_indexed(&missing);
            self.visitor.unreadable(&missing, error)?;
        }
        Ok(Ok(()))
    }
}

/// Shows the nodes of a directory, and collects the directories that they lead to.
fn show<V: Visitor>(
    visitor: &V,
    frontier: &Frontier<'_>,
    tree: &Tree,
    plain: &[u8],
    below: &mut Vec<Id>,
) -> Result<Result<(), Invalid>> {
    let mut dir = visitor.enter(tree)?;
    let mut count = 0;
    let done = nodes::each(plain, |node| {
        count += 1;
        if count % LOOK == 0 {
            frontier.go()?;
        }
        let node = match node {
            Ok(node) => node,
            Err(why) => return visitor.node(tree, &mut dir, Err(why)),
        };
        visitor.node(tree, &mut dir, Ok(&node))?;
        match node.directory() {
            Ok(None) => Ok(()),
            Ok(Some(id)) => {
                below.push(id);
                Ok(())
            }
            Err(why) => visitor.node(tree, &mut dir, Err(why)),
        }
    })?;
    if done.is_ok() {
        visitor.leave(tree, dir)?;
    }
    Ok(done)
}

/// Memory for a range, its largest directory, and one node of that whose texts may have to be
/// copied, or the directories that it names.
pub(super) fn needed(range: u32, largest: u32) -> u64 {
    u64::from(range) + 2 * u64::from(largest)
}
