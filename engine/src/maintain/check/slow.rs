//! Packs whose lists of blobs cannot be read, or are not what the index says: which of the blobs
//! that the index says are there can be read?
//!
//! The index in memory has only part of each id, so the index files are read again, for some packs
//! at a time. Only what is damaged comes here.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use futures::StreamExt as _;

use super::{
    Run,
    known::Known,
    packs::{Job, needed},
};
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, compressed, index::BlobKind, pack},
    index::{self, Index, Place},
    permits::Pool,
};

/// Entries of index files kept at a time, a hundred bytes each.
const ENTRIES: u64 = 100_000;

/// What the index files say is in a pack.
type Said = BTreeSet<(u32, BlobKind, Id, u32, u32)>;

/// Looks at these packs, by what the index says of them.
pub(super) fn look(
    run: &Run<'_>,
    index: &Index,
    pool: &Pool,
    known: &Known,
    mut jobs: Vec<Job>,
) -> Result<()> {
    let count = |job: &Job| known.get(job.0).map_or(0, |pack| u64::from(pack.count));
    jobs.sort_unstable();
    while !jobs.is_empty() {
        let mut entries = 0;
        let some = jobs.iter().take_while(|job| {
            entries += count(job);
            entries <= ENTRIES
        });
        let some = some.count().max(1);
        let some: Vec<_> = jobs.drain(..some).collect();
        let mut said = run.repo.block_on(said(run, &some))?;
        for job in some {
            let blobs = said.remove(&job.1).unwrap_or_default();
            one(run, index, pool, known, job, &blobs)?;
        }
    }
    Ok(())
}

/// What the index files say of these packs.
async fn said(run: &Run<'_>, jobs: &[Job]) -> Result<BTreeMap<Id, Said>> {
    let mut all: BTreeMap<Id, Said> = jobs.iter().map(|job| (job.1, Said::new())).collect();
    let files = index::files(run.store).await?;
    let mut reading = pin!(index::read_all(run.repo, run.store, files));
    while let Some((_, file)) = reading.next().await {
        let file = match file {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            // That was found out already.
            Err(error) if error.is_content() => continue,
            Err(error) => return Err(error),
        };
        for pack in &file.packs {
            let Some(said) = pack.id.id().and_then(|id| all.get_mut(&id)) else {
                continue;
            };
            said.extend(pack.blobs.iter().filter_map(|blob| {
                let plain = blob.uncompressed_length.unwrap_or(0);
                Some((blob.offset, blob.kind, blob.id.id()?, blob.length, plain))
            }));
        }
    }
    Ok(all)
}

fn one(
    run: &Run<'_>,
    index: &Index,
    pool: &Pool,
    known: &Known,
    (number, name, size): Job,
    said: &Said,
) -> Result<()> {
    let go = || {
        if run.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    };
    let known = known.get(number).copied().unwrap_or_default();
    // The pack, and its largest blob sealed and opened.
    let bytes = needed(&known, size) + u64::from(known.largest);
    let _permit = pool.take(bytes, &format!("pack {name}"), go)?;
    let path = pack::path(&name);
    let reading = run.store.read_range(&path, 0, size);
    let data = match run.repo.block_on(reading) {
        Ok(data) => data,
        // None of it can be read.
        Err(error) if error.is_content() => bytes::Bytes::new(),
        Err(error) => return Err(error),
    };
    for (offset, kind, id, length, plain) in said {
        go()?;
        let place = Place {
            pack: number,
            offset: *offset,
            length: *length,
            plain: *plain,
        };
        let record = index.position(*kind, id).and_then(|first| {
            let mut copies = (first..).zip(index.places(first));
            copies.find(|(_, at)| *at == place)
        });
        // Records of impossible places are not in the index.
        let Some((position, _)) = record else {
            continue;
        };
        if let Err(why) = open(run, &data, id, place) {
            run.blob(position, *kind, id, &name.to_string(), &why);
        }
    }
    Ok(())
}

fn open(run: &Run<'_>, data: &[u8], id: &Id, place: Place) -> Result<(), Invalid> {
    let sealed = data
        .get(place.offset as usize..place.end() as usize)
        .ok_or_else(|| Invalid::new("it lies behind the end of its pack"))?;
    let opened = run.repo.key().open(sealed);
    let mut plain = opened.map_err(|_| Invalid::new("it is not authentic"))?;
    if place.plain != 0 {
        plain = compressed::decompress(&plain, place.plain)?;
    }
    if Id::of(&plain) == *id {
        Ok(())
    } else {
        Err(Invalid::new("its content does not match its id"))
    }
}
