//! Ark's engine, through its command.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Backup, Cuts, PASSWORD, Place, Program};
use crate::measure::Call;

/// The command, and which of its commands speaks of repositories.
pub(crate) struct Ark {
    /// The program.
    pub(crate) program: PathBuf,
    /// Words before the verb.
    pub(crate) words: &'static [&'static str],
}

impl Ark {
    fn call(&self, place: &Place, verb: &str) -> Call {
        let call = Call::new(&self.program)
            .args(self.words)
            .arg(verb)
            .arg("--repo")
            .arg(place.restic_spelling())
            .variable("RESTIC_PASSWORD", PASSWORD);
        match place {
            Place::Local(_) => call,
            Place::S3 { key, secret, .. } => call
                .variable("AWS_ACCESS_KEY_ID", key)
                .variable("AWS_SECRET_ACCESS_KEY", secret),
        }
    }
}

impl Program for Ark {
    fn version(&self) -> Result<String> {
        Call::new(&self.program).arg("--version").first_line()
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
        call.arg(backup.source)
    }

    fn restore(&self, place: &Place, target: &Path) -> Call {
        self.call(place, "restore")
            .args(["latest", "--target"])
            .arg(target)
    }
}
