//! Formats that are not JSON: lists of packs, and what seals and compression wrap.

use crate::{
    crypto::{Key, OVERHEAD},
    format::{compressed, pack, unpacked},
};

/// Decompressed documents are refused above this size here.
const LIMIT: u64 = 1 << 20;

fn key() -> Key {
    Key::from_bytes(&[7; 64])
}

/// The size of a pack, and its list of blobs. Size 0 stands for the one that fits the list.
pub(super) fn pack_header(data: &[u8]) {
    let Some((size, plain)) = data.split_first_chunk::<8>() else {
        return;
    };
    let size = match u64::from_le_bytes(*size) {
        0 => fitting_size(plain),
        size => size,
    };
    if let Some((trailer, _)) = plain.split_first_chunk::<{ pack::TRAILER }>()
        && let Ok(length) = pack::header_length(*trailer, size)
    {
        assert!(length <= pack::MAX_HEADER);
        assert!(u64::from(length) + pack::TRAILER as u64 <= size);
    }
    if let Ok(blobs) = pack::decode_header(plain, size) {
        assert_eq!(pack::encode_header(&blobs), plain);
        let sealed: u64 = blobs.iter().map(|blob| u64::from(blob.length)).sum();
        assert_eq!(
            sealed + (plain.len() + OVERHEAD + pack::TRAILER) as u64,
            size
        );
        assert!(plain.len() + OVERHEAD + pack::TRAILER <= pack::header_room(blobs.len()));
    }
}

fn fitting_size(mut plain: &[u8]) -> u64 {
    let mut size = (plain.len() + OVERHEAD + pack::TRAILER) as u64;
    while let Some((tag, rest)) = plain.split_first() {
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            break;
        };
        size += u64::from(u32::from_le_bytes(*length));
        plain = rest
            .get(if *tag >= 2 { 36.. } else { 32.. })
            .unwrap_or_default();
    }
    size
}

/// What to do, and the bytes of a file that is sealed whole.
pub(super) fn unpacked(data: &[u8]) {
    let Some((what, data)) = data.split_first() else {
        return;
    };
    let key = key();
    match what % 4 {
        // Bytes that somebody sealed who has the key.
        0 => {
            let Ok(json) = unpacked::decode(&key, &key.seal(data), LIMIT) else {
                return;
            };
            assert!(json == data || (data[0] == 2 && json.len() as u64 <= LIMIT));
        }
        // Bytes of somebody who has not.
        1 => assert!(unpacked::decode(&key, data, LIMIT).is_err()),
        // A sealed file with a changed byte.
        2 => {
            let Some((at, json)) = data.split_first() else {
                return;
            };
            let mut sealed = key.seal(json);
            let at = usize::from(*at) % sealed.len();
            sealed[at] ^= 1;
            assert!(unpacked::decode(&key, &sealed, LIMIT).is_err());
        }
        // What this engine writes.
        _ => {
            for version in [1, 2] {
                let Ok((_, sealed)) = unpacked::encode(&key, data, version) else {
                    panic!("it must be possible to seal anything");
                };
                let json = unpacked::decode(&key, &sealed, data.len() as u64);
                if version == 2 || matches!(data.first(), Some(b'{' | b'[')) {
                    assert_eq!(json.as_deref(), Ok(data));
                }
            }
        }
    }
}

/// The claimed length of a blob, in three bytes of which 20 bits count, and its compressed content.
pub(super) fn blob(data: &[u8]) {
    let Some(([a, b, c], frame)) = data.split_first_chunk() else {
        return;
    };
    let length = u32::from_le_bytes([*a, *b, c & 15, 0]);
    if let Ok(plain) = compressed::decompress(frame, length) {
        assert_eq!(plain.len(), length as usize);
    }
    let Ok(packed) = zstd::bulk::compress(frame, 1) else {
        panic!("it must be possible to compress anything");
    };
    let claimed = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    assert_eq!(
        compressed::decompress(&packed, claimed).as_deref(),
        Ok(frame)
    );
    assert!(compressed::decompress(&packed, claimed.saturating_add(1)).is_err());
}
