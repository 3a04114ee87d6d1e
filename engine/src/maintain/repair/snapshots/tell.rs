//! Which paths of a snapshot lost what.
//!
//! Directories are mended once, however often they are used: from what each lost, the paths of one
//! snapshot follow. So many are listed, all are counted.

use std::path::{Path, PathBuf};

use super::{LostPath, RepairedSnapshot, mend::Mender};
use crate::{crypto::Id, files::depth::MAX_PATH, format::name};

/// Paths listed for a snapshot.
const LISTED: usize = 1000;

/// Adds what the directories below a root lost.
pub(super) fn of(all: &Mender<'_>, root: &Id, told: &mut RepairedSnapshot) {
    let Some((position, mended)) = all.mended(root) else {
        return;
    };
    (told.lost_paths, told.lost_bytes) = (mended.paths, mended.bytes);
    // Each leads to something that is lost, so this ends when enough is listed.
    let mut todo = vec![(PathBuf::from("/"), position)];
    while let Some((path, position)) = todo.pop() {
        let Some(mended) = all.mended_at(position) else {
            continue;
        };
        for (stored, loss) in &mended.losses {
            if told.lost.len() >= LISTED {
                break;
            }
            told.lost.push(LostPath {
                path: below(&path, stored),
                loss: *loss,
            });
        }
        // What nobody could restore is not listed, only counted.
        if path.as_os_str().len() > MAX_PATH {
            continue;
        }
        let more = LISTED.saturating_sub(told.lost.len() + todo.len());
        let below = mended.below.iter().take(more).rev();
        todo.extend(below.map(|(stored, inner)| (self::below(&path, stored), *inner)));
    }
    told.lost.sort_by(|a, b| a.path.cmp(&b.path));
}

/// A stored name below a path.
fn below(path: &Path, stored: &str) -> PathBuf {
    match name::decode(stored) {
        Ok(name) => path.join(name),
        Err(_) => path.join(stored.escape_debug().to_string().replace('/', "\\x2f")),
    }
}
