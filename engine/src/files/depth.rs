//! How deep directories may lie. Archive, restore and list have the same bounds, so that what is
//! archived can be restored. Whoever goes down keeps the path of each directory on the way: some 64
//! MiB at most.

use std::path::Path;

/// Directories on a path, with the root.
pub(crate) const MAX_DEPTH: usize = 4096;
/// Bytes of a path.
pub(crate) const MAX_PATH: usize = 32 << 10;

/// Why a directory is not entered, the root being the first of so many.
pub(crate) fn too_deep(depth: usize, path: &Path) -> Option<String> {
    if depth > MAX_DEPTH {
        Some(format!("deeper than {MAX_DEPTH} directories"))
    } else if path.as_os_str().len() > MAX_PATH {
        Some(format!("its path has more than {MAX_PATH} bytes"))
    } else {
        None
    }
}
