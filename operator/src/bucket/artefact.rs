//! Artefacts: gzipped JSON, written whole and read with a bound on both the stored and the unpacked
//! size, because what lies in a bucket may come from anybody.

use std::io::{Read as _, Write as _};

use ark_engine::Store;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Largest artefact of JSON that is read, as stored.
const MAX_STORED: u64 = 64 << 20;
/// Largest artefact of JSON that is read, unpacked.
const MAX_UNPACKED: u64 = 256 << 20;

/// Stores `value` as gzipped JSON.
pub(crate) async fn write_json_gz<T: Serialize + Sync>(
    store: &Store,
    path: &str,
    value: &T,
) -> Result<()> {
    let packed = pack(value).map_err(Error::io(format!("pack {path}")))?;
    store.write(path, packed.into()).await?;
    Ok(())
}

/// Reads gzipped JSON; `None` if there is no such artefact.
pub(crate) async fn read_json_gz<T: DeserializeOwned>(
    store: &Store,
    path: &str,
) -> Result<Option<T>> {
    let Some(packed) = store.read(path, MAX_STORED).await? else {
        return Ok(None);
    };
    unpack(&packed, MAX_UNPACKED)
        .map(Some)
        .map_err(Error::malformed(path))
}

fn pack<T: Serialize>(value: &T) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut encoder, value)?;
    encoder.flush()?;
    encoder.finish()
}

fn unpack<T: DeserializeOwned>(packed: &[u8], limit: u64) -> Result<T, String> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("unpacked it is larger than {limit} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let packed = pack(&vec!["a", "b"]).unwrap();
        assert_eq!(unpack::<Vec<String>>(&packed, 100).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let packed = pack(&"0".repeat(1 << 20)).unwrap();
        assert!(packed.len() < 10_000);
        let error = unpack::<String>(&packed, 1000).unwrap_err();
        assert!(error.contains("larger than 1000"), "{error}");
    }

    #[test]
    fn damage_is_an_error() {
        assert!(unpack::<String>(b"not gzip", 100).is_err());
        let mut packed = pack(&"text").unwrap();
        packed.truncate(packed.len() - 4);
        assert!(unpack::<String>(&packed, 100).is_err());
    }
}
