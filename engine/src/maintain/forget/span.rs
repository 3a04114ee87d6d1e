//! Spans of calendar time as restic writes them: `1y5m7d2h`.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::Offset};

use crate::error::{Error, Result};

/// More of any unit than this is refused: no clock reaches that far.
const MOST: u32 = 100_000;

/// Years, months, days and hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CalendarSpan {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl CalendarSpan {
    /// Whether it is no time at all.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// So long before a moment, by a calendar at this offset from UTC. A day that a month does not
    /// have counts into the next one, as restic counts. `None` is before all times that can be
    /// written.
    pub(super) fn before(&self, moment: Timestamp, offset: Offset) -> Option<Timestamp> {
        let local = offset.to_datetime(moment);
        let months = i32::from(local.year()) * 12 + i32::from(local.month())
            - 1
            - i32::try_from(self.years).ok()?.checked_mul(12)?
            - i32::try_from(self.months).ok()?;
        let year = i16::try_from(months.div_euclid(12)).ok()?;
        let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
        let days = i64::from(local.day()) - 1 - i64::from(self.days);
        let date = Date::new(year, month, 1)
            .ok()?
            .checked_add(days.days())
            .ok()?;
        let moment = offset.to_timestamp(date.to_datetime(local.time())).ok()?;
        moment.checked_sub(i64::from(self.hours).hours()).ok()
    }
}

impl FromStr for CalendarSpan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::InvalidConfig {
            what: "duration",
            message: format!(
                "{text:?} is not made of numbers of years, months, days and hours, as in 1y5m7d2h"
            ),
        };
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u32 = rest[..digits].parse().map_err(|_| invalid())?;
            let unit = rest[digits..].chars().next().ok_or_else(invalid)?;
            let slot = match unit {
                'y' => &mut span.years,
                'm' => &mut span.months,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                _ => return Err(invalid()),
            };
            if number > MOST {
                return Err(invalid());
            }
            *slot = number;
            rest = &rest[digits + 1..];
        }
        Ok(span)
    }
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, unit) in [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let span: CalendarSpan = "1y5m7d2h".parse().unwrap();
        assert_eq!(
            (span.years, span.months, span.days, span.hours),
            (1, 5, 7, 2)
        );
        assert_eq!(span.to_string(), "1y5m7d2h");
        assert_eq!("3d".parse::<CalendarSpan>().unwrap().to_string(), "3d");
        assert!("".parse::<CalendarSpan>().unwrap().is_zero());
        for bad in ["1", "d", "-1d", "1w", "1d2", "99999999999d", "1d é"] {
            assert!(bad.parse::<CalendarSpan>().is_err(), "{bad}");
        }
    }

    #[test]
    fn days_that_a_month_lacks_count_into_the_next() {
        let before = |moment: &str, span: &str| {
            let span: CalendarSpan = span.parse().unwrap();
            let moment = span.before(moment.parse().unwrap(), Offset::UTC);
            moment.map(|moment| moment.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(
            before("2026-03-31T10:00:00Z", "1m"),
            is("2026-03-03T10:00:00Z")
        );
        assert_eq!(
            before("2024-02-29T10:00:00Z", "1y"),
            is("2023-03-01T10:00:00Z")
        );
        assert_eq!(
            before("2026-01-15T10:00:00Z", "2m"),
            is("2025-11-15T10:00:00Z")
        );
        assert_eq!(
            before("2026-01-01T01:00:00Z", "1d2h"),
            is("2025-12-30T23:00:00Z")
        );
        assert_eq!(before("2026-01-01T01:00:00Z", "100000y"), None);
    }
}
