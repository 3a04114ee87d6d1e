//! Archiving what a reader gives: one file, in a snapshot of its own.
//!
//! Cuts are restic's of the same bytes. A reader that fails means that there is no snapshot. Fails as
//! [`archive`](super::archive()) does. A reader is only left alone between two reads: one that blocks delays a cancel.

use std::{io::Read, sync::Mutex};

use super::{ArchiveReport, Chunking, MEMORY, locked, native::Content, run::About};
use crate::{
    Cancel, Progress, Repository,
    error::{Error, Result},
};

/// Under which names a stream is archived.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// The file's path below the snapshot's root, e.g. `dump.sql` or `db/dump.sql`.
    pub file_name: String,
    /// The host name shown in the snapshot.
    pub host: String,
    /// Tags, `key=value`.
    pub tags: Vec<String>,
    /// Memory the archive may take, in bytes.
    pub memory: u64,
    /// Make a snapshot of a stream without a byte as well. Unless asked for it is refused: it is
    /// what a program writes that failed at once.
    pub allow_empty: bool,
}

impl Default for StreamRequest {
    fn default() -> Self {
        Self {
            file_name: "stdin".to_owned(),
            host: String::new(),
            tags: Vec::new(),
            memory: MEMORY,
            allow_empty: false,
        }
    }
}

/// Archives all bytes of a reader as one file. Blocks like [`archive`](super::archive()).
///
/// # Errors
/// `Source` if the reader fails, `Refused` if it gives nothing at all; there is no snapshot then. The others of [`archive`](super::archive()).
pub fn archive_stream(
    repo: &Repository,
    request: &StreamRequest,
    reader: impl Read + Send,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveReport> {
    let names = names(&request.file_name)?;
    let reader = Mutex::new(reader);
    let about = About {
        host: &request.host,
        tags: &request.tags,
        excludes: &[],
        paths: &[format!("/{}", names.join("/"))],
        chunking: Chunking::Rabin,
        memory: request.memory,
    };
    let content = Content::Stream {
        names: &names,
        reader: &reader,
        allow_empty: request.allow_empty,
    };
    locked(repo, &about, content, None, progress, cancel)
}

/// The names on the path, at least one, each one a file can have.
fn names(path: &str) -> Result<Vec<String>> {
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let fits =
        |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    if trimmed.len() <= 4096 && trimmed.split('/').all(fits) {
        return Ok(trimmed.split('/').map(str::to_owned).collect());
    }
    Err(Error::InvalidConfig {
        what: "name for the stream",
        message: format!("{path:?} is not a path of plain names"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        assert_eq!(names("/a/b c").unwrap(), ["a", "b c"]);
        assert_eq!(names("dump.sql").unwrap(), ["dump.sql"]);
        for bad in ["", "/", "a//b", "../x", "a/.", "a\0", &"n".repeat(256)] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }
}
