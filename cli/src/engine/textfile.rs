//! Files of text that users bring, as restic reads them: a byte order mark says how the text is encoded and is no part of it.
//!
//! Without a mark the bytes stay as they are: passwords need not be text.

use std::path::Path;

use crate::error::{Error, Result};

/// The bytes of a file; UTF-16 with a mark becomes UTF-8.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|error| failed(path, error.to_string()))?;
    decode(bytes).ok_or_else(|| {
        failed(
            path,
            "it is not text, as its byte order mark says".to_owned(),
        )
    })
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path)?)
        .map_err(|_| failed(path, "it is not text in UTF-8 or UTF-16".to_owned()))
}

/// The bytes without white space at their ends. What is not text is no white space.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.utf8_chunks().next().map_or(0, |chunk| {
        chunk.valid().len() - chunk.valid().trim_start().len()
    });
    let bytes = bytes.get(start..).unwrap_or_default();
    let end = bytes
        .utf8_chunks()
        .last()
        .filter(|chunk| chunk.invalid().is_empty());
    let blanks = end.map_or(0, |chunk| {
        chunk.valid().len() - chunk.valid().trim_end().len()
    });
    bytes.get(..bytes.len() - blanks).unwrap_or_default()
}

fn failed(path: &Path, message: String) -> Error {
    Error::File {
        verb: "read",
        path: path.to_owned(),
        message,
    }
}

/// `None` if it is not what its mark says.
fn decode(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        rest.is_empty()
            .then(|| String::from_utf16(&units).ok().map(String::into_bytes))?
    };
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => Some(rest.to_vec()),
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        _ => Some(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_how_text_is_encoded_and_go() {
        let of = |bytes: &[u8]| decode(bytes.to_vec());
        for (bytes, expected) in [
            (&b"\xef\xbb\xbf*.tmp"[..], &b"*.tmp"[..]),
            (b"\xff\xfeg\0\xfc\0", "gü".as_bytes()),
            (b"\xfe\xff\0g\0\xfc", "gü".as_bytes()),
            (b"g\xfc", b"g\xfc"),
            (b"", b""),
            (b"\xff\xfe", b""),
        ] {
            assert_eq!(of(bytes).as_deref(), Some(expected), "{bytes:?}");
        }
        for bad in [&b"\xff\xfeg"[..], b"\xff\xfe\x00\xd8", b"\xfe\xff\xdc\x00"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn white_space_at_the_ends_goes_and_nothing_else() {
        for (bytes, expected) in [
            (&b" secret\r\n"[..], &b"secret"[..]),
            (b"\tg\xfc h\n", b"g\xfc h"),
            (b"\xfc \n", b"\xfc"),
            (b" \xfc", b"\xfc"),
            (b" \n", b""),
            (b"", b""),
        ] {
            assert_eq!(trim(bytes), expected, "{bytes:?}");
        }
    }
}
