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
    prints::{Mark, Stored},
    queue::Work,
    squeeze::Squeezer,
    trees,
};
use crate::{
    archive::{
        filter::Filter,
        fingerprints::{Cut, Print, Record, Track},
    },
    chunk::{policy::Cuts, rabin},
    crypto::Id,
    error::{Error, Result},
    format::index::BlobKind,
    sha::Sha,
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
    /// What may be known of the piece taken.
    pub(super) known: Vec<Record>,
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
            known: Vec::new(),
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

    /// Cuts a whole file's content and stores the chunks. `track` is what is remembered of it.
    /// Returns what is to be remembered as well, if anything is.
    pub(super) fn chunks(
        &mut self,
        data: &[u8],
        cuts: Cuts,
        track: &mut Option<Track>,
    ) -> Result<(Vec<Id>, Vec<Mark>)> {
        let run = self.run;
        let (mut ids, mut marks) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < data.len() {
            let rest = &data[at..];
            let offset = at as u64;
            let known = match (&run.prints, &mut *track) {
                (Some(prints), Some(track)) => prints.at(track, offset),
                _ => None,
            };
            let known = known.as_ref();
            let again = self.chunk_again(rest, offset, cuts, known)?;
            let (stored, len, cut) = if let Some(again) = again {
                again
            } else {
                let (chunk, cut) = self.cut(rest, cuts);
                // Of content-defined chunks it is known by now that they are others.
                let known = known.filter(|_| cut == Cut::Arithmetic);
                (self.block(chunk, known)?, chunk.len(), cut)
            };
            ids.push(stored.id);
            marks.push(Mark::of(&stored, offset, len, cut));
            at += len;
        }
        Ok((ids, marks))
    }

    /// The content-defined chunk at the beginning of this, if it is the one remembered.
    fn chunk_again(
        &mut self,
        rest: &[u8],
        offset: u64,
        cuts: Cuts,
        known: Option<&Record>,
    ) -> Result<Option<(Stored, usize, Cut)>> {
        let end = offset + rest.len() as u64;
        let Some(known) =
            known.filter(|known| cuts == Cuts::Rabin && known.is_cut_again(offset, end))
        else {
            return Ok(None);
        };
        let chunk = usize::try_from(known.length)
            .ok()
            .and_then(|len| rest.get(..len));
        let (Some(chunk), Some(prints)) = (chunk, &self.run.prints) else {
            return Ok(None);
        };
        let print = prints.print(chunk);
        if print != known.print {
            return Ok(None);
        }
        let stored = self.printed(chunk, Some(print), Some(known))?;
        Ok(Some((stored, chunk.len(), known.cut)))
    }

    /// The chunk at the beginning of this, and why it ends.
    fn cut<'d>(&self, rest: &'d [u8], cuts: Cuts) -> (&'d [u8], Cut) {
        let [least, most] = match cuts {
            Cuts::Rabin => [rabin::MIN, rabin::MAX],
            Cuts::Fixed(size) => [size, size],
        };
        let [least, most] = [least, most].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let window = &rest[..rest.len().min(most)];
        match cuts {
            Cuts::Fixed(_) => (window, Cut::Arithmetic),
            Cuts::Rabin => match self.run.rabin.candidate(window, least) {
                Some(cut) => (&rest[..cut], Cut::Natural),
                None if window.len() == most => (window, Cut::Natural),
                None => (window, Cut::Forced),
            },
        }
    }

    /// Makes sure that a block is in the repository, or on its way there; `known` is what may be
    /// known of it.
    pub(super) fn block(&mut self, data: &[u8], known: Option<&Record>) -> Result<Stored> {
        let print = self.run.prints.as_ref().map(|prints| prints.print(data));
        self.printed(data, print, known)
    }

    /// The same, with its fingerprint.
    pub(super) fn printed(
        &mut self,
        data: &[u8],
        print: Option<Print>,
        known: Option<&Record>,
    ) -> Result<Stored> {
        let run = self.run;
        if let (Some(prints), Some(print), Some(known)) = (&run.prints, print, known)
            && let Some(id) = prints.remembered(run, data, print, known)?
        {
            return Ok(Stored {
                id,
                print: Some(print),
                hit: true,
            });
        }
        Ok(Stored {
            id: self.store(data)?,
            print,
            hit: false,
        })
    }

    /// Makes sure that a chunk is in the repository, or in a pack on its way there.
    pub(super) fn store(&mut self, data: &[u8]) -> Result<Id> {
        let id = match &mut self.pack {
            Some(pack) => pack.hash_beside(data),
            None => Id::of(data),
        };
        self.store_as(id, data)
    }

    /// Makes sure that two blocks that no fingerprints are kept of are in the repository, and
    /// hashes them side by side. `None` if something else is to be hashed beside the first.
    pub(super) fn two(&mut self, data: &[u8], others: &[u8]) -> Result<Option<[Stored; 2]>> {
        if self.run.prints.is_some() || self.pack.as_ref().is_some_and(OpenPack::is_behind) {
            return Ok(None);
        }
        let (id, other) = Sha::of_both(data, others);
        let stored = |id| Stored {
            id,
            print: None,
            hit: false,
        };
        let first = stored(self.store_as(id, data)?);
        Ok(Some([first, stored(self.store_as(other, others)?)]))
    }

    /// The same for a chunk whose id is known.
    fn store_as(&mut self, id: Id, data: &[u8]) -> Result<Id> {
        let run = self.run;
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
