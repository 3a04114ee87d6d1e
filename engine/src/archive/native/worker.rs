//! A worker: one thread that takes what is to be done, and packs what is new.

use std::{
    ffi::OsString,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    sync::Arc,
};

use super::{
    Content, Run, count,
    dirs::Directory,
    entry::Entry,
    large::{self, Large},
    packer::{OpenPack, room},
    parent::{self, Parent},
    queue::Work,
    squeeze::Squeezer,
    trees,
};
use crate::{
    archive::filter::Filter,
    chunk::{policy::Cuts, rabin},
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
};

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
    pub(super) filter: Option<&'a Filter>,
    squeezer: Squeezer,
    pack: Option<OpenPack>,
    /// Content being read: room for the longest chunk, touched only as far as needed.
    pub(super) buffer: Vec<u8>,
    json: Vec<u8>,
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
        let part = |parts: &mut Vec<Option<Vec<u8>>>| {
            let mut json = parts.pop().flatten().unwrap_or_default();
            if !json.is_empty() {
                json.push(b',');
            }
            json
        };
        let nodes = match &batch.parent {
            Some(parent) => parent.nodes(self.run)?,
            None => &[],
        };
        for name in &batch.names {
            self.run.go()?;
            let known = parent::find(nodes, name.as_bytes());
            let entry = self.entry(&batch.dir, &batch.fd, name, known)?;
            if matches!(parts.last(), Some(None)) && !matches!(entry, Entry::Nothing) {
                parts.push(Some(Vec::new()));
            }
            match entry {
                Entry::Same(node) => {
                    let mut json = part(&mut parts);
                    node.encode(&mut json);
                    parts.push(Some(json));
                }
                Entry::Node(node) => {
                    let mut json = part(&mut parts);
                    node.encode(&mut json);
                    parts.push(Some(json));
                }
                Entry::Large(known, parent) => {
                    larges.push(Large {
                        dir: Arc::clone(&batch.dir),
                        slot: batch.slot,
                        part: parts.len(),
                        fd: Arc::clone(&batch.fd),
                        name: name.clone(),
                        known,
                        parent,
                    });
                    parts.push(None);
                }
                Entry::Nothing => {}
            }
        }
        if batch.dir.split(batch.slot, parts)? {
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

    /// Cuts content and stores the chunks.
    pub(super) fn chunks(&mut self, data: &[u8], cuts: Cuts) -> Result<Vec<Id>> {
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
