//! Groups of snapshots: each is divided by a policy on its own.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    error::{Error, Result},
    format::root::RootMeta,
    repo::Snapshot,
};

/// What snapshots of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host name.
    pub host: bool,
    /// All paths.
    pub paths: bool,
    /// All tags, but those that hold the root directory's metadata.
    pub tags: bool,
}

impl Default for GroupBy {
    /// As restic groups: by host and paths.
    fn default() -> Self {
        Self {
            host: true,
            paths: true,
            tags: false,
        }
    }
}

impl FromStr for GroupBy {
    type Err = Error;

    /// Words separated by commas; an empty text does not group.
    fn from_str(text: &str) -> Result<Self> {
        let mut by = Self {
            host: false,
            paths: false,
            tags: false,
        };
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            match word {
                "host" | "hosts" => by.host = true,
                "path" | "paths" => by.paths = true,
                "tag" | "tags" => by.tags = true,
                other => {
                    return Err(Error::InvalidConfig {
                        what: "grouping",
                        message: format!("{other:?} is none of host, paths and tags"),
                    });
                }
            }
        }
        Ok(by)
    }
}

/// What the snapshots of a group have in common; empty where it does not group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// Host name.
    pub host: String,
    /// Paths, sorted.
    pub paths: Vec<String>,
    /// Tags, sorted.
    pub tags: Vec<String>,
}

impl GroupKey {
    pub(crate) fn of(snapshot: &Snapshot, by: GroupBy) -> Self {
        let sorted = |wanted: bool, texts: &[String]| {
            let mut texts = if wanted { texts.to_vec() } else { Vec::new() };
            texts.sort();
            texts
        };
        let mut tags = sorted(by.tags, &snapshot.tags);
        // They differ from snapshot to snapshot.
        tags.retain(|tag| !RootMeta::is_tag(tag));
        Self {
            host: if by.host {
                snapshot.hostname.clone()
            } else {
                String::new()
            },
            paths: sorted(by.paths, &snapshot.paths),
            tags,
        }
    }
}

/// Divides snapshots into groups, in order of their keys.
pub(super) fn group(snapshots: Vec<Snapshot>, by: GroupBy) -> BTreeMap<GroupKey, Vec<Snapshot>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for snapshot in snapshots {
        let key = GroupKey::of(&snapshot, by);
        groups.entry(key).or_default().push(snapshot);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let by = |text: &str| text.parse::<GroupBy>().unwrap();
        assert_eq!(by("host,paths"), GroupBy::default());
        let none = GroupBy {
            host: false,
            paths: false,
            tags: false,
        };
        assert_eq!(by(""), none);
        assert!(by("tags").tags);
        assert!("hots".parse::<GroupBy>().is_err());
    }
}
