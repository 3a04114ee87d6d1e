//! The keys of a state, and the seal of its segments.
//!
//! All keys come from the repository's master key by HKDF-SHA256, salted with the repository's id,
//! each with an info string of its own that ends with a digest of repository and volume: no two
//! purposes, volumes or repositories share one. The key of a state's segments depends on its random
//! generation as well, so that no two states, also not one that was put back and its second
//! successor, ever use a nonce twice under one key. A segment's nonce is its number; its additional
//! data are format, version, repository and volume, generation, kind, number, and whether it is the
//! last: none can be moved, left out or taken from elsewhere.
//!
//! Does: derive, seal, open, and take fingerprints. Does not: read or write files. Opening fails on
//! whatever is not authentic, and says no more.

use std::path::Path;

use aes_gcm::{AeadInPlace as _, Aes256Gcm, KeyInit as _, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use super::{
    format::{GENERATION, MAGIC, Print, TAG},
    room::PREFIX,
};
use crate::{
    crypto::Key,
    error::{Error, Result},
};

/// What a state is of.
#[derive(Debug, Clone, Copy)]
pub(in crate::archive) struct Volume<'a> {
    /// The repository's id.
    pub(in crate::archive) repository: &'a str,
    /// Where its content-defined chunks end depends on this.
    pub(in crate::archive) polynomial: &'a str,
    /// The snapshots' host name.
    pub(in crate::archive) host: &'a str,
    /// The snapshots' paths.
    pub(in crate::archive) paths: &'a [String],
}

impl Volume<'_> {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        field(self.repository);
        field(self.polynomial);
        field(self.host);
        let mut paths: Vec<&String> = self.paths.iter().collect();
        paths.sort();
        for path in paths {
            field(path);
        }
        *hasher.finalize().as_bytes()
    }
}

/// The keys of one volume in one repository.
pub(in crate::archive) struct Keys {
    master: Hkdf<Sha256>,
    volume: [u8; 32],
    block: [u8; 32],
    path: [u8; 32],
    name: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

impl Keys {
    /// Derives them.
    pub(in crate::archive) fn new(master: &Key, volume: &Volume<'_>) -> Result<Self> {
        let secret = [&master.encrypt[..], &master.mac_k, &master.mac_r].concat();
        let mut keys = Self {
            master: Hkdf::new(Some(volume.repository.as_bytes()), &secret),
            volume: volume.digest(),
            block: [0; 32],
            path: [0; 32],
            name: [0; 32],
        };
        keys.block = keys.derive("block", &[])?;
        keys.path = keys.derive("path", &[])?;
        keys.name = keys.derive("name", &[])?;
        Ok(keys)
    }

    fn derive(&self, purpose: &str, generation: &[u8]) -> Result<[u8; 32]> {
        let mut key = [0; 32];
        let info = [&MAGIC, purpose.as_bytes(), &[0], generation, &self.volume].concat();
        self.master
            .expand(&info, &mut key)
            .map_err(|error| Error::Bug(format!("no key of 32 bytes: {error}")))?;
        Ok(key)
    }

    /// The fingerprint of a block.
    pub(in crate::archive) fn print(&self, block: &[u8]) -> Print {
        Print(*blake3::keyed_hash(&self.block, block).as_bytes())
    }

    /// The same of a block that comes in pieces.
    pub(in crate::archive) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.block)
    }

    /// What stands for a file's path.
    pub(in crate::archive) fn path(&self, path: &Path) -> [u8; 16] {
        use std::os::unix::ffi::OsStrExt as _;
        let hash = blake3::keyed_hash(&self.path, path.as_os_str().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        key
    }

    /// The name of the state's file. It tells nothing to who has not got the repository's key.
    pub(in crate::archive) fn file_name(&self) -> String {
        format!("{PREFIX}{}", hex::encode(&self.name[..16]))
    }

    /// What seals the segments of one state.
    pub(super) fn seal(&self, generation: &[u8; GENERATION]) -> Result<Seal> {
        let key = self.derive("segments", generation)?;
        Ok(Seal {
            cipher: Aes256Gcm::new(&key.into()),
            bound: [&MAGIC, &self.volume[..], generation].concat(),
        })
    }
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    Entries,
    /// The last.
    Trailer,
}

/// Seals the segments of one state.
pub(super) struct Seal {
    cipher: Aes256Gcm,
    bound: Vec<u8>,
}

impl Seal {
    fn data(&self, kind: Kind, number: u64) -> ([u8; 12], Vec<u8>) {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let kind = match kind {
            Kind::Records => [0, 0],
            Kind::Entries => [1, 0],
            Kind::Trailer => [2, 1],
        };
        (nonce, [&self.bound[..], &kind, &nonce].concat())
    }

    /// Encrypts a segment and appends its tag.
    pub(super) fn seal(&self, kind: Kind, number: u64, segment: &mut Vec<u8>) -> Result<()> {
        let (nonce, data) = self.data(kind, number);
        let tag = self
            .cipher
            .encrypt_in_place_detached(Nonce::from_slice(&nonce), &data, segment)
            .map_err(|_| Error::Bug("a segment is too long to be sealed".to_owned()))?;
        segment.extend_from_slice(&tag);
        Ok(())
    }

    /// Decrypts a segment in place and takes its tag off. False if it is not authentic.
    pub(super) fn open(&self, kind: Kind, number: u64, segment: &mut Vec<u8>) -> bool {
        let Some(length) = segment.len().checked_sub(TAG) else {
            return false;
        };
        let (nonce, data) = self.data(kind, number);
        let tag = *Tag::from_slice(&segment[length..]);
        segment.truncate(length);
        self.cipher
            .decrypt_in_place_detached(Nonce::from_slice(&nonce), &data, segment, &tag)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(paths: &[String]) -> Volume<'_> {
        Volume {
            repository: "r",
            polynomial: "3da3358b4dc173",
            host: "h",
            paths,
        }
    }

    /// Every key and name there is.
    fn all(keys: &Keys) -> Vec<Vec<u8>> {
        vec![
            keys.block.to_vec(),
            keys.path.to_vec(),
            keys.name.to_vec(),
            keys.derive("segments", &[1; 32]).unwrap().to_vec(),
            keys.derive("segments", &[2; 32]).unwrap().to_vec(),
        ]
    }

    #[test]
    fn no_two_purposes_volumes_or_repositories_share_a_key() {
        let master = Key::from_bytes(&[3; 64]);
        let [a, ab, b] = [vec!["a"], vec!["a", "b"], vec!["b"]]
            .map(|paths| paths.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let volumes = [
            volume(&a),
            volume(&ab),
            volume(&b),
            Volume {
                repository: "s",
                ..volume(&a)
            },
            Volume {
                host: "i",
                ..volume(&a)
            },
            Volume {
                polynomial: "3da3358b4dc175",
                ..volume(&a)
            },
            // The same letters in other fields.
            Volume {
                host: "ha",
                paths: &[],
                ..volume(&a)
            },
        ];
        let mut keys: Vec<_> = volumes
            .iter()
            .flat_map(|volume| all(&Keys::new(&master, volume).unwrap()))
            .collect();
        let other = Key::from_bytes(&[4; 64]);
        keys.extend(all(&Keys::new(&other, &volume(&a)).unwrap()));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn the_order_of_paths_does_not_matter() {
        let master = Key::from_bytes(&[3; 64]);
        let [ab, ba] = [["a", "b"], ["b", "a"]].map(|paths| paths.map(str::to_owned));
        let [ab, ba] = [&ab, &ba].map(|paths| Keys::new(&master, &volume(paths)).unwrap());
        assert_eq!(all(&ab), all(&ba));
    }

    /// Whoever changes one of them makes all states useless that there are.
    #[test]
    fn keys_and_seals_stay_as_they_are() {
        let paths = ["/v".to_owned()];
        let keys = Keys::new(&Key::from_bytes(&[3; 64]), &volume(&paths)).unwrap();
        let mut sealed = b"segment".to_vec();
        let seal = keys.seal(&[1; 32]).unwrap();
        seal.seal(Kind::Records, 5, &mut sealed).unwrap();
        let pinned = [
            keys.file_name(),
            hex::encode(keys.print(b"block").0),
            hex::encode(keys.path(Path::new("a/b"))),
            hex::encode(&sealed),
        ];
        let mut hasher = keys.hasher();
        hasher.update(b"blo");
        hasher.update(b"ck");
        assert_eq!(hasher.finalize().as_bytes(), &keys.print(b"block").0);
        assert_eq!(pinned, PINNED);
    }

    const PINNED: [&str; 4] = [
        "prints-1b29556f43c9654b107247f09bed6318",
        "0c6b68c9e2c9b5d1e269a6ab15bac49c0907948fc18f631c8da3908162c6a402",
        "1d3fc66c8a27b3708efc5cac7398d613",
        "0593aeb853f2ae830d3d7442ecad27c4c6b7f5ef5db144",
    ];

    #[test]
    fn a_segment_opens_only_as_what_it_was_sealed_as() {
        let (paths, others) = (["/v".to_owned()], ["/w".to_owned()]);
        let master = Key::from_bytes(&[3; 64]);
        let keys = Keys::new(&master, &volume(&paths)).unwrap();
        let seal = keys.seal(&[1; 32]).unwrap();
        let mut sealed = b"segment".to_vec();
        seal.seal(Kind::Records, 5, &mut sealed).unwrap();
        let opens = |seal: &Seal, kind, number, sealed: &[u8]| {
            let mut segment = sealed.to_vec();
            let opened = seal.open(kind, number, &mut segment);
            assert!(!opened || segment == b"segment");
            opened
        };
        assert!(opens(&seal, Kind::Records, 5, &sealed));
        assert!(!opens(&seal, Kind::Records, 4, &sealed));
        assert!(!opens(&seal, Kind::Entries, 5, &sealed));
        assert!(!opens(&seal, Kind::Trailer, 5, &sealed));
        assert!(!opens(
            &keys.seal(&[2; 32]).unwrap(),
            Kind::Records,
            5,
            &sealed
        ));
        let other = Keys::new(&master, &volume(&others)).unwrap();
        assert!(!opens(
            &other.seal(&[1; 32]).unwrap(),
            Kind::Records,
            5,
            &sealed
        ));
        // Not even if the keys were the same.
        let mut forged = keys.seal(&[1; 32]).unwrap();
        forged.bound[MAGIC.len()] ^= 1;
        assert!(!opens(&forged, Kind::Records, 5, &sealed));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 0x20;
            assert!(!opens(&seal, Kind::Records, 5, &bad), "{at}");
            assert!(!opens(&seal, Kind::Records, 5, &sealed[..at]), "{at}");
        }
    }
}
