//! Packs of file content: a hole, and the list of what would be in it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use super::{
    Data, Made, PER_INDEX, PER_PACK, Repo, used_eighths,
    writer::{Entry, Index, Kind, header},
};
use crate::crypto::Id;

/// Writes an index file, and the packs that it names.
pub(super) fn index(repo: Repo<'_>, number: u64, blobs: u64) -> io::Result<Made> {
    let mut made = Made {
        indexes: 1,
        ..Made::default()
    };
    let mut index = Index::default();
    let last = blobs.div_ceil(PER_PACK).min((number + 1) * PER_INDEX);
    for pack in number * PER_INDEX..last {
        let numbers = pack * PER_PACK..blobs.min((pack + 1) * PER_PACK);
        let entries: Vec<Entry> = numbers
            .map(|number| {
                let data = Data::of(number);
                Entry {
                    kind: Kind::Data,
                    id: data.id,
                    length: data.length,
                    plain: data.plain,
                }
            })
            .collect();
        // Nobody compares it with the content unless all is read.
        let id = Id::of(&[&b"pack "[..], &pack.to_be_bytes()].concat());
        made.bytes += write(repo, &id, &entries)?;
        made.packs += 1;
        made.data += entries.len() as u64;
        made.used += (entries.len() as u64).min(PER_PACK / 8 * used_eighths(pack));
        index.add(&id, &entries);
    }
    index.write(repo)?;
    Ok(made)
}

/// Writes a pack of these blobs. Returns its length.
fn write(repo: Repo<'_>, id: &Id, entries: &[Entry]) -> io::Result<u64> {
    let path = repo.pack(id);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let list = header(repo.key, entries)?;
    let content: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
    File::create(path)?.write_all_at(&list, content)?;
    Ok(content + list.len() as u64)
}
