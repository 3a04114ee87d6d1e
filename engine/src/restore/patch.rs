//! Content for a file that is there, kept beside it until all of it is there.
//!
//! Order: blobs go into a file without a name, at their places; when the last one is there they are
//! copied into the file that is mended. If one cannot be had the file stays as it was. Where there
//! is no room for that, or no right to make a file, blobs are written into the file itself as they
//! come; then it stays with what was put right so far, and so it does if copying is ended. Either
//! is a mixture that a next restore goes on from.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use rustix::io::Errno;

use super::{
    Failure,
    content::{self, Zeros},
    file::File,
    run::Run,
    successor,
};
use crate::rows::FileOperation;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Where content for a file that is there goes.
#[derive(Default)]
pub(super) enum Patch {
    /// Nothing came yet.
    #[default]
    None,
    /// Into the file itself.
    Direct,
    /// Beside it: where, and from where to where there is something.
    Beside(Arc<OwnedFd>, Vec<(u64, u64)>),
}

impl Patch {
    /// Where to write so many bytes of this offset; `None`: into the file itself.
    pub(super) fn place(
        &mut self,
        run: &Run<'_>,
        file: &File,
        at: u64,
        length: u64,
    ) -> Result<Option<Arc<OwnedFd>>, Failure> {
        if matches!(self, Self::None) {
            *self = begin(run, file)?;
        }
        match self {
            Self::Beside(fd, parts) => {
                match parts.last_mut() {
                    Some((_, end)) if *end == at => *end += length,
                    _ => parts.push((at, at + length)),
                }
                Ok(Some(Arc::clone(fd)))
            }
            Self::None | Self::Direct => Ok(None),
        }
    }

    /// Writes what was kept beside it into the file.
    pub(super) fn apply(self, run: &Run<'_>, fd: &OwnedFd) -> Result<(), Failure> {
        let Self::Beside(from, mut parts) = self else {
            return Ok(());
        };
        let zeros = if run.request.sparse {
            Zeros::Punch
        } else {
            Zeros::Write
        };
        parts.sort_unstable();
        let mut buffer = vec![0; PIECE];
        for (mut at, end) in parts {
            while at < end {
                run.go().map_err(Failure::Fatal)?;
                let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let piece = &mut buffer[..most];
                let read = read_or_zeros(&from, piece, at);
                run.step(FileOperation::Read, read)?;
                let written = content::write(fd.as_fd(), piece, at, zeros);
                run.step(FileOperation::Write, written)?;
                at += most as u64;
            }
        }
        Ok(())
    }
}

fn begin(run: &Run<'_>, file: &File) -> Result<Patch, Failure> {
    let dir = run
        .open_dir(&file.dir)
        .map_err(|error| Failure::new(FileOperation::Open, error))?;
    if !successor::has_room(&dir, file.size) {
        return Ok(Patch::Direct);
    }
    // Who may write a file need not be allowed to make one beside it.
    let made = successor::without_name(&dir, &run.temporary_name());
    Ok(made.map_or(Patch::Direct, |fd| Patch::Beside(Arc::new(fd), Vec::new())))
}

/// Fills a buffer. Behind the end there are zeros that were not written.
fn read_or_zeros(fd: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(fd, &mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    buffer[done..].fill(0);
    Ok(())
}
