//! Going through the snapshots, one after another.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    FindReport, Found, FoundIn,
    items::{Item, Items},
    memo::Memo,
    prefetch::Prefetch,
    query::{Fit, Query, State},
    root, too_much,
};
use crate::{
    Cancel,
    ceiling::Ceiling,
    crypto::Id,
    error::{Error, Result},
    files::depth::too_deep,
    format::{index::BlobKind, nodes},
    index::{Bits, Index},
    repo::{Repository, Snapshot, blobs::BlobReader, walk::Walk},
    storage::Store,
};

/// Snapshots read beforehand together, at most.
const MOST_AHEAD: usize = 64;

/// A search in progress.
pub(super) struct Search<'a> {
    pub(super) repo: &'a Repository,
    pub(super) store: Store,
    pub(super) index: Index,
    pub(super) query: Query,
    pub(super) memo: Memo,
    /// In the order in which they are told.
    pub(super) snapshots: Vec<Snapshot>,
    /// Directories that were read beforehand.
    pub(super) seen: Bits,
    /// So many snapshots were.
    pub(super) ahead: usize,
    /// Bytes beside the index.
    pub(super) memory: u64,
    pub(super) ceiling: Ceiling,
}

/// A directory on the way down.
struct Frame {
    id: Id,
    state: State,
    items: Arc<[Item]>,
    next: usize,
    /// Length of its path.
    path: usize,
    /// Bytes that nobody else keeps.
    held: u64,
    /// Something was told from it or from below.
    told: bool,
}

/// A directory that was asked for.
enum Opened {
    Items(Arc<[Item]>, u64),
    Nothing,
    Problem(String),
}

impl Search<'_> {
    /// Reads the next snapshots' directories beforehand.
    pub(super) fn prefetch(&mut self, count: usize, cancel: &Cancel) -> Result<()> {
        let end = (self.ahead + count).min(self.snapshots.len());
        let wanted = &self.snapshots[self.ahead..end];
        self.ahead = end;
        if !self.query.is_usual_alive() || self.memo.is_full() {
            return Ok(());
        }
        let roots = wanted.iter().map(|snapshot| root(self.repo, snapshot));
        let roots = roots.filter_map(Result::ok).collect::<Vec<_>>();
        let walk = Walk {
            repo: self.repo,
            store: &self.store,
            index: &self.index,
            seen: &self.seen,
            memory: self.memory / 2,
            cancel,
        };
        let prefetch = Prefetch {
            query: &self.query,
            memo: &self.memo,
        };
        match walk.run(&roots, &prefetch) {
            // What could not be kept is read when it is needed.
            Err(Error::MemoryLimit { .. }) => Ok(()),
            done => done,
        }
    }

    /// Tells everything.
    pub(super) fn run(&mut self, cancel: &Cancel, each: FoundIn<'_>) -> Result<FindReport> {
        let mut report = FindReport::default();
        for number in 0..self.snapshots.len() {
            if number >= self.ahead {
                self.prefetch(number.clamp(1, MOST_AHEAD), cancel)?;
            }
            let snapshot = &self.snapshots[number];
            let mut tell = |found: Found| {
                match found {
                    Found::Problem { .. } => report.problems += 1,
                    _ => report.found += 1,
                }
                each(snapshot, found)
            };
            let mut blobs = BlobReader::new(self.repo, &self.store, &self.index);
            match root(self.repo, snapshot) {
                Ok(id) => self
                    .snapshot(&mut blobs, id, cancel, &mut tell)
                    .map_err(|error| self.ceiling.in_all(error))?,
                Err(error) => tell(Found::Problem {
                    path: PathBuf::from("/"),
                    message: error.to_string(),
                })?,
            }
            report.snapshots += 1;
        }
        Ok(report)
    }

    fn snapshot(
        &self,
        blobs: &mut BlobReader<'_>,
        id: Id,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        let mut path = b"/".to_vec();
        if let Some(fit) = self.query.root(&id) {
            tell(found(&fit, &path, &id))?;
        }
        let mut stack: Vec<Frame> = Vec::new();
        let mut held = 0;
        let mut next = Some((id, self.query.start()?));
        loop {
            if let Some((id, state)) = next.take() {
                match self.enter(blobs, &path, (id, state), &stack, held)? {
                    Opened::Nothing => {}
                    Opened::Problem(message) => {
                        if let Some(above) = stack.last_mut() {
                            above.told = true;
                        }
                        tell(Found::Problem {
                            path: path_of(&path),
                            message,
                        })?;
                    }
                    Opened::Items(items, more) => {
                        held += more;
                        stack.push(Frame {
                            id,
                            state,
                            items,
                            next: 0,
                            path: path.len(),
                            held: more,
                            told: false,
                        });
                    }
                }
            }
            let Some(frame) = stack.last_mut() else {
                return Ok(());
            };
            path.truncate(frame.path);
            if frame.next.is_multiple_of(256) && cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let Some(item) = frame.items.get(frame.next) else {
                let done = stack.pop();
                if let Some(done) = done {
                    held -= done.held;
                    self.left(&done);
                    if let Some(above) = stack.last_mut() {
                        above.told |= done.told;
                    }
                }
                continue;
            };
            frame.next += 1;
            let (Item::Fit { name, .. } | Item::Dir { name, .. } | Item::Problem { name, .. }) =
                item;
            if path.len() > 1 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match item {
                Item::Dir { id, state, .. } => next = Some((*id, *state)),
                Item::Fit { fit, .. } => {
                    frame.told = true;
                    tell(found(fit, &path, &frame.id))?;
                }
                Item::Problem { why, .. } => {
                    frame.told = true;
                    tell(Found::Problem {
                        path: path_of(&path),
                        message: why.clone(),
                    })?;
                }
            }
        }
    }

    fn enter(
        &self,
        blobs: &mut BlobReader<'_>,
        path: &[u8],
        (id, state): (Id, State),
        stack: &[Frame],
        held: u64,
    ) -> Result<Opened> {
        if let Some(why) = too_deep(stack.len() + 1, &path_of(path)) {
            return Ok(Opened::Problem(why));
        }
        let Some(position) = self.index.position(BlobKind::Tree, &id) else {
            return Ok(Opened::Problem(format!("tree {id} is in no index")));
        };
        let key = (position, state);
        if self.memo.is_empty(key) {
            return Ok(Opened::Nothing);
        }
        if let Some(items) = self.memo.get(key) {
            return Ok(Opened::Items(items, 0));
        }
        // A half of all is what is remembered; of the rest a document takes its length twice.
        let limit = self.memory / 8;
        let place = self.index.find(BlobKind::Tree, &id);
        let length = place.map_or(0, |place| u64::from(place.plain_length()));
        if length > limit {
            let error = too_much(&format!("tree {id}"), 8 * length, self.memory);
            return Ok(Opened::Problem(self.ceiling.in_all(error).to_string()));
        }
        let json = match blobs.read(BlobKind::Tree, &id) {
            Err(error) if error.is_of_one_object() => {
                return Ok(Opened::Problem(error.to_string()));
            }
            json => json?,
        };
        let mut items = Items::new(&self.query, state, limit);
        let read = nodes::each(&json, |node| match node {
            Ok(node) => {
                items.node(Ok(&node))?;
                node.directory()
                    .map_or_else(|why| items.node(Err(why)), |_| Ok(()))
            }
            Err(why) => items.node(Err(why)),
        })?;
        if let Err(why) = read {
            let error = self.repo.damaged(format!("tree {id}"), &why);
            return Ok(Opened::Problem(error.to_string()));
        }
        drop(json);
        let (items, memory) = items.finish();
        let Some(items) = self.memo.keep(key, items, memory) else {
            return Ok(Opened::Nothing);
        };
        // Kept by the memo as well, or by nobody else.
        let more = if self.memo.get(key).is_some() {
            0
        } else {
            memory
        };
        if held + more > limit {
            return Err(too_much(
                "the directories on one path",
                8 * (held + more),
                self.memory,
            ));
        }
        Ok(Opened::Items(items, more))
    }

    fn left(&self, frame: &Frame) {
        if frame.told {
            return;
        }
        if let Some(position) = self.index.position(BlobKind::Tree, &frame.id) {
            self.memo.set_empty((position, frame.state));
        }
    }
}

fn path_of(path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(path)).to_owned()
}

fn found(fit: &Fit, path: &[u8], tree: &Id) -> Found {
    let path = path_of(path);
    match fit {
        Fit::Entry { info, stored } => Found::Entry {
            path,
            info: (**info).clone(),
            stored: stored.clone(),
        },
        Fit::Blob(id) => Found::Blob {
            id: id.to_string(),
            path,
            tree: tree.to_string(),
        },
        Fit::Tree(id) => Found::Tree {
            id: id.to_string(),
            path,
        },
    }
}
