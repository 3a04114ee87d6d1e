//! Ark's engine, through its command.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Backup, Cuts, Place, Program};
use crate::measure::Call;

/// Which of its commands speaks of repositories.
const REPOSITORIES: &str = "engine";

/// The command.
pub(crate) struct Ark(pub(crate) PathBuf);

impl Ark {
    /// A call of one of the commands on repositories.
    pub(crate) fn call(&self, place: &Place, verb: &str) -> Call {
        place.as_restic_takes_it(Call::new(&self.0).args([REPOSITORIES, verb]))
    }
}

impl Program for Ark {
    fn version(&self) -> Result<String> {
        Call::new(&self.0).arg("--version").first_line()
    }

    fn init(&self, place: &Place) -> Call {
        self.call(place, "init")
    }

    fn backup(&self, place: &Place, backup: &Backup<'_>) -> Call {
        let cuts = match backup.cuts {
            Cuts::Auto => "auto",
            Cuts::Rabin => "rabin",
            Cuts::Fixed => "fixed",
        };
        let call = self.call(place, "backup").args(["--chunking", cuts]);
        let call = if backup.reread {
            call.arg("--force")
        } else {
            call
        };
        let call = match &backup.state {
            Some(dir) => call.arg("--state-dir").arg(dir),
            None => call,
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
