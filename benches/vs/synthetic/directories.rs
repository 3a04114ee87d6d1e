//! Directories and snapshots.
//!
//! A directory for each pack that is used, with files of sixteen blobs; groups of directories; and
//! snapshots, each of two neighbouring groups: so every directory is in two snapshots, as where
//! something changes all the time.

use std::{fs, io, mem};

use super::{
    Data, Made, PER_FILE, PER_PACK, Repo, shared, used_eighths,
    writer::{Entry, Index, Kind, header, put},
};
use crate::crypto::Id;

/// Blobs of file content for a snapshot.
const PER_SNAPSHOT: u64 = 33_000;
/// The most snapshots.
const MOST_SNAPSHOTS: u64 = 300;
/// Packs whose directories are made together.
const TOGETHER: u64 = 512;
/// A pack is full with so many bytes.
const FULL: usize = 16 << 20;
/// An index file is full with so many blobs.
const FULL_INDEX: usize = 50_000;
/// What all entries say.
const COMMON: &str = "\"mtime\":\"2025-01-01T00:00:00Z\",\"atime\":\"2025-01-01T00:00:00Z\",\
    \"ctime\":\"2025-01-01T00:00:00Z\",\"uid\":0,\"gid\":0,\"user\":\"root\",\"group\":\"root\",\"device_id\":7";

/// Writes all directories, their index, and the snapshots.
pub(super) fn write(repo: Repo<'_>, packs: u64, blobs: u64) -> io::Result<Made> {
    let mut made = Made::default();
    let mut written = Vec::new();
    let mut directories = Vec::new();
    let parts = shared(packs.div_ceil(TOGETHER), |part| {
        let mut trees = Trees::new(repo);
        let mut ids = Vec::new();
        for pack in (part * TOGETHER..packs.min((part + 1) * TOGETHER))
            .filter(|pack| used_eighths(*pack) > 0)
        {
            ids.push((pack, trees.add(&directory(pack, blobs))?));
        }
        Ok((ids, trees.done()?))
    })?;
    for (ids, packs) in parts {
        directories.extend(ids);
        written.extend(packs);
    }
    let mut trees = Trees::new(repo);
    let count = (blobs / PER_SNAPSHOT).clamp(3, MOST_SNAPSHOTS);
    let groups = (0..count).map(|group| {
        let part = |n: u64| usize::try_from(n * directories.len() as u64 / count).unwrap_or(0);
        let inside = &directories[part(group)..part(group + 1)];
        let named = inside
            .iter()
            .map(|(pack, id)| (format!("directory-{pack:08}"), *id));
        trees.add(&folder(named))
    });
    let groups = groups.collect::<io::Result<Vec<Id>>>()?;
    for (number, group) in (0..).zip(&groups) {
        let next = groups.get(number + 1).unwrap_or(&groups[0]);
        let both = [("a", *group), ("b", *next)];
        let root = trees.add(&folder(
            both.map(|(name, id)| (name.to_owned(), id)).into_iter(),
        ))?;
        // A day has one.
        let day = jiff::civil::date(2025, 1, 1)
            .saturating_add(jiff::Span::new().days(i64::try_from(number).unwrap_or(0)));
        let snapshot = format!(
            "{{\"time\":\"{day}T03:00:00Z\",\"tree\":\"{root}\",\"paths\":[\"/synthetic\"],\"hostname\":\"synthetic\",\"username\":\"root\"}}"
        );
        repo.document("snapshots", snapshot.as_bytes())?;
        made.snapshots += 1;
    }
    written.extend(trees.done()?);
    let mut index = Index::default();
    for (id, entries, bytes) in written {
        made.trees += entries.len() as u64;
        made.packs += 1;
        made.bytes += bytes;
        index.add(&id, &entries);
        if index.blobs >= FULL_INDEX {
            mem::take(&mut index).write(repo)?;
            made.indexes += 1;
        }
    }
    made.indexes += u64::from(index.blobs > 0);
    index.write(repo)?;
    Ok(made)
}

/// The directory of a pack: files of what is used of it.
fn directory(pack: u64, blobs: u64) -> Vec<u8> {
    let first = pack * PER_PACK;
    let end = blobs.min(first + PER_PACK / 8 * used_eighths(pack));
    let mut json = b"{\"nodes\":[".to_vec();
    let mut comma = "";
    for start in (first..end).step_by(usize::try_from(PER_FILE).unwrap_or(1)) {
        let content: Vec<Data> = (start..end.min(start + PER_FILE)).map(Data::of).collect();
        let size: u64 = content.iter().map(|data| u64::from(data.plain)).sum();
        put(
            &mut json,
            format_args!(
                "{comma}{{\"name\":\"file-{start:012}\",\"type\":\"file\",\"mode\":420,{COMMON},\"inode\":{start},\"size\":{size},\"links\":1,\"content\":["
            ),
        );
        for (n, data) in content.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            put(&mut json, format_args!("{comma}\"{}\"", data.id));
        }
        json.extend_from_slice(b"]}");
        comma = ",";
    }
    json.extend_from_slice(b"]}\n");
    json
}

/// A directory of directories.
fn folder(named: impl Iterator<Item = (String, Id)>) -> Vec<u8> {
    let mut json = b"{\"nodes\":[".to_vec();
    for (n, (name, id)) in named.enumerate() {
        let comma = if n == 0 { "" } else { "," };
        put(
            &mut json,
            format_args!(
                "{comma}{{\"name\":\"{name}\",\"type\":\"dir\",\"mode\":2147484141,{COMMON},\"inode\":1,\"content\":null,\"subtree\":\"{id}\"}}"
            ),
        );
    }
    json.extend_from_slice(b"]}\n");
    json
}

/// A pack that was written: its id, what is in it, and its length.
type Written = (Id, Vec<Entry>, u64);

/// Packs of directories being made.
struct Trees<'a> {
    repo: Repo<'a>,
    pack: Vec<u8>,
    entries: Vec<Entry>,
    written: Vec<Written>,
}

impl<'a> Trees<'a> {
    fn new(repo: Repo<'a>) -> Self {
        Self {
            repo,
            pack: Vec::new(),
            entries: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Adds a directory. Returns its id.
    fn add(&mut self, json: &[u8]) -> io::Result<Id> {
        let id = Id::of(json);
        let sealed = self.repo.key.seal(&zstd::bulk::compress(json, 1)?);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.entries.push(Entry {
            kind: Kind::Tree,
            id,
            length: length(&sealed)?,
            plain: length(json)?,
        });
        self.pack.extend(sealed);
        if self.pack.len() >= FULL {
            self.flush()?;
        }
        Ok(id)
    }

    fn flush(&mut self) -> io::Result<()> {
        let entries = mem::take(&mut self.entries);
        if entries.is_empty() {
            return Ok(());
        }
        let mut pack = mem::take(&mut self.pack);
        pack.extend(header(self.repo.key, &entries)?);
        let id = Id::of(&pack);
        let path = self.repo.pack(&id);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, &pack)?;
        self.written.push((id, entries, pack.len() as u64));
        Ok(())
    }

    fn done(mut self) -> io::Result<Vec<Written>> {
        self.flush()?;
        Ok(self.written)
    }
}
