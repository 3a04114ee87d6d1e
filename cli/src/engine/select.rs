//! Which snapshots are meant: options of several commands.

use ark_engine::{Repository, Snapshot, SnapshotFilter};
use clap::Args;

use super::values::{self, tag_lists};
use crate::error::Result;

/// Which snapshots count.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(super) struct FilterArgs {
    /// Only snapshots of this host; may be given several times
    #[arg(short = 'H', long, value_name = "HOST", value_parser = values::word)]
    host: Vec<String>,
    /// Only snapshots with all these tags; may be given several times for alternatives
    #[arg(long, value_name = "TAG,...")]
    tag: Vec<String>,
    /// Only snapshots with this path; may be given several times
    #[arg(long, value_name = "PATH", value_parser = values::absolute_path)]
    path: Vec<String>,
}

impl FilterArgs {
    /// As the engine takes it.
    pub(super) fn filter(&self) -> SnapshotFilter {
        SnapshotFilter {
            hosts: self.host.clone(),
            tags: tag_lists(&self.tag),
            paths: self.path.clone(),
        }
    }

    /// The snapshots of these names, or all that count when none is named.
    pub(super) fn named(&self, repo: &Repository, names: &[String]) -> Result<Vec<Snapshot>> {
        let filter = self.filter();
        if names.is_empty() {
            let mut snapshots = repo.snapshots()?;
            snapshots.retain(|snapshot| filter.matches(snapshot));
            return Ok(snapshots);
        }
        let find = |name: &String| Ok(repo.select_snapshot(name, &filter)?);
        names.iter().map(find).collect()
    }
}
