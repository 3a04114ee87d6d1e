//! Entries of the source as nodes.
//!
//! The next backup takes a file for unchanged if size, inode, mtime and ctime are the same. Of a
//! file that changed a moment ago that proves nothing: it can change again within the clock's
//! grain. Its stored ctime, which nothing restores, is made one that the next run does not find, so
//! that it is read again.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use jiff::{SignedDuration, Timestamp};

use super::Input;
use crate::{
    crypto::Id,
    files::meta::{self, Meta, go_mode},
    format::{
        node::{Kind, Node},
        text::Time,
    },
};

/// A file changed this recently may change again without its times showing it.
const MARGIN: SignedDuration = SignedDuration::from_secs(2);

fn time(at: Timestamp) -> Time {
    let nanos = at.subsec_nanosecond();
    let borrow = i32::from(nanos < 0);
    Time {
        seconds: at.as_second() - i64::from(borrow),
        nanos: u32::try_from(nanos + borrow * 1_000_000_000).unwrap_or_default(),
    }
}

fn kind(kind: meta::Kind) -> Kind {
    match kind {
        meta::Kind::File => Kind::File,
        meta::Kind::Dir => Kind::Dir,
        meta::Kind::Symlink => Kind::Symlink,
        meta::Kind::Block => Kind::Device,
        meta::Kind::Char => Kind::CharDevice,
        meta::Kind::Fifo => Kind::Fifo,
        meta::Kind::Socket => Kind::Socket,
    }
}

/// A node without content. `device_id` is 0 unless the entry has several links.
pub(super) fn node(
    name: &OsStr,
    meta: &Meta,
    attributes: Vec<(String, Vec<u8>)>,
    device_id: u64,
) -> Node {
    let mtime = time(meta.mtime);
    let is_file = meta.kind == meta::Kind::File;
    let is_dir = meta.kind == meta::Kind::Dir;
    Node {
        name: name.as_bytes().to_vec(),
        kind: kind(meta.kind),
        mode: go_mode(meta.kind, meta.mode),
        mtime,
        // The time of access is not kept; restoring must set some time.
        atime: mtime,
        ctime: time(meta.ctime),
        uid: meta.uid,
        gid: meta.gid,
        user: String::new(),
        group: String::new(),
        inode: meta.inode,
        device_id,
        size: if is_file { meta.size } else { 0 },
        links: if is_dir { 0 } else { meta.links },
        link_target: Vec::new(),
        xattrs: attributes
            .into_iter()
            .map(|(name, value)| (name, Some(value)))
            .collect(),
        device: meta.special,
        content: is_file.then(Vec::new),
        subtree: None,
        error: String::new(),
    }
}

/// Whether a file described at `now` or later changed so shortly before that its times prove
/// nothing.
pub(super) fn is_recent(meta: &Meta, now: Timestamp) -> bool {
    let changed = meta.mtime.max(meta.ctime);
    now.checked_sub(MARGIN).is_ok_and(|limit| changed > limit)
}

impl Input<'_> {
    /// The ctime to store for a file described at `now`.
    pub(super) fn stored_ctime(&self, meta: &Meta, now: Timestamp) -> Timestamp {
        if is_recent(meta, now) || self.distrusts(meta) {
            self.marked(meta.ctime)
        } else {
            meta.ctime
        }
    }

    /// A ctime that the next run does not find.
    pub(super) fn marked(&self, ctime: Timestamp) -> Timestamp {
        ctime.checked_sub(self.mark).unwrap_or(ctime)
    }

    /// Whether what is stored of a file that is the [`same`](Self::same) can be stored again as it
    /// is. Whatever changes of a file, attributes included, changes its ctime. Not so for other
    /// programs' nodes, which say more than ours, and for files of several links, which are told
    /// apart by a number that differs from run to run.
    pub(super) fn identical(&self, meta: &Meta, parent: &Node) -> bool {
        self.parent.is_some_and(|(_, ours)| ours)
            && meta.links == 1
            && parent.links == 1
            && parent.device_id == 0
            && parent.uid == meta.uid
            && parent.gid == meta.gid
            && parent.mode == go_mode(meta.kind, meta.mode)
    }

    /// Whether the file's times say nothing against this parent.
    fn distrusts(&self, meta: &Meta) -> bool {
        let changed = meta.mtime.max(meta.ctime);
        self.distrust_after.is_some_and(|limit| changed > limit)
    }

    /// The parent's content of a file, if by its metadata the file is the same.
    pub(super) fn same<'n>(&self, meta: &Meta, parent: &'n Node) -> Option<&'n [Id]> {
        let same = parent.kind == Kind::File
            && parent.size == meta.size
            && parent.inode == meta.inode
            && parent.mtime == time(meta.mtime)
            && parent.ctime == time(meta.ctime)
            && !self.distrusts(meta);
        same.then_some(parent.content.as_deref()).flatten()
    }
}
