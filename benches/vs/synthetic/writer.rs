//! Index files, lists of packs and sealed documents, as the format has them.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use super::Repo;
use crate::crypto::{Id, Key};

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Content of a file.
    Data,
    /// A directory.
    Tree,
}

/// A blob of a pack. All are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) id: Id,
    /// Sealed.
    pub(super) length: u32,
    pub(super) plain: u32,
}

impl Repo<'_> {
    /// Where a pack lies.
    pub(super) fn pack(&self, id: &Id) -> PathBuf {
        let name = id.to_string();
        self.dir.join("data").join(&name[..2]).join(name)
    }

    /// Writes a document under the name that its sealed bytes have.
    pub(super) fn document(&self, folder: &str, json: &[u8]) -> io::Result<()> {
        let mut plain = vec![2];
        plain.extend(zstd::bulk::compress(json, 3)?);
        let sealed = self.key.seal(&plain);
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(Id::of(&sealed).to_string()), sealed)
    }
}

/// The list at the end of a pack: sealed, and its length.
pub(super) fn header(key: &Key, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(entries.len() * 41);
    for entry in entries {
        plain.push(match entry.kind {
            Kind::Data => 2,
            Kind::Tree => 3,
        });
        plain.extend(entry.length.to_le_bytes());
        plain.extend(entry.plain.to_le_bytes());
        plain.extend(entry.id.0);
    }
    let mut sealed = key.seal(&plain);
    let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
    sealed.extend(length.to_le_bytes());
    Ok(sealed)
}

/// An index file being made.
#[derive(Debug, Default)]
pub(super) struct Index {
    json: Vec<u8>,
    /// Blobs in it.
    pub(super) blobs: usize,
}

impl Index {
    /// Adds a pack.
    pub(super) fn add(&mut self, pack: &Id, entries: &[Entry]) {
        let json = &mut self.json;
        json.extend_from_slice(if json.is_empty() {
            b"{\"packs\":["
        } else {
            b","
        });
        let (mut offset, mut comma) = (0, "");
        put(json, format_args!("{{\"id\":\"{pack}\",\"blobs\":["));
        for Entry {
            kind,
            id,
            length,
            plain,
        } in entries
        {
            let kind = match kind {
                Kind::Data => "data",
                Kind::Tree => "tree",
            };
            put(
                json,
                format_args!(
                    "{comma}{{\"id\":\"{id}\",\"type\":\"{kind}\",\"offset\":{offset},\"length\":{length},\"uncompressed_length\":{plain}}}"
                ),
            );
            offset += u64::from(*length);
            comma = ",";
        }
        json.extend_from_slice(b"]}");
        self.blobs += entries.len();
    }

    /// Writes it, if there is anything in it.
    pub(super) fn write(mut self, repo: Repo<'_>) -> io::Result<()> {
        if self.json.is_empty() {
            return Ok(());
        }
        self.json.extend_from_slice(b"]}");
        repo.document("index", &self.json)
    }
}

/// Appends text.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector does not fail.
    let done = out.write_fmt(text);
    debug_assert!(done.is_ok());
}
