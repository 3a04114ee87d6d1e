//! Whether a repository has a snapshot already, copied or mended. Pure.
//!
//! As restic decides it: a copy names the snapshot it was first made from as its original, and says
//! the same of everything that a copy keeps.

use super::repair::TAG;
use crate::repo::Snapshot;

/// The id that all copies of it have as their original.
pub(super) fn first(snapshot: &Snapshot) -> &str {
    snapshot.original.as_deref().unwrap_or(&snapshot.id)
}

/// The id of the same snapshot among others, which may be copies of it or what it is a copy of.
pub(super) fn copied(snapshot: &Snapshot, others: &[Snapshot]) -> Option<String> {
    let all = |_: &str| true;
    let same = |other: &&Snapshot| {
        (first(other) == first(snapshot) || other.id == first(snapshot))
            && other.tree == snapshot.tree
            && kept(other, all) == kept(snapshot, all)
    };
    others.iter().find(same).map(|other| other.id.clone())
}

/// The id of the snapshot, among others, that was made of this one and has this tree. Whether it
/// has the mark of mended ones does not count.
pub(super) fn mended(snapshot: &Snapshot, tree: &str, others: &[Snapshot]) -> Option<String> {
    let unmarked = |tag: &str| tag != TAG;
    let same = |other: &&Snapshot| {
        other.original.as_deref() == Some(&snapshot.id)
            && other.tree == tree
            && kept(other, unmarked) == kept(snapshot, unmarked)
    };
    others.iter().find(same).map(|other| other.id.clone())
}

/// What copying and mending keep, with the tags that count.
fn kept(snapshot: &Snapshot, counts: impl Fn(&str) -> bool) -> impl PartialEq {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    let mut tags = sorted(&snapshot.tags);
    tags.retain(|tag| counts(tag));
    (
        snapshot.time,
        (snapshot.hostname.clone(), snapshot.username.clone()),
        (snapshot.uid, snapshot.gid),
        (sorted(&snapshot.paths), sorted(&snapshot.excludes), tags),
    )
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::Offset};

    use super::*;

    fn snapshot(id: &str) -> Snapshot {
        Snapshot {
            id: id.to_owned(),
            time: Timestamp::UNIX_EPOCH,
            offset: Offset::UTC,
            hostname: "h".to_owned(),
            username: "u".to_owned(),
            uid: 1,
            gid: 2,
            paths: vec!["/a".to_owned(), "/b".to_owned()],
            tags: vec!["t".to_owned()],
            excludes: Vec::new(),
            original: None,
            tree: "tree".to_owned(),
            parent: None,
            program_version: String::new(),
            summary: None,
            coverage: crate::Coverage::default(),
            synced: None,
        }
    }

    fn made_of(original: &str, id: &str) -> Snapshot {
        Snapshot {
            original: Some(original.to_owned()),
            ..snapshot(id)
        }
    }

    #[test]
    fn a_copy_is_known_by_its_original() {
        let source = snapshot("1");
        let copy = Snapshot {
            paths: vec!["/b".to_owned(), "/a".to_owned()],
            ..made_of("1", "2")
        };
        assert_eq!(copied(&source, &[]), None);
        let one = std::slice::from_ref;
        assert_eq!(copied(&source, one(&copy)), Some("2".to_owned()));
        // And back.
        assert_eq!(copied(&copy, one(&source)), Some("1".to_owned()));
        // A copy of the copy.
        let third = made_of("1", "3");
        assert_eq!(copied(&third, &[copy]), Some("2".to_owned()));
    }

    #[test]
    fn a_mended_one_is_known_by_its_original_and_tree() {
        let original = Snapshot {
            tree: "broken".to_owned(),
            ..snapshot("1")
        };
        let whole = Snapshot {
            tags: vec!["t".to_owned(), TAG.to_owned()],
            ..made_of("1", "2")
        };
        let others = [original.clone(), whole.clone()];
        assert_eq!(mended(&original, "tree", &others), Some("2".to_owned()));
        assert_eq!(mended(&original, "otherwise", &others), None);
        assert_eq!(mended(&whole, "tree", &others), None);
        // A mended one is no copy.
        assert_eq!(copied(&original, &[whole]), None);
    }

    #[test]
    fn what_was_changed_since_is_another() {
        let source = snapshot("1");
        let copy = made_of("1", "2");
        for other in [
            Snapshot {
                tags: Vec::new(),
                ..copy.clone()
            },
            Snapshot {
                tree: "other".to_owned(),
                ..copy.clone()
            },
            Snapshot {
                hostname: "other".to_owned(),
                ..copy.clone()
            },
            Snapshot {
                original: None,
                ..copy.clone()
            },
        ] {
            let others = [other];
            assert_eq!(copied(&source, &others), None);
            assert_eq!(mended(&source, "tree", &others), None);
        }
    }
}
