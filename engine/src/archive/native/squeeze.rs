//! Compression, and when not to.
//!
//! One context per thread, reused. Data that a look at some samples shows to be incompressible is
//! not even tried; what does not become smaller by [`WORTH`] is stored as it is. Never fails: a
//! failure means "not smaller".

use zstd::bulk::Compressor;

/// Compressed data must be smaller than so many hundredths.
const WORTH: usize = 97;
const SAMPLES: usize = 16;
const SAMPLE: usize = 1 << 10;
/// For random bytes the sum of squared counts over all samples is 1,064,900 with a deviation of
/// 1,450.
const RANDOM: u64 = 1_074_000;

/// A compressor for one thread.
pub(crate) struct Squeezer(Option<Compressor<'static>>);

impl Squeezer {
    /// `None` compresses nothing, as format version 1 wants it.
    pub(crate) fn new(level: Option<i32>) -> std::io::Result<Self> {
        level.map(Compressor::new).transpose().map(Self)
    }

    /// Compresses into `out`, which has room for at least `data`. `None` if it is not worth it.
    pub(crate) fn squeeze(&mut self, data: &[u8], out: &mut [u8]) -> Option<usize> {
        let compressor = self.0.as_mut()?;
        if looks_random(data) {
            return None;
        }
        let room = (data.len() * WORTH / 100).min(out.len());
        compressor.compress_to_buffer(data, &mut out[..room]).ok()
    }
}

fn looks_random(data: &[u8]) -> bool {
    if data.len() < SAMPLES * SAMPLE {
        return false;
    }
    let mut counts = [0_u32; 256];
    for n in 0..SAMPLES {
        let at = (data.len() - SAMPLE) / (SAMPLES - 1) * n;
        for &byte in &data[at..at + SAMPLE] {
            counts[usize::from(byte)] += 1;
        }
    }
    counts
        .iter()
        .map(|&n| u64::from(n) * u64::from(n))
        .sum::<u64>()
        < RANDOM
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::rabin::tests::noise;

    #[test]
    fn only_what_is_worth_it() {
        let mut squeezer = Squeezer::new(Some(1)).unwrap();
        let mut out = vec![0; 1 << 20];
        let random = noise(1, 1 << 20);
        assert!(looks_random(&random) && looks_random(&random[..SAMPLES * SAMPLE]));
        assert_eq!(squeezer.squeeze(&random, &mut out), None);
        let mut mixed = random.clone();
        mixed
            .chunks_mut(16 << 10)
            .for_each(|page| page[..8 << 10].fill(b'x'));
        assert!(!looks_random(&mixed));
        let len = squeezer.squeeze(&mixed, &mut out).unwrap();
        assert!(len < mixed.len() * 60 / 100);
        assert_eq!(
            zstd::bulk::decompress(&out[..len], mixed.len()).unwrap(),
            mixed
        );
        assert_eq!(squeezer.squeeze(b"x", &mut out), None);
        assert_eq!(Squeezer::new(None).unwrap().squeeze(&mixed, &mut out), None);
    }
}
