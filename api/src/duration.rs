//! Durations as the Kubernetes API writes them: Go's syntax, `720h`, `1h30m`, `500ms`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the API server says of a text that is no duration.
const RULE_MESSAGE: &str = "not a duration: write hours, minutes and seconds, for example 720h (30 days), 90m or 1h30m; there is no unit for days";

/// A non-negative span of time, in Go's duration syntax on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

/// What is wrong with a duration's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration; write for example 720h, 90m or 1h30m",
            self.0
        )
    }
}

impl std::error::Error for ParseError {}

impl FromStr for Duration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(error());
        }
        let mut total = 0_f64;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(error)?;
            let number: f64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let end = rest
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(rest.len());
            let unit = match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(error()),
            };
            total += number * unit;
            rest = &rest[end..];
        }
        std::time::Duration::try_from_secs_f64(total)
            .map(Self)
            .map_err(|_| error())
    }
}

impl fmt::Display for Duration {
    /// Go's form: `720h0m0s`, `1m30s`, `1.5s`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}", seconds % 60)?;
        if self.0.subsec_nanos() > 0 {
            let nanos = format!("{:09}", self.0.subsec_nanos());
            write!(f, ".{}", nanos.trim_end_matches('0'))?;
        }
        f.write_str("s")
    }
}

impl From<std::time::Duration> for Duration {
    fn from(value: std::time::Duration) -> Self {
        Self(value)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // A rule and not a pattern: who wrote `30d` is told what to write instead.
        schemars::json_schema!({
            "type": "string",
            "maxLength": 64,
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^[+]?(0|([0-9]+([.][0-9]*)?(ns|us|µs|μs|ms|s|m|h))+)$')",
                "message": RULE_MESSAGE,
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Duration;

    #[test]
    fn reads_and_writes_go_syntax() {
        for (text, seconds, shown) in [
            ("720h", 2_592_000, "720h0m0s"),
            ("1h30m", 5400, "1h30m0s"),
            ("90s", 90, "1m30s"),
            ("0", 0, "0s"),
        ] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!(parsed.0.as_secs(), seconds);
            assert_eq!(parsed.to_string(), shown);
        }
        assert_eq!("1.5s".parse::<Duration>().unwrap().to_string(), "1.5s");
        for bad in ["", "h", "10", "5 m", "-3h", "1d"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }
}
