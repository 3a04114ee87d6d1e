//! A directory of a snapshot as a tar archive (POSIX pax), as `restic dump` writes it.
//!
//! Does: write every entry below a directory, each directory before its content, with modes,
//! owners, times, links, devices and extended attributes. Does not: keep hard links (each name is a
//! file of its own), or sockets. A file is as long as its stored content. Fails at the first entry
//! that cannot be read: what was written until then is no archive.

use std::{
    io::Write,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{EntryInfo, EntryKind, path::subtree};
use crate::{
    Cancel, Progress,
    crypto::Id,
    error::{Error, Result},
    format::{
        Invalid,
        index::BlobKind,
        name,
        tree::{Entries, Node},
    },
    repo::{Repository, blobs::BlobReader},
};

/// Deeper trees are refused.
const MAX_DEPTH: usize = 4096;
const BLOCK: usize = 512;

pub(super) struct Tar<'a, 'b> {
    pub(super) repo: &'a Repository,
    pub(super) blobs: &'b mut BlobReader<'a>,
    pub(super) out: &'b mut dyn Write,
    pub(super) progress: &'b Progress,
    pub(super) cancel: &'b Cancel,
}

impl Tar<'_, '_> {
    /// Writes what is below a directory of this path. Returns how many bytes of content that was.
    pub(super) fn write(&mut self, path: &Path, tree: &Id) -> Result<u64> {
        let top = path.strip_prefix("/").unwrap_or(path).to_owned();
        let mut stack: Vec<(PathBuf, Entries)> = vec![(top, self.blobs.read_tree(tree)?)];
        let mut length = 0;
        while let Some((above, nodes)) = stack.last_mut() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let Some(node) = nodes.next() else {
                stack.pop();
                continue;
            };
            let damaged = |above: &Path, why: &Invalid| {
                let what = format!("an entry of directory /{}", above.display());
                self.repo.damaged(what, why)
            };
            let node = node.map_err(|why| damaged(above, &why))?;
            let name = name::decode(&node.name).map_err(|why| damaged(above, &why))?;
            let path = above.join(name);
            let entry = entry(&node).map_err(|why| damaged(&path, &why))?;
            let Some(entry) = entry else {
                continue;
            };
            length += self.one(&path, &node, &entry)?;
            if entry.kind == b'5' {
                if stack.len() >= MAX_DEPTH {
                    return Err(damaged(&path, &Invalid::new("it is too deep")));
                }
                let nodes = self.blobs.read_tree(&subtree(self.repo, &node)?)?;
                stack.push((path, nodes));
            }
        }
        self.put(&[0; 2 * BLOCK])?;
        Ok(length)
    }

    fn one(&mut self, path: &Path, node: &Node, entry: &Entry) -> Result<u64> {
        let mut ids = Vec::new();
        let mut length = 0;
        if entry.kind == b'0' {
            for blob in &node.content {
                let why = Invalid::new("its content list is malformed");
                let id = blob
                    .ok_or_else(|| self.repo.damaged(format!("entry {}", path.display()), &why))?;
                length += u64::from(self.blobs.plain_length(BlobKind::Data, &id)?);
                ids.push(id);
            }
        }
        self.progress.found(1, length);
        let mut name = path.as_os_str().as_bytes().to_vec();
        if entry.kind == b'5' {
            name.push(b'/');
        }
        self.put(&head(&name, entry, length))?;
        for id in ids {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let data = self.blobs.read(BlobKind::Data, &id)?;
            self.put(&data)?;
            self.progress.bytes_done(data.len() as u64);
        }
        self.put(&[0; BLOCK][..padding(length)])?;
        self.progress.file_done();
        Ok(length)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.out.write_all(bytes);
        written.map_err(|source| Error::Output { source })
    }
}

/// What an archive says of an entry, besides its name.
#[derive(Debug, Default)]
struct Entry {
    /// The format's letter for it.
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds since 1970, both of one sign.
    modified: (i64, i32),
    link: Vec<u8>,
    device: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// `None` for what no archive holds.
fn entry(node: &Node) -> Result<Option<Entry>, Invalid> {
    let info = EntryInfo::of(node);
    let kind = match info.kind {
        EntryKind::File => b'0',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Dir => b'5',
        EntryKind::Fifo => b'6',
        EntryKind::Socket => return Ok(None),
        EntryKind::Other => return Err(Invalid::new("its kind is unknown")),
    };
    let base64 = |text: &str| {
        let decoded = STANDARD.decode(text);
        decoded.map_err(|_| Invalid::new("it has a value that is not base64"))
    };
    let link = match (info.kind, &node.linktarget_raw) {
        (EntryKind::Symlink, Some(raw)) => base64(raw)?,
        (EntryKind::Symlink, None) => node.linktarget.clone().into_bytes(),
        _ => Vec::new(),
    };
    let mut xattrs = Vec::new();
    for attribute in &node.extended_attributes {
        // Records have no way to write other names.
        if !attribute.name.contains(['=', '\0', '\n']) {
            xattrs.push((
                attribute.name.clone().into_bytes(),
                base64(&attribute.value)?,
            ));
        }
    }
    Ok(Some(Entry {
        kind,
        mode: info.mode(),
        owner: (info.uid, info.gid),
        modified: info
            .modified
            .map_or((0, 0), |time| (time.as_second(), time.subsec_nanosecond())),
        link,
        device: (
            rustix::fs::major(node.device),
            rustix::fs::minor(node.device),
        ),
        xattrs,
    }))
}

/// The header of an entry, after one of records for what does not fit into it.
fn head(name: &[u8], entry: &Entry, length: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if name.len() > 100 {
        record(&mut records, b"path", name);
    }
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    let numbers = [
        (&b"size"[..], length, 11),
        (b"uid", entry.owner.0.into(), 7),
        (b"gid", entry.owner.1.into(), 7),
    ];
    for (key, number, digits) in numbers {
        if number >> (3 * digits) != 0 {
            record(&mut records, key, number.to_string().as_bytes());
        }
    }
    let (seconds, nanos) = entry.modified;
    if nanos != 0 || seconds < 0 || seconds >> 33 != 0 {
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
        record(
            &mut records,
            b"mtime",
            format!("{sign}{seconds}.{nanos:09}").as_bytes(),
        );
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    let mut head = Vec::new();
    if !records.is_empty() {
        let length = records.len() as u64;
        let about = Entry {
            kind: b'x',
            mode: 0o644,
            ..Entry::default()
        };
        head.extend_from_slice(&header(b"pax", &about, length));
        head.append(&mut records);
        head.resize(head.len() + padding(length), 0);
    }
    head.extend_from_slice(&header(name, entry, length));
    head
}

/// A record: its own length, a key and a value.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A block. What does not fit is cut off: a record before it has it in full.
fn header(name: &[u8], entry: &Entry, length: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, most: usize, value: &[u8]| {
        let value = &value[..value.len().min(most)];
        block[at..at + value.len()].copy_from_slice(value);
    };
    text(0, 100, name);
    let fits = |number: u64, digits: usize| {
        let number = if number >> (3 * digits) == 0 {
            number
        } else {
            0
        };
        format!("{number:0digits$o}\0").into_bytes()
    };
    text(100, 8, &fits(entry.mode.into(), 7));
    text(108, 8, &fits(entry.owner.0.into(), 7));
    text(116, 8, &fits(entry.owner.1.into(), 7));
    text(124, 12, &fits(length, 11));
    let modified = u64::try_from(entry.modified.0).unwrap_or_default();
    text(136, 12, &fits(modified, 11));
    text(148, 8, b"        ");
    text(156, 1, &[entry.kind]);
    text(157, 100, &entry.link);
    text(257, 8, b"ustar\x0000");
    text(329, 8, &fits(entry.device.0.into(), 7));
    text(337, 8, &fits(entry.device.1.into(), 7));
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// How many zeros make whole blocks of so many bytes.
fn padding(length: u64) -> usize {
    let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_themselves() {
        let of = |value: usize| {
            let mut out = Vec::new();
            record(&mut out, b"path", &vec![b'x'; value]);
            out
        };
        for value in [1, 90, 91, 92, 93, 990, 991, 992] {
            let out = of(value);
            let space = out.iter().position(|byte| *byte == b' ').unwrap();
            let said: usize = str::from_utf8(&out[..space]).unwrap().parse().unwrap();
            assert_eq!(said, out.len());
        }
        assert_eq!(of(1), b"9 path=x\n");
        assert_eq!((padding(0), padding(1), padding(512)), (0, 511, 0));
    }
}
