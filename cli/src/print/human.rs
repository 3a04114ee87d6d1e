//! Times, spans, sizes and maps as people read them.

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};

use super::table::one_line;

/// What stands in a table for a time that is not set.
pub(crate) const UNSET: &str = "n/a";
/// What stands for an empty list or map.
pub(crate) const NONE: &str = "<none>";

/// A point in time in UTC, to the second.
pub(crate) fn time(time: Option<&Time>) -> String {
    time.map_or_else(
        || UNSET.to_owned(),
        |t| t.0.strftime("%Y-%m-%d %H:%M:%S %z UTC").to_string(),
    )
}

/// How far `time` is from `now`, in its largest unit: `29d`, `3h`, `expired 2h ago`.
pub(crate) fn until(time: Option<&Time>, now: Timestamp) -> String {
    let Some(time) = time else {
        return UNSET.to_owned();
    };
    let seconds = time.0.as_second() - now.as_second();
    if seconds < 0 {
        format!("{} ago", coarse(-seconds))
    } else {
        coarse(seconds)
    }
}

/// How long ago `time` was: `12s ago`.
pub(crate) fn ago(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(
        || UNSET.to_owned(),
        |t| format!("{} ago", coarse((now.as_second() - t.0.as_second()).max(0))),
    )
}

fn coarse(seconds: i64) -> String {
    match seconds {
        s if s >= 86_400 => format!("{}d", s / 86_400),
        s if s >= 3_600 => format!("{}h", s / 3_600),
        s if s >= 60 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// The span between two points in time: `3s`, `2m5s`, `1h0m12s`.
pub(crate) fn between(start: &Time, end: &Time) -> String {
    let seconds = end
        .0
        .since(start.0)
        .and_then(|s| s.total(Unit::Second))
        .unwrap_or(0.0)
        .max(0.0);
    span(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A span, to the second.
pub(crate) fn span(span: std::time::Duration) -> String {
    let s = span.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// A number of bytes with a binary unit: `0 B`, `1.5 MiB`.
pub(crate) fn bytes(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Exact to 52 bits, and shown with one digit.
    #[expect(
        clippy::cast_precision_loss,
        reason = "shown with one digit after the point"
    )]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A number with its noun: `1 volume`, `2 volumes`.
pub(crate) fn count(number: impl Into<i64>, noun: &str) -> String {
    let number = number.into();
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Names, comma-separated, or `empty` if there are none.
pub(crate) fn names(names: &[String], empty: &str) -> String {
    if names.is_empty() {
        empty.to_owned()
    } else {
        names.join(", ")
    }
}

/// A map as `a=b,c=d`.
pub(crate) fn map(map: &BTreeMap<String, String>) -> String {
    lines(map).join(",")
}

/// A map with one entry a line: values may hold commas.
pub(crate) fn map_lines(map: &BTreeMap<String, String>) -> String {
    lines(map).join("\n")
}

fn lines(map: &BTreeMap<String, String>) -> Vec<String> {
    if map.is_empty() {
        return vec![NONE.to_owned()];
    }
    map.iter()
        .map(|(key, value)| format!("{key}={}", one_line(value)))
        .collect()
}

/// A selector in the syntax it is typed in.
pub(crate) fn selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return NONE.to_owned();
    };
    let mut parts: Vec<String> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    for expression in selector.match_expressions.iter().flatten() {
        let key = &expression.key;
        let values = expression.values.as_deref().unwrap_or_default().join(",");
        parts.push(match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            other => format!("{key} {other} ({values})"),
        });
    }
    if parts.is_empty() {
        NONE.to_owned()
    } else {
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn times() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(time(None), "n/a");
        assert_eq!(
            time(Some(&at("2026-01-02T03:04:05.9Z"))),
            "2026-01-02 03:04:05 +0000 UTC"
        );
        assert_eq!(until(Some(&at("2026-01-31T23:00:00Z")), now), "29d");
        assert_eq!(until(Some(&at("2026-01-01T22:00:00Z")), now), "2h ago");
        assert_eq!(ago(Some(&at("2026-01-01T23:59:48Z")), now), "12s ago");
        assert_eq!(
            between(&at("2026-01-02T00:00:00Z"), &at("2026-01-02T01:00:12Z")),
            "1h0m12s"
        );
    }

    #[test]
    fn sizes() {
        for (value, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (i64::MAX, "8192.0 PiB"),
        ] {
            assert_eq!(bytes(value), shown);
        }
        assert_eq!(count(1, "item"), "1 item");
        assert_eq!(count(0, "item"), "0 items");
    }
}
