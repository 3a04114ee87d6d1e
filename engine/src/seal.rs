//! Sealing in place, with the key schedules made once.
//!
//! Does: the same as [`Key::seal`](crate::crypto::Key) and its opening, byte for byte, inside a
//! buffer of the caller, encrypting and authenticating in steps that stay in the first-level cache.
//! Does not: allocate. Fails only on opening, with [`Unauthentic`], and then the buffer's content
//! is unspecified.

use aes::{
    Aes128, Aes256,
    cipher::{BlockEncrypt as _, InnerIvInit as _, KeyInit as _, StreamCipher as _},
};
use ctr::{CtrCore, flavors};
use poly1305::{Poly1305, universal_hash::UniversalHash as _};

use crate::crypto::{Key, OVERHEAD, Unauthentic};

const NONCE: usize = 16;
const TAG: usize = 16;
/// A multiple of the authenticator's block; input and output fit into the first-level cache.
const STEP: usize = 8 << 10;

type Stream<'a> = aes::cipher::StreamCipherCoreWrapper<CtrCore<&'a Aes256, flavors::Ctr128BE>>;

/// A key ready for use by one or many threads.
#[derive(Clone)]
pub(crate) struct Sealer {
    encrypt: Aes256,
    mac_k: Aes128,
    mac_r: [u8; 16],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

impl Sealer {
    pub(crate) fn new(key: &Key) -> Self {
        Self {
            encrypt: Aes256::new(&key.encrypt.into()),
            mac_k: Aes128::new(&key.mac_k.into()),
            mac_r: key.mac_r,
        }
    }

    /// Seals `buf[16..len-16]`: the nonce goes before it, the tag behind it.
    ///
    /// `buf` must be [`OVERHEAD`] bytes longer than the plain text; a shorter one is left alone.
    pub(crate) fn seal(&self, buf: &mut [u8]) {
        if buf.len() < OVERHEAD {
            return;
        }
        let (nonce, rest) = buf.split_at_mut(NONCE);
        rand::fill(nonce);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG);
        let mut stream = self.stream(nonce);
        let mut mac = self.mac(nonce);
        let mut steps = text.chunks_exact_mut(STEP);
        for step in &mut steps {
            stream.apply_keystream(step);
            mac.update_padded(step);
        }
        let last = steps.into_remainder();
        stream.apply_keystream(last);
        tag.copy_from_slice(&mac.compute_unpadded(last));
    }

    /// Opens `nonce || ciphertext || tag` and returns the plain text in it.
    pub(crate) fn open<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Unauthentic> {
        if sealed.len() < OVERHEAD {
            return Err(Unauthentic);
        }
        let (nonce, rest) = sealed.split_at_mut(NONCE);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG);
        let mut stream = self.stream(nonce);
        let mut mac = self.mac(nonce);
        let mut steps = text.chunks_exact_mut(STEP);
        for step in &mut steps {
            mac.update_padded(step);
            stream.apply_keystream(step);
        }
        let last = steps.into_remainder();
        let expected = mac.compute_unpadded(last);
        stream.apply_keystream(last);
        let differ = expected
            .iter()
            .zip(&*tag)
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        if std::hint::black_box(differ) != 0 {
            return Err(Unauthentic);
        }
        Ok(text)
    }

    fn stream(&self, nonce: &[u8]) -> Stream<'_> {
        Stream::from_core(CtrCore::inner_iv_init(&self.encrypt, nonce.into()))
    }

    fn mac(&self, nonce: &[u8]) -> Poly1305 {
        let mut pad = *aes::Block::from_slice(nonce);
        self.mac_k.encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&pad);
        Poly1305::new(&key.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn same_bytes_as_the_plain_implementation(
            plain in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                proptest::collection::vec(any::<u8>(), STEP - 20..STEP + 20),
                proptest::collection::vec(any::<u8>(), 2 * STEP - 3..2 * STEP + 3),
            ],
            flip in any::<prop::sample::Index>(),
        ) {
            let key = Key::random();
            let sealer = Sealer::new(&key);
            let mut buf = vec![0; plain.len() + OVERHEAD];
            buf[NONCE..NONCE + plain.len()].copy_from_slice(&plain);
            sealer.seal(&mut buf);
            prop_assert_eq!(&key.open(&buf).unwrap(), &plain);
            let mut theirs = key.seal(&plain);
            prop_assert_eq!(&*sealer.open(&mut theirs).unwrap(), &plain[..]);
            let at = flip.index(buf.len());
            buf[at] ^= 0x10;
            prop_assert!(sealer.open(&mut buf).is_err());
        }
    }

    #[test]
    fn the_counter_is_128_bits_wide() {
        // A nonce whose low 64 bits overflow within the text: compared with AES applied block by
        // block.
        let key = Key::random();
        let sealer = Sealer::new(&key);
        let nonce = [0xff; 16];
        let mut text = [0; 48];
        sealer.stream(&nonce).apply_keystream(&mut text);
        let cipher = Aes256::new(&key.encrypt.into());
        for (i, block) in text.chunks(16).enumerate() {
            let counter = u128::MAX.wrapping_add(i as u128);
            let mut expected = counter.to_be_bytes().into();
            cipher.encrypt_block(&mut expected);
            assert_eq!(block, &expected[..]);
        }
    }

    #[test]
    fn too_short_is_not_authentic() {
        let sealer = Sealer::new(&Key::random());
        assert!(sealer.open(&mut [0; OVERHEAD - 1]).is_err());
        sealer.seal(&mut [0; OVERHEAD - 1]);
    }
}
