//! Compressed blobs: a Zstandard frame of a length that is known beforehand.
//!
//! Does: decompress, to the claimed length and no further. Does not: believe that length, so memory
//! grows with what really comes out; but for [`Unpacker`], whose callers have counted the length.

use std::io::Read as _;

use super::Invalid;

/// A buffer larger than this is not kept for the next blob.
const KEPT: usize = 4 << 20;

/// Decompresses one blob after another into the same buffer.
pub(crate) struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    plain: Vec<u8>,
}

impl Unpacker {
    pub(crate) fn new() -> Result<Self, Invalid> {
        Ok(Self {
            zstd: zstd::bulk::Decompressor::new().map_err(Invalid::new)?,
            plain: Vec::new(),
        })
    }

    /// The content of a blob that has `length` bytes, until the next one. Takes that much memory at
    /// once.
    pub(crate) fn decompress(&mut self, data: &[u8], length: u32) -> Result<&[u8], Invalid> {
        let other = || Invalid::new("it decompresses to another length than the index says");
        let claimed = zstd::zstd_safe::get_frame_content_size(data);
        if let Ok(Some(claimed)) = claimed
            && claimed > u64::from(length)
        {
            return Err(other());
        }
        self.plain.clear();
        if self.plain.capacity() > KEPT {
            self.plain.shrink_to(KEPT);
        }
        self.plain.reserve_exact(length as usize);
        self.zstd
            .decompress_to_buffer(data, &mut self.plain)
            .map_err(Invalid::new)?;
        if self.plain.len() == length as usize {
            Ok(&self.plain)
        } else {
            Err(other())
        }
    }

    /// What was decompressed last.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }
}

/// The content of a blob that has `length` bytes.
pub(crate) fn decompress(data: &[u8], length: u32) -> Result<Vec<u8>, Invalid> {
    let mut plain = Vec::new();
    zstd::stream::read::Decoder::with_buffer(data)
        .map_err(Invalid::new)?
        .take(u64::from(length) + 1)
        .read_to_end(&mut plain)
        .map_err(Invalid::new)?;
    if plain.len() as u64 == u64::from(length) {
        Ok(plain)
    } else {
        Err(Invalid::new(
            "it decompresses to another length than the index says",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_claimed_length_comes_out() {
        let frame = zstd::bulk::compress(&[7; 1000], 1).unwrap();
        assert_eq!(decompress(&frame, 1000).unwrap(), [7; 1000]);
        for length in [0, 999, 1001, u32::MAX] {
            assert!(decompress(&frame, length).is_err(), "{length}");
        }
        assert!(decompress(b"garbage", 7).is_err());
    }
}
