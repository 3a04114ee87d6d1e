//! A worker: describes, reads, cuts, hashes, and packs what is new.
//!
//! Order for a file: metadata from the open file, content, metadata again; a difference is a row. A read error
//! is a row, and the file is then missing from the snapshot.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use rustix::{fs::OFlags, io::Errno};

use super::{
    Content, Parent, Run, count,
    dirs::Directory,
    large::{self, Large},
    node,
    packer::{OpenPack, room},
    queue::Work,
    squeeze::Squeezer,
    trees,
};
use crate::{
    archive::{attributes, filter::Filter},
    chunk::{
        policy::{self, Cuts, Facts, ParentCuts},
        rabin,
    },
    crypto::Id,
    error::{Error, Result},
    files::{
        beneath::open_at,
        meta::{Kind, Meta},
    },
    format::{index::BlobKind, node::Node},
    rows::FileOperation,
};

/// Files up to this size are read at once by one worker.
const AT_ONCE: u64 = 4 << 20;

/// Entries of one directory that are not directories, in the order of their names.
pub(super) struct Batch {
    pub(super) dir: Arc<Directory>,
    pub(super) slot: usize,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) names: Vec<OsString>,
    pub(super) parent: Option<Parent>,
}

/// One thread's tools.
pub(super) struct Worker<'r, 'a> {
    pub(super) run: &'r Run<'a>,
    filter: Option<&'a Filter>,
    squeezer: Squeezer,
    pack: Option<OpenPack>,
    /// Content being read: room for the longest chunk, touched only as far as needed.
    pub(super) buffer: Vec<u8>,
    json: Vec<u8>,
}

/// What became of an entry.
enum Entry {
    Node(Box<Node>),
    Large(Box<(OsString, Option<Vec<Id>>)>),
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

impl<'r, 'a> Worker<'r, 'a> {
    pub(super) fn new(run: &'r Run<'a>) -> Result<Self> {
        let filter = match run.input.content {
            Content::Tree { filter, .. } => Some(filter),
            Content::Stream { .. } => None,
        };
        Ok(Self {
            run,
            filter,
            squeezer: Squeezer::new(run.level).map_err(|error| Error::Bug(error.to_string()))?,
            pack: None,
            buffer: vec![0; usize::try_from(rabin::MAX).unwrap_or(8 << 20)],
            json: Vec::new(),
        })
    }

    /// Works until nothing is left, and leaves the last pack.
    pub(super) fn work(mut self) -> Result<()> {
        let mut was_busy = false;
        while let Some(work) = self.run.queue.next(self.run, was_busy)? {
            was_busy = true;
            match work {
                Work::Chunk(chunk) => chunk.store(&mut self)?,
                Work::Batch(batch) => self.batch(batch)?,
                Work::Open(file) => large::open(&mut self, file)?,
                Work::Join(active) => large::join(&mut self, &active)?,
            }
        }
        if let Some(pack) = self.pack.take() {
            self.run.leave(pack);
        }
        Ok(())
    }

    fn batch(&mut self, batch: Batch) -> Result<()> {
        let mut parts = vec![Some(Vec::new())];
        let mut larges = Vec::new();
        for name in batch.names {
            self.run.go()?;
            let path = batch.dir.path.join(&name);
            let known = batch
                .parent
                .as_ref()
                .and_then(|nodes| trees::find(nodes, name.as_bytes()));
            match self.entry(&batch.dir, &batch.fd, &path, name, known)? {
                Entry::Node(node) => {
                    if parts.last().is_none_or(Option::is_none) {
                        parts.push(Some(Vec::new()));
                    }
                    if let Some(Some(json)) = parts.last_mut() {
                        if !json.is_empty() {
                            json.push(b',');
                        }
                        node.encode(json);
                    }
                }
                Entry::Large(file) => {
                    let (name, known) = *file;
                    larges.push(Large {
                        dir: Arc::clone(&batch.dir),
                        slot: batch.slot,
                        part: parts.len(),
                        fd: Arc::clone(&batch.fd),
                        name,
                        known,
                    });
                    parts.push(None);
                }
                Entry::Nothing => {}
            }
        }
        if batch.dir.split(batch.slot, parts) {
            self.complete(batch.dir)?;
        }
        for file in larges {
            self.run.queue.push_large(file);
        }
        Ok(())
    }

    pub(super) fn complete(&mut self, dir: Arc<Directory>) -> Result<()> {
        trees::complete(self.run, dir, &mut self.squeezer, &mut self.json)
    }

    fn entry(
        &mut self,
        dir: &Directory,
        fd: &OwnedFd,
        path: &Path,
        name: OsString,
        known: Option<&Node>,
    ) -> Result<Entry> {
        let run = self.run;
        if self
            .filter
            .is_some_and(|filter| filter.excludes(path, false))
        {
            count(&run.counts.excluded, 1);
            return Ok(Entry::Nothing);
        }
        let now = Timestamp::now();
        let meta = match Meta::at(fd, &name) {
            Ok(meta) => meta,
            Err(error) => {
                row(run, path, FileOperation::Stat, error);
                return Ok(Entry::Nothing);
            }
        };
        match meta.kind {
            Kind::Socket => {
                run.input
                    .notes
                    .add(path, FileOperation::Unsupported, "sockets are not kept");
                return Ok(Entry::Nothing);
            }
            Kind::Dir => {
                let message = "it was replaced by a directory";
                run.input
                    .rows
                    .add(path, FileOperation::ChangedWhileReading, message);
                return Ok(Entry::Nothing);
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
                    .add(path, FileOperation::Unsupported, message);
                return Ok(Entry::Nothing);
            }
            Kind::File => run.input.progress.found(1, meta.size),
            _ => run.input.progress.found(1, 0),
        }
        let same = known.and_then(|known| run.input.same(&meta, known));
        if meta.kind == Kind::File && same.is_none_or(|ids| !self.trusted(ids)) {
            if meta.size > AT_ONCE {
                let known = known.and_then(|known| known.content.clone());
                return Ok(Entry::Large(Box::new((name, known))));
            }
            let node = self.small(dir, fd, path, &name, now, known)?;
            return Ok(node.map_or(Entry::Nothing, |node| Entry::Node(Box::new(node))));
        }
        let attributes = attributes::read(fd.as_fd(), path, &name, run.input.rows);
        let mut node = self.node(&name, &meta, attributes);
        if let Some(ids) = same {
            node.content = Some(ids.to_vec());
            count(&run.counts.files_unchanged, 1);
            count(&run.counts.bytes, meta.size);
            run.input.progress.bytes_done(meta.size);
        } else {
            count(&run.counts.others, 1);
        }
        if meta.kind == Kind::Symlink {
            match rustix::fs::readlinkat(fd, &name, Vec::new()) {
                Ok(target) => node.link_target = target.into_bytes(),
                Err(error) => {
                    row(run, path, FileOperation::Stat, error);
                    return Ok(Entry::Nothing);
                }
            }
        }
        run.input.progress.file_done();
        Ok(Entry::Node(Box::new(node)))
    }

    /// A node; what tells links of one file apart from those of another is needed only where there are some.
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

    /// Whether all blobs are there, and the file is none that is always read.
    fn trusted(&self, ids: &[Id]) -> bool {
        let mut lengths = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(place) = self.run.index.use_blob(BlobKind::Data, id) else {
                return false;
            };
            lengths.push(u64::from(place.plain_length()));
        }
        // Databases write through memory maps, which change times only when they are synced.
        !matches!(
            ParentCuts::of(lengths.into_iter()),
            Some(ParentCuts::Fixed(_))
        )
    }

    /// How the parent's blobs of a file were cut, if this program wrote them.
    pub(super) fn parent_cuts(&self, known: Option<&[Id]>) -> Option<ParentCuts> {
        self.run.input.parent.filter(|(_, ours)| *ours)?;
        let place = |id| self.run.index.find(BlobKind::Data, id);
        let places: Option<Vec<_>> = known?.iter().map(place).collect();
        ParentCuts::of(
            places?
                .into_iter()
                .map(|place| u64::from(place.plain_length())),
        )
    }

    /// Reads a file that fits into the buffer.
    fn small(
        &mut self,
        dir: &Directory,
        fd: &OwnedFd,
        path: &Path,
        name: &OsStr,
        now: Timestamp,
        known: Option<&Node>,
    ) -> Result<Option<Node>> {
        let run = self.run;
        let Some((file, mut meta)) = open(run, fd, path, name) else {
            return Ok(None);
        };
        let attributes = attributes::read(fd.as_fd(), path, name, run.input.rows);
        let described = meta.clone();
        // It may have grown since it was listed; what does not fit is not of the state described.
        let want = usize::try_from(meta.size)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = read_up_to(&file, &mut buffer[..want], 0);
        let ids = match read {
            Ok(len) => {
                meta.size = len as u64;
                let cuts = self.cuts(dir, fd, &buffer[..len], meta.size, known);
                Ok(self.chunks(&buffer[..len], cuts))
            }
            Err(error) => Err(error),
        };
        self.buffer = buffer;
        let ids = match ids {
            Ok(ids) => ids?,
            Err(error) => {
                run.input.rows.add(path, FileOperation::Read, error);
                return Ok(None);
            }
        };
        compare(run, path, &file, &described, meta.size);
        meta.ctime = run.input.stored_ctime(&described, now);
        let mut node = self.node(name, &meta, attributes);
        node.content = Some(ids);
        self.count_file(meta.size, known.is_some());
        run.input.progress.bytes_done(meta.size);
        Ok(Some(node))
    }

    pub(super) fn count_file(&self, bytes: u64, known: bool) {
        let counts = &self.run.counts;
        count(
            if known {
                &counts.files_changed
            } else {
                &counts.files_new
            },
            1,
        );
        count(&counts.bytes, bytes);
        self.run.input.progress.file_done();
    }

    fn cuts(
        &self,
        dir: &Directory,
        fd: &OwnedFd,
        head: &[u8],
        size: u64,
        known: Option<&Node>,
    ) -> Cuts {
        if size <= policy::SMALL {
            return Cuts::Rabin;
        }
        let parent = self.parent_cuts(known.and_then(|known| known.content.as_deref()));
        let facts = Facts {
            size,
            head,
            directory_bytes: large::directory_bytes(dir, fd),
            parent,
        };
        policy::decide(self.run.input.chunking, facts).0
    }

    fn chunks(&mut self, data: &[u8], cuts: Cuts) -> Result<Vec<Id>> {
        let mut ids = Vec::new();
        let mut rest = data;
        let (least, most) = match cuts {
            Cuts::Rabin => (rabin::MIN, rabin::MAX),
            Cuts::Fixed(size) => (size, size),
        };
        let [least, most] = [least, most].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(most)];
            let cut = match cuts {
                Cuts::Rabin => self.run.rabin.candidate(window, least),
                Cuts::Fixed(_) => None,
            };
            let (chunk, after) = rest.split_at(cut.unwrap_or(window.len()));
            ids.push(self.store(chunk)?);
            rest = after;
        }
        Ok(ids)
    }

    /// Makes sure that a chunk is in the repository, or in a pack on its way there.
    pub(super) fn store(&mut self, data: &[u8]) -> Result<Id> {
        let run = self.run;
        let id = Id::of(data);
        let known = run.index.use_blob(BlobKind::Data, &id).is_some();
        if known || !run.fresh.claim(BlobKind::Data, &id) {
            return Ok(id);
        }
        if let Some(full) = self.pack.take_if(|pack| !pack.fits(data.len())) {
            run.uploads.push(full.finish(&run.sealer));
        }
        let mut pack = if let Some(pack) = self.pack.take() {
            pack
        } else {
            let buffer = run.buffers.take(room(data.len()), || run.go())?;
            OpenPack::new(BlobKind::Data, buffer)
        };
        let packed = pack.add(id, data, &mut self.squeezer, &run.sealer);
        self.pack = Some(pack);
        count(&run.counts.data_blobs, 1);
        count(&run.counts.added, data.len() as u64);
        count(&run.counts.added_packed, u64::from(packed));
        Ok(id)
    }
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

/// Compares a file with what it was before it was read. A difference is a row.
pub(super) fn compare(run: &Run<'_>, path: &Path, file: &File, before: &Meta, read: u64) {
    let message = match Meta::of(file) {
        Ok(now) if now.unchanged_since(before) && read == before.size => return,
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
