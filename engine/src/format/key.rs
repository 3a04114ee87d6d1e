//! Key files: the repository's key, sealed with a key derived from a password.
//!
//! A key file names its own derivation cost. It is data of whoever can write to the store, so the
//! cost is capped: above [`MAX_MEMORY`], [`MAX_BLOCKS`] or [`MAX_P`] the file is invalid.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Invalid, null_as_default, time};
use crate::crypto::Key;

/// Most memory a derivation's table may take (`128 * N * r` bytes).
pub(crate) const MAX_MEMORY: u64 = 512 << 20;
/// Most memory may be taken by what is mixed with the table (`128 * p * r` bytes; restic's r is 8).
pub(crate) const MAX_BLOCKS: u64 = 1 << 20;
/// Most passes a derivation may make.
const MAX_P: u32 = 32;

/// log2(N) for random passwords: 16 MiB and some tens of milliseconds. A random password of 128
/// bits and more needs no stretching.
pub(crate) const LIGHT: u8 = 14;
/// log2(N) for passwords of people: what restic chooses, 32 MiB.
pub(crate) const STRONG: u8 = 15;

/// A key file as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyFile {
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) username: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    mac: StoredMac,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct StoredMac {
    k: String,
    r: String,
}

impl KeyFile {
    /// A key file for `key` that opens with `password`.
    pub(crate) fn seal(
        key: &Key,
        password: &[u8],
        log_n: u8,
        now: Timestamp,
        username: &str,
        hostname: &str,
    ) -> Result<Self, Invalid> {
        let mut salt = [0; 64];
        rand::fill(&mut salt);
        let (r, p) = (8, if log_n >= STRONG { 3 } else { 1 });
        let params = scrypt::Params::new(log_n, r, p).map_err(Invalid::new)?;
        let derived = derive(password, &salt, &params)?;
        let stored = Stored {
            mac: StoredMac {
                k: STANDARD.encode(key.mac_k),
                r: STANDARD.encode(key.mac_r),
            },
            encrypt: STANDARD.encode(key.encrypt),
        };
        let json = serde_json::to_vec(&stored).map_err(Invalid::new)?;
        Ok(Self {
            created: Some(time::format(now)),
            username: username.to_owned(),
            hostname: hostname.to_owned(),
            kdf: "scrypt".to_owned(),
            n: 1 << log_n,
            r,
            p,
            salt: STANDARD.encode(salt),
            data: STANDARD.encode(derived.seal(&json)),
        })
    }

    /// When it was made, if it says so.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.created.as_deref().and_then(time::parse)
    }

    pub(crate) fn decode(json: &[u8]) -> Result<Self, Invalid> {
        serde_json::from_slice(json).map_err(|error| Invalid(format!("it is no key file: {error}")))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        serde_json::to_vec(self).map_err(Invalid::new)
    }

    /// The repository's key, or `None` if the password is not this file's.
    pub(crate) fn open(&self, password: &[u8]) -> Result<Option<Key>, Invalid> {
        let derived = derive(password, &base64(&self.salt)?, &self.cost()?)?;
        self.open_with(&derived)
    }

    /// What deriving the key takes, if that is allowed.
    pub(crate) fn cost(&self) -> Result<scrypt::Params, Invalid> {
        if self.kdf != "scrypt" {
            return Err(Invalid::new("its key derivation is not scrypt"));
        }
        if !self.n.is_power_of_two() || self.n < 2 {
            return Err(Invalid::new("its N is not a power of two"));
        }
        let bytes = |blocks: u64| blocks.checked_mul(u64::from(self.r))?.checked_mul(128);
        let within = |blocks, limit| bytes(blocks).is_some_and(|bytes| bytes <= limit);
        if !within(self.n, MAX_MEMORY) || !within(u64::from(self.p), MAX_BLOCKS) || self.p > MAX_P {
            return Err(Invalid::new(
                "its key derivation costs more than is allowed",
            ));
        }
        let log_n = u8::try_from(self.n.trailing_zeros()).map_err(Invalid::new)?;
        scrypt::Params::new(log_n, self.r, self.p).map_err(Invalid::new)
    }

    /// The same as [`open`](Self::open), with the key that was derived from the password.
    pub(crate) fn open_with(&self, derived: &Key) -> Result<Option<Key>, Invalid> {
        let Ok(json) = derived.open(&base64(&self.data)?) else {
            return Ok(None);
        };
        decode_stored(&json).map(Some)
    }
}

/// The repository's key, as it lies sealed in a key file.
fn decode_stored(json: &[u8]) -> Result<Key, Invalid> {
    let stored: Stored =
        serde_json::from_slice(json).map_err(|_| Invalid::new("the key in it is malformed"))?;
    Ok(Key {
        encrypt: exact(&stored.encrypt)?,
        mac_k: exact(&stored.mac.k)?,
        mac_r: exact(&stored.mac.r)?,
    })
}

fn derive(password: &[u8], salt: &[u8], params: &scrypt::Params) -> Result<Key, Invalid> {
    let mut bytes = [0; 64];
    scrypt::scrypt(password, salt, params, &mut bytes).map_err(Invalid::new)?;
    Ok(Key::from_bytes(&bytes))
}

fn base64(text: &str) -> Result<Vec<u8>, Invalid> {
    STANDARD
        .decode(text)
        .map_err(|_| Invalid::new("it contains invalid base64"))
}

fn exact<const N: usize>(text: &str) -> Result<[u8; N], Invalid> {
    base64(text)?
        .try_into()
        .map_err(|_| Invalid::new("the key in it has a wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_its_password() {
        let key = Key::random();
        let file = KeyFile::seal(&key, b"secret", 4, Timestamp::now(), "u", "h").unwrap();
        let file = KeyFile::decode(&file.encode().unwrap()).unwrap();
        assert!(file.open(b"secret").unwrap() == Some(key));
        assert!(file.open(b"Secret").unwrap().is_none());
    }

    #[test]
    fn absurd_costs_are_refused_without_trying() {
        let good = KeyFile::seal(&Key::random(), b"x", 4, Timestamp::now(), "", "").unwrap();
        for (n, r, p) in [
            (1 << 40, 8, 1),
            (1 << 14, u32::MAX, 1),
            (16, 8, 1000),
            (15, 8, 1),
            (0, 8, 1),
            (16, 0, 1),
            (u64::MAX, 8, 1),
            // Little to mix, but a block that is mixed p times side by side.
            (2, 1 << 21, 32),
        ] {
            let bad = KeyFile {
                n,
                r,
                p,
                ..good.clone()
            };
            assert!(bad.cost().is_err(), "{n} {r} {p}");
        }
    }

    /// A vector of RFC 7914, of several passes.
    #[test]
    fn several_passes_give_what_the_standard_says() {
        let cost = scrypt::Params::new(10, 8, 16).unwrap();
        let key = derive(b"password", b"NaCl", &cost).unwrap();
        assert_eq!(
            hex::encode(key.encrypt),
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
        );
    }

    #[test]
    fn malformed_files_are_errors() {
        assert!(KeyFile::decode(b"{}").is_err());
        let good = KeyFile::seal(&Key::random(), b"x", 4, Timestamp::now(), "", "").unwrap();
        let bad = KeyFile {
            salt: "?".to_owned(),
            ..good
        };
        assert!(bad.open(b"x").is_err());
    }
}
