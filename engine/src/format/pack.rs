//! Pack files: sealed blobs, then their list.
//!
//! Layout: `blob … blob, sealed list, length of the sealed list as u32`. Does: encode and decode
//! the list and its place. Does not: hold blobs. What comes from a store is checked against the
//! size of the pack before anything is allocated by it.

use super::{Invalid, index::BlobKind};
use crate::crypto::{Id, OVERHEAD};

/// Where a pack lies in a repository.
pub(crate) fn path(id: &Id) -> String {
    let name = id.to_string();
    format!("data/{}/{name}", &name[..2])
}

/// Bytes of the length at the end.
pub(crate) const TRAILER: usize = 4;
/// Sealed lists above this size are refused.
pub(crate) const MAX_HEADER: u32 = 16 << 20;
/// Blobs are put into a pack until there are so many. (Some programs count them in 16 bits.)
pub(crate) const MAX_BLOBS: usize = 10_000;

const PLAIN_ENTRY: usize = 37;
const COMPRESSED_ENTRY: usize = 41;

/// One blob of a pack, in the order in which they lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) id: Id,
    pub(crate) kind: BlobKind,
    /// Sealed bytes.
    pub(crate) length: u32,
    /// Bytes before compression, if it is compressed.
    pub(crate) plain_length: Option<u32>,
}

/// The plain list.
pub(crate) fn encode_header(blobs: &[Blob]) -> Vec<u8> {
    let mut out = Vec::with_capacity(blobs.len() * COMPRESSED_ENTRY);
    for blob in blobs {
        let kind = match blob.kind {
            BlobKind::Data => 0,
            BlobKind::Tree => 1,
        };
        out.push(kind | u8::from(blob.plain_length.is_some()) << 1);
        out.extend(blob.length.to_le_bytes());
        out.extend(blob.plain_length.iter().flat_map(|len| len.to_le_bytes()));
        out.extend(blob.id.0);
    }
    out
}

/// Bytes of an entry of the plain list.
pub(crate) fn entry_length(compressed: bool) -> usize {
    if compressed {
        COMPRESSED_ENTRY
    } else {
        PLAIN_ENTRY
    }
}

/// The most bytes that the list of so many blobs takes in a pack, sealed, with its length.
pub(crate) const fn header_room(blobs: usize) -> usize {
    blobs * COMPRESSED_ENTRY + OVERHEAD + TRAILER
}

/// The length of the sealed list, from a pack's last four bytes.
pub(crate) fn header_length(trailer: [u8; TRAILER], pack_size: u64) -> Result<u32, Invalid> {
    let length = u32::from_le_bytes(trailer);
    let least = u32::try_from(OVERHEAD + PLAIN_ENTRY).unwrap_or(u32::MAX);
    if length < least || length > MAX_HEADER || u64::from(length) + TRAILER as u64 > pack_size {
        return Err(Invalid::new(
            "the length of its list of blobs is impossible",
        ));
    }
    Ok(length)
}

/// The blobs of a pack, whose sealed bytes must fill exactly what is left of it beside the list.
pub(crate) fn decode_header(plain: &[u8], pack_size: u64) -> Result<Vec<Blob>, Invalid> {
    let mut blobs = Vec::with_capacity(plain.len() / PLAIN_ENTRY);
    let mut rest = plain;
    let mut total = (plain.len() + OVERHEAD + TRAILER) as u64;
    while let Some((&tag, after)) = rest.split_first() {
        let short = || Invalid::new("its list of blobs ends within an entry");
        let kind = match tag {
            0 | 2 => BlobKind::Data,
            1 | 3 => BlobKind::Tree,
            _ => {
                return Err(Invalid(format!(
                    "its list has a blob of unknown kind {tag}"
                )));
            }
        };
        let (length, mut after) = after.split_first_chunk::<4>().ok_or_else(short)?;
        let mut plain_length = None;
        if tag >= 2 {
            let (len, behind) = after.split_first_chunk::<4>().ok_or_else(short)?;
            (plain_length, after) = (Some(u32::from_le_bytes(*len)), behind);
        }
        let (id, after) = after.split_first_chunk::<32>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length);
        if (length as usize) < OVERHEAD {
            return Err(Invalid::new("its list has a blob that is too short"));
        }
        total += u64::from(length);
        blobs.push(Blob {
            id: Id(*id),
            kind,
            length,
            plain_length,
        });
        rest = after;
    }
    if total != pack_size {
        return Err(Invalid::new("its blobs do not fill it"));
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blobs() -> impl Strategy<Value = Vec<Blob>> {
        let blob = (
            any::<[u8; 32]>(),
            any::<bool>(),
            32_u32..1 << 24,
            any::<Option<u32>>(),
        );
        let blob = blob.prop_map(|(id, tree, length, plain_length)| Blob {
            id: Id(id),
            kind: if tree { BlobKind::Tree } else { BlobKind::Data },
            length,
            plain_length,
        });
        proptest::collection::vec(blob, 1..20)
    }

    proptest! {
        #[test]
        fn lists_round_trip(blobs in blobs()) {
            let plain = encode_header(&blobs);
            let size = blobs.iter().map(|b| u64::from(b.length)).sum::<u64>()
                + (plain.len() + OVERHEAD + TRAILER) as u64;
            prop_assert!(plain.len() + OVERHEAD + TRAILER <= header_room(blobs.len()));
            prop_assert_eq!(decode_header(&plain, size).unwrap(), blobs);
            prop_assert!(decode_header(&plain, size + 1).is_err());
            prop_assert!(decode_header(&plain[..plain.len() - 1], size - 1).is_err());
        }

        #[test]
        fn garbage_is_an_error_or_a_list(plain in proptest::collection::vec(any::<u8>(), 0..200), size in any::<u64>()) {
            let _ignored = decode_header(&plain, size);
        }
    }

    #[test]
    fn packs_lie_in_directories_named_by_their_first_byte() {
        let path = path(&Id([0xab; 32]));
        assert_eq!(path, format!("data/ab/{}", "ab".repeat(32)));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for (length, size, good) in [
            (69_u32, 73, true),
            (69, 72, false),
            (68, 1000, false),
            (u32::MAX, u64::MAX, false),
            ((16 << 20) + 1, u64::MAX, false),
        ] {
            assert_eq!(
                header_length(length.to_le_bytes(), size).is_ok(),
                good,
                "{length}"
            );
        }
    }
}
