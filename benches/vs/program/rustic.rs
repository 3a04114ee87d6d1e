//! Stock rustic.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Backup, PASSWORD, Place, Program};
use crate::measure::Call;

/// The program.
pub(crate) struct Rustic(pub(crate) PathBuf);

impl Rustic {
    fn call(&self, place: &Place, verb: &str) -> Call {
        let call = Call::new(&self.0)
            .args(["--no-cache", "--no-progress", "--log-level", "warn"])
            .variable("RUSTIC_PASSWORD", PASSWORD);
        let call = match place {
            Place::Local(dir) => call.arg("--repository").arg(dir),
            Place::S3 {
                endpoint,
                bucket,
                prefix,
                key,
                secret,
            } => call
                .args(["--repository", "opendal:s3"])
                .variable("OPENDAL_ENDPOINT", endpoint)
                .variable("OPENDAL_BUCKET", bucket)
                .variable("OPENDAL_ROOT", format!("/{prefix}"))
                .variable("OPENDAL_REGION", "us-east-1")
                .variable("OPENDAL_ACCESS_KEY_ID", key)
                .variable("OPENDAL_SECRET_ACCESS_KEY", secret),
        };
        call.arg(verb)
    }
}

impl Program for Rustic {
    fn version(&self) -> Result<String> {
        Call::new(&self.0).arg("--version").first_line()
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
        self.call(place, "restore").arg("latest").arg(target)
    }

    fn forget(&self, place: &Place, keep: u32) -> Call {
        self.call(place, "forget")
            .args(["--keep-last", &keep.to_string()])
    }

    /// In one go: as it is by default, it would only mark what goes, for another prune a day later.
    fn prune(&self, place: &Place) -> Call {
        self.call(place, "prune").args([
            "--max-unused",
            "5%",
            "--max-repack",
            "unlimited",
            "--instant-delete",
        ])
    }

    /// It counts nothing by snapshot. This is what goes through all of their directories to tell
    /// how much they need.
    fn stats(&self, place: &Place) -> Call {
        self.call(place, "prune").arg("--dry-run")
    }

    fn find(&self, place: &Place, pattern: &str) -> Call {
        let anywhere = format!("**/{pattern}");
        self.call(place, "find").args(["--glob", &anywhere])
    }

    fn check_data(&self, place: &Place) -> Call {
        self.call(place, "check").arg("--read-data")
    }
}
