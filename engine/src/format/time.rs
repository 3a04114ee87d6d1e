//! Times as the format writes them: RFC 3339 with nanoseconds, no trailing zeros, `Z` for UTC.

use jiff::{Timestamp, fmt::temporal::DateTimeParser, tz::Offset};

/// Canonical text of a time.
pub(crate) fn format(time: Timestamp) -> String {
    // jiff writes exactly this: `2024-01-02T03:04:05.123Z`, fraction only as long as needed.
    time.to_string()
}

/// The same with the offset it was written with.
pub(crate) fn format_at(time: Timestamp, offset: Offset) -> String {
    if offset == Offset::UTC {
        format(time)
    } else {
        time.display_with_offset(offset).to_string()
    }
}

/// Reads a time with any offset. `None` for what is not a time jiff can hold.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The offset from UTC in a time's text; none where there is none.
pub(crate) fn offset(text: &str) -> Offset {
    DateTimeParser::new()
        .parse_pieces(text)
        .ok()
        .and_then(|pieces| pieces.to_numeric_offset())
        .unwrap_or(Offset::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text() {
        let time = Timestamp::new(1_700_000_000, 120_000_000).unwrap();
        assert_eq!(format(time), "2023-11-14T22:13:20.12Z");
        assert_eq!(parse("2023-11-14T23:13:20.12+01:00"), Some(time));
        assert_eq!(
            parse("0001-01-01T00:00:00Z").map(format).as_deref(),
            Some("0001-01-01T00:00:00Z")
        );
        assert_eq!(parse("yesterday"), None);
        for text in ["2023-11-14T23:13:20.12+01:30", "2023-11-14T22:13:20.12Z"] {
            let again = parse(text).map(|time| format_at(time, offset(text)));
            assert_eq!(again.as_deref(), Some(text));
        }
        assert_eq!(offset("2023-11-14T23:13:20.12+01:30").seconds(), 5400);
        assert_eq!(offset("2023-11-14T23:13:20Z"), Offset::UTC);
    }
}
