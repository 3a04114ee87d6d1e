//! Counting the source for the progress, beside the walk.
//!
//! Opens no file and reports no error: those are the walk's to report.

use std::{
    os::fd::AsFd as _,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use super::walk::{Shared, list};
use crate::files::meta::{Kind, Meta};

/// Counts files and bytes for the progress, beside the walk. Errors are the walk's to report.
pub(super) fn count(shared: &Shared, ended: &AtomicBool) {
    let mut todo = vec![PathBuf::new()];
    let mut mount = None;
    while let Some(path) = todo.pop() {
        let Ok(dir) = shared.root.open_dir(&path) else {
            continue;
        };
        for name in list(dir.as_fd()).0 {
            if shared.cancel.is_cancelled() || ended.load(Ordering::Relaxed) {
                return;
            }
            let path = path.join(&name);
            let Ok(meta) = Meta::at(&dir, &name) else {
                continue;
            };
            if shared.filter.excludes(&path, meta.kind == Kind::Dir) {
                continue;
            }
            match meta.kind {
                Kind::Dir => {
                    let mount = *mount
                        .get_or_insert_with(|| Meta::of(&*shared.root).map_or(0, |m| m.mount));
                    if !shared.one_file_system || meta.mount == mount {
                        todo.push(path);
                    }
                }
                Kind::File => shared.progress.found(1, meta.size),
                Kind::Socket => {}
                _ => shared.progress.found(1, 0),
            }
        }
    }
}
