//! Whether a repository has a snapshot already. Pure.
//!
//! As restic decides it: a copy names the snapshot it was first made from as its original, and says the same of everything that
//! a copy keeps.

use crate::repo::Snapshot;

/// The id that all copies of it have as their original.
pub(super) fn first(snapshot: &Snapshot) -> &str {
    snapshot.original.as_deref().unwrap_or(&snapshot.id)
}

/// The id of the same snapshot among others.
pub(super) fn of(snapshot: &Snapshot, others: &[Snapshot]) -> Option<String> {
    let same = |other: &&Snapshot| {
        (first(other) == first(snapshot) || other.id == first(snapshot))
            && is_alike(snapshot, other)
    };
    others.iter().find(same).map(|other| other.id.clone())
}

fn is_alike(a: &Snapshot, b: &Snapshot) -> bool {
    let key = |snapshot: &Snapshot| {
        (
            snapshot.time,
            snapshot.tree.clone(),
            (snapshot.hostname.clone(), snapshot.username.clone()),
            (snapshot.uid, snapshot.gid),
            [&snapshot.paths, &snapshot.excludes, &snapshot.tags].map(|list| {
                let mut list = list.clone();
                list.sort();
                list
            }),
        )
    };
    key(a) == key(b)
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
        }
    }

    #[test]
    fn a_copy_is_known_by_its_original() {
        let source = snapshot("1");
        let copy = Snapshot {
            original: Some("1".to_owned()),
            paths: vec!["/b".to_owned(), "/a".to_owned()],
            ..snapshot("2")
        };
        assert_eq!(of(&source, &[]), None);
        assert_eq!(
            of(&source, std::slice::from_ref(&copy)),
            Some("2".to_owned())
        );
        // And back.
        assert_eq!(
            of(&copy, std::slice::from_ref(&source)),
            Some("1".to_owned())
        );
        // A copy of the copy.
        let third = Snapshot {
            original: Some("1".to_owned()),
            ..snapshot("3")
        };
        assert_eq!(of(&third, &[copy]), Some("2".to_owned()));
    }

    #[test]
    fn what_was_changed_since_is_another() {
        let source = snapshot("1");
        let copy = Snapshot {
            original: Some("1".to_owned()),
            ..snapshot("2")
        };
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
            assert_eq!(of(&source, &[other]), None);
        }
    }
}
