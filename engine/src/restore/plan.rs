//! Which bytes of which packs are fetched, in which order.
//!
//! Pure decisions: blobs wanted by files become [`ranges`] of packs; a blob wanted several times is
//! fetched once. And: how a ceiling of memory is divided.

use std::sync::Arc;

use super::file::File;
use crate::{
    crypto::Id,
    index::{
        Place,
        ranges::{self, Placed},
    },
};

/// The smallest ceiling that is kept.
pub(super) const LEAST: u64 = 32 << 20;
/// A worker's buffer has at least so many bytes. Few chunks are larger.
const BUFFER: usize = 4 << 20;
/// The largest chunk that is usual, sealed.
const CHUNK: u32 = (8 << 20) + (1 << 10);

/// A blob wanted at a place of a file.
pub(super) struct Want {
    pub(super) place: Place,
    pub(super) id: Id,
    pub(super) file: Arc<File>,
    /// Offset in the file.
    pub(super) at: u64,
}

/// Bytes of one pack fetched at once, and who wants what of them.
pub(super) type Range = ranges::Range<Want>;

impl Placed for Want {
    fn place(&self) -> Place {
        self.place
    }
}

/// A ceiling of memory, divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Threads that open, verify and write.
    pub(super) workers: usize,
    /// Bytes of a range.
    pub(super) range: u32,
    /// Bytes of ranges asked for and not written yet.
    pub(super) in_flight: u64,
    /// A worker's buffer for plain bytes.
    pub(super) plain: u32,
    /// The largest blob, of which one at a time is open.
    pub(super) largest: u32,
    /// Blobs planned together.
    pub(super) window: usize,
}

impl Limits {
    /// Two eighths for ranges, three for the workers' buffers, two for a large blob, one for plans.
    pub(super) fn of(memory: u64, cores: usize) -> Self {
        let memory = memory.max(LEAST);
        let part = |eighths: u64| u32::try_from(memory / 8 * eighths).unwrap_or(u32::MAX);
        let workers = cores.clamp(1, part(3) as usize / BUFFER);
        let plain = part(3) / u32::try_from(workers).unwrap_or(1);
        Self {
            workers,
            range: (part(2) / 8).clamp(256 << 10, 4 << 20),
            in_flight: u64::from(part(2)),
            plain,
            largest: part(2).max(plain).max(CHUNK),
            // Three windows of some 300 bytes a blob.
            window: (part(1) as usize / 1000).clamp(512, 8192),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn limits_keep_within_the_ceiling(memory in 0_u64..1 << 34, cores in 0_usize..300) {
            let limits = Limits::of(memory, cores);
            let buffers = limits.workers as u64 * u64::from(limits.plain);
            let parts = limits.in_flight + buffers + u64::from(limits.largest);
            prop_assert!(parts <= memory.max(LEAST) / 8 * 8 + (1 << 10));
            prop_assert!(limits.largest >= CHUNK);
            prop_assert!(limits.workers >= 1 && limits.window >= 512);
        }
    }
}
