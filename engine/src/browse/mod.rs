//! Looking into snapshots without restoring them: listing, finding, comparing, and reading a file,
//! a part of one, or a directory.
//!
//! Does: find a path, list what is below it in order of name, find entries in many snapshots, and
//! write a file's content, or a directory as an archive, somewhere, every blob compared with its
//! id. Does not: write into a file system. Names come from the repository: those that no file can
//! have are shown escaped and marked, and cannot be asked for.

mod diff;
mod dump;
pub(crate) mod early;
mod find;
#[cfg(test)]
mod hostile_tests;
mod list;
mod path;
mod range;
mod tar;

pub use diff::{Change, Compared, ComparedEach, DiffCounts, DiffReport, DiffRequest, diff};
pub use dump::dump;
pub use find::{FindNames, FindReport, FindRequest, FindWhat, Found, FoundIn, find};
pub use list::{Listed, list};
pub use range::dump_range;

/// Bytes of memory that a request takes unless it says otherwise.
pub const MEMORY: u64 = crate::ceiling::MEMORY;

use std::{fmt, path::PathBuf};

use jiff::Timestamp;

use crate::format::{time, tree::Node};

/// What an entry of a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A file with content.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A pipe with a name.
    Fifo,
    /// A socket.
    Socket,
    /// Something this engine does not know.
    Other,
}

impl EntryKind {
    /// The format's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::BlockDevice => "dev",
            Self::CharDevice => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Other => "irregular",
        }
    }

    pub(crate) fn of(word: &str) -> Self {
        let known = [
            Self::File,
            Self::Dir,
            Self::Symlink,
            Self::BlockDevice,
            Self::CharDevice,
            Self::Fifo,
            Self::Socket,
        ];
        let found = known.into_iter().find(|kind| kind.as_str() == word);
        found.unwrap_or(Self::Other)
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a snapshot says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryInfo {
    /// What it is.
    pub kind: EntryKind,
    /// Mode bits as Go's `os.FileMode` has them, which is how the format stores them.
    pub go_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Bytes of a file's content.
    pub size: u64,
    /// When its content last changed.
    pub modified: Option<Timestamp>,
    /// Its inode on the machine it was read from.
    pub inode: u64,
    /// Names it had there.
    pub links: u64,
    /// Where a symbolic link leads.
    pub link_target: Option<PathBuf>,
}

impl EntryInfo {
    fn of(node: &Node) -> Self {
        let kind = EntryKind::of(&node.kind);
        Self {
            kind,
            go_mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            size: if kind == EntryKind::File {
                node.size
            } else {
                0
            },
            modified: time::parse(&node.mtime),
            inode: node.inode,
            links: node.links,
            link_target: (kind == EntryKind::Symlink).then(|| PathBuf::from(&node.linktarget)),
        }
    }

    /// Mode bits as the system has them: permissions, set-user-id, set-group-id and sticky.
    pub fn mode(&self) -> u32 {
        let bit = |go: u32, unix: u32| if self.go_mode & go == 0 { 0 } else { unix };
        (self.go_mode & 0o777) | bit(1 << 23, 0o4000) | bit(1 << 22, 0o2000) | bit(1 << 20, 0o1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_kinds() {
        let node = Node {
            kind: "dir".to_owned(),
            mode: (1 << 31) | (1 << 20) | (1 << 22) | 0o755,
            size: 7,
            ..Node::default()
        };
        let info = EntryInfo::of(&node);
        assert_eq!(
            (info.kind, info.mode(), info.size),
            (EntryKind::Dir, 0o3755, 0)
        );
        assert_eq!(EntryKind::of("chardev"), EntryKind::CharDevice);
        assert_eq!(EntryKind::of("../x"), EntryKind::Other);
    }
}
