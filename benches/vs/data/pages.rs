//! A PostgreSQL relation: pages of 8 KiB with header, line pointers and tuples as the server lays
//! them out.
//!
//! Every second page holds four rows that do not compress, as a TOAST table does; the others hold
//! rows of text. `Dense` pages have no free space worth speaking of, `Padded` ones 1 to 2 KiB of
//! zeros between line pointers and tuples. Page `n` of a seed is the same whatever else is written.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, thread};

use anyhow::{Context as _, Result, ensure};

use super::{random::Random, text};

/// Bytes of a page.
pub(crate) const PAGE: usize = 8192;
const HEADER: usize = 24;
const POINTER: usize = 4;
const TUPLE_HEADER: usize = 24;
/// Layout version 4, in the low byte beside the page size.
const SIZE_AND_VERSION: u16 = 0x2000 | 4;
const WIDE_ROWS: usize = 4;
/// Pages written at once.
const BATCH: usize = 128;

/// How full pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// To the last row that fits.
    Dense,
    /// With 1 to 2 KiB left free.
    Padded,
}

/// Writes a relation of `pages` pages, with all processors.
pub(crate) fn write(path: &Path, pages: u64, seed: u64, fill: Fill) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let relation = File::create(path).with_context(failed)?;
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = pages.div_ceil(threads).max(1);
    let part = |first: u64| -> std::io::Result<()> {
        let mut buffer = vec![0; BATCH * PAGE];
        let end = (first + share).min(pages);
        let mut number = first;
        while number < end {
            let count = (end - number).min(BATCH as u64);
            let mut used = 0;
            for (page, number) in buffer.chunks_exact_mut(PAGE).zip(number..number + count) {
                fill_page(page, seed, number, fill);
                used += PAGE;
            }
            relation.write_all_at(&buffer[..used], number * PAGE as u64)?;
            number += count;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let parts: Vec<_> = (0..pages.div_ceil(share))
            .map(|index| scope.spawn(move || part(index * share)))
            .collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(result) => result.with_context(failed),
            Err(_) => anyhow::bail!("a thread that wrote {} broke off", path.display()),
        })
    })
}

/// Replaces exactly `count` different pages, chosen at random, with others. Returns which, in
/// order.
pub(crate) fn change(path: &Path, count: u64, seed: u64, fill: Fill) -> Result<Vec<u64>> {
    let failed = || format!("cannot change {}", path.display());
    let relation = File::options()
        .write(true)
        .open(path)
        .with_context(failed)?;
    let pages = relation.metadata().with_context(failed)?.len() / PAGE as u64;
    let chosen = choose(pages, count, seed)?;
    let mut page = vec![0; PAGE];
    for &number in &chosen {
        fill_page(&mut page, seed, number, fill);
        relation
            .write_all_at(&page, number * PAGE as u64)
            .with_context(failed)?;
    }
    Ok(chosen)
}

fn choose(pages: u64, count: u64, seed: u64) -> Result<Vec<u64>> {
    ensure!(count <= pages, "{count} of {pages} pages cannot be changed");
    let mut random = Random::new(seed, u64::MAX);
    let mut chosen = std::collections::BTreeSet::new();
    while (chosen.len() as u64) < count {
        chosen.insert(random.below(pages));
    }
    Ok(chosen.into_iter().collect())
}

/// Makes one page.
pub(crate) fn fill_page(page: &mut [u8], seed: u64, number: u64, fill: Fill) {
    page.fill(0);
    let mut random = Random::new(seed, number);
    let free = match fill {
        Fill::Dense => 0,
        Fill::Padded => 1024 + random.index(1024),
    };
    let mut layout = Layout {
        page,
        lower: HEADER,
        upper: PAGE,
        number,
    };
    if number.is_multiple_of(2) {
        let room = (PAGE - HEADER - free) / WIDE_ROWS - POINTER - TUPLE_HEADER;
        for _ in 0..WIDE_ROWS {
            let Some(row) = layout.tuple(&mut random, room & !7, free) else {
                break;
            };
            random.fill(row);
        }
    } else {
        let (mut line, mut id) = (String::new(), number * 64);
        loop {
            text::row(&mut random, id, &mut line);
            let len = line.len().min(layout.room(free));
            let Some(row) = layout.tuple(&mut random, len, free).filter(|_| len > 0) else {
                break;
            };
            row.copy_from_slice(&line.as_bytes()[..len]);
            id += 1;
        }
    }
    layout.header(&mut random);
}

/// A page while it is filled: pointers grow from the front, tuples from the end.
struct Layout<'a> {
    page: &'a mut [u8],
    lower: usize,
    upper: usize,
    number: u64,
}

impl Layout<'_> {
    fn u16(&mut self, at: usize, value: usize) {
        // Everything put here is an offset within a page, or made of 16 bits.
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        self.page[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// The longest row for which there is room if `free` bytes are left then. The last row of a
    /// page is cut to it: runs of zeros would all be cut at, and dense pages are to have none.
    fn room(&self, free: usize) -> usize {
        let end = (self.upper - self.lower).saturating_sub(free + POINTER) & !7;
        end.saturating_sub(TUPLE_HEADER)
    }

    /// Room for a row of `len` bytes if `free` bytes are left then; header and line pointer are
    /// written.
    fn tuple(&mut self, random: &mut Random, len: usize, free: usize) -> Option<&mut [u8]> {
        const NORMAL: u32 = 1;
        let whole = TUPLE_HEADER + len;
        let aligned = whole.next_multiple_of(8);
        if self.lower + POINTER + aligned + free > self.upper {
            return None;
        }
        self.upper -= aligned;
        let (upper, lower) = (self.upper, self.lower);
        self.lower += POINTER;
        let pointer = u32::try_from(upper | (whole << 17)).unwrap_or(0) | (NORMAL << 15);
        self.page[lower..lower + POINTER].copy_from_slice(&pointer.to_le_bytes());
        // The transaction that made the row; none that removed it.
        let made = 700 + u32::try_from(random.below(100_000)).unwrap_or(0);
        self.page[upper..upper + 4].copy_from_slice(&made.to_le_bytes());
        let (block, row) = (self.number, (lower - HEADER) / POINTER + 1);
        self.u16(upper + 12, usize::try_from(block >> 16).unwrap_or(0));
        self.u16(upper + 14, usize::try_from(block & 0xffff).unwrap_or(0));
        self.u16(upper + 16, row);
        // Columns; visible to everyone, the row's maker having committed; where the columns start.
        self.u16(upper + 18, 5);
        self.u16(upper + 20, 0x0902);
        self.page[upper + 22] = 24;
        Some(&mut self.page[upper + TUPLE_HEADER..upper + whole])
    }

    /// The page's header. No checksum, as clusters are made without by default.
    fn header(&mut self, random: &mut Random) {
        let position = (1_u64 << 32) + random.below(1 << 31);
        let (high, low) = (position >> 32, position & 0xffff_ffff);
        for (at, half) in [(0, high), (4, low)] {
            let half = u32::try_from(half).unwrap_or(0);
            self.page[at..at + 4].copy_from_slice(&half.to_le_bytes());
        }
        let (lower, upper) = (self.lower, self.upper);
        self.u16(12, lower);
        self.u16(14, upper);
        self.u16(16, PAGE);
        self.u16(18, usize::from(SIZE_AND_VERSION));
    }
}

/// The engine's own recogniser, as it is in its source: what it takes for a database file decides
/// how the file is cut.
#[cfg(test)]
#[allow(unreachable_pub, reason = "it is public there")]
#[path = "../../../engine/src/chunk/pages.rs"]
mod engine;

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(pages: u64, fill: Fill) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("16384");
        write(&path, pages, 1, fill).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_engine_takes_them_for_postgresql() {
        for fill in [Fill::Dense, Fill::Padded] {
            let relation = relation(64, fill);
            let format = engine::recognise(&relation[..engine::HEAD]);
            assert_eq!(format, Some(engine::PageFormat::PostgreSql), "{fill:?}");
        }
    }

    #[test]
    fn every_page_is_laid_out_as_its_header_says() {
        for (fill, free) in [(Fill::Dense, 0..40), (Fill::Padded, 1024..2100)] {
            for page in relation(300, fill).chunks_exact(PAGE) {
                let field = |at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
                let (lower, upper) = (field(12), field(14));
                assert!(
                    free.contains(&(upper - lower)),
                    "{fill:?} {}",
                    upper - lower
                );
                assert!(page[lower..upper].iter().all(|byte| *byte == 0));
                assert_eq!((lower - HEADER) % POINTER, 0);
                let mut end = PAGE;
                for at in (HEADER..lower).step_by(POINTER) {
                    let pointer = u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
                    let (offset, len) = (pointer as usize & 0x7fff, (pointer >> 17) as usize);
                    assert_eq!((pointer >> 15) & 3, 1, "in use");
                    assert_eq!(offset, end - len.next_multiple_of(8), "tuples fill the end");
                    end = offset;
                }
                assert_eq!(end, upper);
            }
        }
    }

    #[test]
    fn the_same_seed_writes_the_same_file() {
        let first = relation(50, Fill::Dense);
        assert_eq!(first, relation(50, Fill::Dense));
        assert_eq!(first[..20 * PAGE], relation(20, Fill::Dense)[..]);
        assert_ne!(first, relation(50, Fill::Padded));
    }

    #[test]
    fn exactly_as_many_pages_change_as_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("16384");
        write(&path, 1000, 1, Fill::Dense).unwrap();
        let before = std::fs::read(&path).unwrap();
        let chosen = change(&path, 10, 2, Fill::Dense).unwrap();
        let after = std::fs::read(&path).unwrap();
        let pairs = before.chunks_exact(PAGE).zip(after.chunks_exact(PAGE));
        let differing: Vec<u64> = (0..)
            .zip(pairs)
            .filter(|(_, (one, two))| one != two)
            .map(|(number, _)| number)
            .collect();
        assert_eq!(differing, chosen);
        assert_eq!(differing.len(), 10);
        assert_eq!(before.len(), after.len());
        change(&path, 1001, 2, Fill::Dense).unwrap_err();
    }

    #[test]
    fn pages_compress_as_databases_do() {
        let relation = relation(400, Fill::Dense);
        let small = zstd::bulk::compress(&relation, 1).unwrap().len();
        let percent = small * 100 / relation.len();
        assert!((65..85).contains(&percent), "{percent} %");
    }
}
