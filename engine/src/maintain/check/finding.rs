//! What a check can find.

use std::{fmt, path::PathBuf};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It loses nothing.
    Oddity,
    /// Something cannot be read any more, or cannot be relied on.
    Damage,
}

impl Severity {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oddity => "oddity",
            Self::Damage => "damage",
        }
    }
}

/// What a finding is about. Ids have 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Object {
    /// A key file.
    Key(String),
    /// A snapshot file.
    Snapshot(String),
    /// An index file.
    Index(String),
    /// A pack.
    Pack(String),
    /// Part of a file's content.
    Data(String),
    /// A directory.
    Tree(String),
}

impl Object {
    /// What kind of object, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Snapshot(_) => "snapshot",
            Self::Index(_) => "index",
            Self::Pack(_) => "pack",
            Self::Data(_) => "data",
            Self::Tree(_) => "tree",
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Key(id)
            | Self::Snapshot(id)
            | Self::Index(id)
            | Self::Pack(id)
            | Self::Data(id)
            | Self::Tree(id) => id,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.id())
    }
}

/// What is wrong. Texts name no content but names of files, escaped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// A key, snapshot or index file, or a directory, cannot be read as one.
    Unreadable {
        /// Why.
        message: String,
    },
    /// A pack that an index names is not there.
    PackMissing,
    /// A pack has another size than its blobs and their list by the index. Both in bytes.
    PackSize {
        /// By the index.
        expected: u64,
        /// Really.
        found: u64,
    },
    /// A pack could not be read to its end.
    PackUnreadable {
        /// Why.
        message: String,
    },
    /// The SHA-256 of a pack is not its name.
    PackContent,
    /// The list of blobs in a pack cannot be read.
    PackHeader {
        /// Why.
        message: String,
    },
    /// The list of blobs in a pack is not what the index says.
    IndexDiffers {
        /// Blobs in the pack that the index does not know there.
        unknown: u64,
        /// Blobs that the index says are there and are not.
        absent: u64,
    },
    /// A blob in a pack is not authentic, does not decompress to its length, or is not what its id
    /// says.
    BlobContent {
        /// The pack.
        pack: String,
        /// What is wrong.
        message: String,
    },
    /// A blob that is needed is in no index.
    BlobMissing,
    /// An entry of a directory makes no sense.
    Node {
        /// Its name, escaped; empty if it has none.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file's size is not that of its content. Happens when it changed while it was backed up.
    FileSize {
        /// Its name, escaped.
        name: String,
        /// What the directory says.
        stated: u64,
        /// Bytes of its content.
        content: u64,
    },
    /// The entries of a directory are not in order.
    Unordered,
    /// A pack that no index names. What an interrupted backup or prune leaves.
    PackUnreferenced {
        /// Its size.
        bytes: u64,
    },
    /// A pack holds files' content and directories, as old versions of restic wrote them.
    PackMixed,
}

impl Problem {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unreadable { .. }
            | Self::PackMissing
            | Self::PackSize { .. }
            | Self::PackUnreadable { .. }
            | Self::PackContent
            | Self::PackHeader { .. }
            | Self::IndexDiffers { .. }
            | Self::BlobContent { .. }
            | Self::BlobMissing
            | Self::Node { .. } => Severity::Damage,
            Self::FileSize { .. }
            | Self::Unordered
            | Self::PackUnreferenced { .. }
            | Self::PackMixed => Severity::Oddity,
        }
    }

    /// Its name, for programs; never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::PackMissing => "pack_missing",
            Self::PackSize { .. } => "pack_size",
            Self::PackUnreadable { .. } => "pack_unreadable",
            Self::PackContent => "pack_content",
            Self::PackHeader { .. } => "pack_header",
            Self::IndexDiffers { .. } => "index_differs",
            Self::BlobContent { .. } => "blob_content",
            Self::BlobMissing => "blob_missing",
            Self::Node { .. } => "node",
            Self::FileSize { .. } => "file_size",
            Self::Unordered => "unordered",
            Self::PackUnreferenced { .. } => "pack_unreferenced",
            Self::PackMixed => "pack_mixed",
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "bring the file back from a copy of the repository; else remove it, rebuild the index and repair the snapshots (restic repair index, restic repair snapshots)"
            }
            Self::PackMissing | Self::PackSize { .. } | Self::PackUnreadable { .. } => {
                "bring the pack back from a copy of the repository; else rebuild the index, back up again, which stores what still exists, and repair the snapshots"
            }
            Self::PackContent | Self::BlobContent { .. } => {
                "check the storage for faults; bring the pack back from a copy of the repository, or save what is good in it (restic repair packs), back up again and repair the snapshots"
            }
            Self::PackHeader { .. } => {
                "check the storage for faults; bring the pack back from a copy of the repository, or save what is good in it (restic repair packs)"
            }
            Self::IndexDiffers { .. } => "rebuild the index (restic repair index)",
            Self::BlobMissing => {
                "rebuild the index, in case a pack has it; else back up again, which stores what still exists, and repair the snapshots"
            }
            Self::Node { .. } => "repair the snapshots, or forget those affected",
            Self::FileSize { .. } => "nothing; the file changed while it was backed up",
            Self::Unordered => "nothing; another program wrote it so",
            Self::PackUnreferenced { .. } => "a prune removes it",
            Self::PackMixed => "nothing; a prune may divide it",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { message } | Self::PackUnreadable { message } => {
                write!(f, "it cannot be read: {message}")
            }
            Self::PackMissing => f.write_str("the index names it, and it is not there"),
            Self::PackSize { expected, found } => write!(
                f,
                "it has {found} bytes, {expected} by what the index says of it"
            ),
            Self::PackContent => f.write_str("its content is not that of its name"),
            Self::PackHeader { message } => {
                write!(f, "its list of blobs cannot be read: {message}")
            }
            Self::IndexDiffers { unknown, absent } => write!(
                f,
                "the index does not know {unknown} of its blobs, and {absent} are not where it says"
            ),
            Self::BlobContent { pack, message } => write!(f, "in pack {pack}: {message}"),
            Self::BlobMissing => f.write_str("it is needed, and in no index"),
            Self::Node { name, message } if name.is_empty() => {
                write!(f, "one of its entries: {message}")
            }
            Self::Node { name, message } => write!(f, "its entry {name:?}: {message}"),
            Self::FileSize {
                name,
                stated,
                content,
            } => write!(
                f,
                "its file {name:?} has {content} bytes, and is said to have {stated}"
            ),
            Self::Unordered => f.write_str("its entries are not in order"),
            Self::PackUnreferenced { bytes } => write!(f, "no index names its {bytes} bytes"),
            Self::PackMixed => f.write_str("it holds files' content and directories"),
        }
    }
}

/// Where in a snapshot damage shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AffectedPath {
    /// Id of the snapshot.
    pub snapshot: String,
    /// An absolute path in it: a file, or a directory.
    pub path: PathBuf,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub object: Object,
    /// What is wrong.
    pub problem: Problem,
    /// Ids of the snapshots that need what is damaged, oldest first; empty for oddities, and when
    /// nobody needs it.
    pub snapshots: Vec<String>,
    /// One of the paths, where it was found out.
    pub path: Option<AffectedPath>,
}

impl Finding {
    pub(super) fn new(object: Object, problem: Problem) -> Self {
        Self {
            object,
            problem,
            snapshots: Vec::new(),
            path: None,
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.problem.severity()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}
