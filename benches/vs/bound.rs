//! What bounds a case on this machine: how long its steps alone would take on all processors.
//!
//! Each step's speed is measured on the case's own data, on all processors at once and without
//! anything around it: reading, SHA-256, zstd level 1 (and its reverse), AES-256-CTR with Poly1305,
//! writing into new files. The sum is no promise that an engine can be as fast: cutting, trees,
//! hand-overs and waiting come on top.

use std::{
    fs::{self, File},
    hint::black_box,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use aes::Aes256;
use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use anyhow::{Context as _, Result, bail};
use poly1305::{Poly1305, universal_hash::KeyInit as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::data::tree::Listing;

/// How much of the data the speeds are measured on.
const SAMPLE: u64 = 192 << 20;
/// The most that is read at once.
const PIECE: u64 = 8 << 20;
/// Files of a sample, at most.
const FILES: usize = 6000;
const PACK: usize = 16 << 20;

/// Bytes that go through each step.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Load {
    /// Read from the source, or from the repository.
    pub(crate) read: f64,
    /// Through SHA-256: content, and packs.
    pub(crate) hash: f64,
    /// Through zstd, counted uncompressed.
    pub(crate) compress: f64,
    /// Through cipher and authenticator.
    pub(crate) encrypt: f64,
    /// Written to the repository, or to the target.
    pub(crate) write: f64,
}

impl Load {
    /// A backup that reads `read` bytes and adds `added` bytes, which compressed to `ratio`.
    pub(crate) fn backup(read: f64, added: f64, ratio: f64) -> Self {
        // Data that does not compress is seen by a probe and not compressed at all.
        let compress = if ratio > 0.97 { 0.0 } else { added / ratio };
        Self {
            read,
            hash: read + added,
            compress,
            encrypt: added,
            write: added,
        }
    }

    /// A restore of `bytes` that are `stored` bytes in the repository.
    pub(crate) fn restore(bytes: f64, stored: f64) -> Self {
        Self {
            read: stored,
            hash: bytes,
            compress: if stored > 0.97 * bytes { 0.0 } else { bytes },
            encrypt: stored,
            write: bytes,
        }
    }
}

impl Load {
    /// A check that reads all of `bytes` that are `stored` bytes in the repository.
    pub(crate) fn check(bytes: f64, stored: f64) -> Self {
        Self {
            hash: bytes + stored,
            write: 0.0,
            ..Self::restore(bytes, stored)
        }
    }
}

/// Bytes a second on all processors together.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Speeds {
    read: f64,
    hash: f64,
    compress: f64,
    decompress: f64,
    encrypt: f64,
    write_packs: f64,
    write_files: f64,
    /// What the sample compressed to.
    pub(crate) ratio: f64,
}

/// Seconds of each step.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Bound {
    read: f64,
    hash: f64,
    compress: f64,
    encrypt: f64,
    write: f64,
}

impl Bound {
    /// Of a backup.
    pub(crate) fn backup(speeds: &Speeds, load: Load) -> Self {
        Self::new(load, speeds, speeds.compress, speeds.write_packs)
    }

    /// Of a restore.
    pub(crate) fn restore(speeds: &Speeds, load: Load) -> Self {
        Self::new(load, speeds, speeds.decompress, speeds.write_files)
    }

    fn new(load: Load, speeds: &Speeds, compress: f64, write: f64) -> Self {
        let seconds = |bytes: f64, speed: f64| if bytes > 0.0 { bytes / speed } else { 0.0 };
        Self {
            read: seconds(load.read, speeds.read),
            hash: seconds(load.hash, speeds.hash),
            compress: seconds(load.compress, compress),
            encrypt: seconds(load.encrypt, speeds.encrypt),
            write: seconds(load.write, write),
        }
    }

    /// All steps one after another, each on all processors.
    pub(crate) fn seconds(&self) -> f64 {
        self.read + self.hash + self.compress + self.encrypt + self.write
    }

    /// The steps with their shares of `wall`, the largest first, and what is not among them.
    pub(crate) fn shares(&self, wall: f64) -> Vec<(&'static str, f64)> {
        let mut shares = vec![
            ("read", self.read / wall),
            ("hash", self.hash / wall),
            ("compress", self.compress / wall),
            ("encrypt", self.encrypt / wall),
            ("write", self.write / wall),
        ];
        shares.sort_by(|one, two| two.1.total_cmp(&one.1));
        shares.push(("all else", (1.0 - self.seconds() / wall).max(0.0)));
        shares
    }
}

impl Speeds {
    /// Measures on files of `source`, cut into pieces of `chunk` bytes. Writes below `scratch`.
    /// `None` if there is no content.
    pub(crate) fn measure(source: &Path, chunk: usize, scratch: &Path) -> Result<Option<Self>> {
        let places = sample(&Listing::of(source)?);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let parts: Vec<Vec<&Place>> = (0..threads)
            .map(|n| places.iter().skip(n).step_by(threads).collect())
            .collect();
        let (read, ()) = best(|| ended(timed(&parts, |_, places| read_all(places))))?;
        let (_, content) = timed(&parts, |_, places| contents(places))?;
        let bytes: usize = content.iter().flatten().map(Vec::len).sum();
        if bytes == 0 {
            return Ok(None);
        }
        let (hash, ()) = best(|| ended(timed(&content, |_, files| hash_all(files, chunk))))?;
        let (compress, small) = best(|| timed(&content, |_, files| compress_all(files, chunk)))?;
        let (decompress, ()) =
            best(|| ended(timed(&small, |_, pieces| decompress_all(pieces, chunk))))?;
        let mut sealed = small;
        let stored: usize = sealed.iter().flatten().map(Vec::len).sum();
        let (encrypt, ()) = best(|| Ok((timed_mut(&mut sealed, seal_all)?, ())))?;
        let (packs, ()) =
            best(|| ended(timed(&sealed, |n, pieces| write_packs(scratch, n, pieces))))?;
        let (single, ()) =
            best(|| ended(timed(&content, |n, files| write_files(scratch, n, files))))?;
        let speed = |bytes: usize, seconds: f64| as_float(bytes) / seconds;
        Ok(Some(Self {
            read: speed(bytes, read),
            hash: speed(bytes, hash),
            compress: speed(bytes, compress),
            decompress: speed(bytes, decompress),
            encrypt: speed(stored, encrypt),
            write_packs: speed(stored, packs),
            write_files: speed(bytes, single),
            ratio: as_float(stored) / as_float(bytes),
        }))
    }
}

/// A part of a file, or all of it.
struct Place {
    path: PathBuf,
    offset: u64,
    len: u64,
}

/// Places all over the tree, up to [`SAMPLE`] bytes.
fn sample(listing: &Listing) -> Vec<Place> {
    let step = listing.len().div_ceil(FILES).max(1);
    let mut places = Vec::new();
    for (path, len) in listing.files().step_by(step) {
        let mut offset = 0;
        while offset < len {
            let len = PIECE.min(len - offset);
            let path = path.to_owned();
            places.push(Place { path, offset, len });
            offset += len;
        }
    }
    let total: u64 = places.iter().map(|place| place.len).sum();
    let keep = usize::try_from(total.div_ceil(SAMPLE)).unwrap_or(usize::MAX);
    places.into_iter().step_by(keep.max(1)).collect()
}

/// What is there.
fn contents(places: &[&Place]) -> Result<Vec<Vec<u8>>> {
    let read = |place: &&Place| {
        let file = File::open(&place.path)?;
        let mut content = vec![0; usize::try_from(place.len).unwrap_or(0)];
        file.read_exact_at(&mut content, place.offset)?;
        Ok(content)
    };
    let all: std::io::Result<Vec<Vec<u8>>> = places.iter().map(read).collect();
    all.context("cannot read what is measured")
}

fn pieces(files: &[Vec<u8>], chunk: usize) -> impl Iterator<Item = &[u8]> {
    files.iter().flat_map(move |file| file.chunks(chunk))
}

/// Reads every place into one buffer.
fn read_all(places: &[&Place]) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for place in places {
        let file = File::open(&place.path).context("cannot read what is measured")?;
        let (mut offset, end) = (place.offset, place.offset + place.len);
        while offset < end {
            let want =
                usize::try_from(end - offset).map_or(buffer.len(), |len| len.min(buffer.len()));
            file.read_exact_at(&mut buffer[..want], offset)
                .context("cannot read what is measured")?;
            offset += want as u64;
        }
    }
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "a step, as the others are")]
fn hash_all(files: &[Vec<u8>], chunk: usize) -> Result<()> {
    for piece in pieces(files, chunk) {
        black_box(Sha256::digest(piece));
    }
    Ok(())
}

fn compress_all(files: &[Vec<u8>], chunk: usize) -> Result<Vec<Vec<u8>>> {
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    let packed: std::io::Result<Vec<Vec<u8>>> = pieces(files, chunk)
        .map(|piece| compressor.compress(piece))
        .collect();
    Ok(packed?)
}

fn decompress_all(pieces: &[Vec<u8>], chunk: usize) -> Result<()> {
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    for piece in pieces {
        black_box(decompressor.decompress(piece, chunk)?);
    }
    Ok(())
}

fn seal_all(pieces: &mut [Vec<u8>]) {
    for piece in pieces {
        // Keys and nonce do not matter for speed.
        let mut cipher = ctr::Ctr128BE::<Aes256>::new(&[7; 32].into(), &[9; 16].into());
        cipher.apply_keystream(piece);
        black_box(Poly1305::new(&[5; 32].into()).compute_unpadded(piece));
    }
}

/// The shortest of three: what else the machine does only makes a step longer.
fn best<R>(mut step: impl FnMut() -> Result<(f64, R)>) -> Result<(f64, R)> {
    let mut best = step()?;
    for _ in 0..2 {
        let next = step()?;
        if next.0 < best.0 {
            best = next;
        }
    }
    Ok(best)
}

/// Only how long it took.
fn ended(step: Result<(f64, Vec<()>)>) -> Result<(f64, ())> {
    step.map(|(seconds, _)| (seconds, ()))
}

fn write_packs(scratch: &Path, part: usize, pieces: &[Vec<u8>]) -> Result<()> {
    let (mut file, mut room, mut number) = (None, 0, 0);
    for piece in pieces {
        if room < piece.len() {
            file = Some(File::create(scratch.join(format!("pack-{part}-{number}")))?);
            (room, number) = (PACK, number + 1);
        }
        if let Some(file) = file.as_mut() {
            file.write_all(piece)?;
        }
        room = room.saturating_sub(piece.len());
    }
    Ok(())
}

fn write_files(scratch: &Path, part: usize, files: &[Vec<u8>]) -> Result<()> {
    for (number, content) in files.iter().enumerate() {
        fs::write(scratch.join(format!("file-{part}-{number}")), content)?;
    }
    Ok(())
}

/// Does something with each part on a thread of its own; seconds until the last is done.
fn timed<T: Sync, R: Send>(
    parts: &[T],
    step: impl Fn(usize, &T) -> Result<R> + Sync,
) -> Result<(f64, Vec<R>)> {
    let start = Instant::now();
    let done = thread::scope(|scope| {
        let running: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(n, part)| {
                let step = &step;
                scope.spawn(move || step(n, part))
            })
            .collect();
        running
            .into_iter()
            .map(|one| match one.join() {
                Ok(result) => result,
                Err(_) => bail!("a measuring thread broke off"),
            })
            .collect::<Result<Vec<R>>>()
    })?;
    Ok((start.elapsed().as_secs_f64().max(1e-9), done))
}

fn timed_mut(parts: &mut [Vec<Vec<u8>>], step: impl Fn(&mut [Vec<u8>]) + Sync) -> Result<f64> {
    let start = Instant::now();
    let fine = thread::scope(|scope| {
        let running: Vec<_> = parts
            .iter_mut()
            .map(|part| scope.spawn(|| step(part)))
            .collect();
        running.into_iter().all(|one| one.join().is_ok())
    });
    if !fine {
        bail!("a measuring thread broke off");
    }
    Ok(start.elapsed().as_secs_f64().max(1e-9))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a speed needs no more than the 52 bits a float has"
)]
fn as_float(bytes: usize) -> f64 {
    bytes as f64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_comes_first_and_the_rest_last() {
        let bound = Bound {
            read: 1.0,
            hash: 2.0,
            compress: 4.0,
            encrypt: 0.5,
            write: 0.5,
        };
        assert_eq!(bound.seconds(), 8.0);
        let shares = bound.shares(10.0);
        assert_eq!(shares[0], ("compress", 0.4));
        assert_eq!(shares[1], ("hash", 0.2));
        let (name, rest) = shares[5];
        assert_eq!(name, "all else");
        assert!((rest - 0.2).abs() < 1e-9);
    }

    #[test]
    fn incompressible_data_is_not_compressed() {
        assert_eq!(Load::backup(100.0, 100.0, 1.0).compress, 0.0);
        assert_eq!(Load::backup(100.0, 50.0, 0.5).compress, 100.0);
        assert_eq!(Load::restore(100.0, 99.0).compress, 0.0);
    }

    #[test]
    fn speeds_are_found_on_real_files_and_none_without_content() {
        let dir = tempfile::tempdir().unwrap();
        let (source, scratch) = (dir.path().join("source"), dir.path().join("scratch"));
        fs::create_dir(&scratch).unwrap();
        fs::create_dir(&source).unwrap();
        fs::write(source.join("empty"), "").unwrap();
        assert!(Speeds::measure(&source, 65536, &scratch).unwrap().is_none());
        fs::write(source.join("text"), "some words ".repeat(50_000)).unwrap();
        let speeds = Speeds::measure(&source, 65536, &scratch).unwrap().unwrap();
        assert!(speeds.ratio < 0.1 && speeds.hash > 0.0 && speeds.write_files > 0.0);
    }
}
