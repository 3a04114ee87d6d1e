//! Restoring one entry that is not a directory.
//!
//! Whatever is in its place is removed first, never written through: that breaks hard links into other
//! trees and removes links instead of following them.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::ffi::OsStringExt as _,
    },
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    Failure, step,
    tree::{First, Restorer},
};
use crate::{crypto::Id, files::meta::Kind, format::tree::Node, rows::FileOperation};

impl Restorer<'_> {
    pub(super) fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        above: &Path,
        name: &OsStr,
        node: &Node,
    ) -> Result<(), Failure> {
        let path = above.join(name);
        let kind = match node.kind.as_str() {
            "file" => return self.file(dir, above, name, node),
            "symlink" => Kind::Symlink,
            "dev" => Kind::Block,
            "chardev" => Kind::Char,
            "fifo" => Kind::Fifo,
            "socket" => {
                self.notes.add(
                    &path,
                    FileOperation::Unsupported,
                    "sockets are not restored",
                );
                self.progress.file_done();
                return Ok(());
            }
            other => {
                let message = format!(
                    "entries of kind {:?} are not known",
                    other.escape_debug().to_string()
                );
                return Err(Failure::Row(FileOperation::Unsupported, message));
            }
        };
        if self.link(dir, above, name, node)? {
            return Ok(());
        }
        make_room(dir, name)?;
        let made = match kind {
            Kind::Symlink => rustix::fs::symlinkat(link_target(node)?, dir, name),
            Kind::Block => mknod(dir, name, FileType::BlockDevice, node.device),
            Kind::Char => mknod(dir, name, FileType::CharacterDevice, node.device),
            _ => mknod(dir, name, FileType::Fifo, 0),
        };
        step(&self.request.target, FileOperation::Create, made)?;
        self.metadata(dir, name, &path, node, kind);
        self.restored(above, name, node);
        Ok(())
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        above: &Path,
        name: &OsStr,
        node: &Node,
    ) -> Result<(), Failure> {
        if self.link(dir, above, name, node)? {
            return Ok(());
        }
        make_room(dir, name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => fd,
            Err(error) => {
                return step(&self.request.target, FileOperation::Create, Err(error));
            }
        };
        let path = above.join(name);
        match self.content(fd.as_fd(), &path, node) {
            Ok(written) => self.report.bytes += written,
            Err(failure) => {
                // A file that is not whole is not left behind.
                if let Err(error) = rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                    self.rows.add(
                        &path,
                        FileOperation::Write,
                        format_args!("what was written of it could not be removed: {error}"),
                    );
                }
                return Err(failure);
            }
        }
        drop(fd);
        self.metadata(dir, name, &path, node, Kind::File);
        self.restored(above, name, node);
        Ok(())
    }

    fn restored(&mut self, above: &Path, name: &OsStr, node: &Node) {
        self.report.files += 1;
        self.progress.file_done();
        if node.links > 1 && node.inode != 0 {
            let first = First {
                dir: above.to_owned(),
                name: name.to_owned(),
                content: identity(node),
            };
            self.links.insert((node.inode, node.device_id), first);
        }
    }

    /// Makes another name of a file already restored. `false` if there is none, or linking is not
    /// possible; then it is restored like any other.
    fn link(
        &mut self,
        dir: BorrowedFd<'_>,
        above: &Path,
        name: &OsStr,
        node: &Node,
    ) -> Result<bool, Failure> {
        if node.links < 2 || node.inode == 0 {
            return Ok(false);
        }
        let Some(first) = self.links.get(&(node.inode, node.device_id)) else {
            return Ok(false);
        };
        // Two nodes that claim one inode but differ are two files.
        if first.content != identity(node) {
            return Ok(false);
        }
        make_room(dir, name)?;
        let linked = self
            .root
            .open_dir(&first.dir)
            .and_then(|from| rustix::fs::linkat(&from, &first.name, dir, name, AtFlags::empty()));
        if let Err(error) = linked {
            let message = format!(
                "restored as a file of its own: {}",
                std::io::Error::from(error)
            );
            self.rows
                .add(&above.join(name), FileOperation::Link, message);
            return Ok(false);
        }
        self.report.files += 1;
        self.progress.file_done();
        self.progress.bytes_done(node.size);
        Ok(true)
    }
}

/// What makes two names of one inode the same file.
fn identity(node: &Node) -> Id {
    let mut text = format!("{} {} {}\n", node.kind, node.device, node.linktarget);
    for blob in &node.content {
        text.push_str(blob);
    }
    Id::of(text.as_bytes())
}

/// Removes what has this name, unless it is a directory that is not empty.
fn make_room(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Failure> {
    let removed = match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        result => result,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => {
            let message = format!(
                "what is in its place cannot be removed: {}",
                std::io::Error::from(error)
            );
            Err(Failure::Row(FileOperation::Create, message))
        }
    }
}

fn mknod(dir: BorrowedFd<'_>, name: &OsStr, kind: FileType, device: u64) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)
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
