//! The five fields of a cron expression: which local minutes they fit.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};

/// Years that are searched for a day: the 29th of February is up to eight years away.
const YEARS: i16 = 9;

/// Names of months, 1 to 12.
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
/// Names of days, 0 to 6.
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What one field accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    /// Bit `n` is set when value `n` fits.
    values: u64,
    /// It is written with a leading `*` or `?`.
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.values >> value & 1 == 1)
    }
}

/// What a field is about.
struct Range {
    name: &'static str,
    low: u32,
    high: u32,
    /// The highest value that is not another word for one.
    top: u32,
    names: &'static [&'static str],
    /// Value of the first name.
    first: u32,
}

const MINUTE: Range = numbers("minute", 0, 59);
const HOUR: Range = numbers("hour", 0, 23);
const DAY: Range = numbers("day of the month", 1, 31);
const MONTH: Range = Range {
    names: &MONTHS,
    first: 1,
    ..numbers("month", 1, 12)
};
/// 7 is Sunday, as 0 is.
const WEEKDAY: Range = Range {
    names: &DAYS,
    top: 6,
    ..numbers("day of the week", 0, 7)
};

const fn numbers(name: &'static str, low: u32, high: u32) -> Range {
    Range {
        name,
        low,
        high,
        top: high,
        names: &[],
        first: 0,
    }
}

/// The five fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Fields {
    /// Reads five fields.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            let hint = if parts.len() == 6 {
                " (seconds and years are not understood)"
            } else {
                ""
            };
            return Err(format!(
                "a cron expression has five fields, minute, hour, day of the month, month and day of the week, and this one has {}{hint}",
                parts.len()
            ));
        };
        let mut weekday = field(weekday, &WEEKDAY)?;
        if weekday.values >> 7 & 1 == 1 {
            weekday.values = (weekday.values | 1) & 0x7f;
        }
        Ok(Self {
            minute: field(minute, &MINUTE)?,
            hour: field(hour, &HOUR)?,
            day: field(day, &DAY)?,
            month: field(month, &MONTH)?,
            weekday,
        })
    }

    /// Whether it is due all day long, so that a change of the clocks must not leave a hole.
    pub(super) fn follows_real_clock(&self) -> bool {
        self.hour.star
    }

    /// Whether the local time is a whole minute that fits.
    pub(super) fn fits(&self, at: DateTime) -> bool {
        self.fits_day(at.date())
            && self.hour.has(at.hour())
            && self.minute.has(at.minute())
            && at.second() == 0
            && at.subsec_nanosecond() == 0
    }

    /// The first whole minute after `after` that fits; `None` if there is none for years.
    pub(super) fn next(&self, after: DateTime) -> Option<DateTime> {
        let start = after
            .with()
            .second(0)
            .subsec_nanosecond(0)
            .build()
            .ok()?
            .checked_add(1.minute())
            .ok()?;
        let last_year = start.year().saturating_add(YEARS);
        let mut date = start.date();
        let mut earliest = start.time();
        while date.year() <= last_year {
            if !self.month.has(date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = Time::midnight();
                continue;
            }
            if self.fits_day(date)
                && let Some(time) = self.next_time(earliest)
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            earliest = Time::midnight();
        }
        None
    }

    fn fits_day(&self, date: Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        let by_day = if self.day.star || self.weekday.star {
            day && weekday
        } else {
            day || weekday
        };
        self.month.has(date.month()) && by_day
    }

    fn next_time(&self, earliest: Time) -> Option<Time> {
        for hour in earliest.hour()..24 {
            if !self.hour.has(hour) {
                continue;
            }
            let from = if hour == earliest.hour() {
                earliest.minute()
            } else {
                0
            };
            if let Some(minute) = (from..60).find(|minute| self.minute.has(*minute)) {
                return Time::new(hour, minute, 0, 0).ok();
            }
        }
        None
    }
}

/// Reads a list of values, ranges and steps.
fn field(text: &str, range: &Range) -> Result<Field, String> {
    let mut values = 0;
    for part in text.split(',') {
        values |= piece(part, range).map_err(|why| format!("{} {text:?}: {why}", range.name))?;
    }
    Ok(Field {
        values,
        star: text.starts_with(['*', '?']),
    })
}

fn piece(text: &str, range: &Range) -> Result<u64, String> {
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => {
            let step: u32 = step
                .parse()
                .map_err(|_| format!("{step:?} is not a number of steps"))?;
            if step == 0 || step > range.high {
                return Err(format!("a step lies between 1 and {}", range.high));
            }
            (span, Some(step))
        }
        None => (text, None),
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (range.low, range.top),
        Some((low, high)) => (value(low, range)?, value(high, range)?),
        None => {
            let low = value(span, range)?;
            (low, if step.is_some() { range.top } else { low })
        }
    };
    if low > high {
        return Err(format!(
            "{span} runs backwards; write it as two ranges with a comma between them"
        ));
    }
    let step = step.unwrap_or(1);
    let mut values = 0;
    let mut at = low;
    while at <= high {
        values |= 1 << at;
        at += step;
    }
    Ok(values)
}

fn value(text: &str, range: &Range) -> Result<u32, String> {
    let position = range
        .names
        .iter()
        .zip(range.first..)
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, value)) = position {
        return Ok(value);
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: Option<u32> = if digits { text.parse().ok() } else { None };
    number
        .filter(|number| (range.low..=range.high).contains(number))
        .ok_or_else(|| {
            format!(
                "{text:?} does not fit the field {} ({} to {}{})",
                range.name,
                range.low,
                range.high,
                if range.names.is_empty() {
                    String::new()
                } else {
                    format!(
                        ", or {} to {}",
                        range.names[0],
                        range.names[range.names.len() - 1]
                    )
                }
            )
        })
}
