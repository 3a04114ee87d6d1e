//! Values of options in restic's spelling: sizes, limits, numbers to keep, lists of tags, durations, times, versions.

use std::time::Duration;

pub(super) use ark_api::size::parse as size;
use ark_engine::{
    FormatVersion,
    maintain::{DataShare, Keep, Unused},
};
use clap::Args;
use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

/// A part of the data: `n/t`, `x%`, or a size.
pub(super) fn data_share(text: &str) -> Result<DataShare, String> {
    let bad = || "use n/t, a share as 2.5%, or a number of bytes with K, M, G or T".to_owned();
    if let Some((part, of)) = text.split_once('/') {
        let number = |text: &str| text.parse().map_err(|_| bad());
        let (part, of) = (number(part)?, number(of)?);
        if part == 0 || part > of || of > 256 {
            return Err("n is from 1 to t, and t at most 256".to_owned());
        }
        return Ok(DataShare::Part { part, of });
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| bad())?;
        return if percent > 0.0 && percent <= 100.0 {
            Ok(DataShare::Percent(percent))
        } else {
            Err("a share is above 0% and at most 100%".to_owned())
        };
    }
    match size(text).map_err(|_| bad())? {
        0 => Err("0 bytes are no part".to_owned()),
        bytes => Ok(DataShare::Bytes(bytes)),
    }
}

/// A size, a share of what remains in percent, or `unlimited`.
pub(super) fn unused(text: &str) -> Result<Unused, String> {
    if text == "unlimited" {
        return Ok(Unused::Unlimited);
    }
    match text.strip_suffix('%') {
        Some(number) => match number.parse() {
            Ok(percent @ 0..100) => Ok(Unused::Percent(percent)),
            _ => Err("use a whole number from 0 to 99 before the %".to_owned()),
        },
        None => size(text).map(Unused::Bytes),
    }
}

/// A number of snapshots, or `unlimited`.
pub(super) fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "unlimited" | "-1" => Ok(Keep::All),
        "0" => Ok(Keep::None),
        _ => text
            .parse()
            .map(Keep::Count)
            .map_err(|_| "use a number, or unlimited".to_owned()),
    }
}

/// A name: of a host, a snapshot, or a tag. Blanks at its ends are no part of it.
pub(super) fn word(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        word => Ok(word.to_owned()),
    }
}

/// An absolute path without `.`, `..` and needless slashes, as snapshots have it.
pub(super) fn absolute_path(text: &str) -> Result<String, String> {
    let absolute = std::path::absolute(text).map_err(|error| error.to_string())?;
    let mut names: Vec<&str> = Vec::new();
    for name in absolute.to_str().unwrap_or(text).split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Ok(format!("/{}", names.join("/")))
}

/// Lists of tags: each text is one, separated by commas.
pub(super) fn tag_lists(texts: &[String]) -> Vec<Vec<String>> {
    let list = |text: &String| text.split(',').map(|tag| tag.trim().to_owned()).collect();
    texts.iter().map(list).collect()
}

/// A time as in `5m` or `1h30m`: numbers with h, m, s or ms.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "use a time as in 30s, 5m or 1h30m".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let number: u64 = rest[..rest.len() - digits.len()]
            .parse()
            .map_err(|_| bad())?;
        let after = digits.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let millis = match &digits[..digits.len() - after.len()] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(bad)?;
        rest = after;
    }
    if text.is_empty() {
        return Err(bad());
    }
    Ok(Duration::from_millis(total))
}

/// Memory of commands that go through whole repositories.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct MemoryArgs {
    /// The most memory to take: bytes with K, M or G; the index takes 40 for each blob of the repository
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size)]
    memory: u64,
}

impl MemoryArgs {
    /// In bytes.
    pub(super) fn bytes(self) -> u64 {
        self.memory
    }
}

/// A point in time as restic takes it, in this machine's time zone where none is given.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    const ZONED: [&str; 2] = ["%Y-%m-%d %H:%M:%S %z", "%d.%m.%Y %H:%M:%S %z"];
    const LOCAL: [&str; 4] = [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%d.%m.%Y %H:%M:%S",
        "%d.%m.%Y %H:%M",
    ];
    const DAYS: [&str; 2] = ["%Y-%m-%d", "%d.%m.%Y"];
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let zoned = ZONED
        .iter()
        .find_map(|format| Timestamp::strptime(format, text).ok());
    if let Some(time) = zoned {
        return Ok(time);
    }
    let times = LOCAL
        .iter()
        .find_map(|format| DateTime::strptime(format, text).ok());
    let days = DAYS
        .iter()
        .find_map(|format| Date::strptime(format, text).ok());
    let local = times.or_else(|| days.map(|day| day.to_datetime(Time::midnight())));
    let zoned = local.and_then(|local| local.to_zoned(TimeZone::system()).ok());
    zoned
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| "use a time as in 2026-01-31 or \"2026-01-31 23:59:59\"".to_owned())
}

/// A version of the repository format.
pub(super) fn format_version(text: &str) -> Result<FormatVersion, String> {
    match text {
        "1" => Ok(FormatVersion::V1),
        "2" | "stable" | "latest" => Ok(FormatVersion::V2),
        _ => Err("there are 1 and 2, and stable and latest, which mean 2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_limits() {
        for bad in ["", "k", "1x", "-1", "1.5g", "99999999T", "1kk"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(unused("5%"), Ok(Unused::Percent(5)));
        assert_eq!(unused("unlimited"), Ok(Unused::Unlimited));
        assert_eq!(unused("1M"), Ok(Unused::Bytes(1 << 20)));
        for bad in ["100%", "-1%", "%", "x%"] {
            assert!(unused(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_and_versions() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "m", "5x", "1h30", "-1s", "99999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(format_version("1"), Ok(FormatVersion::V1));
        assert_eq!(format_version("latest"), Ok(FormatVersion::V2));
        assert!(format_version("3").is_err());
    }

    #[test]
    fn times() {
        let at = |text: &str| time(text).unwrap();
        assert_eq!(at("2026-01-31T23:59:00Z"), at("2026-01-31 23:59:00 +0000"));
        assert_eq!(at("2026-01-31"), at("31.01.2026 00:00"));
        assert_eq!(at("2026-01-31 10:20"), at("31.01.2026 10:20:00"));
        for bad in ["", "yesterday", "2026-02-30", "2026-01-31 25:00"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_have_no_blanks_at_their_ends_and_paths_no_needless_slashes() {
        assert_eq!(word(" a b\r\n"), Ok("a b".to_owned()));
        assert!(word(" ").is_err());
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        for (typed, path) in [
            ("/srv/", "/srv"),
            ("//srv/./a/../b//", "/srv/b"),
            ("/", "/"),
            ("/../a", "/a"),
            ("x/", format!("{here}/x").as_str()),
        ] {
            assert_eq!(absolute_path(typed).as_deref(), Ok(path), "{typed}");
        }
        assert!(absolute_path("").is_err());
    }

    #[test]
    fn numbers_to_keep_and_tags() {
        assert_eq!(keep("3"), Ok(Keep::Count(3)));
        assert_eq!(keep("0"), Ok(Keep::None));
        assert_eq!(keep("unlimited"), Ok(Keep::All));
        assert!(keep("-2").is_err());
        assert_eq!(
            tag_lists(&["a, b".to_owned(), String::new()]),
            [vec!["a".to_owned(), "b".to_owned()], vec![String::new()]]
        );
    }

    #[test]
    fn parts_of_the_data() {
        assert_eq!(data_share("2/5"), Ok(DataShare::Part { part: 2, of: 5 }));
        assert_eq!(data_share("2.5%"), Ok(DataShare::Percent(2.5)));
        assert_eq!(data_share("50M"), Ok(DataShare::Bytes(50 << 20)));
        for bad in [
            "0/5", "6/5", "1/257", "0%", "101%", "nan%", "x", "", "0", "1/", "-1/5",
        ] {
            assert!(data_share(bad).is_err(), "{bad}");
        }
    }
}
