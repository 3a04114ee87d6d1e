//! Choosing snapshots as restic does: by host, tags and paths, and by `latest` or the beginning of
//! an id.

use super::{Repository, Snapshot};
use crate::error::{Error, Result};

/// The word for the newest snapshot.
const LATEST: &str = "latest";

/// Which snapshots count. An empty list does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Of one of these hosts.
    pub hosts: Vec<String>,
    /// With all tags of one of these lists. An empty tag stands for no tags at all.
    pub tags: Vec<Vec<String>>,
    /// With all these paths.
    pub paths: Vec<String>,
}

impl SnapshotFilter {
    /// Whether it restricts nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a snapshot counts.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let host = self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname);
        let mut lists = self.tags.iter();
        let tags = self.tags.is_empty() || lists.any(|tags| snapshot.has_tags(tags));
        host && tags && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

impl Repository {
    /// The snapshot named: `latest` is the newest that the filter lets through, anything else the
    /// beginning of an id, whatever the filter says. Blocks; see the module of [`Repository`].
    ///
    /// # Errors
    /// `SnapshotNotFound`, `SnapshotAmbiguous`, and what the store says.
    pub fn select_snapshot(&self, name: &str, filter: &SnapshotFilter) -> Result<Snapshot> {
        if name != LATEST {
            return self.find_snapshot(name);
        }
        let newest = self.snapshots()?.into_iter().rfind(|s| filter.matches(s));
        newest.ok_or_else(|| Error::SnapshotNotFound {
            location: self.location(),
            id: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::Offset};

    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            id: String::new(),
            time: Timestamp::UNIX_EPOCH,
            offset: Offset::UTC,
            hostname: "h".to_owned(),
            username: String::new(),
            uid: 0,
            gid: 0,
            paths: vec!["/a".to_owned(), "/b".to_owned()],
            tags: vec!["x".to_owned(), "y".to_owned()],
            excludes: Vec::new(),
            original: None,
            tree: String::new(),
            parent: None,
            program_version: String::new(),
            summary: None,
            coverage: crate::Coverage::default(),
            synced: None,
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn any_host_any_list_of_tags_all_paths() {
        let fits = |hosts: &[&str], tags: &[&[&str]], paths: &[&str]| {
            SnapshotFilter {
                hosts: texts(hosts),
                tags: tags.iter().map(|list| texts(list)).collect(),
                paths: texts(paths),
            }
            .matches(&snapshot())
        };
        assert!(fits(&[], &[], &[]));
        assert!(fits(&["other", "h"], &[&["x", "z"], &["y"]], &["/b"]));
        assert!(!fits(&["other"], &[], &[]));
        assert!(!fits(&[], &[&["x", "z"]], &[]));
        assert!(!fits(&[], &[], &["/a", "/c"]));
        assert!(!fits(&[], &[&[""]], &[]));
        let untagged = Snapshot {
            tags: Vec::new(),
            ..snapshot()
        };
        assert!(untagged.has_tags(&texts(&[""])));
        // Those of the root directory are nobody's tags.
        let directory = Snapshot {
            tags: texts(&["ark.root=0755:0:0:1", "ark.root-xattr=user.a:AP8"]),
            ..snapshot()
        };
        assert!(directory.has_tags(&texts(&[""])));
    }
}
