//! The format's cryptography: AES-256-CTR with Poly1305-AES, and SHA-256 names.
//!
//! Does: seal and open byte strings (`nonce || ciphertext || tag`). Does not: derive keys, read or
//! write anything. Fails only on opening, with [`Unauthentic`], and then reveals nothing.

use std::fmt;

use aes::cipher::{BlockEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _};
use poly1305::Poly1305;
use sha2::{Digest as _, Sha256};

/// Bytes that [`Key::seal`] adds: nonce and tag.
pub(crate) const OVERHEAD: usize = NONCE + TAG;
/// Bytes of it before the text.
pub(crate) const NONCE: usize = 16;
const TAG: usize = 16;

/// A name in the repository: the SHA-256 of a content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) [u8; 32]);

/// What hexadecimal digits mean; 255 where there is none. Names are lower case only.
const DIGITS: [u8; 256] = {
    let mut all = [255; 256];
    let digits = *b"0123456789abcdef";
    let mut value = 0;
    while value < 16 {
        all[digits[value as usize] as usize] = value;
        value += 1;
    }
    all
};

impl Id {
    pub(crate) fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let (mut id, mut all) = ([0; 32], 0);
        for (byte, [high, low]) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
            let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
            all |= high | low;
            *byte = high << 4 | low;
        }
        (all < 16).then_some(Self(id))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes are not what was sealed with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unauthentic;

/// Keys for encryption and authentication.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) encrypt: [u8; 32],
    pub(crate) mac_k: [u8; 16],
    pub(crate) mac_r: [u8; 16],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl Key {
    /// A new random key.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes);
        Self::from_bytes(&bytes)
    }

    /// 32 bytes for encryption, 16 for the tag's AES key, 16 for its polynomial point.
    pub(crate) fn from_bytes(bytes: &[u8; 64]) -> Self {
        let (mut encrypt, mut mac_k, mut mac_r) = ([0; 32], [0; 16], [0; 16]);
        encrypt.copy_from_slice(&bytes[..32]);
        mac_k.copy_from_slice(&bytes[32..48]);
        mac_r.copy_from_slice(&bytes[48..]);
        Self {
            encrypt,
            mac_k,
            mac_r,
        }
    }

    /// `nonce || ciphertext || tag` under a fresh random nonce.
    pub(crate) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce);
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        self.stream(&nonce, &mut out[NONCE..]);
        let tag = self.tag(&nonce, &out[NONCE..]);
        out.extend_from_slice(&tag);
        out
    }

    /// The plain text of what [`Key::seal`] made.
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Unauthentic> {
        let (nonce, text) = self.authentic(sealed)?;
        let mut plain = text.to_vec();
        self.stream(nonce, &mut plain);
        Ok(plain)
    }

    /// The same, in place. What is not authentic stays as it is.
    pub(crate) fn open_in_place<'a>(
        &self,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unauthentic> {
        let nonce = *self.authentic(sealed)?.0;
        let end = sealed.len() - TAG;
        let text = &mut sealed[NONCE..end];
        self.stream(&nonce, text);
        Ok(text)
    }

    /// Nonce and ciphertext, if the tag is theirs.
    fn authentic<'a>(&self, sealed: &'a [u8]) -> Result<(&'a [u8; NONCE], &'a [u8]), Unauthentic> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(Unauthentic)?;
        let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(Unauthentic)?;
        let expected = self.tag(nonce, text);
        let differ = expected
            .iter()
            .zip(tag)
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        if std::hint::black_box(differ) != 0 {
            return Err(Unauthentic);
        }
        Ok((nonce, text))
    }

    fn stream(&self, nonce: &[u8; NONCE], data: &mut [u8]) {
        ctr::Ctr128BE::<aes::Aes256>::new(&self.encrypt.into(), nonce.into()).apply_keystream(data);
    }

    fn tag(&self, nonce: &[u8; NONCE], text: &[u8]) -> [u8; TAG] {
        let mut pad = (*nonce).into();
        aes::Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&pad);
        Poly1305::new(&key.into()).compute_unpadded(text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first vector of the Poly1305-AES paper: message, key, nonce, tag.
    #[test]
    fn poly1305_aes_vector() {
        let mut bytes = [0; 64];
        bytes[32..48].copy_from_slice(&hex::decode("ec074c835580741701425b623235add6").unwrap());
        bytes[48..].copy_from_slice(&hex::decode("851fc40c3467ac0be05cc20404f3f700").unwrap());
        let key = Key::from_bytes(&bytes);
        let mut nonce = [0; 16];
        hex::decode_to_slice("fb447350c4e868c52ac3275cf9d4327e", &mut nonce).unwrap();
        assert_eq!(
            hex::encode(key.tag(&nonce, &hex::decode("f3f6").unwrap())),
            "f4c633c3044fc145f84f335cb81953de"
        );
    }

    #[test]
    fn open_returns_what_was_sealed_and_refuses_changes() {
        let key = Key::random();
        for len in [0, 1, 15, 16, 17, 1000] {
            let plain = vec![7; len];
            let sealed = key.seal(&plain);
            assert_eq!(sealed.len(), len + OVERHEAD);
            assert_eq!(key.open(&sealed).unwrap(), plain);
            assert_eq!(key.open_in_place(&mut sealed.clone()).unwrap(), plain);
            for at in [0, sealed.len() / 2, sealed.len() - 1] {
                let mut bad = sealed.clone();
                bad[at] ^= 1;
                assert_eq!(key.open(&bad), Err(Unauthentic));
                let before = bad.clone();
                assert!(key.open_in_place(&mut bad).is_err());
                assert_eq!(bad, before);
            }
            assert_eq!(key.open(&sealed[..OVERHEAD - 1]), Err(Unauthentic));
        }
        assert_eq!(Key::random().open(&key.seal(b"x")), Err(Unauthentic));
    }

    #[test]
    fn ids_are_64_lower_case_hex_digits() {
        let id = Id::of(b"");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(Id::parse("00"), None);
        for bad in ["g", "G", "`", "/", ":", "@", " ", "\u{80}"] {
            let text = format!("{}{bad}", &id.to_string()[bad.len()..]);
            assert_eq!((text.len(), Id::parse(&text)), (64, None), "{bad:?}");
        }
    }
}
