//! How one file is cut, and why.
//!
//! Rabin cuts by default, the same as restic's. Fixed chunks for files that databases change in
//! place. A decision is kept from one snapshot to the next, whatever the file looks like later: a
//! file that is cut in another way is stored anew.

use super::{
    fixed,
    pages::{self, PageFormat},
    rabin,
};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Chunking {
    /// By what the file is, and how it was cut before.
    #[default]
    Auto,
    /// Chunks of one size for every file.
    Fixed,
    /// Content-defined chunks for every file.
    Rabin,
}

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cuts {
    /// By content.
    Rabin,
    /// At multiples of a size in bytes.
    Fixed(u64),
}

/// Why a file is cut as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing speaks for anything else.
    Default,
    /// The user said so.
    Asked,
    /// It was cut so in the parent.
    Parent,
    /// It is a database's.
    Pages(PageFormat),
}

impl Reason {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Asked => "asked",
            Self::Parent => "parent",
            Self::Pages(PageFormat::PostgreSql) => "postgresql-pages",
            Self::Pages(PageFormat::PostgreSqlWal) => "postgresql-wal",
            Self::Pages(PageFormat::InnoDb) => "innodb-pages",
            Self::Pages(PageFormat::Sqlite) => "sqlite-pages",
            Self::Pages(PageFormat::Bbolt) => "bbolt-pages",
        }
    }
}

/// What is known of a file before it is read.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// Its size now.
    pub(crate) size: u64,
    /// Its first [`pages::HEAD`] bytes.
    pub(crate) head: &'a [u8],
    /// Bytes of the large files of its directory together. Asked for only where it counts: it takes
    /// a look at each.
    pub(crate) directory_bytes: &'a dyn Fn() -> u64,
    /// What its blobs in a parent of ours say.
    pub(crate) parent: Option<ParentCuts>,
}

/// How a file was cut in the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentCuts {
    /// Chunks of this size.
    Fixed(u64),
    /// Chunks of several sizes.
    Rabin,
}

/// Files up to this size are one blob, however they are cut.
pub(crate) const SMALL: u64 = rabin::MIN;

impl ParentCuts {
    /// From the lengths of a file's blobs. `None` if there are too few to tell.
    pub(crate) fn of(lengths: impl Iterator<Item = u64> + Clone) -> Option<Self> {
        let few = lengths.clone().nth(1).is_none();
        match fixed::size_of_blobs(lengths) {
            Some(size) => Some(Self::Fixed(size)),
            None if few => None,
            None => Some(Self::Rabin),
        }
    }
}

/// Decides.
pub(crate) fn decide(asked: Chunking, facts: Facts<'_>) -> (Cuts, Reason) {
    let size = || {
        let directory_bytes = (facts.directory_bytes)();
        match facts.parent {
            // Grown far beyond what its chunks are made for: a larger size, once.
            Some(ParentCuts::Fixed(size))
                if directory_bytes / size <= 2 * fixed::MAX_IDS_PER_DIRECTORY =>
            {
                size
            }
            _ => fixed::chunk_size(directory_bytes.max(facts.size)),
        }
    };
    match (asked, facts.parent) {
        (Chunking::Rabin, _) => (Cuts::Rabin, Reason::Asked),
        (Chunking::Fixed, _) => (Cuts::Fixed(size()), Reason::Asked),
        (Chunking::Auto, _) if facts.size <= SMALL => (Cuts::Rabin, Reason::Default),
        (Chunking::Auto, Some(ParentCuts::Fixed(_))) => (Cuts::Fixed(size()), Reason::Parent),
        (Chunking::Auto, Some(ParentCuts::Rabin)) => (Cuts::Rabin, Reason::Parent),
        (Chunking::Auto, None) => match pages::recognise(facts.head) {
            // Written once, from the start on: nothing is gained by small chunks.
            Some(format @ PageFormat::PostgreSqlWal) => (
                Cuts::Fixed(size().max(fixed::LOG_CHUNK)),
                Reason::Pages(format),
            ),
            Some(format) => (Cuts::Fixed(size()), Reason::Pages(format)),
            None => (Cuts::Rabin, Reason::Default),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::pages::tests::{postgresql_sample, postgresql_wal_sample};

    fn facts(head: &[u8]) -> Facts<'_> {
        Facts {
            size: 1 << 30,
            head,
            directory_bytes: &|| 1 << 30,
            parent: None,
        }
    }

    #[test]
    fn format_decides_first_and_the_parent_from_then_on() {
        let page = postgresql_sample(1).repeat(2);
        let found = decide(Chunking::Auto, facts(&page));
        assert_eq!(
            found,
            (Cuts::Fixed(65536), Reason::Pages(PageFormat::PostgreSql))
        );
        let log = postgresql_wal_sample();
        let found = decide(Chunking::Auto, facts(&log));
        assert_eq!(
            found,
            (
                Cuts::Fixed(1 << 20),
                Reason::Pages(PageFormat::PostgreSqlWal)
            )
        );
        let zeroed = [0; 8192];
        let later = Facts {
            parent: Some(ParentCuts::Fixed(65536)),
            directory_bytes: &|| 40 << 30,
            ..facts(&zeroed)
        };
        assert_eq!(
            decide(Chunking::Auto, later),
            (Cuts::Fixed(65536), Reason::Parent)
        );
        let rabin = Facts {
            parent: Some(ParentCuts::Rabin),
            ..facts(&page)
        };
        assert_eq!(decide(Chunking::Auto, rabin), (Cuts::Rabin, Reason::Parent));
        assert_eq!(
            decide(Chunking::Auto, facts(b"text")),
            (Cuts::Rabin, Reason::Default)
        );
    }

    #[test]
    fn words_of_the_user_win() {
        let page = postgresql_sample(1);
        assert_eq!(
            decide(Chunking::Rabin, facts(&page)),
            (Cuts::Rabin, Reason::Asked)
        );
        assert_eq!(
            decide(Chunking::Fixed, facts(b"x")),
            (Cuts::Fixed(65536), Reason::Asked)
        );
    }

    #[test]
    fn a_directory_that_outgrew_its_chunks_gets_larger_ones() {
        let facts = Facts {
            parent: Some(ParentCuts::Fixed(65536)),
            directory_bytes: &|| 1 << 40,
            ..facts(b"")
        };
        assert_eq!(decide(Chunking::Auto, facts).0, Cuts::Fixed(2 << 20));
    }

    #[test]
    fn parents_are_read_from_their_blobs() {
        let of = |lengths: &[u64]| ParentCuts::of(lengths.iter().copied());
        assert_eq!(of(&[65536, 65536, 7]), Some(ParentCuts::Fixed(65536)));
        assert_eq!(of(&[1_500_000, 700_000]), Some(ParentCuts::Rabin));
        assert_eq!(of(&[500]), None);
        assert_eq!(of(&[]), None);
    }
}
