//! Stock restic.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Backup, Place, Program};
use crate::measure::Call;

/// The program.
pub(crate) struct Restic(pub(crate) PathBuf);

impl Restic {
    /// A call of one of its commands.
    pub(crate) fn call(&self, place: &Place, verb: &str) -> Call {
        place.as_restic_takes_it(Call::new(&self.0).args([verb, "--quiet", "--no-cache"]))
    }

    /// Looks whether a repository, whoever wrote it, is sound.
    pub(crate) fn check(&self, place: &Place) -> Call {
        self.call(place, "check")
    }
}

impl Program for Restic {
    fn version(&self) -> Result<String> {
        Call::new(&self.0).arg("version").first_line()
    }

    fn init(&self, place: &Place) -> Call {
        self.call(place, "init")
    }

    fn backup(&self, place: &Place, backup: &Backup<'_>) -> Call {
        let call = self.call(place, "backup");
        let call = if backup.reread {
            call.arg("--force")
        } else {
            call
        };
        call.arg(backup.source)
    }

    fn restore(&self, place: &Place, target: &Path) -> Call {
        self.call(place, "restore")
            .args(["latest", "--target"])
            .arg(target)
    }

    fn forget(&self, place: &Place, keep: u32) -> Call {
        self.call(place, "forget")
            .args(["--keep-last", &keep.to_string()])
    }

    fn prune(&self, place: &Place) -> Call {
        self.call(place, "prune").args(["--max-unused", "5%"])
    }

    fn stats(&self, place: &Place) -> Call {
        self.call(place, "stats")
    }

    fn find(&self, place: &Place, pattern: &str) -> Call {
        self.call(place, "find").arg(pattern)
    }

    fn check_data(&self, place: &Place) -> Call {
        self.call(place, "check").arg("--read-data")
    }
}
