//! Files with several names.
//!
//! The first name is restored like any other file; the others become links to it as soon as it is
//! there, under names of their own for as long as something else has theirs and it is not complete.
//! When its content cannot be completed, all names that were made go, and what was there stays. A
//! file of the target that has several names already is only kept when exactly these names are
//! restored as names of one file; otherwise writing to it would change what is not part of the
//! restore.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rustix::{fs::AtFlags, io::Errno};
use sha2::{Digest as _, Sha256};

use super::{
    Failure, RestoreAction,
    dirs::Dir,
    file::File,
    run::{Run, count},
    select::{Select, Selected},
};
use crate::{
    crypto::Id,
    error::Result,
    files::{depth::too_deep, meta::Meta},
    format::{
        name,
        tree::{Entries, Node},
    },
    repo::{blobs::BlobReader, descent::Descent},
    rows::FileOperation,
};

/// Names looked at to find out which belong together; beyond that, none counts as restored with the
/// others.
const MAX_NAMES: usize = 1 << 20;

/// Inode and device, as the snapshot has them.
pub(super) type Key = (u64, u64);

/// Whose names may belong together, and how a node says so.
pub(super) fn key(node: &Node) -> Option<Key> {
    (node.links > 1 && node.inode != 0 && node.kind != "dir")
        .then_some((node.inode, node.device_id))
}

/// One file with several names.
pub(super) struct Group {
    /// What its names must have in common.
    identity: Id,
    dir: Arc<Dir>,
    name: OsString,
    size: u64,
    /// Inode and device in the target, if what was there is kept.
    kept: Option<(u64, u64)>,
    stage: Mutex<Stage>,
}

enum Stage {
    /// Its content is still to come, or to be compared.
    Making(Weak<File>, Vec<Other>),
    Done,
    Failed(Lost),
}

/// Why its content could not be completed.
struct Lost {
    operation: FileOperation,
    message: String,
}

struct Other {
    dir: Arc<Dir>,
    name: OsString,
    /// It was a name of the same file before.
    kept: bool,
    /// The name it has until the file is complete, if that is not its own. Its directory waits for
    /// it then.
    temporary: Option<OsString>,
}

impl Group {
    pub(super) fn new(
        node: &Node,
        dir: &Arc<Dir>,
        name: &OsStr,
        size: u64,
        kept: Option<&Meta>,
    ) -> Self {
        Self {
            identity: identity(node),
            dir: Arc::clone(dir),
            name: name.to_owned(),
            size,
            kept: kept.map(|meta| (meta.inode, meta.device)),
            stage: Mutex::new(Stage::Done),
        }
    }

    /// Its first name is going to be restored.
    pub(super) fn begin(&self, file: &Arc<File>) {
        *self.stage() = Stage::Making(Arc::downgrade(file), Vec::new());
    }

    /// While this is held, nobody makes another name of it.
    pub(super) fn held(&self) -> impl Drop + '_ {
        self.stage()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run<'_> {
    /// Its content is complete.
    pub(super) fn complete_names(&self, group: &Group) {
        let stage = std::mem::replace(&mut *group.stage(), Stage::Done);
        if let Stage::Making(_, names) = stage {
            for name in names {
                let placed = match &name.temporary {
                    Some(temporary) => self.put_in_place(&name.dir, temporary, &name.name),
                    None => Ok(()),
                };
                match placed {
                    Ok(()) => self.count_name(group, name.kept),
                    Err(Failure::Row(operation, message)) => {
                        let path = name.dir.path.join(&name.name);
                        self.rows.add(&path, operation, message);
                    }
                    Err(Failure::Fatal(error)) => self.fail(error),
                }
                if name.temporary.is_some() {
                    self.release(&name.dir);
                }
            }
        }
    }

    fn count_name(&self, group: &Group, kept: bool) {
        let counter = if kept {
            &self.counts.unchanged
        } else {
            &self.counts.written
        };
        count(counter, 1);
        self.progress.file_done();
        self.progress.bytes_done(group.size);
    }

    /// Its content cannot be completed: its other names go, but for those it had before.
    pub(super) fn drop_names(&self, group: &Group, operation: FileOperation, message: &str) {
        let lost = || Lost {
            operation,
            message: message.to_owned(),
        };
        let stage = std::mem::replace(&mut *group.stage(), Stage::Failed(lost()));
        let Stage::Making(_, names) = stage else {
            return;
        };
        for name in names {
            self.drop_name(&name, &lost());
        }
    }

    fn drop_name(&self, name: &Other, lost: &Lost) {
        let path = name.dir.path.join(&name.name);
        self.rows.add(&path, lost.operation, &lost.message);
        if name.kept || self.request.dry_run {
            return;
        }
        let made = name.temporary.as_ref().unwrap_or(&name.name);
        let removed = self.remove_temporary(&name.dir, made);
        if name.temporary.is_some() {
            self.release(&name.dir);
        }
        if let Err(error) = removed {
            let message = format!("this name of it could not be removed: {error}");
            self.rows.add(&path, FileOperation::Link, message);
        }
    }

    /// Makes another name of it. `false` if that is not possible; then the name is restored like
    /// any other.
    pub(super) fn link(
        &self,
        group: &Group,
        node: &Node,
        dir: &Arc<Dir>,
        name: &OsStr,
        there: Option<&Meta>,
    ) -> Result<bool, Failure> {
        // Two nodes that claim one inode but differ are two files.
        if group.identity != identity(node) {
            return Ok(false);
        }
        let mut stage = group.stage();
        let kept = there.is_some_and(|meta| group.kept == Some((meta.inode, meta.device)));
        let path = dir.path.join(name);
        let mut other = Other {
            dir: Arc::clone(dir),
            name: name.to_owned(),
            kept,
            temporary: None,
        };
        if let Stage::Failed(lost) = &*stage {
            if kept {
                self.drop_name(&other, lost);
            }
            return Ok(kept);
        }
        if !kept && self.request.dry_run {
            let action = match there {
                Some(_) => RestoreAction::Replace,
                None => RestoreAction::Create,
            };
            self.change(&path, action);
        } else if !kept {
            match self.make_link(group, &stage, dir, name, &path, there.is_some())? {
                Made::Not => return Ok(false),
                Made::InPlace => {}
                Made::As(temporary) => other.temporary = Some(temporary),
            }
        }
        match (&mut *stage, &other.temporary) {
            (Stage::Making(file, names), temporary) => {
                if temporary.is_some() {
                    Self::hold(dir);
                    // Whatever ends the run, this name goes.
                    if let Some(file) = file.upgrade() {
                        self.note_unfinished(&file);
                    }
                }
                names.push(other);
            }
            (Stage::Done | Stage::Failed(_), temporary) => {
                if let Some(temporary) = temporary {
                    self.put_in_place(dir, temporary, name)?;
                }
                self.count_name(group, kept);
            }
        }
        Ok(true)
    }

    fn make_link(
        &self,
        group: &Group,
        stage: &Stage,
        dir: &Arc<Dir>,
        name: &OsStr,
        path: &Path,
        replaces: bool,
    ) -> Result<Made, Failure> {
        let alone = |error: &dyn std::fmt::Display| {
            let message = format!("restored as a file of its own: {error}");
            self.rows.add(path, FileOperation::Link, message);
        };
        let mut first = group.name.clone();
        if let Stage::Making(file, _) = stage
            && group.kept.is_none()
        {
            let Some(file) = file.upgrade().filter(|file| !file.has_failed()) else {
                return Ok(Made::Not);
            };
            match self.make_file(&file) {
                Ok(()) => first = file.name_now(),
                Err(Failure::Row(_, message)) => {
                    alone(&message);
                    return Ok(Made::Not);
                }
                Err(fatal) => return Err(fatal),
            }
        }
        let open = |error| Failure::new(FileOperation::Open, error);
        let to = self.open_dir(dir).map_err(open)?;
        let from = self.open_dir(&group.dir).map_err(open)?;
        let link = |name: &OsStr| rustix::fs::linkat(&*from, &first, &*to, name, AtFlags::empty());
        let linked = if replaces {
            Err(Errno::EXIST)
        } else {
            link(name)
        };
        let linked = match linked {
            Err(Errno::EXIST) => {
                let temporary = self.temporary_name();
                link(&temporary).map(|()| Made::As(temporary))
            }
            linked => linked.map(|()| Made::InPlace),
        };
        Ok(linked.unwrap_or_else(|error| {
            alone(&std::io::Error::from(error));
            Made::Not
        }))
    }
}

/// Whether another name was made.
enum Made {
    Not,
    InPlace,
    /// Under this one.
    As(OsString),
}

/// What makes two names of one inode the same file.
fn identity(node: &Node) -> Id {
    let head = format!("{} {} {}\n", node.kind, node.device, node.linktarget);
    let mut hash = Sha256::new_with_prefix(head);
    for blob in &node.content {
        hash.update(blob.map_or([0; 32], |id| id.0));
    }
    Id(hash.finalize().into())
}

/// All names of a file, and what they have in common; `None` if they have several contents.
type Names = Option<(Id, Vec<PathBuf>)>;

/// Files with several names in the snapshot, and which of the target's may be kept.
#[derive(Default)]
pub(super) struct Links {
    pub(super) groups: HashMap<Key, Arc<Group>>,
    names: Option<HashMap<Key, Names>>,
    kept: HashMap<Key, Option<(u64, u64)>>,
}

impl Links {
    /// Whether all names of a file of the target are restored as names of this one file.
    pub(super) fn is_planned(
        &mut self,
        run: &Run<'_>,
        reader: &mut BlobReader<'_>,
        tree: &Id,
        key: Key,
        there: &Meta,
    ) -> Result<bool> {
        let place = Some((there.inode, there.device));
        if let Some(kept) = self.kept.get(&key) {
            return Ok(*kept == place);
        }
        let names = match &mut self.names {
            Some(names) => names,
            none => none.insert(names(run, reader, tree)?),
        };
        let same = |path: &PathBuf| {
            let dir = run.root.open_dir(path.parent().unwrap_or(Path::new("")));
            let meta = dir.and_then(|dir| Meta::at(&dir, path.file_name().unwrap_or_default()));
            meta.is_ok_and(|meta| Some((meta.inode, meta.device)) == place)
        };
        let planned = matches!(names.get(&key), Some(Some((_, names)))
            if names.len() as u64 == there.links && names.iter().all(same));
        self.kept.insert(key, place.filter(|_| planned));
        Ok(planned)
    }
}

/// All names of files with several, as far as they are selected. Reads every tree once more.
fn names(run: &Run<'_>, reader: &mut BlobReader<'_>, tree: &Id) -> Result<HashMap<Key, Names>> {
    let mut names: HashMap<Key, Names> = HashMap::new();
    let mut found = 0;
    let select = Select::new(&run.request.select)?;
    let mut descent = Descent::default();
    let root = reader.read_tree(tree)?;
    descent.enter(&root);
    let mut stack: Vec<(Entries, PathBuf, Option<Select>)> = vec![(root, PathBuf::new(), select)];
    while let Some((entries, path, select)) = stack.last_mut() {
        run.go()?;
        let Some(node) = entries.next() else {
            descent.leave(entries);
            stack.pop();
            continue;
        };
        let Ok(node) = node else { continue };
        let Ok(name) = name::decode(&node.name) else {
            continue;
        };
        let below = match select {
            None => None,
            Some(select) => match select.take(&name) {
                Selected::Not => continue,
                Selected::Part(below) => Some(below),
                Selected::Whole => None,
            },
        };
        let path = path.join(name);
        if let Some(key) = key(&node) {
            found += 1;
            if found > MAX_NAMES {
                return Ok(HashMap::new());
            }
            let identity = identity(&node);
            let new = || Some((identity, Vec::new()));
            match names.entry(key).or_insert_with(new) {
                Some((same, names)) if *same == identity => names.push(path),
                // It changed between the reading of its names.
                several => *several = None,
            }
        } else if let Some(id) = node.subtree.as_deref().and_then(Id::parse)
            && node.kind == "dir"
            && too_deep(stack.len() + 1, &path).is_none()
            && descent.refuses(run.index, &id).is_none()
        {
            match reader.read_tree(&id) {
                Ok(entries) => {
                    descent.enter(&entries);
                    stack.push((entries, path, below));
                }
                Err(error) if error.is_of_one_object() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(names)
}
