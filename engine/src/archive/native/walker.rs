//! The walk: lists directories and hands their entries out.
//!
//! Depth first, names in the order of their bytes. Directories are opened and described here,
//! everything else by the workers. Nothing is followed but on the way to a path that was asked for;
//! mounted file systems are entered only if asked. What cannot be read becomes a row, and the walk
//! goes on.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    Run,
    budget::Permit,
    count,
    dirs::Directory,
    listing::{self, list, with_planned},
    node,
    parent::{Known, Parent},
    squeeze::Squeezer,
    trees,
    worker::Batch,
};
use crate::{
    archive::{
        attributes,
        filter::{CACHE_TAG, Filter},
        source::{Origin, Plan},
    },
    error::{Error, Result},
    files::{
        beneath::{Root, open_at},
        depth::too_deep,
        meta::{Kind, Meta},
    },
    rows::FileOperation,
};

/// Directories kept open on the way down; those above are opened again when the walk comes back.
const KEEP_OPEN: usize = 64;
/// Entries of a batch.
const BATCH: usize = 64;

struct Frame {
    dir: Arc<Directory>,
    fd: Option<Arc<OwnedFd>>,
    from: Arc<Anchor>,
    inode: u64,
    device: u64,
    names: std::vec::IntoIter<(OsString, bool)>,
    /// For the names.
    memory: Permit,
    /// What was asked for below it.
    plan: Plan,
    waiting: Vec<OsString>,
    parent: Option<Parent>,
}

/// Where nothing was asked for by name any more: directories below are opened anew from here.
struct Anchor {
    root: Root,
    path: PathBuf,
    mount: u64,
}

/// A directory about to be entered.
struct Entered {
    dir: Arc<Directory>,
    /// Without one it stays empty.
    fd: Option<OwnedFd>,
    meta: Meta,
    parent: Option<Parent>,
    plan: Plan,
    from: Arc<Anchor>,
}

struct Walker<'r, 'a> {
    run: &'r Run<'a>,
    filter: &'a Filter,
    one_file_system: bool,
    squeezer: Squeezer,
    json: Vec<u8>,
    stack: Vec<Frame>,
}

/// Walks everything.
pub(super) fn walk<'a>(
    run: &Run<'a>,
    origin: &'a Origin,
    filter: &'a Filter,
    one_file_system: bool,
) -> Result<()> {
    let source = |error: Errno| Error::Source {
        path: origin.path.clone(),
        source: error.into(),
    };
    let fd = origin.root.open_dir(Path::new("")).map_err(source)?;
    let meta = Meta::of(&fd).map_err(source)?;
    run.device_id(meta.device);
    let mut walker = Walker {
        run,
        filter,
        one_file_system,
        squeezer: Squeezer::new(run.level).map_err(|error| Error::Bug(error.to_string()))?,
        json: Vec::new(),
        stack: Vec::new(),
    };
    let parent = run.input.parent.map(|(id, _)| Known::new(id));
    walker.enter(Entered {
        dir: Directory::new(&run.budget, None, None, origin.path.clone()),
        from: anchor(&fd, &origin.path, &meta).map_err(source)?,
        fd: Some(fd),
        meta,
        parent,
        plan: origin.plan.clone(),
    })?;
    while walker.step()? {
        run.go()?;
    }
    Ok(())
}

fn anchor(fd: &OwnedFd, path: &Path, meta: &Meta) -> std::result::Result<Arc<Anchor>, Errno> {
    Ok(Arc::new(Anchor {
        root: Root::of(fd.try_clone().map_err(|_| Errno::MFILE)?),
        path: path.to_owned(),
        mount: meta.mount,
    }))
}

impl Walker<'_, '_> {
    fn row(&self, path: &Path, operation: FileOperation, error: Errno) {
        super::entry::row(self.run, path, operation, error);
    }

    fn enter(&mut self, entered: Entered) -> Result<()> {
        let Entered {
            dir,
            fd,
            meta,
            parent,
            plan,
            from,
        } = entered;
        let Some(fd) = fd else {
            dir.leaves_out();
            return self.listed(dir);
        };
        let budget = &self.run.budget;
        let mut names = Vec::new();
        let mut memory = Permit::empty(budget);
        if plan.whole {
            let listed = list(fd.as_fd(), budget, &dir.path)?;
            if let Some(error) = listed.failed {
                dir.leaves_out();
                self.row(&dir.path, FileOperation::List, error);
            }
            (names, memory) = (listed.names, listed.memory);
            self.leave_cache(&dir, &fd, &mut names);
        }
        if !plan.below.is_empty() {
            names = with_planned(names, &plan, fd.as_fd());
        }
        if let Some(parent) = parent.as_ref().filter(|_| names.is_empty()) {
            // Nobody else will look whether it can be read.
            parent.nodes(self.run)?;
        }
        let memory = listing::memory(memory, budget, &dir.path, &names)?;
        if let Some(above) = self.stack.len().checked_sub(KEEP_OPEN) {
            self.stack[above].fd = None;
        }
        self.stack.push(Frame {
            dir,
            fd: Some(Arc::new(fd)),
            from,
            inode: meta.inode,
            device: meta.device,
            names: names.into_iter(),
            memory,
            plan,
            waiting: Vec::new(),
            parent,
        });
        Ok(())
    }

    /// Of a cache only its marker is kept, if caches are to be left out.
    fn leave_cache(&self, dir: &Directory, fd: &OwnedFd, names: &mut Vec<(OsString, bool)>) {
        if !self.filter.is_cache(fd.as_fd(), names) {
            return;
        }
        count(&self.run.counts.excluded, names.len() as u64 - 1);
        dir.leaves_out();
        names.retain(|(name, _)| name == CACHE_TAG);
        let message = "a cache, by its CACHEDIR.TAG; what is in it is left out";
        self.run
            .input
            .notes
            .add(&dir.path, FileOperation::Unsupported, message);
    }

    fn listed(&mut self, dir: Arc<Directory>) -> Result<()> {
        if dir.listed() {
            trees::complete(self.run, dir, &mut self.squeezer, &mut self.json)?;
        }
        Ok(())
    }

    /// Takes the next name of the innermost directory. False at the end.
    fn step(&mut self) -> Result<bool> {
        let Some(top) = self.stack.last_mut() else {
            return Ok(false);
        };
        let Some(fd) = top.fd.clone() else {
            self.reopen()?;
            return Ok(true);
        };
        let Some((name, is_dir)) = top.names.next() else {
            self.send(&fd)?;
            if let Some(frame) = self.stack.pop() {
                self.listed(frame.dir)?;
            }
            return Ok(true);
        };
        match top.plan.below.remove(&name) {
            Some(plan) if !plan.below.is_empty() => {
                self.send(&fd)?;
                self.on_the_way(&fd, &name, plan)?;
            }
            planned if is_dir => {
                self.send(&fd)?;
                self.directory(&fd, &name, planned.is_some())?;
            }
            _ => {
                top.waiting.push(name);
                if top.waiting.len() == BATCH {
                    self.send(&fd)?;
                }
            }
        }
        Ok(true)
    }

    /// Opens the innermost directory again. If it is not the same any more, the rest of it is a
    /// row.
    fn reopen(&mut self) -> Result<()> {
        let Some(top) = self.stack.last_mut() else {
            return Ok(());
        };
        let from = &top.from;
        let below = top.dir.path.strip_prefix(&from.path);
        let opened = below
            .map_err(|_| Errno::INVAL)
            .and_then(|path| from.root.open_dir(path))
            .and_then(|fd| Ok((Meta::of(&fd)?, fd)));
        let error = match opened {
            Ok((meta, fd)) if meta.inode == top.inode && meta.device == top.device => {
                top.fd = Some(Arc::new(fd));
                return Ok(());
            }
            Ok(_) => Errno::STALE,
            Err(error) => error,
        };
        // Nothing waits: the batch was sent before the walk went down.
        if let Some(frame) = self.stack.pop() {
            frame.dir.leaves_out();
            self.row(&frame.dir.path, FileOperation::List, error);
            self.listed(frame.dir)?;
        }
        Ok(())
    }

    fn send(&mut self, fd: &Arc<OwnedFd>) -> Result<()> {
        let Some(top) = self.stack.last_mut().filter(|top| !top.waiting.is_empty()) else {
            return Ok(());
        };
        // The list itself stays until its end, the names do not.
        top.memory.give_back(listing::without_list(&top.waiting));
        let batch = Batch {
            slot: top.dir.slot(),
            dir: Arc::clone(&top.dir),
            fd: Arc::clone(fd),
            names: std::mem::take(&mut top.waiting),
            parent: top.parent.clone(),
        };
        self.run.queue.push(self.run, batch)
    }

    /// Whether a directory lies so deep that it could not be restored; then there is a row.
    fn is_too_deep(&self, path: &Path) -> bool {
        let why = too_deep(self.stack.len() + 1, path);
        if let Some(why) = &why {
            let rows = self.run.input.rows;
            rows.add(path, FileOperation::Unsupported, why);
        }
        why.is_some()
    }

    /// A directory in one that is taken whole, or one that was asked for itself.
    fn directory(&mut self, above: &Arc<OwnedFd>, name: &OsStr, asked: bool) -> Result<()> {
        let Some(top) = self.stack.last() else {
            return Ok(());
        };
        let (run, from) = (self.run, Arc::clone(&top.from));
        let path = top.dir.path.join(name);
        if self.filter.excludes(&path, true) {
            count(&run.counts.excluded, 1);
            return Ok(());
        }
        if self.is_too_deep(&path) {
            top.dir.leaves_out();
            return Ok(());
        }
        let described = match open_at(above.as_fd(), name, OFlags::DIRECTORY) {
            Ok(fd) => Meta::of(&fd).map(|meta| (meta, Some(fd))),
            Err(error @ Errno::NOENT) => Err(error),
            // Its metadata is kept; that its content is not is a row.
            Err(error) => {
                self.row(&path, FileOperation::List, error);
                Meta::at(above, name).map(|meta| (meta, None))
            }
        };
        let (meta, mut fd) = match described {
            Ok((meta, fd)) if meta.kind == Kind::Dir => (meta, fd),
            Ok(_) => {
                top.dir.leaves_out();
                return Ok(());
            }
            Err(error) => {
                top.dir.leaves_out();
                self.row(&path, FileOperation::Open, error);
                return Ok(());
            }
        };
        if self.one_file_system && !asked && meta.mount != from.mount {
            let message = "another file system, not entered";
            run.input
                .notes
                .add(&path, FileOperation::Unsupported, message);
            fd = None;
        }
        let from = match &fd {
            Some(fd) if asked => match anchor(fd, &path, &meta) {
                Ok(from) => from,
                Err(error) => {
                    top.dir.leaves_out();
                    self.row(&path, FileOperation::Open, error);
                    return Ok(());
                }
            },
            _ => from,
        };
        let attributes = attributes::read(above.as_fd(), &path, name, run.input.rows).0;
        let plan = Plan {
            whole: true,
            ..Plan::default()
        };
        self.descend(name, (meta, fd), attributes, plan, from)
    }

    /// A directory on the way to a path that was asked for. Links are followed here, as the path's
    /// owner means it.
    fn on_the_way(&mut self, above: &Arc<OwnedFd>, name: &OsStr, mut plan: Plan) -> Result<()> {
        let Some(top) = self.stack.last() else {
            return Ok(());
        };
        let path = top.dir.path.join(name);
        if self.is_too_deep(&path) {
            top.dir.leaves_out();
            return Ok(());
        }
        let is_link = Meta::at(above, name).is_ok_and(|meta| meta.kind != Kind::Dir);
        plan.whole |= top.plan.whole && !is_link;
        let access = if plan.whole {
            OFlags::RDONLY
        } else {
            OFlags::PATH
        };
        let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(above, name, flags, Mode::empty())
            .and_then(|fd| Ok((Meta::of(&fd)?, fd)))
            .and_then(|(meta, fd)| Ok((anchor(&fd, &path, &meta)?, meta, fd)));
        let (from, meta, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                top.dir.leaves_out();
                self.row(&path, FileOperation::Open, error);
                return Ok(());
            }
        };
        let attributes =
            attributes::read(fd.as_fd(), &path, OsStr::new("."), self.run.input.rows).0;
        self.descend(name, (meta, Some(fd)), attributes, plan, from)
    }

    fn descend(
        &mut self,
        name: &OsStr,
        (meta, fd): (Meta, Option<OwnedFd>),
        attributes: Vec<(String, Vec<u8>)>,
        plan: Plan,
        from: Arc<Anchor>,
    ) -> Result<()> {
        let Some(top) = self.stack.last() else {
            return Ok(());
        };
        let above = Arc::clone(&top.dir);
        let subtree = match &top.parent {
            Some(parent) => parent.subtree(self.run, name.as_bytes())?,
            None => None,
        };
        let path = above.path.join(name);
        let bytes = attributes
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let bytes = bytes.sum::<usize>() + path.as_os_str().len() + size_of::<Directory>();
        let what = "a directory on the way down";
        let memory = self.run.budget.take(bytes as u64, what)?;
        let node = node::node(name, &meta, attributes, 0);
        count(&self.run.counts.dirs, 1);
        let slot = above.slot();
        let dir = Directory::new(&self.run.budget, Some((above, slot)), Some(node), path);
        dir.hold(memory);
        let parent = subtree.filter(|_| fd.is_some()).map(Known::new);
        self.enter(Entered {
            dir,
            fd,
            meta,
            parent,
            plan,
            from,
        })
    }
}
