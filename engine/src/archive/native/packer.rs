//! Packs being filled, in buffers of which there is a bounded number.
//!
//! A blob is compressed right into its pack's buffer, sealed there, and hashed beside the content
//! of the next, while it is in the cache; when a pack is full only its list is missing. Whoever
//! wants a buffer waits until one has been uploaded: that is the back-pressure, and the bound on
//! memory. Does not: upload.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    budget::{Budget, Permit, Reserve},
    squeeze::Squeezer,
};
use crate::{
    crypto::{Id, OVERHEAD},
    error::Result,
    format::{
        index::BlobKind,
        pack::{self, Blob},
    },
    seal::Sealer,
    sha::Sha,
};

/// How often those who wait look whether they should stop.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// The buffers of one run. The least number of them is paid for by whoever made this; more are
/// taken from the budget when they are needed, and given back when the budget asks.
pub(crate) struct Buffers {
    free: Mutex<Free>,
    returned: Condvar,
    /// Bytes of an ordinary buffer.
    size: usize,
    /// Ordinary buffers that may always exist.
    least: usize,
    /// Most ordinary buffers.
    most: usize,
    budget: Arc<Budget>,
}

struct Free {
    buffers: Vec<Vec<u8>>,
    /// Ordinary buffers that exist.
    ordinary: usize,
    /// Larger ones that exist.
    larger: usize,
    /// For ordinary ones beyond the least number, and for larger ones.
    memory: Permit,
}

impl Buffers {
    /// Between `least` and `most` buffers of `size` bytes, and larger ones. Of the least number one
    /// must never be held on to, or all would wait.
    pub(crate) fn new(size: usize, least: usize, most: usize, budget: &Arc<Budget>) -> Self {
        Self {
            free: Mutex::new(Free {
                buffers: Vec::new(),
                ordinary: 0,
                larger: 0,
                memory: Permit::empty(budget),
            }),
            returned: Condvar::new(),
            size,
            least,
            most: most.max(least),
            budget: Arc::clone(budget),
        }
    }

    /// A buffer of at least `least` bytes; waits for one. `stop` says whether to give up.
    pub(crate) fn take(&self, least: usize, stop: impl Fn() -> Result<()>) -> Result<Vec<u8>> {
        let mut free = self.lock();
        loop {
            stop()?;
            if least <= self.size {
                if let Some(buffer) = free.buffers.pop() {
                    return Ok(buffer);
                }
                if self.may_add(&mut free) {
                    free.ordinary += 1;
                    drop(free);
                    return Ok(vec![0; self.size]);
                }
            } else if let Some(memory) = self.budget.try_take(least as u64) {
                free.memory.join(memory);
                free.larger += 1;
                drop(free);
                return Ok(vec![0; least]);
            } else if self.drop_one(&mut free) {
                continue;
            } else if free.ordinary <= self.least && free.larger == 0 {
                // Nothing comes back that could be waited for.
                return Err(self
                    .budget
                    .short(least as u64, "one directory, compressed,"));
            }
            free = self
                .returned
                .wait_timeout(free, LOOK)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(free, _)| free);
        }
    }

    fn may_add(&self, free: &mut Free) -> bool {
        if free.ordinary < self.least {
            return true;
        }
        let memory = (free.ordinary < self.most)
            .then(|| self.budget.try_take(self.size as u64))
            .flatten();
        let Some(memory) = memory else {
            return false;
        };
        free.memory.join(memory);
        true
    }

    /// Gives up a buffer that waits and is not one of the least number.
    fn drop_one(&self, free: &mut Free) -> bool {
        if free.ordinary <= self.least || free.buffers.pop().is_none() {
            return false;
        }
        free.ordinary -= 1;
        free.memory.give_back(self.size as u64);
        true
    }

    /// Takes a buffer back that had `was` bytes.
    pub(crate) fn give(&self, buffer: Vec<u8>, was: usize) {
        let mut free = self.lock();
        if was != self.size {
            free.larger -= 1;
            free.memory.give_back(was as u64);
        } else if buffer.len() == self.size {
            free.buffers.push(buffer);
        } else {
            // Somebody has kept it.
            free.ordinary -= 1;
            if free.ordinary >= self.least {
                free.memory.give_back(self.size as u64);
            }
        }
        drop(free);
        self.returned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserve for Buffers {
    fn shrink(&self) -> bool {
        self.drop_one(&mut self.lock())
    }
}

/// A pack that is being filled.
pub(crate) struct OpenPack {
    kind: BlobKind,
    buffer: Vec<u8>,
    len: usize,
    hash: Sha,
    /// Bytes that are hashed.
    hashed: usize,
    blobs: Vec<Blob>,
}

/// A finished pack.
pub(crate) struct Pack {
    pub(crate) id: Id,
    pub(crate) buffer: Vec<u8>,
    pub(crate) len: usize,
    pub(crate) blobs: Vec<Blob>,
}

/// The buffer a pack of one such blob needs.
pub(crate) fn room(plain_length: usize) -> usize {
    plain_length + OVERHEAD + pack::header_room(1)
}

impl OpenPack {
    pub(crate) fn new(kind: BlobKind, buffer: Vec<u8>) -> Self {
        Self {
            kind,
            buffer,
            len: 0,
            hash: Sha::new(),
            hashed: 0,
            blobs: Vec::new(),
        }
    }

    /// The hash of some content, made beside that of what was added last.
    pub(crate) fn hash_beside(&mut self, data: &[u8]) -> Id {
        let mut sha = Sha::new();
        let added = &self.buffer[self.hashed..self.len];
        sha.update_both(data, &mut self.hash, added);
        self.hashed = self.len;
        sha.finish()
    }

    /// Whether something was added that is not hashed yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.hashed < self.len
    }

    /// Whether a blob of so many bytes fits, whatever it is compressed to.
    pub(crate) fn fits(&self, plain_length: usize) -> bool {
        self.blobs.len() < pack::MAX_BLOBS
            && self.len + plain_length + OVERHEAD + pack::header_room(self.blobs.len() + 1)
                <= self.buffer.len()
    }

    /// Adds a blob that [`fits`](Self::fits), and returns the bytes it takes.
    pub(crate) fn add(
        &mut self,
        id: Id,
        data: &[u8],
        squeezer: &mut Squeezer,
        sealer: &Sealer,
    ) -> u32 {
        let text = self.len + OVERHEAD / 2;
        let smaller = squeezer.squeeze(data, &mut self.buffer[text..text + data.len()]);
        let len = smaller.unwrap_or_else(|| {
            self.buffer[text..text + data.len()].copy_from_slice(data);
            data.len()
        });
        self.push(id, data.len(), len, smaller.is_some(), sealer)
    }

    /// Adds a blob that was compressed before, and [`fits`](Self::fits) as it is.
    pub(crate) fn add_squeezed(
        &mut self,
        id: Id,
        plain: usize,
        data: &[u8],
        sealer: &Sealer,
    ) -> u32 {
        let text = self.len + OVERHEAD / 2;
        self.buffer[text..text + data.len()].copy_from_slice(data);
        self.push(id, plain, data.len(), true, sealer)
    }

    /// Adds a blob as another pack of the same repository holds it, which [`fits`](Self::fits) with
    /// its [`OVERHEAD`] taken off.
    pub(crate) fn add_sealed(&mut self, id: Id, sealed: &[u8], plain_length: Option<u32>) {
        let end = self.len + sealed.len();
        self.buffer[self.len..end].copy_from_slice(sealed);
        self.blobs.push(Blob {
            id,
            kind: self.kind,
            length: u32::try_from(sealed.len()).unwrap_or(u32::MAX),
            plain_length,
        });
        self.len = end;
    }

    fn push(&mut self, id: Id, plain: usize, len: usize, squeezed: bool, sealer: &Sealer) -> u32 {
        let end = self.len + len + OVERHEAD;
        let bytes = &mut self.buffer[self.len..end];
        sealer.seal(bytes);
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let length = short(end - self.len);
        self.blobs.push(Blob {
            id,
            kind: self.kind,
            length,
            plain_length: squeezed.then(|| short(plain)),
        });
        self.len = end;
        length
    }

    /// Takes over all blobs of another pack, if they fit. Sealed blobs may lie anywhere.
    pub(crate) fn absorb(&mut self, other: Box<Self>) -> Result<Vec<u8>, Box<Self>> {
        let blobs = self.blobs.len() + other.blobs.len();
        let end = self.len + other.len;
        if blobs > pack::MAX_BLOBS || end + pack::header_room(blobs) > self.buffer.len() {
            return Err(other);
        }
        let bytes = &other.buffer[..other.len];
        self.buffer[self.len..end].copy_from_slice(bytes);
        self.blobs.extend(&other.blobs);
        self.len = end;
        Ok(other.buffer)
    }

    /// Adds the list of blobs.
    pub(crate) fn finish(mut self, sealer: &Sealer) -> Pack {
        let list = pack::encode_header(&self.blobs);
        let end = self.len + list.len() + OVERHEAD;
        let bytes = &mut self.buffer[self.len..end];
        bytes[OVERHEAD / 2..][..list.len()].copy_from_slice(&list);
        sealer.seal(bytes);
        let length = u32::try_from(end - self.len)
            .unwrap_or(u32::MAX)
            .to_le_bytes();
        let len = end + pack::TRAILER;
        self.buffer[end..len].copy_from_slice(&length);
        self.hash.update(&self.buffer[self.hashed..len]);
        Pack {
            id: self.hash.finish(),
            len,
            buffer: self.buffer,
            blobs: self.blobs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chunk::rabin::tests::noise, crypto::Key, error::Error};

    #[test]
    fn a_pack_is_what_its_list_says() {
        let key = Key::random();
        let sealer = Sealer::new(&key);
        let mut squeezer = Squeezer::new(Some(1)).unwrap();
        let mut pack = OpenPack::new(BlobKind::Data, vec![0; 300_000]);
        let contents = [noise(1, 100_000), vec![7; 50_000], noise(2, 20)];
        let mut other = OpenPack::new(BlobKind::Data, vec![0; 300_000]);
        for (n, data) in contents.iter().enumerate() {
            let pack = if n == 0 { &mut pack } else { &mut other };
            assert!(pack.fits(data.len()));
            pack.add(Id::of(data), data, &mut squeezer, &sealer);
        }
        assert!(pack.absorb(Box::new(other)).is_ok());
        let mut full = OpenPack::new(BlobKind::Data, vec![0; 300_000]);
        full.add(Id([1; 32]), &noise(3, 250_000), &mut squeezer, &sealer);
        assert!(pack.absorb(Box::new(full)).is_err());
        assert!(!pack.fits(250_000));
        let done = pack.finish(&sealer);
        let bytes = &done.buffer[..done.len];
        assert_eq!(Id::of(bytes), done.id);
        let (rest, trailer) = bytes.split_last_chunk::<4>().unwrap();
        let list = pack::header_length(*trailer, bytes.len() as u64).unwrap() as usize;
        let list = key.open(&rest[rest.len() - list..]).unwrap();
        let blobs = pack::decode_header(&list, bytes.len() as u64).unwrap();
        assert_eq!(blobs, done.blobs);
        let mut at = 0;
        for (blob, data) in blobs.iter().zip(&contents) {
            let end = at + blob.length as usize;
            let plain = key.open(&bytes[at..end]).unwrap();
            let plain = match blob.plain_length {
                Some(len) => zstd::bulk::decompress(&plain, len as usize).unwrap(),
                None => plain,
            };
            assert_eq!(&plain, data);
            at = end;
        }
        assert_eq!(
            blobs
                .iter()
                .filter(|blob| blob.plain_length.is_some())
                .count(),
            1
        );
    }

    #[test]
    fn buffers_are_bounded_and_come_back() {
        let budget = Budget::new(100);
        let buffers = Arc::new(Buffers::new(100, 1, 2, &budget));
        let reserve = Arc::downgrade(&buffers);
        budget.set_reserve(reserve);
        let go = || Ok(());
        let a = buffers.take(10, go).unwrap();
        let b = buffers.take(10, go).unwrap();
        assert_eq!(budget.left(), 0, "the second is beyond the least number");
        let stop = || Err(Error::Cancelled);
        assert!(matches!(buffers.take(10, stop), Err(Error::Cancelled)));
        std::thread::scope(|scope| {
            let third = scope.spawn(|| buffers.take(10, go).unwrap());
            buffers.give(a, 100);
            buffers.give(third.join().unwrap(), 100);
        });
        // A larger one takes the place of one that waits, and waits for what may come back.
        assert!(buffers.take(101, stop).is_err());
        buffers.give(b, 100);
        let error = buffers.take(101, go).unwrap_err();
        assert!(
            matches!(error, Error::MemoryLimit { needed: 101, .. }),
            "{error}"
        );
        drop(buffers.take(50, go).unwrap());
    }

    #[test]
    fn the_budget_gets_back_what_is_not_used() {
        let budget = Budget::new(200);
        let buffers = Arc::new(Buffers::new(100, 1, 3, &budget));
        let reserve = Arc::downgrade(&buffers);
        budget.set_reserve(reserve);
        let taken = [(); 3].map(|()| buffers.take(1, || Ok(())).unwrap());
        assert!(budget.take(1, "a").is_err(), "all are in use");
        for buffer in taken {
            buffers.give(buffer, 100);
        }
        let permit = budget.take(200, "a").unwrap();
        assert!(budget.take(1, "a").is_err(), "the least number stays");
        drop(permit);
        let large = buffers.take(150, || Ok(())).unwrap();
        assert_eq!(budget.left(), 50);
        buffers.give(Vec::new(), large.len());
        assert_eq!(budget.left(), 200);
    }
}
