//! Files collected until there is enough of them to be fetched in the order of packs.

use std::{mem, sync::Arc};

use super::{
    compare::{BATCH, Comparison},
    file::File,
    plan::Want,
    walk::Walker,
};
use crate::{
    crypto::Id,
    error::Result,
    index::{Place, ranges::ranges},
};

/// Files without content handed over together.
const FILES: usize = 64;
/// Files with several blobs in a window: each is open from its first blob to its last.
const SEVERAL: usize = 100;

/// What was collected.
#[derive(Default)]
pub(super) struct Window {
    files: Vec<Arc<File>>,
    comparisons: Vec<Comparison>,
    wants: Vec<Want>,
    blobs: usize,
    several: usize,
}

impl Walker<'_, '_> {
    /// Has a file restored, of these blobs.
    pub(super) fn collect(&mut self, file: Arc<File>, blobs: Vec<(Id, Place)>) -> Result<()> {
        if blobs.is_empty() {
            self.window.files.push(file);
            if self.window.files.len() >= FILES {
                self.run.queue.files(mem::take(&mut self.window.files));
            }
            return Ok(());
        }
        self.window.several += usize::from(blobs.len() > 1);
        let mut batch = Vec::new();
        let (mut batch_bytes, mut at) = (0, 0);
        for (id, place) in blobs {
            file.add_blob();
            let length = u64::from(place.plain_length());
            let want = Want {
                place,
                id,
                file: Arc::clone(&file),
                at,
            };
            at += length;
            self.window.blobs += 1;
            let full = self.window.blobs >= self.run.limits.window;
            if file.old.is_none() {
                self.window.wants.push(want);
            } else {
                batch.push(want);
                batch_bytes += length;
                if batch_bytes >= BATCH || full {
                    self.compare(&file, &mut batch);
                    batch_bytes = 0;
                }
            }
            if full {
                self.flush()?;
            }
        }
        self.compare(&file, &mut batch);
        self.run.done(&file);
        if self.window.several >= SEVERAL {
            self.flush()?;
        }
        Ok(())
    }

    fn compare(&mut self, file: &Arc<File>, batch: &mut Vec<Want>) {
        if !batch.is_empty() {
            self.window.comparisons.push(Comparison {
                file: Arc::clone(file),
                blobs: mem::take(batch),
            });
        }
    }

    /// Hands over what was collected.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Window {
            files,
            comparisons,
            mut wants,
            ..
        } = mem::take(&mut self.window);
        let run = self.run;
        if !files.is_empty() {
            run.queue.files(files);
        }
        if !comparisons.is_empty() {
            wants.extend(run.queue.compare(comparisons));
        }
        run.go()?;
        if run.request.dry_run {
            for want in wants {
                run.done(&want.file);
            }
            return Ok(());
        }
        let named = |range: super::plan::Range| (run.index.pack(range.pack).0, range);
        let ranges = ranges(wants, run.limits.range);
        run.queue.ranges(ranges.into_iter().map(named).collect());
        run.go()
    }
}
