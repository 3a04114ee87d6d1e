//! Whose turn it is. Pure: from what runs and what waits to one's own turn.
//!
//! Work in disjoint namespaces runs side by side up to a limit. Work that shares a namespace with
//! what runs, or with what waits before it, waits. The order is that of creation, then of names; it
//! is the same after a restart, because it depends on nothing else. What waits only because of a
//! shared namespace holds up nobody else.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::registry::Subject;

/// Namespaces that work is done in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Any.
    All,
    /// These.
    Of(BTreeSet<String>),
}

impl Scope {
    /// What two scopes share, in words; nothing if they are disjoint.
    pub(crate) fn shared(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::All, Self::All) => Some("all namespaces".to_owned()),
            (Self::All, Self::Of(names)) | (Self::Of(names), Self::All) => {
                names.first().map(|name| format!("namespace {name}"))
            }
            (Self::Of(one), Self::Of(two)) => one
                .intersection(two)
                .next()
                .map(|name| format!("namespace {name}")),
        }
    }
}

/// What runs or waits.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Uid of its object.
    pub(crate) uid: String,
    /// Name of its object.
    pub(crate) name: String,
    /// When its object was created.
    pub(crate) created: Timestamp,
    /// Where it works.
    pub(crate) scope: Scope,
    /// Whether it has begun.
    pub(crate) running: bool,
}

/// One's own turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now.
    Now,
    /// Later.
    Wait {
        /// Place among those that wait, from 1.
        position: i32,
        /// Whom it waits for, in words.
        why: String,
    },
}

/// All work that `own` has to do with: what the registry says runs, what else has begun or waits,
/// and itself.
pub(crate) fn gather(
    own: Work,
    others: impl Iterator<Item = Work>,
    running: &[Subject],
) -> Vec<Work> {
    let mut work: Vec<Work> = running
        .iter()
        .map(|subject| Work {
            uid: subject.uid.clone(),
            name: subject.name.clone(),
            created: Timestamp::MIN,
            scope: subject.scope.clone(),
            running: true,
        })
        .collect();
    for other in others.filter(|other| other.uid != own.uid) {
        if !running.iter().any(|subject| subject.uid == other.uid) {
            work.push(other);
        }
    }
    work.push(own);
    work
}

/// The turn of the work with this uid among all work of its kind. `what` is the noun: `backup`.
pub(crate) fn turn(work: &[Work], uid: &str, limit: usize, what: &str) -> Turn {
    let mut begun: Vec<&Work> = work.iter().filter(|work| work.running).collect();
    let mut queue: Vec<&Work> = work.iter().filter(|work| !work.running).collect();
    queue.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut waiting: Vec<&Work> = Vec::new();
    for candidate in queue {
        let mut before = waiting
            .iter()
            .map(|other| (*other, "waits before it"))
            .chain(begun.iter().map(|other| (*other, "runs")))
            .rev();
        let blocker = before
            .find_map(|(other, does)| Some((other, does, other.scope.shared(&candidate.scope)?)));
        let why = match blocker {
            Some((other, does, shared)) => {
                Some(format!("{what} {} {does} and has {shared} too", other.name))
            }
            None if begun.len() >= limit => {
                let plural = if limit == 1 { "" } else { "s" };
                Some(format!(
                    "{limit} {what}{plural} run, which is the limit, first {}",
                    begun.first().map_or("", |other| other.name.as_str())
                ))
            }
            None => None,
        };
        let own = candidate.uid == uid;
        match why {
            None if own => return Turn::Now,
            None => begun.push(candidate),
            Some(why) => {
                waiting.push(candidate);
                if own {
                    let position = i32::try_from(waiting.len()).unwrap_or(i32::MAX);
                    return Turn::Wait { position, why };
                }
            }
        }
    }
    // What is not among the work has nobody before it that it would have to wait for.
    Turn::Now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Scope {
        Scope::Of(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn work(name: &str, created: i64, scope: Scope, running: bool) -> Work {
        Work {
            uid: name.to_owned(),
            name: name.to_owned(),
            created: Timestamp::from_second(created).unwrap(),
            scope,
            running,
        }
    }

    /// `0` for now, else the position.
    fn position(all: &[Work], uid: &str, limit: usize) -> i32 {
        match turn(all, uid, limit, "backup") {
            Turn::Now => 0,
            Turn::Wait { position, .. } => position,
        }
    }

    fn why(all: &[Work], uid: &str, limit: usize) -> String {
        match turn(all, uid, limit, "backup") {
            Turn::Now => String::new(),
            Turn::Wait { why, .. } => why,
        }
    }

    #[test]
    fn disjoint_work_runs_side_by_side_and_overlapping_work_waits() {
        let all = [
            work("run", 1, of(&["a"]), true),
            work("same", 2, of(&["a", "b"]), false),
            work("other", 3, of(&["c"]), false),
            work("after-same", 4, of(&["b"]), false),
            work("everything", 5, Scope::All, false),
            work("last", 6, of(&["d"]), false),
        ];
        let positions: Vec<i32> = all[1..]
            .iter()
            .map(|work| position(&all, &work.uid, 8))
            .collect();
        // The last one is disjoint from all that run, but one that waits before it has every
        // namespace.
        assert_eq!(positions, [1, 0, 2, 3, 4]);
        assert_eq!(
            why(&all, "same", 8),
            "backup run runs and has namespace a too"
        );
        assert_eq!(
            why(&all, "after-same", 8),
            "backup same waits before it and has namespace b too"
        );
    }

    #[test]
    fn the_limit_counts_what_runs_and_what_goes_before() {
        let all = [
            work("r1", 1, of(&["a"]), true),
            work("q1", 2, of(&["b"]), false),
            work("q2", 3, of(&["c"]), false),
            work("q3", 4, of(&["d"]), false),
        ];
        assert_eq!(position(&all, "q1", 2), 0);
        assert_eq!(position(&all, "q2", 2), 1);
        assert_eq!(position(&all, "q3", 2), 2);
        assert!(why(&all, "q2", 2).contains("the limit"));
        assert_eq!(position(&all, "q1", 1), 1);
    }

    #[test]
    fn the_order_is_that_of_creation_and_then_of_names() {
        let all = [
            work("b", 5, of(&["x"]), false),
            work("a", 5, of(&["x"]), false),
            work("c", 4, of(&["x"]), false),
        ];
        assert_eq!(position(&all, "c", 8), 0);
        assert_eq!(position(&all, "a", 8), 1);
        assert_eq!(position(&all, "b", 8), 2);
    }

    #[test]
    fn a_scope_without_namespaces_disturbs_nobody() {
        assert_eq!(of(&[]).shared(&Scope::All), None);
        assert_eq!(of(&[]).shared(&of(&[])), None);
        assert!(Scope::All.shared(&Scope::All).is_some());
    }
}
