//! Whether a snapshot was mended before. Pure.

use super::TAG;
use crate::repo::Snapshot;

/// The id of the snapshot, among others, that was made of this one and has this tree. Whether it has the mark does not count.
pub(super) fn of(snapshot: &Snapshot, tree: &str, others: &[Snapshot]) -> Option<String> {
    let made_of_it = |other: &&Snapshot| {
        other.original.as_deref() == Some(&snapshot.id)
            && other.tree == tree
            && kept(other) == kept(snapshot)
    };
    others.iter().find(made_of_it).map(|other| other.id.clone())
}

/// What mending keeps.
fn kept(snapshot: &Snapshot) -> impl PartialEq {
    let mut tags: Vec<String> = snapshot.tags.clone();
    tags.retain(|tag| tag != TAG);
    (
        snapshot.time,
        (snapshot.hostname.clone(), snapshot.username.clone()),
        (snapshot.uid, snapshot.gid),
        (snapshot.paths.clone(), snapshot.excludes.clone(), tags),
    )
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::Offset};

    use super::*;

    #[test]
    fn a_mended_one_is_known_by_its_original_and_tree() {
        let original = Snapshot {
            id: "1".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            offset: Offset::UTC,
            hostname: "h".to_owned(),
            username: "u".to_owned(),
            uid: 1,
            gid: 2,
            paths: vec!["/a".to_owned()],
            tags: vec!["t".to_owned()],
            excludes: Vec::new(),
            original: None,
            tree: "broken".to_owned(),
            parent: None,
            program_version: String::new(),
            summary: None,
        };
        let mended = Snapshot {
            id: "2".to_owned(),
            original: Some("1".to_owned()),
            tree: "mended".to_owned(),
            tags: vec!["t".to_owned(), TAG.to_owned()],
            ..original.clone()
        };
        let others = [original.clone(), mended.clone()];
        assert_eq!(of(&original, "mended", &others), Some("2".to_owned()));
        assert_eq!(of(&original, "otherwise", &others), None);
        assert_eq!(of(&mended, "mended", &others), None);
        for other in [
            Snapshot {
                original: None,
                ..mended.clone()
            },
            Snapshot {
                tags: Vec::new(),
                ..mended.clone()
            },
            Snapshot {
                hostname: "other".to_owned(),
                ..mended
            },
        ] {
            assert_eq!(of(&original, "mended", &[other]), None);
        }
    }
}
