//! Restoring one entry that is not a directory.
//!
//! What is in its place is kept if it is a regular file, of this name alone or of names that are
//! all restored together: then it is compared. Links and devices are kept if they are the same.
//! Everything else is replaced when what takes its place is complete, and never written through:
//! that breaks hard links into other trees and replaces links instead of following them.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    Failure, RestoreAction,
    attributes::{At, Attributes, Before},
    dirs::Dir,
    file::{File, Plan},
    links::{Group, key},
    run::count,
    walk::Walker,
};
use crate::{
    crypto::Id,
    files::{
        meta::{Kind, Meta},
        xattr::Of,
    },
    format::{Invalid, index::BlobKind, tree::Node},
    index::Place,
    rows::FileOperation,
};

impl Walker<'_, '_> {
    /// Restores an entry, or has it restored.
    pub(super) fn entry(
        &mut self,
        dir: &Arc<Dir>,
        name: OsString,
        node: &Node,
    ) -> Result<(), Failure> {
        let kind = match node.kind.as_str() {
            "file" => Kind::File,
            "symlink" => Kind::Symlink,
            "dev" => Kind::Block,
            "chardev" => Kind::Char,
            "fifo" => Kind::Fifo,
            "socket" => {
                let message = "sockets are not restored";
                let path = dir.path.join(&name);
                self.run
                    .notes
                    .add(&path, FileOperation::Unsupported, message);
                self.run.progress.file_done();
                return Ok(());
            }
            other => {
                let other = other.escape_debug().to_string();
                let message = format!("entries of kind {other:?} are not known");
                return Err(Failure::Row(FileOperation::Unsupported, message));
            }
        };
        let there = self.run.there(dir, &name)?;
        if there.as_ref().is_some_and(|meta| meta.kind == Kind::Dir) {
            self.run.can_clear(dir, &name)?;
        }
        if let Some(group) = key(node).and_then(|key| self.links.groups.get(&key))
            && self.run.link(group, node, dir, &name, there.as_ref())?
        {
            return Ok(());
        }
        if kind == Kind::File {
            self.file(dir, name, node, there)
        } else {
            self.special(dir, &name, node, kind, there.as_ref())
        }
    }

    /// Whether nothing outside the restore changes when what is there is changed.
    fn may_keep(&mut self, node: &Node, there: &Meta) -> Result<bool, Failure> {
        if there.links == 1 {
            return Ok(true);
        }
        let Some(key) = key(node) else {
            return Ok(false);
        };
        self.links
            .is_planned(self.run, &mut self.reader, &self.tree, key, there)
            .map_err(Failure::Fatal)
    }

    fn file(
        &mut self,
        dir: &Arc<Dir>,
        name: OsString,
        node: &Node,
        there: Option<Meta>,
    ) -> Result<(), Failure> {
        let blobs = self.blobs(node)?;
        let size = blobs
            .iter()
            .map(|(_, place)| u64::from(place.plain_length()))
            .sum();
        if i64::try_from(size).is_err() {
            let message = "it is longer than a file can be";
            return Err(Failure::Row(FileOperation::Tree, message.to_owned()));
        }
        if size != node.size {
            let claimed = node.size;
            let message =
                format!("it has {size} bytes in the snapshot, where its entry says {claimed}");
            let path = dir.path.join(&name);
            let operation = FileOperation::ChangedWhileReading;
            self.run.notes.add(&path, operation, message);
        }
        let replaces = there.is_some();
        let old = match there {
            Some(meta)
                if meta.kind == Kind::File
                    && self.may_keep(node, &meta)?
                    && self.can_read(dir, &name) =>
            {
                Some(meta)
            }
            _ => None,
        };
        let group = key(node).map(|key| {
            let group = Arc::new(Group::new(node, dir, &name, size, old.as_ref()));
            self.links.groups.insert(key, Arc::clone(&group));
            group
        });
        let plan = Plan {
            name,
            attributes: Attributes::of(node),
            size,
            replaces: replaces && old.is_none(),
            old,
        };
        let file = File::new(dir, plan, group.clone());
        if let Some(group) = group {
            group.begin(&file);
        }
        self.collect(file, blobs).map_err(Failure::Fatal)
    }

    fn can_read(&self, dir: &Arc<Dir>, name: &OsStr) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |dir: Arc<OwnedFd>| rustix::fs::openat(&*dir, name, flags, Mode::empty());
        self.run.open_dir(dir).and_then(open).is_ok()
    }

    /// Where a file's blobs lie. Nothing is begun that is known not to end well.
    fn blobs(&self, node: &Node) -> Result<Vec<(Id, Place)>, Failure> {
        let run = self.run;
        let read = |message: String| Failure::Row(FileOperation::Read, message);
        let blob = |id: &Option<Id>| {
            let id = id.ok_or_else(|| {
                let message = "its content list is malformed";
                Failure::Row(FileOperation::Tree, message.to_owned())
            })?;
            let place = run.index.find(BlobKind::Data, &id).ok_or_else(|| {
                let why = Invalid::new("it is in no index");
                read(run.repo.damaged(format!("blob {id}"), &why).to_string())
            })?;
            let most = run.limits.largest;
            let needed = place.plain_length().max(place.length);
            if needed > most {
                let message = format!(
                    "its blob {id} takes {needed} bytes of memory, where one may take {most}"
                );
                return Err(read(message));
            }
            Ok((id, place))
        };
        node.content.iter().map(blob).collect()
    }

    fn special(
        &mut self,
        dir: &Arc<Dir>,
        name: &OsStr,
        node: &Node,
        kind: Kind,
        there: Option<&Meta>,
    ) -> Result<(), Failure> {
        let target = match kind {
            Kind::Symlink => link_target(node)?,
            _ => OsString::new(),
        };
        let run = self.run;
        let path = dir.path.join(name);
        let kept = match there {
            Some(meta) if meta.kind == kind => {
                let same = match kind {
                    Kind::Symlink => run.open_dir(dir).is_ok_and(|fd| {
                        rustix::fs::readlinkat(&*fd, name, Vec::new())
                            .is_ok_and(|there| there.as_bytes() == target.as_bytes())
                    }),
                    Kind::Block | Kind::Char => meta.special == node.device,
                    _ => true,
                };
                same && self.may_keep(node, meta)?
            }
            _ => false,
        };
        let known = there.filter(|_| kept);
        if run.request.dry_run && !kept {
            let action = match there {
                Some(_) => RestoreAction::Replace,
                None => RestoreAction::Create,
            };
            run.change(&path, action);
        } else {
            let fd = run
                .open_dir(dir)
                .map_err(|error| Failure::new(FileOperation::Open, error))?;
            let mut temporary = None;
            if !kept {
                let new = |name: &OsStr| make(&fd, name, kind, &target, node.device);
                let made = match there {
                    Some(_) => Err(Errno::EXIST),
                    None => new(name),
                };
                let made = match made {
                    Err(Errno::EXIST) => new(temporary.insert(run.temporary_name())),
                    made => made,
                };
                run.step(FileOperation::Create, made)?;
            }
            let at = At {
                of: Of::Entry(fd.as_fd(), temporary.as_deref().unwrap_or(name)),
                kind,
                path: &path,
            };
            self.attributes(at, &Attributes::of(node), known, dir.gives);
            if let Some(temporary) = temporary {
                run.put_in_place(dir, &temporary, name)?;
            }
        }
        if let Some(key) = key(node) {
            let group = Arc::new(Group::new(node, dir, name, 0, known));
            self.links.groups.insert(key, group);
        }
        let counter = if kept {
            &run.counts.unchanged
        } else {
            &run.counts.written
        };
        count(counter, 1);
        run.progress.file_done();
        Ok(())
    }

    fn attributes(&self, at: At<'_>, wanted: &Attributes, known: Option<&Meta>, gives: bool) {
        let run = self.run;
        match known {
            Some(meta) if run.request.dry_run => {
                if run.attributes_differ(at, wanted, meta) {
                    run.change(at.path, RestoreAction::Metadata);
                }
            }
            Some(meta) => run.set_attributes(at, wanted, Before::Known(meta)),
            None if gives => run.set_attributes(at, wanted, Before::Written),
            None => run.set_attributes(at, wanted, Before::Nothing),
        }
    }
}

fn make(
    dir: &OwnedFd,
    name: &OsStr,
    kind: Kind,
    target: &OsStr,
    device: u64,
) -> rustix::io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    match kind {
        Kind::Symlink => rustix::fs::symlinkat(Path::new(target), dir, name),
        Kind::Block => rustix::fs::mknodat(dir, name, FileType::BlockDevice, mode, device),
        Kind::Char => rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, device),
        _ => rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0),
    }
}

pub(super) fn in_the_way(error: Errno) -> Failure {
    let error = std::io::Error::from(error);
    let message = format!("what is in its place cannot be removed: {error}");
    Failure::Row(FileOperation::Create, message)
}

fn link_target(node: &Node) -> Result<OsString, Failure> {
    let bad = |message: &str| Failure::Row(FileOperation::Tree, message.to_owned());
    let raw = match &node.linktarget_raw {
        Some(raw) => STANDARD
            .decode(raw)
            .map_err(|_| bad("its link target is not base64"))?,
        None => node.linktarget.clone().into_bytes(),
    };
    if raw.is_empty() || raw.len() > 4095 || raw.contains(&0) {
        return Err(bad("its link target is not one a link can have"));
    }
    Ok(OsString::from_vec(raw))
}
