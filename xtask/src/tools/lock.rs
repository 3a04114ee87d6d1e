//! A lock file: one run at a time does what it guards. The kernel drops the lock when its holder
//! ends, however it ends, so a killed run blocks nobody.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

use crate::print;

/// The right to do what the lock file guards, for as long as this value lives.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for its holder if need be; `busy` says what the wait is for.
    pub fn take(path: &Path, busy: &str) -> Result<Self> {
        let lock = Self::file(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                print::note(&format!("{busy}: waiting for it ({})", path.display()));
                lock.lock()
                    .with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(Self { _file: lock })
    }

    /// Takes the lock without a word.
    pub fn quiet(path: &Path) -> Result<Self> {
        let lock = Self::file(path)?;
        lock.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { _file: lock })
    }

    fn file(path: &Path) -> Result<File> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open the lock file {}", path.display()))
    }
}
