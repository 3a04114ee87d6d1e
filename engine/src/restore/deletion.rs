//! Where a restore may delete what the snapshot does not have. Pure.
//!
//! Only in directories that the backup read whole: what it did not read it cannot say anything
//! about. A snapshot of ours says which those are ([`Coverage`]), and the entry of a directory of
//! which something was left out says that. Snapshots of other programs say nothing. What the
//! snapshot's patterns leave out stays, and so do sockets, which no snapshot has.

use std::path::{Path, PathBuf};

use super::RestoreRequest;
use crate::{
    archive::filter::Filter, error::Result, files::meta::Kind, format::snapshot::Coverage,
    repo::Snapshot,
};

/// Where a restore may delete, and what it may not.
pub(super) struct Deletion {
    covered: Covered,
    patterns: Filter,
}

/// Directories that count as read whole, unless their entries say otherwise.
enum Covered {
    Nothing,
    All,
    BelowRoot,
    /// These, as shown in the snapshot, and what is below.
    Paths(Vec<PathBuf>),
}

impl Deletion {
    /// What a request and a snapshot allow.
    ///
    /// # Errors
    /// `InvalidConfig` if the snapshot's patterns make no sense, and deleting is asked for.
    pub(super) fn of(request: &RestoreRequest, snapshot: &Snapshot) -> Result<Self> {
        let covered = match snapshot.coverage {
            _ if !request.delete_extra => Covered::Nothing,
            Coverage::Unknown if request.assume_whole => Covered::All,
            Coverage::Unknown => Covered::Nothing,
            Coverage::Root => Covered::All,
            Coverage::BelowRoot => Covered::BelowRoot,
            Coverage::Paths => Covered::Paths(snapshot.paths.iter().map(PathBuf::from).collect()),
        };
        let patterns = match covered {
            Covered::Nothing => &[][..],
            _ => &snapshot.excludes,
        };
        Ok(Self {
            covered,
            patterns: Filter::new(patterns, false, None)?,
        })
    }

    /// Why nothing at all may be deleted though it is asked for.
    pub(super) fn refusal(request: &RestoreRequest, snapshot: &Snapshot) -> Option<String> {
        let unknown = snapshot.coverage == Coverage::Unknown && !request.assume_whole;
        (request.delete_extra && unknown).then(|| {
            format!(
                "nothing is deleted: the snapshot, written by {:?}, does not say which directories were read whole",
                snapshot.program_version
            )
        })
    }

    /// Whether a directory of the snapshot counts as read whole, unless its entry says otherwise.
    pub(super) fn covers(&self, path: &Path) -> bool {
        match &self.covered {
            Covered::Nothing => false,
            Covered::All => true,
            Covered::BelowRoot => !path.as_os_str().is_empty(),
            Covered::Paths(paths) => {
                let shown = Path::new("/").join(path);
                // As the snapshot shows it.
                let shown = PathBuf::from(shown.to_string_lossy().into_owned());
                paths.iter().any(|path| shown.starts_with(path))
            }
        }
    }

    /// Whether an entry that the snapshot does not have stays wherever it is.
    pub(super) fn keeps(&self, path: &Path, kind: Kind) -> bool {
        kind == Kind::Socket || self.patterns.excludes(path, kind == Kind::Dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::tests::snapshot;

    fn deletion(coverage: Coverage, paths: &[&str], excludes: &[&str], assume: bool) -> Deletion {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let snapshot = Snapshot {
            coverage,
            paths: texts(paths),
            excludes: texts(excludes),
            ..snapshot()
        };
        let request = RestoreRequest {
            delete_extra: true,
            assume_whole: assume,
            ..RestoreRequest::default()
        };
        Deletion::of(&request, &snapshot).unwrap()
    }

    #[test]
    fn what_was_read_whole_is_what_the_snapshot_says() {
        use Coverage::{BelowRoot, Paths, Root, Unknown};
        let of = |coverage, assume| deletion(coverage, &["/srv/data", "/a b"], &[], assume);
        for (coverage, assume, covered, not) in [
            (Unknown, false, &[][..], &["", "srv", "srv/data"][..]),
            (Unknown, true, &["", "srv", "srv/data"], &[]),
            (Root, false, &["", "srv", "srv/data"], &[]),
            (BelowRoot, false, &["srv", "srv/data"], &[""]),
            (
                Paths,
                false,
                &["srv/data", "srv/data/x", "a b"],
                &["", "srv", "srv/data2", "a"],
            ),
        ] {
            let deletion = of(coverage, assume);
            for path in covered {
                assert!(deletion.covers(Path::new(path)), "{coverage:?} {path:?}");
            }
            for path in not {
                assert!(!deletion.covers(Path::new(path)), "{coverage:?} {path:?}");
            }
        }
    }

    #[test]
    fn what_the_backup_leaves_out_by_rule_stays() {
        let deletion = deletion(Coverage::Root, &[], &["*.log", "/tmp/", "!keep.log"], false);
        for (path, kind, keeps) in [
            ("a/x.log", Kind::File, true),
            ("a/keep.log", Kind::File, false),
            ("tmp", Kind::Dir, true),
            ("a/tmp", Kind::Dir, false),
            ("a/sock", Kind::Socket, true),
            ("a", Kind::Dir, false),
        ] {
            assert_eq!(deletion.keeps(Path::new(path), kind), keeps, "{path}");
        }
    }
}
