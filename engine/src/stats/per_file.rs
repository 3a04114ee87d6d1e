//! Blobs of files that differ in content, by path.
//!
//! Goes through the snapshots one after another in the order of paths, for content counts where it
//! is met first. A directory that was met before has nothing new in it.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::modes::{Counting, ENTRY, READING, Totals};
use crate::{
    crypto::Id,
    error::{Error, Result},
    files::depth::too_deep,
    format::{index::BlobKind, tree::Entries},
    index::Bits,
    repo::{Snapshot, blobs::BlobReader, descent::Descent},
};

impl Counting<'_> {
    /// In the order of paths, for content counts where it is met first.
    pub(super) fn blobs_per_file(&self, snapshots: &[Snapshot]) -> Result<Totals> {
        let seen = self.bits()?;
        let mut blobs = BlobReader::new(self.repo, &self.reader.store, self.index);
        let mut sets = Sets::default();
        let mut totals = Totals::default();
        for root in self.roots(snapshots)? {
            let mut descent = Descent::default();
            let mut stack: Vec<(PathBuf, Entries)> = Vec::new();
            let mut next = Some((PathBuf::from("/"), root));
            loop {
                if self.cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                if let Some((path, id)) = next.take()
                    && let Some(entries) =
                        self.open(&mut blobs, &seen, &descent, (&path, stack.len()), &id)?
                {
                    descent.enter(&entries);
                    stack.push((path, entries));
                }
                let Some((path, entries)) = stack.last_mut() else {
                    break;
                };
                let node = match entries.next() {
                    None => {
                        descent.leave(entries);
                        stack.pop();
                        continue;
                    }
                    Some(Err(why)) => {
                        self.problems
                            .add(format_args!("an entry of {}: {why}", shown(path)));
                        continue;
                    }
                    Some(Ok(node)) => node,
                };
                // Names that no file can have are told apart, too.
                let path = path.join(node.name.replace('/', "\\x2f"));
                if node.kind == "dir" {
                    match node.subtree.as_deref().and_then(Id::parse) {
                        Some(id) => next = Some((path, id)),
                        None => self
                            .problems
                            .add(format_args!("{}: it names no content", shown(&path))),
                    }
                    continue;
                }
                match node.content.iter().copied().collect::<Option<Vec<_>>>() {
                    Some(ids) => self.file(&mut sets, &mut totals, &path, &ids)?,
                    None => self.problems.add(format_args!(
                        "{}: its content list is malformed",
                        shown(&path)
                    )),
                }
            }
        }
        Ok(totals)
    }

    fn open(
        &self,
        blobs: &mut BlobReader<'_>,
        seen: &Bits,
        descent: &Descent,
        (path, depth): (&Path, usize),
        id: &Id,
    ) -> Result<Option<Entries>> {
        let known = self.index.position(BlobKind::Tree, id);
        if known.is_some_and(|position| !seen.insert(position)) {
            return Ok(None);
        }
        let refused = too_deep(depth + 1, path).or_else(|| descent.refuses(self.index, id));
        if let Some(why) = refused {
            self.problems.add(format_args!("{}: {why}", shown(path)));
            return Ok(None);
        }
        match blobs.read_tree(id) {
            Ok(entries) => Ok(Some(entries)),
            Err(error) if error.is_of_one_object() => {
                self.problems.add(format_args!("{}: {error}", shown(path)));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn file(&self, sets: &mut Sets, totals: &mut Totals, path: &Path, ids: &[Id]) -> Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        if !sets.contents.insert(content(ids)) || ids.is_empty() {
            return Ok(());
        }
        let name = short(&Id::of(path.as_os_str().as_bytes()));
        if sets.paths.insert(name) {
            totals.files += 1;
        }
        for id in ids {
            let Some(position) = self.index.position(BlobKind::Data, id) else {
                self.problems
                    .add(format_args!("{}: blob {id} is in no index", shown(path)));
                continue;
            };
            if sets.blobs.insert((name, position)) {
                totals.blobs += 1;
                let place = self.index.record(position).map(|record| record.place);
                totals.bytes += place.map_or(0, |place| u64::from(place.plain_length()));
            }
        }
        let held = ENTRY * (sets.contents.len() + sets.paths.len() + sets.blobs.len()) as u64;
        if held + READING > self.memory {
            return Err(self.too_much(2 * (held + READING)));
        }
        Ok(())
    }
}

fn shown(path: &Path) -> String {
    crate::rows::show_path(path)
}

#[derive(Default)]
struct Sets {
    contents: HashSet<u128>,
    paths: HashSet<u128>,
    blobs: HashSet<(u128, u32)>,
}

/// Half of a hash.
fn short(id: &Id) -> u128 {
    id.0.first_chunk()
        .map_or(0, |half| u128::from_be_bytes(*half))
}

/// What stands for a list of ids.
pub(super) fn content(ids: &[Id]) -> u128 {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
    short(&Id::of(&bytes))
}
