//! Trees of files: many small ones, a million empty ones, and large ones that do not compress.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{random::Random, text};

const PER_FOLDER: u64 = 50;

/// Files of 1 to 64 KiB, fifty a folder: three of four are text, the others do not compress.
pub(crate) fn small(dir: &Path, count: u64, seed: u64) -> Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    for number in 0..count {
        let folder = dir.join(format!("{:04}", number / PER_FOLDER));
        if number % PER_FOLDER == 0 {
            make(&folder)?;
        }
        let mut random = Random::new(seed, number);
        let len = 1024 + random.index((63 << 10) + 1);
        let content = &mut buffer[..len];
        if number % 4 == 0 {
            random.fill(content);
        } else {
            text::fill(&mut random, content);
        }
        let path = folder.join(format!("file-{number:06}"));
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        total += len as u64;
    }
    Ok(total)
}

/// Files of up to 4 KiB, fifty a folder, as small ones are.
pub(crate) fn tiny(dir: &Path, count: u64, seed: u64) -> Result<()> {
    for number in 0..count {
        let path = tiny_path(dir, number);
        if number % PER_FOLDER == 0 {
            make(path.parent().unwrap_or(dir))?;
        }
        write_tiny(&path, &mut Random::new(seed, number))?;
    }
    Ok(())
}

/// Writes one in a hundred of them anew, chosen at random.
pub(crate) fn change_tiny(dir: &Path, count: u64, seed: u64) -> Result<()> {
    let mut random = Random::new(seed, u64::MAX);
    let range = usize::try_from(count).context("so many files there cannot be")?;
    for _ in 0..count.div_ceil(100) {
        let number = random.index(range) as u64;
        write_tiny(&tiny_path(dir, number), &mut Random::new(seed, number))?;
    }
    Ok(())
}

fn tiny_path(dir: &Path, number: u64) -> PathBuf {
    let folder = dir.join(format!("{:04}", number / PER_FOLDER));
    folder.join(format!("file-{number:06}"))
}

fn write_tiny(path: &Path, random: &mut Random) -> Result<()> {
    let mut buffer = [0; 4096];
    let len = 1 + random.index(buffer.len());
    text::fill(random, &mut buffer[..len]);
    fs::write(path, &buffer[..len]).with_context(|| format!("cannot write {}", path.display()))
}

/// Empty files, ten a folder, a hundred folders a folder.
pub(crate) fn empty(dir: &Path, count: u64) -> Result<()> {
    for folder in 0..count.div_ceil(10) {
        let path = dir
            .join(format!("{:04}", folder / 100))
            .join(format!("{folder:06}"));
        make(&path)?;
        for file in folder * 10..(folder * 10 + 10).min(count) {
            let path = path.join(format!("{file:07}"));
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
    }
    Ok(())
}

/// Files of up to 64 MiB that do not compress, as archives, pictures and films do not.
pub(crate) fn incompressible(dir: &Path, bytes: u64, seed: u64) -> Result<()> {
    const LARGEST: u64 = 64 << 20;
    make(dir)?;
    let mut buffer = vec![0; 1 << 20];
    for number in 0..bytes.div_ceil(LARGEST) {
        let path = dir.join(format!("archive-{number:03}"));
        let failed = || format!("cannot write {}", path.display());
        let mut file = File::create(&path).with_context(failed)?;
        let mut random = Random::new(seed, number);
        let mut left = LARGEST.min(bytes - number * LARGEST);
        while left > 0 {
            let piece = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            random.fill(&mut buffer[..piece]);
            file.write_all(&buffer[..piece]).with_context(failed)?;
            left -= piece as u64;
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Listing;
    use super::*;

    #[test]
    fn there_are_as_many_as_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let total = small(&dir.path().join("small"), 120, 1).unwrap();
        let listing = Listing::of(&dir.path().join("small")).unwrap();
        assert_eq!((listing.len(), listing.bytes()), (120, total));
        assert!(listing.sizes().all(|len| (1024..=65536).contains(&len)));

        let tiny_dir = dir.path().join("tiny");
        tiny(&tiny_dir, 120, 1).unwrap();
        let before: Vec<_> = (0..120)
            .map(|n| fs::read(tiny_path(&tiny_dir, n)).unwrap())
            .collect();
        change_tiny(&tiny_dir, 120, 2).unwrap();
        let changed = |n: &u64| {
            fs::read(tiny_path(&tiny_dir, *n)).unwrap() != before[usize::try_from(*n).unwrap()]
        };
        assert!((1..=2).contains(&(0..120).filter(changed).count()));
        assert_eq!(Listing::of(&tiny_dir).unwrap().len(), 120);

        empty(&dir.path().join("empty"), 1005).unwrap();
        let listing = Listing::of(&dir.path().join("empty")).unwrap();
        assert_eq!((listing.len(), listing.bytes()), (1005, 0));

        let bytes = (64 << 20) + 12_345;
        incompressible(&dir.path().join("large"), bytes, 1).unwrap();
        let listing = Listing::of(&dir.path().join("large")).unwrap();
        assert_eq!((listing.len(), listing.bytes()), (2, bytes));
    }
}
