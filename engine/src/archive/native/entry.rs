//! One entry that is not a directory: described, compared with the parent's, read if it is small.
//!
//! Order for a file: metadata from the open file, content up to its end whatever size the metadata claims, metadata again; a
//! difference is a row. A read error is a row, and the file is then missing from the snapshot. A file that is the same as in a snapshot of ours costs one
//! call of the system: whatever of it changes, its time of change does too. For those of fixed chunks see `synced.rs`.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
};

use jiff::Timestamp;
use rustix::{fs::OFlags, io::Errno};

use super::{Run, count, dirs::Directory, large, node, synced, worker::Worker};
use crate::{
    archive::attributes,
    chunk::{
        pages,
        policy::{self, Cuts, Facts, ParentCuts, Reason},
    },
    crypto::Id,
    error::Result,
    files::{
        beneath::open_at,
        meta::{Kind, Meta},
    },
    format::{index::BlobKind, node::Node},
    rows::FileOperation,
};

/// Files up to this size are read at once by one worker.
const AT_ONCE: u64 = 4 << 20;
/// Bytes read of them: one that fills this has more than it claims, or has grown.
const AT_ONCE_BUFFER: usize = (4 << 20) + 1;

/// What became of an entry.
pub(super) enum Entry<'n> {
    /// It is in all as the parent's.
    Same(&'n Node),
    Node(Box<Node>),
    /// A large file: whether the parent has it, and how it was cut there.
    Large(bool, Option<ParentCuts>),
    Nothing,
}

/// Adds a row for a failed system call.
pub(super) fn row(run: &Run<'_>, path: &Path, operation: FileOperation, error: Errno) {
    let operation = match error {
        Errno::NOENT => FileOperation::Vanished,
        _ => operation,
    };
    run.input.rows.add(path, operation, io::Error::from(error));
}

impl Worker<'_, '_> {
    /// Describes an entry, and reads it if it is a small file that may have changed.
    pub(super) fn entry<'n>(
        &mut self,
        dir: &Directory,
        fd: &OwnedFd,
        name: &OsStr,
        known: Option<&'n Node>,
    ) -> Result<Entry<'n>> {
        let run = self.run;
        let path = || dir.path.join(name);
        if self.left_out(&path) {
            return Ok(Entry::Nothing);
        }
        let meta = match Meta::at(fd, name) {
            Ok(meta) => meta,
            Err(error) => {
                row(run, &path(), FileOperation::Stat, error);
                dir.leaves_out();
                return Ok(Entry::Nothing);
            }
        };
        if !self.counts_in(&path, &meta) {
            // Sockets are in no snapshot, and no restore deletes one.
            if meta.kind != Kind::Socket {
                dir.leaves_out();
            }
            return Ok(Entry::Nothing);
        }
        let same = known.and_then(|known| Some((known, run.input.same(&meta, known)?)));
        let Some((known, ids)) = same.filter(|(_, ids)| self.trusted(&meta, ids)) else {
            return self.changed(dir, fd, name, &meta, known);
        };
        count(&run.counts.files_unchanged, 1);
        count(&run.counts.bytes, meta.size);
        run.input.progress.bytes_done(meta.size);
        run.input.progress.file_done();
        if let Some(prints) = run.prints.as_ref().filter(|_| meta.size > policy::SMALL) {
            prints.keep(&path());
        }
        if run.input.identical(&meta, known) {
            return Ok(Entry::Same(known));
        }
        let mut meta = meta;
        let attributes = attributes_of(run, fd.as_fd(), &path(), name, &mut meta);
        let mut node = self.node(name, &meta, attributes);
        node.content = Some(ids.to_vec());
        Ok(Entry::Node(Box::new(node)))
    }

    fn left_out(&self, path: &impl Fn() -> std::path::PathBuf) -> bool {
        let excluded = self
            .filter
            .is_some_and(|filter| filter.has_patterns() && filter.excludes(&path(), false));
        if excluded {
            count(&self.run.counts.excluded, 1);
        }
        excluded
    }

    /// Whether an entry is one to be kept; if not, there is a row or a note.
    fn counts_in(&self, path: &impl Fn() -> std::path::PathBuf, meta: &Meta) -> bool {
        let run = self.run;
        match meta.kind {
            Kind::Socket => {
                let message = "sockets are not kept";
                run.input
                    .notes
                    .add(&path(), FileOperation::Unsupported, message);
                return false;
            }
            Kind::Dir => {
                let message = "it was replaced by a directory";
                run.input
                    .rows
                    .add(&path(), FileOperation::ChangedWhileReading, message);
                return false;
            }
            Kind::File
                if self
                    .filter
                    .is_some_and(|filter| filter.too_large(meta.size)) =>
            {
                count(&run.counts.excluded, 1);
                let message = format!("{} bytes, more than the limit for files", meta.size);
                run.input
                    .notes
                    .add(&path(), FileOperation::Unsupported, message);
                return false;
            }
            Kind::File => run.input.progress.found(1, meta.size),
            _ => run.input.progress.found(1, 0),
        }
        true
    }

    /// Anything that is not a file as the parent has it.
    fn changed<'n>(
        &mut self,
        dir: &Directory,
        fd: &OwnedFd,
        name: &OsStr,
        meta: &Meta,
        known: Option<&Node>,
    ) -> Result<Entry<'n>> {
        let run = self.run;
        if meta.kind == Kind::File && meta.size > AT_ONCE {
            let content = known.and_then(|known| known.content.as_deref());
            return Ok(Entry::Large(content.is_some(), self.parent_cuts(content)));
        }
        let path = dir.path.join(name);
        if meta.kind == Kind::File {
            return self.small(dir, fd, &path, name, known);
        }
        let attributes = attributes::read(fd.as_fd(), &path, name, run.input.rows).0;
        let mut node = self.node(name, meta, attributes);
        if meta.kind == Kind::Symlink {
            match rustix::fs::readlinkat(fd, name, Vec::new()) {
                Ok(target) => node.link_target = target.into_bytes(),
                Err(error) => {
                    row(run, &path, FileOperation::Stat, error);
                    dir.leaves_out();
                    return Ok(Entry::Nothing);
                }
            }
        }
        count(&run.counts.others, 1);
        run.input.progress.file_done();
        Ok(Entry::Node(Box::new(node)))
    }

    /// A node; what tells links of one file apart from those of another is needed only where there
    /// are some.
    pub(super) fn node(
        &self,
        name: &OsStr,
        meta: &Meta,
        attributes: Vec<(String, Vec<u8>)>,
    ) -> Node {
        let device_id = if meta.links > 1 {
            self.run.device_id(meta.device)
        } else {
            0
        };
        node::node(name, meta, attributes, device_id)
    }

    /// Whether all blobs are there, and the file's times can be believed.
    fn trusted(&self, meta: &Meta, ids: &[Id]) -> bool {
        if let [id] = ids {
            return self.run.index.use_blob(BlobKind::Data, id).is_some();
        }
        let mut lengths = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(place) = self.run.index.use_blob(BlobKind::Data, id) else {
                return false;
            };
            lengths.push(u64::from(place.plain_length()));
        }
        // Databases write through memory maps.
        match ParentCuts::of(lengths.into_iter()) {
            Some(ParentCuts::Fixed(_)) => self.run.synced.trusts(meta),
            _ => true,
        }
    }

    /// How the parent's blobs of a file were cut, if this program wrote them.
    fn parent_cuts(&self, known: Option<&[Id]>) -> Option<ParentCuts> {
        self.run.input.parent.filter(|(_, ours)| *ours)?;
        let place = |id| self.run.index.find(BlobKind::Data, id);
        let places: Option<Vec<_>> = known?.iter().map(place).collect();
        ParentCuts::of(
            places?
                .into_iter()
                .map(|place| u64::from(place.plain_length())),
        )
    }

    /// Reads a file that claims to be small. If it turns out not to be, it is a large one.
    fn small<'n>(
        &mut self,
        dir: &Directory,
        fd: &OwnedFd,
        path: &Path,
        name: &OsStr,
        known: Option<&Node>,
    ) -> Result<Entry<'n>> {
        let run = self.run;
        let now = Timestamp::now();
        let Some((file, mut meta)) = open(run, fd, path, name) else {
            dir.leaves_out();
            return Ok(Entry::Nothing);
        };
        let cut = self.cuts(dir, fd, (&file, &meta), known);
        let mut doubted = false;
        if let Ok((Cuts::Fixed(_), _)) = cut {
            (meta, doubted) = synced::sync(run, &file, meta, now);
        }
        let described = meta.clone();
        // Files of the kernel, and of some FUSE file systems, have more content than they claim.
        let want = AT_ONCE_BUFFER.min(self.buffer.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut track = None;
        let read = cut.and_then(|cut| Ok((cut, read_up_to(&file, &mut buffer[..want], 0)?)));
        let cut = match read {
            Ok((_, len)) if len == want => {
                self.buffer = buffer;
                let content = known.and_then(|known| known.content.as_deref());
                return Ok(Entry::Large(content.is_some(), self.parent_cuts(content)));
            }
            Ok(((cuts, reason), len)) => {
                meta.size = len as u64;
                let remembers = run.prints.as_ref().filter(|_| meta.size > policy::SMALL);
                track = remembers.and_then(|prints| prints.track(path));
                Ok((self.chunks(&buffer[..len], cuts, &mut track), cuts, reason))
            }
            Err(error) => Err(error),
        };
        self.buffer = buffer;
        let ((ids, marks), cuts, reason) = match cut {
            Ok((done, cuts, reason)) => (done?, cuts, reason),
            Err(error) => {
                run.input.rows.add(path, FileOperation::Read, error);
                dir.leaves_out();
                return Ok(Entry::Nothing);
            }
        };
        run.input.tally.add(path, meta.size, cuts, reason);
        compare(run, path, &file, &described, meta.size);
        meta.ctime = run.input.stored_ctime(&described, now);
        if doubted {
            meta.ctime = run.input.marked(described.ctime);
        }
        let attributes = attributes_of(run, fd.as_fd(), path, name, &mut meta);
        if let Some(prints) = run.prints.as_ref().filter(|_| meta.size > policy::SMALL) {
            prints.learn(path, track.as_ref(), &marks, &ids);
        }
        let mut node = self.node(name, &meta, attributes);
        node.content = Some(ids);
        self.count_file(meta.size, known.is_some());
        run.input.progress.bytes_done(meta.size);
        Ok(Entry::Node(Box::new(node)))
    }

    /// How a file that fits into the buffer is cut.
    fn cuts(
        &mut self,
        dir: &Directory,
        fd: &OwnedFd,
        (file, meta): (&File, &Meta),
        known: Option<&Node>,
    ) -> io::Result<(Cuts, Reason)> {
        if meta.size <= policy::SMALL {
            return Ok((Cuts::Rabin, Reason::Default));
        }
        let len = read_up_to(file, &mut self.buffer[..pages::HEAD], 0)?;
        let parent = self.parent_cuts(known.and_then(|known| known.content.as_deref()));
        let facts = Facts {
            size: meta.size,
            head: &self.buffer[..len],
            directory_bytes: &|| large::directory_bytes(dir, fd),
            parent,
        };
        Ok(policy::decide(self.run.input.chunking, facts))
    }
}

/// Attributes of a file. If some could not be read, the next run must not take the file for
/// unchanged.
pub(super) fn attributes_of(
    run: &Run<'_>,
    dir: BorrowedFd<'_>,
    path: &Path,
    name: &OsStr,
    meta: &mut Meta,
) -> Vec<(String, Vec<u8>)> {
    let (attributes, complete) = attributes::read(dir, path, name, run.input.rows);
    if !complete {
        meta.ctime = run.input.marked(meta.ctime);
    }
    attributes
}

/// Opens a regular file and describes it. `None`: there is a row.
pub(super) fn open(
    run: &Run<'_>,
    dir: &OwnedFd,
    path: &Path,
    name: &OsStr,
) -> Option<(File, Meta)> {
    let opened = open_at(dir.as_fd(), name, OFlags::NONBLOCK)
        .and_then(|fd| Ok((Meta::of(&fd)?, fd)))
        .and_then(|(meta, fd)| match meta.kind {
            Kind::File => Ok((File::from(fd), meta)),
            _ => Err(Errno::NOENT),
        });
    opened
        .inspect_err(|error| row(run, path, FileOperation::Open, *error))
        .ok()
}

/// Reads from `offset` on until the buffer is full or the file ends.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Compares a file with what it was before it was read. A difference is a row; a size that was
/// never true is none, and if there was less to read than it claims there is a note.
pub(super) fn compare(run: &Run<'_>, path: &Path, file: &File, before: &Meta, read: u64) {
    let message = match Meta::of(file) {
        Ok(now) if now.unchanged_since(before) => {
            if read < before.size {
                let message = format!("it claims {} bytes, and has {read}", before.size);
                let notes = run.input.notes;
                notes.add(path, FileOperation::Read, message);
            }
            return;
        }
        Ok(now) if now.size != before.size => {
            format!("its size went from {} to {}", before.size, now.size)
        }
        Ok(_) => "it was written to, or its metadata changed".to_owned(),
        Err(error) => io::Error::from(error).to_string(),
    };
    run.input
        .rows
        .add(path, FileOperation::ChangedWhileReading, message);
}
