//! Which snapshots of a group are kept, and why: restic's rules, as a function of data.
//!
//! Newest first, a rule keeps the last snapshot of each hour, day and so on, up to its number.
//! Hours and days are those of the machine that took the snapshot. While a rule has numbers left,
//! the oldest snapshot is kept too, as restic does since 0.16: earlier ones keep less, never more.

use jiff::{Timestamp, civil::DateTime};

use super::span::CalendarSpan;
use crate::repo::Snapshot;

/// How many a rule keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// It keeps none: the rule does not apply.
    #[default]
    None,
    /// At most so many.
    Count(u32),
    /// All.
    All,
}

impl Keep {
    fn has_left(self) -> bool {
        matches!(self, Self::All | Self::Count(1..))
    }

    fn take(&mut self) {
        if let Self::Count(left) = self {
            *left = left.saturating_sub(1);
        }
    }

    /// As restic counts: -1 for all.
    pub fn number(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Count(count) => i64::from(count),
            Self::All => -1,
        }
    }
}

/// A value of each kind of rule that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts<T> {
    /// Of the newest.
    pub last: T,
    /// One for an hour.
    pub hourly: T,
    /// One for a day.
    pub daily: T,
    /// One for a week, by ISO 8601.
    pub weekly: T,
    /// One for a month.
    pub monthly: T,
    /// One for a year.
    pub yearly: T,
}

/// What to keep. A snapshot is kept if any rule keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    /// How many of each.
    pub counts: Counts<Keep>,
    /// All that are so much older than the newest, or less.
    pub within: CalendarSpan,
    /// The same, but one for an hour.
    pub within_hourly: CalendarSpan,
    /// One for a day.
    pub within_daily: CalendarSpan,
    /// One for a week.
    pub within_weekly: CalendarSpan,
    /// One for a month.
    pub within_monthly: CalendarSpan,
    /// One for a year.
    pub within_yearly: CalendarSpan,
    /// Those that have all tags of one of these lists. An empty tag stands for no tags at all.
    pub tags: Vec<Vec<String>>,
}

impl KeepPolicy {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A snapshot that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub snapshot: Snapshot,
    /// Why, in restic's words: `daily snapshot`, `within 7d`.
    pub reasons: Vec<String>,
    /// What the rules have left after it.
    pub left: Counts<Keep>,
}

/// What a policy makes of a group of snapshots. Both lists are newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Kept.
    pub keep: Vec<Kept>,
    /// Not kept.
    pub remove: Vec<Snapshot>,
}

type Bucket = (i64, i64);

struct Rule {
    bucket: fn(DateTime) -> Bucket,
    last: Option<Bucket>,
}

impl Rule {
    fn new(bucket: fn(DateTime) -> Bucket) -> Self {
        Self { bucket, last: None }
    }

    /// `Some(is only the oldest)` if this snapshot is the first of its bucket, or the oldest of all.
    fn takes(&mut self, bucket: Bucket, is_oldest: bool) -> Option<bool> {
        let first = self.last != Some(bucket);
        if !first && !is_oldest {
            return None;
        }
        self.last = Some(bucket);
        Some(!first)
    }
}

fn hour(t: DateTime) -> Bucket {
    let (year, day) = day(t);
    (year, day * 100 + i64::from(t.hour()))
}

fn day(t: DateTime) -> Bucket {
    let (year, month) = month(t);
    (year, month * 100 + i64::from(t.day()))
}

fn week(t: DateTime) -> Bucket {
    let week = t.date().iso_week_date();
    (i64::from(week.year()), i64::from(week.week()))
}

fn month(t: DateTime) -> Bucket {
    (i64::from(t.year()), i64::from(t.month()))
}

fn year(t: DateTime) -> Bucket {
    (i64::from(t.year()), 0)
}

/// Divides a group of snapshots by a policy. `now`: snapshots from the future do not count as the
/// newest. A policy without rules keeps nothing.
pub fn apply(policy: &KeepPolicy, snapshots: &[Snapshot], now: Timestamp) -> Decision {
    let mut sorted: Vec<&Snapshot> = snapshots.iter().collect();
    sorted.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.id.cmp(&b.id)));
    let newest = sorted.iter().find(|snapshot| snapshot.time < now);
    let since = |span: &CalendarSpan| {
        // Without a newest, or before all time, nothing is too old.
        newest.and_then(|newest| span.before(newest.time, newest.offset))
    };
    let spans = [
        ("", policy.within),
        ("hourly ", policy.within_hourly),
        ("daily ", policy.within_daily),
        ("weekly ", policy.within_weekly),
        ("monthly ", policy.within_monthly),
        ("yearly ", policy.within_yearly),
    ]
    .map(|(word, span)| (word, span, since(&span)));
    let periods = [hour, day, week, month, year];
    let mut counted = periods.map(Rule::new);
    let mut within = periods.map(Rule::new);
    let mut left = policy.counts;
    let mut decision = Decision::default();
    for (nr, snapshot) in sorted.iter().enumerate() {
        let local = snapshot.offset.to_datetime(snapshot.time);
        let is_oldest = nr + 1 == sorted.len();
        let mut reasons = Vec::new();
        for tags in &policy.tags {
            if snapshot.has_tags(tags) {
                reasons.push(format!("has tags [{}]", tags.join(", ")));
            }
        }
        let (_, span, start) = &spans[0];
        if !span.is_zero() && start.is_none_or(|start| snapshot.time > start) {
            reasons.push(format!("within {span}"));
        }
        if left.last.has_left() {
            left.last.take();
            reasons.push("last snapshot".to_owned());
        }
        let counters = [
            ("hourly", &mut left.hourly),
            ("daily", &mut left.daily),
            ("weekly", &mut left.weekly),
            ("monthly", &mut left.monthly),
            ("yearly", &mut left.yearly),
        ];
        for ((word, counter), rule) in counters.into_iter().zip(&mut counted) {
            if counter.has_left()
                && let Some(only_oldest) = rule.takes((rule.bucket)(local), is_oldest)
            {
                counter.take();
                let oldest = if only_oldest { "oldest " } else { "" };
                reasons.push(format!("{oldest}{word} snapshot"));
            }
        }
        for ((word, span, start), rule) in spans[1..].iter().zip(&mut within) {
            if !span.is_zero()
                && start.is_none_or(|start| snapshot.time > start)
                && let Some(only_oldest) = rule.takes((rule.bucket)(local), is_oldest)
            {
                let oldest = if only_oldest { "oldest " } else { "" };
                reasons.push(format!("{oldest}{word}within {span}"));
            }
        }
        if reasons.is_empty() {
            decision.remove.push((*snapshot).clone());
        } else {
            decision.keep.push(Kept {
                snapshot: (*snapshot).clone(),
                reasons,
                left,
            });
        }
    }
    decision
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
