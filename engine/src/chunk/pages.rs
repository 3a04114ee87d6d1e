//! Database files known by the format of their pages.
//!
//! Such files are written in place, page by page; a segment of a log is, from its start, whenever
//! it is used again. Does: look at the first bytes of a file. Does not: trust a name or an
//! extension. A file that only looks like one is cut differently, nothing worse.

/// What kind of database wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PageFormat {
    /// A PostgreSQL relation.
    PostgreSql,
    /// A segment of PostgreSQL's write-ahead log.
    PostgreSqlWal,
    /// An InnoDB tablespace.
    InnoDb,
    /// An SQLite database.
    Sqlite,
    /// A bbolt database, as etcd has.
    Bbolt,
}

/// How much of a file's start [`recognise`] wants to see.
pub(crate) const HEAD: usize = 128 << 10;

/// The format of a file that starts with `head` ([`HEAD`] bytes, or all there is).
pub(crate) fn recognise(head: &[u8]) -> Option<PageFormat> {
    if sqlite(head) {
        Some(PageFormat::Sqlite)
    } else if bbolt(head) {
        Some(PageFormat::Bbolt)
    } else if innodb(head) {
        Some(PageFormat::InnoDb)
    } else if postgresql(head) {
        Some(PageFormat::PostgreSql)
    } else if postgresql_wal(head) {
        Some(PageFormat::PostgreSqlWal)
    } else {
        None
    }
}

fn u16_le(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

fn u16_be(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

fn u64_le(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

fn u32_le(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

fn u32_be(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

fn sqlite(head: &[u8]) -> bool {
    let size = u16_be(head, 16);
    head.starts_with(b"SQLite format 3\0")
        && size.is_some_and(|size| size == 1 || (size >= 512 && size.is_power_of_two()))
        && head
            .get(18..20)
            .is_some_and(|v| v.iter().all(|v| matches!(v, 1 | 2)))
}

fn bbolt(head: &[u8]) -> bool {
    const META: u16 = 4;
    const MAGIC: u32 = 0xED0C_DAED;
    head.starts_with(&[0; 8])
        && u16_le(head, 8) == Some(META)
        && u32_le(head, 16) == Some(MAGIC)
        && u32_le(head, 20) == Some(2)
        && u32_le(head, 24).is_some_and(|size| size >= 512 && size.is_power_of_two())
}

fn innodb(head: &[u8]) -> bool {
    const FIRST_PAGE: u16 = 8;
    const CHANGE_BITMAP: u16 = 5;
    let first = u32_be(head, 4) == Some(0)
        && u16_be(head, 24) == Some(FIRST_PAGE)
        && u32_be(head, 34).is_some()
        && u32_be(head, 34) == u32_be(head, 38);
    first
        && [4, 8, 16, 32, 64].into_iter().any(|kib| {
            let page = kib << 10;
            u32_be(head, page + 4) == Some(1)
                && u16_be(head, page + 24) == Some(CHANGE_BITMAP)
                && u32_be(head, page + 34) == u32_be(head, 34)
        })
}

fn postgresql(head: &[u8]) -> bool {
    [8_usize, 4, 16, 32].into_iter().any(|kib| {
        let mut valid = 0;
        let mut pages = head.chunks_exact(kib << 10).take(8).peekable();
        pages.peek().is_some()
            && pages.all(|page| {
                // A relation is extended by pages of zeros before they are used.
                let good = postgresql_page(page);
                valid += usize::from(good);
                good || page.iter().all(|byte| *byte == 0)
            })
            && valid > 0
    })
}

fn postgresql_page(page: &[u8]) -> bool {
    const HEADER: usize = 24;
    const VERSIONS: std::ops::RangeInclusive<u16> = 1..=4;
    const KNOWN_FLAGS: u16 = 7;
    let field = |at| u16_le(page, at).map_or(0, usize::from);
    let (lower, upper, special) = (field(12), field(14), field(16));
    let version = u16_le(page, 18).unwrap_or(0);
    usize::from(version & 0xff00) == page.len()
        && VERSIONS.contains(&(version & 0x00ff))
        && u16_le(page, 10).is_some_and(|flags| flags & !KNOWN_FLAGS == 0)
        && HEADER <= lower
        && lower <= upper
        && upper <= special
        && special <= page.len()
}

/// The long header of a segment's first page, as PostgreSQL's `access/xlog_internal.h` has it since
/// version 9.3.
fn postgresql_wal(head: &[u8]) -> bool {
    const MAGIC: std::ops::RangeInclusive<u16> = 0xD070..=0xD1FF;
    const LONG_HEADER: u16 = 2;
    const KNOWN_FLAGS: u16 = 15;
    let power = |at, range: std::ops::RangeInclusive<u32>| {
        u32_le(head, at).is_some_and(|size| size.is_power_of_two() && range.contains(&size))
    };
    u16_le(head, 0).is_some_and(|magic| MAGIC.contains(&magic))
        && u16_le(head, 2)
            .is_some_and(|flags| flags & LONG_HEADER != 0 && flags & !KNOWN_FLAGS == 0)
        && u32_le(head, 4).is_some_and(|timeline| timeline != 0)
        && power(32, 1 << 20..=1 << 30)
        && power(36, 1 << 10..=64 << 10)
        && u64_le(head, 8)
            .zip(u32_le(head, 32))
            .is_some_and(|(place, segment)| place % u64::from(segment) == 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A valid page: header, the rest as given.
    pub(crate) fn postgresql_sample(fill: u8) -> Vec<u8> {
        let mut page = vec![fill; 8192];
        page[..8].copy_from_slice(&0x0000_0001_1234_5678_u64.to_le_bytes());
        page[8..10].fill(0);
        for (at, value) in [(10, 0_u16), (12, 100), (14, 4000), (16, 8192), (18, 0x2004)] {
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        page[20..24].fill(0);
        page
    }

    fn innodb_sample() -> Vec<u8> {
        let mut data = vec![0; 48 << 10];
        for (number, kind) in [(0_u32, 8_u16), (1, 5), (2, 3)] {
            let page = &mut data[number as usize * (16 << 10)..][..16 << 10];
            page[4..8].copy_from_slice(&number.to_be_bytes());
            page[24..26].copy_from_slice(&kind.to_be_bytes());
            page[34..38].copy_from_slice(&77_u32.to_be_bytes());
            page[38..42].copy_from_slice(&77_u32.to_be_bytes());
        }
        data
    }

    #[test]
    fn formats_are_recognised() {
        let mut relation = postgresql_sample(3).repeat(3);
        assert_eq!(recognise(&relation), Some(PageFormat::PostgreSql));
        relation[..8192].fill(0);
        assert_eq!(recognise(&relation), Some(PageFormat::PostgreSql));
        relation[8192 + 10] = 0xff;
        assert_eq!(recognise(&relation), None);

        let mut tablespace = innodb_sample();
        assert_eq!(recognise(&tablespace), Some(PageFormat::InnoDb));
        tablespace[(16 << 10) + 37] = 1;
        assert_eq!(recognise(&tablespace), None);

        let mut sqlite = b"SQLite format 3\0\x10\x00\x01\x01".to_vec();
        assert_eq!(recognise(&sqlite), Some(PageFormat::Sqlite));
        sqlite[17] = 3;
        assert_eq!(recognise(&sqlite), None);

        let mut bbolt = vec![0; 4096];
        bbolt[8] = 4;
        bbolt[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
        bbolt[20] = 2;
        bbolt[24..28].copy_from_slice(&4096_u32.to_le_bytes());
        assert_eq!(recognise(&bbolt), Some(PageFormat::Bbolt));
    }

    /// The first page of a segment of the log.
    pub(crate) fn postgresql_wal_sample() -> Vec<u8> {
        let mut log = vec![0; 8192];
        log[..4].copy_from_slice(&[0x10, 0xd1, 7, 0]);
        log[4] = 1;
        log[8..16].copy_from_slice(&0x7600_0000_u64.to_le_bytes());
        log[16..20].copy_from_slice(&0x0c17_u32.to_le_bytes());
        log[24..32].fill(0x6b);
        log[32..36].copy_from_slice(&0x0100_0000_u32.to_le_bytes());
        log[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        log
    }

    #[test]
    fn segments_of_a_log_are_recognised() {
        let log = postgresql_wal_sample();
        assert_eq!(recognise(&log), Some(PageFormat::PostgreSqlWal));
        // Another magic, a page further on, no timeline, a place within a segment, impossible
        // sizes.
        for (at, byte) in [
            (1, 0xd2),
            (2, 5),
            (2, 0x17),
            (4, 0),
            (9, 1),
            (33, 1),
            (37, 0),
        ] {
            let mut other = log.clone();
            other[at] = byte;
            assert_eq!(recognise(&other), None, "{at}");
        }
        assert_eq!(recognise(&log[..39]), None);
    }

    #[test]
    fn other_files_are_not() {
        for head in [
            &b""[..],
            b"SQLite format 3",
            &vec![0; 200_000],
            &vec![0xff; 200_000],
            b"#!/bin/sh\n",
        ] {
            assert_eq!(recognise(head), None);
        }
    }
}
