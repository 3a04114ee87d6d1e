//! Strings and times as Go's `encoding/json` and `strconv.Quote` write them.
//!
//! Trees are compared by their bytes: a tree that restic would write differently is one that its
//! rewriting commands refuse. Does: encode. Does not: decode. Never fails.

use std::io::Write as _;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as a JSON string with quotes. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    json_body(out, text);
    out.push(b'"');
}

fn json_body(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let bytes = chunk.valid().as_bytes();
        let mut done = 0;
        for (i, &byte) in bytes.iter().enumerate() {
            let special = match byte {
                b'"' | b'\\' | b'<' | b'>' | b'&' | 0..0x20 => true,
                // The line and paragraph separators, U+2028 and U+2029.
                0xe2 => matches!(bytes.get(i + 1..i + 3), Some([0x80, 0xa8 | 0xa9])),
                _ => false,
            };
            if !special {
                continue;
            }
            out.extend_from_slice(&bytes[done..i]);
            done = i + 1;
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                8 => out.extend_from_slice(b"\\b"),
                12 => out.extend_from_slice(b"\\f"),
                0xe2 => {
                    out.extend_from_slice(b"\\u202");
                    out.push(HEX[usize::from(bytes[i + 2] & 15)]);
                    done = i + 3;
                }
                byte => {
                    out.extend_from_slice(b"\\u00");
                    out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
        }
        out.extend_from_slice(&bytes[done..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Appends a file name: the inside of its quoted form, as a JSON string.
pub(crate) fn name(out: &mut Vec<u8>, raw: &[u8]) {
    let plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
    if raw.iter().all(plain) {
        json_string(out, raw);
        return;
    }
    let mut quoted = Vec::with_capacity(raw.len() * 2);
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote(&mut quoted, c);
        }
        for b in chunk.invalid() {
            quoted.extend_from_slice(b"\\x");
            quoted.extend([HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
    json_string(out, &quoted);
}

fn quote(out: &mut Vec<u8>, c: char) {
    let code = u32::from(c);
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\x07' => out.extend_from_slice(b"\\a"),
        '\x08' => out.extend_from_slice(b"\\b"),
        '\x0c' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\x0b' => out.extend_from_slice(b"\\v"),
        _ if is_print(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        _ if code < 0x20 || code == 0x7f => push(out, format_args!("\\x{code:02x}")),
        _ if code < 0x1_0000 => push(out, format_args!("\\u{code:04x}")),
        _ => push(out, format_args!("\\U{code:08x}")),
    }
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space. The standard library's
/// escaping of debug output asks the same question of any character but a string's first.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let mut bytes = [b'a'; 5];
    let len = c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..=len]).is_ok_and(|s| s.escape_debug().nth(1) == Some(c))
}

/// A moment: seconds since 1970 and nanoseconds of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Time {
    /// From any text that is a time.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        let nanos = time.subsec_nanosecond();
        let borrow = i64::from(nanos < 0);
        Some(Self {
            seconds: time.as_second() - borrow,
            nanos: u32::try_from(i64::from(nanos) + borrow * 1_000_000_000).ok()?,
        })
    }

    /// Appends `2024-01-02T03:04:05.123Z`: UTC, the fraction as long as needed. Years the format
    /// cannot hold become the nearest it can.
    pub(crate) fn push(self, out: &mut Vec<u8>) {
        const FIRST: i64 = -62_167_219_200;
        const LAST: i64 = 253_402_300_799;
        let seconds = self.seconds.clamp(FIRST, LAST);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        digits(out, year, 4);
        for (mark, value) in [
            (b'-', month),
            (b'-', day),
            (b'T', of_day / 3600),
            (b':', of_day / 60 % 60),
            (b':', of_day % 60),
        ] {
            out.push(mark);
            digits(out, value, 2);
        }
        if self.nanos > 0 {
            out.push(b'.');
            digits(out, i64::from(self.nanos.min(999_999_999)), 9);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        out.push(b'Z');
    }
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is a year's last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends a number that is not negative, in at least `width` digits.
fn digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let start = out.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 || out.len() - start < width {
        out.push(HEX[usize::try_from(rest % 10).unwrap_or_default()]);
        rest /= 10;
    }
    out[start..].reverse();
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, value: u64) {
    let start = out.len();
    let mut rest = value;
    loop {
        out.push(HEX[usize::try_from(rest % 10).unwrap_or_default()]);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out[start..].reverse();
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    drop(out.write_fmt(text));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_is_escaped_as_go_does() {
        for (raw, expected) in [
            (&b"plain"[..], r#""plain""#),
            (b"<a & b>", r#""\u003ca \u0026 b\u003e""#),
            (b"q\"\\", r#""q\"\\""#),
            (b"\n\r\t\x00\x1f\x7f", "\"\\n\\r\\t\\u0000\\u001f\x7f\""),
            ("é\u{2028}x\u{2029}".as_bytes(), "\"é\\u2028x\\u2029\""),
            (b"a\xffb", r#""a\ufffdb""#),
        ] {
            assert_eq!(text(|out| json_string(out, raw)), expected);
        }
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        for (raw, expected) in [
            (&b"plain name"[..], r#""plain name""#),
            (b"<&>", r#""\u003c\u0026\u003e""#),
            (b"q\"\\", r#""q\\\"\\\\""#),
            (b"\x07\n\x01\x7f", r#""\\a\\n\\x01\\x7f""#),
            (b"\xff\xc3", r#""\\xff\\xc3""#),
            ("é💯".as_bytes(), r#""é💯""#),
            (
                "\u{ad}\u{a0}\u{200b}\u{e000}\u{10ffff}".as_bytes(),
                r#""\\u00ad\\u00a0\\u200b\\ue000\\U0010ffff""#,
            ),
            // Combining marks are printable, also at the start.
            ("\u{301}e\u{301}".as_bytes(), "\"\u{301}e\u{301}\""),
            ("\u{fffd}".as_bytes(), "\"\u{fffd}\""),
        ] {
            assert_eq!(text(|out| name(out, raw)), expected);
        }
    }

    proptest! {
        #[test]
        fn names_come_back(raw in proptest::collection::vec(1_u8.., 1..40)) {
            prop_assume!(!raw.contains(&b'/') && raw != b"." && raw != b"..");
            let json = text(|out| name(out, &raw));
            let stored: String = serde_json::from_str(&json).unwrap();
            let back = crate::format::name::decode(&stored).unwrap();
            prop_assert_eq!(std::os::unix::ffi::OsStrExt::as_bytes(&*back), &raw[..]);
        }

        #[test]
        fn times_are_those_of_the_calendar(seconds in -62_167_219_200_i64..253_402_207_200, nanos in 0_u32..1_000_000_000) {
            let time = Time { seconds, nanos };
            let expected = jiff::Timestamp::new(seconds, i32::try_from(nanos).unwrap()).unwrap();
            let json = text(|out| time.push(out));
            prop_assert_eq!(&json, &expected.to_string());
            prop_assert_eq!(Time::parse(&json), Some(time));
        }

        #[test]
        fn numbers(n in any::<u64>()) {
            prop_assert_eq!(text(|out| number(out, n)), n.to_string());
        }
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        let of = |seconds| text(|out| Time { seconds, nanos: 0 }.push(out));
        assert_eq!(of(i64::MIN), "0000-01-01T00:00:00Z");
        assert_eq!(of(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
