//! Which backups are deleted because they expired. Pure.

use std::collections::HashMap;

use ark_api::backup::BackupPhase;
use jiff::{SignedDuration, Timestamp};

/// How long a backup that was found in a bucket is left alone: time to look at what a fresh cluster
/// found.
const GRACE: SignedDuration = SignedDuration::from_hours(72);

/// A backup that has ended.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its name.
    pub(super) name: String,
    /// Uid of its object.
    pub(super) uid: String,
    /// When its time is over.
    pub(super) expires: Option<Timestamp>,
    /// Its own spec says how long it is kept.
    pub(super) has_ttl: bool,
    /// Label value of its schedule.
    pub(super) schedule: Option<String>,
    /// Cluster that made it.
    pub(super) cluster: String,
    /// That is another one.
    pub(super) foreign: bool,
    /// When it was found in the bucket, if it was.
    pub(super) found: Option<Timestamp>,
    /// When it was taken.
    pub(super) taken: Timestamp,
    /// How it ended.
    pub(super) phase: BackupPhase,
    /// It may expire although it is the last good one of its schedule.
    pub(super) expire_last: bool,
    /// Its deletion has been requested.
    pub(super) requested: bool,
    /// Its schedule has rules, and these keep it for these reasons; for none if there are none.
    pub(super) kept: Option<Vec<String>>,
}

/// What holds for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Now.
    pub(super) now: Timestamp,
    /// What expired up to then may be deleted without limit.
    pub(super) acknowledged: Option<Timestamp>,
    /// So many may be deleted at once without that.
    pub(super) limit: usize,
}

/// What becomes of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays, for this reason.
    Keep(String),
    /// It stays until somebody acknowledges that it goes, for this reason.
    Held(String),
    /// It goes, for this reason.
    Delete(String),
}

/// What becomes of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of the items.
    pub(super) fates: Vec<Fate>,
    /// How many wait for an acknowledgement.
    pub(super) unacknowledged: usize,
    /// Why.
    pub(super) why: String,
}

/// Decides over all backups of a location.
pub(super) fn plan(items: &[Item], rules: &Rules) -> Plan {
    let last = last_good(items);
    let mut fates: Vec<Fate> = items
        .iter()
        .enumerate()
        .map(|(index, item)| alone(item, rules, last.contains(&index)))
        .collect();
    // Those that are on their way count: a thousand are not made harmless by being asked for in
    // tens.
    let pending = items.iter().filter(|item| item.requested).count();
    let due = fates
        .iter()
        .filter(|fate| matches!(fate, Fate::Delete(_)))
        .count();
    let mut why = String::new();
    if due + pending > rules.limit {
        why = format!("{} at once are more than {}", due + pending, rules.limit);
        for (item, fate) in items.iter().zip(&mut fates) {
            if matches!(fate, Fate::Delete(_)) && !is_acknowledged(item, rules) {
                *fate = Fate::Held(why.clone());
            }
        }
    }
    let held: Vec<&String> = fates
        .iter()
        .filter_map(|fate| match fate {
            Fate::Held(why) => Some(why),
            _ => None,
        })
        .collect();
    if let Some(first) = held.first() {
        why.clone_from(first);
    }
    Plan {
        unacknowledged: held.len(),
        fates,
        why,
    }
}

fn is_acknowledged(item: &Item, rules: &Rules) -> bool {
    match (item.expires, rules.acknowledged) {
        (Some(expires), Some(acknowledged)) => expires.max(item.taken) <= acknowledged,
        (None, Some(acknowledged)) => item.taken <= acknowledged,
        (_, None) => false,
    }
}

/// Decides over one backup, whatever becomes of the others.
fn alone(item: &Item, rules: &Rules, is_last_good: bool) -> Fate {
    let keep = |why: &str| Fate::Keep(why.to_owned());
    if item.requested {
        return keep("its deletion has been requested");
    }
    let expired = item.expires.is_some_and(|expires| expires <= rules.now);
    let why = match &item.kept {
        // Another cluster's rules are not known here, and this cluster's are not for its backups.
        Some(reasons) if !item.foreign => {
            if !reasons.is_empty() {
                return Fate::Keep(reasons.join(", "));
            }
            if item.has_ttl && !expired {
                return keep("its time to live is not over");
            }
            "no rule of its schedule keeps it"
        }
        _ if !expired => return keep("its time to live is not over"),
        _ => "its time to live is over",
    };
    if is_last_good && !item.expire_last {
        return keep("it is the last good backup of its schedule");
    }
    if let Some(found) = item.found
        && rules.now.duration_since(found) < GRACE
    {
        return keep("it was found at the location less than three days ago");
    }
    if item.foreign && !is_acknowledged(item, rules) {
        return Fate::Held("another cluster made them and may still use them".to_owned());
    }
    Fate::Delete(why.to_owned())
}

/// The newest Completed backup of each schedule of each cluster, or the newest that can be restored
/// if none is.
fn last_good(items: &[Item]) -> Vec<usize> {
    let mut best: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let Some(schedule) = item.schedule.as_deref() else {
            continue;
        };
        if !item.phase.is_restorable() {
            continue;
        }
        // Of two taken in one second, the name with the later time in it decides.
        let rank = |index: usize| {
            let item = &items[index];
            let complete = item.phase == BackupPhase::Completed;
            (complete, item.taken, item.name.as_str())
        };
        best.entry((item.cluster.as_str(), schedule))
            .and_modify(|known| {
                if rank(index) > rank(*known) {
                    *known = index;
                }
            })
            .or_insert(index);
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn day(day: i64) -> Timestamp {
        at("2026-01-01T00:00:00Z")
            .checked_add(SignedDuration::from_hours(24 * day))
            .unwrap()
    }

    /// A backup of day `taken` that expires on day `expires`.
    fn item(name: &str, taken: i64, expires: i64) -> Item {
        Item {
            name: name.to_owned(),
            uid: name.to_owned(),
            expires: Some(day(expires)),
            has_ttl: true,
            schedule: None,
            cluster: "here".to_owned(),
            foreign: false,
            found: None,
            taken: day(taken),
            phase: BackupPhase::Completed,
            expire_last: false,
            requested: false,
            kept: None,
        }
    }

    fn of(schedule: &str, mut item: Item) -> Item {
        item.schedule = Some(schedule.to_owned());
        item
    }

    fn rules(now: i64) -> Rules {
        Rules {
            now: day(now),
            acknowledged: None,
            limit: 100,
        }
    }

    /// The names of those that go.
    fn deleted(items: &[Item], rules: &Rules) -> Vec<String> {
        let plan = plan(items, rules);
        items
            .iter()
            .zip(&plan.fates)
            .filter(|(_, fate)| matches!(fate, Fate::Delete(_)))
            .map(|(item, _)| item.name.clone())
            .collect()
    }

    #[test]
    fn what_expired_goes() {
        let mut endless = item("endless", 0, 0);
        endless.expires = None;
        let mut asked = item("asked", 0, 1);
        asked.requested = true;
        let items = [item("old", 0, 10), item("new", 5, 20), endless, asked];
        assert_eq!(deleted(&items, &rules(10)), ["old"]);
        assert!(deleted(&items, &rules(9)).is_empty());
    }

    #[test]
    fn the_last_good_backup_of_a_schedule_does_not_expire_by_time_alone() {
        let mut failed = of("daily", item("failed", 4, 6));
        failed.phase = BackupPhase::Failed;
        let mut partial = of("daily", item("partial", 3, 6));
        partial.phase = BackupPhase::PartiallyFailed;
        let mut items = vec![
            of("daily", item("first", 1, 6)),
            of("daily", item("second", 2, 6)),
            partial,
            failed,
            of("weekly", item("only", 1, 6)),
        ];
        assert_eq!(deleted(&items, &rules(30)), ["first", "partial", "failed"]);
        items[1].expire_last = true;
        assert_eq!(
            deleted(&items, &rules(30)),
            ["first", "second", "partial", "failed"]
        );
        // Taken in one second.
        let twins = [of("s", item("s-1", 1, 6)), of("s", item("s-2", 1, 6))];
        assert_eq!(deleted(&twins, &rules(30)), ["s-1"]);
        // Of another cluster's schedule of the same name, the last is another.
        items[1].expire_last = false;
        items[0].cluster = "there".to_owned();
        assert_eq!(deleted(&items, &rules(30)), ["partial", "failed"]);
    }

    #[test]
    fn many_at_once_wait_for_an_acknowledgement() {
        let mut items: Vec<Item> = (0..1000).map(|n| item(&format!("b{n}"), 0, 5)).collect();
        let found = plan(&items, &rules(10));
        assert_eq!(found.unacknowledged, 1000);
        assert!(
            found.why.contains("1000 at once are more than 100"),
            "{}",
            found.why
        );
        let mut said = rules(10);
        said.acknowledged = Some(day(4));
        assert!(deleted(&items, &said).is_empty());
        said.acknowledged = Some(day(6));
        assert_eq!(deleted(&items, &said).len(), 1000);
        // Those that were asked for still count.
        for item in &mut items[..100] {
            item.requested = true;
        }
        items.truncate(101);
        assert_eq!(plan(&items, &rules(10)).unacknowledged, 1);
        items.truncate(100);
        items[0].requested = false;
        assert_eq!(deleted(&items, &rules(10)), ["b0"]);
    }

    #[test]
    fn backups_found_in_a_bucket_have_a_grace_and_other_clusters_are_asked_for() {
        let mut found = item("found", 0, 5);
        found.found = Some(day(8));
        assert!(deleted(std::slice::from_ref(&found), &rules(10)).is_empty());
        assert_eq!(deleted(std::slice::from_ref(&found), &rules(11)), ["found"]);
        found.foreign = true;
        let items = [found];
        assert_eq!(plan(&items, &rules(11)).unacknowledged, 1);
        let mut said = rules(11);
        said.acknowledged = Some(day(6));
        assert_eq!(deleted(&items, &said), ["found"]);
        // An acknowledgement does not shorten the grace.
        said.now = day(10);
        assert!(deleted(&items, &said).is_empty());
    }

    #[test]
    fn rules_of_a_schedule_keep_beyond_the_time_to_live() {
        let kept = |reasons: &[&str], has_ttl: bool, foreign: bool| {
            let mut item = item("b", 0, 5);
            item.kept = Some(reasons.iter().map(|&reason| reason.to_owned()).collect());
            item.has_ttl = has_ttl;
            item.foreign = foreign;
            [item]
        };
        assert!(deleted(&kept(&["daily snapshot"], true, false), &rules(10)).is_empty());
        // Kept by no rule: the time to live counts when one was named, and only then.
        assert!(deleted(&kept(&[], true, false), &rules(3)).is_empty());
        assert_eq!(deleted(&kept(&[], false, false), &rules(3)), ["b"]);
        assert_eq!(deleted(&kept(&[], true, false), &rules(10)), ["b"]);
        // Rules of this cluster are not for another's backups.
        assert!(deleted(&kept(&[], false, true), &rules(3)).is_empty());
    }
}
