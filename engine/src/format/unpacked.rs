//! Files that are sealed whole: configuration, index, snapshot and lock.
//!
//! Plain text is JSON as it is (it starts with `{` or `[`), or, in format version 2, the byte 2 and
//! a Zstandard frame. The name of such a file is the SHA-256 of its sealed bytes.

use std::io::Read as _;

use super::Invalid;
use crate::crypto::{Id, Key};

/// A decompressed index above this size is refused.
pub(crate) const MAX_INDEX: u64 = 512 << 20;
/// Any other decompressed document above this size is refused. (A snapshot names all that was
/// backed up.)
pub(crate) const MAX_DOCUMENT: u64 = 64 << 20;

/// Sealed bytes and their name. Compressed if the repository's version allows it.
pub(crate) fn encode(key: &Key, json: &[u8], version: u32) -> Result<(Id, Vec<u8>), Invalid> {
    let sealed = if version >= 2 {
        let mut plain = vec![2];
        plain.extend(zstd::bulk::compress(json, 3).map_err(Invalid::new)?);
        key.seal(&plain)
    } else {
        key.seal(json)
    };
    Ok((Id::of(&sealed), sealed))
}

/// The JSON in the sealed file of this name, decompressed to at most `limit` bytes.
pub(crate) fn decode_named(
    key: &Key,
    id: &Id,
    sealed: &[u8],
    limit: u64,
) -> Result<Vec<u8>, Invalid> {
    let mut room = Vec::new();
    decode_named_into(&mut room, key, id, sealed, limit)?;
    Ok(room)
}

/// The same, in memory that is used again.
pub(crate) fn decode_named_into(
    room: &mut Vec<u8>,
    key: &Key,
    id: &Id,
    sealed: &[u8],
    limit: u64,
) -> Result<(), Invalid> {
    // What is authentic may still be another file, or an older one.
    if Id::of(sealed) != *id {
        return Err(Invalid::new("its content is not that of its name"));
    }
    decode_into(room, key, sealed, limit)
}

/// The JSON in a sealed file, decompressed to at most `limit` bytes.
pub(crate) fn decode(key: &Key, sealed: &[u8], limit: u64) -> Result<Vec<u8>, Invalid> {
    let mut room = Vec::new();
    decode_into(&mut room, key, sealed, limit)?;
    Ok(room)
}

fn decode_into(room: &mut Vec<u8>, key: &Key, sealed: &[u8], limit: u64) -> Result<(), Invalid> {
    room.clear();
    let plain = key
        .open(sealed)
        .map_err(|_| Invalid::new("it is not authentic"))?;
    match plain.first() {
        Some(b'{' | b'[') => {
            *room = plain;
            Ok(())
        }
        Some(2) => {
            zstd::stream::read::Decoder::new(&plain[1..])
                .map_err(Invalid::new)?
                .take(limit.saturating_add(1))
                .read_to_end(room)
                .map_err(Invalid::new)?;
            if room.len() as u64 > limit {
                return Err(Invalid::new(
                    "it decompresses to more than any valid document",
                ));
            }
            Ok(())
        }
        Some(other) => Err(Invalid(format!("its encoding {other} is unknown"))),
        None => Err(Invalid::new("it is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_round_trip() {
        let key = Key::random();
        for version in [1, 2] {
            let (id, sealed) = encode(&key, b"{\"a\":1}", version).unwrap();
            assert_eq!(id, Id::of(&sealed));
            assert_eq!(decode(&key, &sealed, 7).unwrap(), b"{\"a\":1}");
            let first = key.open(&sealed).unwrap()[0];
            assert_eq!(first, if version == 1 { b'{' } else { 2 });
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let key = Key::random();
        for plain in [&b""[..], b"\x02", b"\x02garbage", b"\x07{}", b"x"] {
            assert!(decode(&key, &key.seal(plain), 99).is_err());
        }
        assert!(decode(&key, b"short", 99).is_err());
    }

    #[test]
    fn a_bomb_is_refused() {
        let key = Key::random();
        let (_, sealed) = encode(&key, &vec![b'{'; 1 << 20], 2).unwrap();
        assert!(sealed.len() < 1000);
        assert!(decode(&key, &sealed, 1 << 20).is_ok());
        assert!(decode(&key, &sealed, (1 << 20) - 1).is_err());
    }
}
