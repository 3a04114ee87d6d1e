//! File names as the format writes them: the inside of a Go quoted string.
//!
//! Does: unquote a stored name to raw bytes, and judge whether a file system name can be made of
//! it. A name is data of whoever wrote the repository: `/`, NUL, `.`, `..` and empty names are
//! refused.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use super::Invalid;

/// Raw bytes of a stored name, checked to be a plain file name.
pub(crate) fn decode(stored: &str) -> Result<OsString, Invalid> {
    let raw = unquote(stored)?;
    if raw.is_empty() || raw == b"." || raw == b".." {
        return Err(Invalid::new("the name is empty, . or .."));
    }
    if raw.iter().any(|b| matches!(b, 0 | b'/')) {
        return Err(Invalid::new("the name contains a slash or NUL"));
    }
    if raw.len() > 255 {
        return Err(Invalid::new("the name is longer than 255 bytes"));
    }
    Ok(OsString::from_vec(raw))
}

fn unquote(stored: &str) -> Result<Vec<u8>, Invalid> {
    let bad = || Invalid::new("the name has an invalid escape");
    let mut raw = Vec::with_capacity(stored.len());
    let mut rest = stored;
    while let Some(at) = rest.find('\\') {
        raw.extend_from_slice(&rest.as_bytes()[..at]);
        let mut chars = rest[at + 1..].chars();
        let escape = chars.next().ok_or_else(bad)?;
        rest = chars.as_str();
        let mut number = |digits: usize, radix: u32| {
            let text = rest.get(..digits).ok_or_else(bad)?;
            if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            rest = &rest[digits..];
            u32::from_str_radix(text, radix).map_err(|_| bad())
        };
        match escape {
            'a' => raw.push(7),
            'b' => raw.push(8),
            'f' => raw.push(12),
            'n' => raw.push(b'\n'),
            'r' => raw.push(b'\r'),
            't' => raw.push(b'\t'),
            'v' => raw.push(11),
            '\\' | '"' | '\'' => raw.push(escape as u8),
            'x' => raw.push(u8::try_from(number(2, 16)?).map_err(|_| bad())?),
            'u' | 'U' => {
                let code = number(if escape == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code).ok_or_else(bad)?;
                raw.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => {
                let text = rest.get(..2).ok_or_else(bad)?;
                let code = u32::from_str_radix(&format!("{escape}{text}"), 8).map_err(|_| bad())?;
                rest = &rest[2..];
                raw.push(u8::try_from(code).map_err(|_| bad())?);
            }
            _ => return Err(bad()),
        }
    }
    raw.extend_from_slice(rest.as_bytes());
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn escapes() {
        for (stored, raw) in [
            (r"plain", &b"plain"[..]),
            (r"a\nb\t\\", b"a\nb\t\\"),
            (r#"\"q\""#, b"\"q\""),
            (r"\xff\x00a", b""),
            (r"\xffz", b"\xffz"),
            (r"\u00e9\U0001f4af", "é💯".as_bytes()),
            (r"\101", b"A"),
            ("é", "é".as_bytes()),
        ] {
            match decode(stored) {
                Ok(name) => assert_eq!(name.as_bytes(), raw, "{stored}"),
                Err(_) => assert!(raw.is_empty(), "{stored}"),
            }
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(256);
        for stored in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            r"\x2f",
            r"\x00",
            r"\",
            r"\x",
            r"\x+1",
            r"\ud800",
            r"\999",
            r"\x2e\x2e",
            &long,
        ] {
            assert!(decode(stored).is_err(), "{stored}");
        }
        assert!(decode(&"a".repeat(255)).is_ok());
    }
}
