//! Rows: what could not be done for one path, as data instead of log lines.
//!
//! Does: collect a bounded number of typed rows and count the rest. Does not: decide whether an
//! operation as a whole succeeded.

use std::{
    ffi::OsStr,
    fmt::{self, Write as _},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// What was being done to a path when it failed, or why it is mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileOperation {
    /// Opening it.
    Open,
    /// Reading its content.
    Read,
    /// Reading its metadata.
    Stat,
    /// Listing a directory.
    List,
    /// Reading or setting an extended attribute.
    Xattr,
    /// It changed while it was being read: the stored content may mix two states.
    ChangedWhileReading,
    /// It was listed, and gone when it was to be read.
    Vanished,
    /// Creating it.
    Create,
    /// Writing its content.
    Write,
    /// Setting its owner.
    Chown,
    /// Setting its mode.
    Chmod,
    /// Setting its times.
    Times,
    /// Making a hard link.
    Link,
    /// Deleting it.
    Delete,
    /// Its name in the repository is not one a file can have.
    Name,
    /// Its entry in the repository cannot be read.
    Tree,
    /// It is of a kind that is not kept.
    Unsupported,
}

impl FileOperation {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Stat => "stat",
            Self::List => "list",
            Self::Xattr => "xattr",
            Self::ChangedWhileReading => "changed-while-reading",
            Self::Vanished => "vanished",
            Self::Create => "create",
            Self::Write => "write",
            Self::Chown => "chown",
            Self::Chmod => "chmod",
            Self::Times => "times",
            Self::Link => "link",
            Self::Delete => "delete",
            Self::Name => "name",
            Self::Tree => "tree",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One path for which something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The path inside the volume, without a leading slash; control characters and bytes that are
    /// not UTF-8 are escaped, so it is safe to show.
    pub path: String,
    /// What was being done.
    pub operation: FileOperation,
    /// What the system said.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.operation, self.message)
    }
}

/// At most this many rows are kept; the rest is only counted.
pub(crate) const MAX_ROWS: usize = 10_000;

/// A shared, bounded list of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    rows: Vec<FileError>,
    dropped: u64,
}

impl Rows {
    pub(crate) fn add(&self, path: &Path, operation: FileOperation, message: impl fmt::Display) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.rows.len() < MAX_ROWS {
            inner.rows.push(FileError {
                path: show_path(path),
                operation,
                message: message.to_string(),
            });
        } else {
            inner.dropped += 1;
        }
    }

    /// The rows in order of path, and how many more there were.
    pub(crate) fn take(&self) -> (Vec<FileError>, u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = std::mem::take(&mut inner.rows);
        rows.sort_by(|a, b| a.path.cmp(&b.path).then(a.operation.cmp(&b.operation)));
        (rows, inner.dropped)
    }
}

/// Of longer paths, beginning and end are shown: many rows of them would take much memory.
const MAX_SHOWN: usize = 4096;

/// A path for people: UTF-8 kept, everything else and control characters escaped.
pub(crate) fn show_path(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return ".".to_owned();
    }
    let text = path.as_os_str().as_bytes();
    if text.len() <= MAX_SHOWN {
        return show_bytes(path.as_os_str());
    }
    // Not in the middle of a character.
    let inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let (start, end) = (MAX_SHOWN / 2, text.len() - MAX_SHOWN / 2);
    let start = (0..4).map(|back| start - back).find(|at| !inside(at));
    let end = (0..4).map(|on| end + on).find(|at| !inside(at));
    let part = |bytes: &[u8]| show_bytes(OsStr::from_bytes(bytes));
    let start = part(&text[..start.unwrap_or(MAX_SHOWN / 2)]);
    let end = part(&text[end.unwrap_or(text.len() - MAX_SHOWN / 2)..]);
    format!("{start}[...]{end}")
}

pub(crate) fn show_bytes(text: &OsStr) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_safe_to_show() {
        let path = Path::new(OsStr::from_bytes(b"a\n\xffb/\xc3\xa9"));
        assert_eq!(show_path(path), "a\\n\\xffb/é");
        assert_eq!(show_path(Path::new("")), ".");
    }

    #[test]
    fn a_long_path_is_shown_in_part() {
        let path = format!("start/{}/\u{e9}nd", "\u{e9}\n/".repeat(100_000));
        let shown = show_path(Path::new(&path));
        assert!(shown.len() < 10_000, "{}", shown.len());
        assert!(shown.starts_with("start/\u{e9}\\n/") && shown.ends_with("/\u{e9}nd"));
        assert!(shown.contains("[...]"), "{shown}");
        let usual = "n".repeat(4095);
        assert_eq!(show_path(Path::new(&usual)), usual);
    }

    #[test]
    fn rows_are_bounded() {
        let rows = Rows::default();
        for i in 0..MAX_ROWS + 5 {
            rows.add(Path::new(&format!("f{i}")), FileOperation::Read, "no");
        }
        let (kept, dropped) = rows.take();
        assert_eq!((kept.len(), dropped), (MAX_ROWS, 5));
    }
}
