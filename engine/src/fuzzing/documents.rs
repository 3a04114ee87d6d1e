//! Documents in JSON: index, key, snapshot, lock, configuration.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    chunk::{Polynomial, rabin::Rabin},
    crypto::Key,
    format::{
        config::Config,
        index::{self, IndexFile},
        key::{KeyFile, MAX_BLOCKS, MAX_MEMORY},
        lock::Lock,
        pack,
        root::RootMeta,
        snapshot::SnapshotFile,
        time,
    },
    index::builder::Builder,
};

/// An index file.
pub(super) fn index(data: &[u8]) {
    let Ok(file) = IndexFile::decode(data) else {
        return;
    };
    let packs = || file.packs.iter().chain(&file.packs_to_delete);
    let mut builder = Builder::default();
    for pack in packs() {
        if builder.add_listed(pack).is_err() {
            return;
        }
    }
    let table = builder.build();
    let mut json = index::START.to_vec();
    // A pack that is listed again is the same one.
    let mut numbers = std::collections::HashMap::new();
    for pack in packs() {
        let Some(stored) = pack.id.id() else {
            panic!("an id that is none was added");
        };
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let number = *numbers.entry(stored).or_insert(next);
        let Some((id, end)) = table.pack(number) else {
            panic!("a pack that was added is not there");
        };
        assert_eq!(id, stored);
        let mut listed = Vec::new();
        for blob in &pack.blobs {
            let Some(id) = blob.id.id() else {
                panic!("an id that is none was added");
            };
            let Some(place) = table.get(&id, blob.kind) else {
                panic!("a blob that was added is not there");
            };
            let (_, end_there) = table.pack(place.pack).unwrap_or((id, 0));
            assert!(place.pack <= number, "the first pack counts");
            assert!(place.offset + place.length <= end_there);
            assert!(blob.offset + blob.length <= end);
            listed.push(pack::Blob {
                id,
                kind: blob.kind,
                length: blob.length,
                plain_length: blob.uncompressed_length,
            });
        }
        index::encode_pack(&mut json, &id, &listed);
    }
    json.extend_from_slice(index::END);
    let Ok(again) = IndexFile::decode(&json) else {
        panic!("an index that was written cannot be read");
    };
    let fields = |blob: &index::Blob| {
        let lengths = (blob.length, blob.uncompressed_length);
        (blob.id.clone(), blob.kind, lengths)
    };
    let list = |pack: &index::Pack| {
        let blobs: Vec<_> = pack.blobs.iter().map(fields).collect();
        (pack.id.clone(), blobs)
    };
    assert!(packs().map(list).eq(again.packs.iter().map(list)));
}

/// A key file. Nothing is derived that costs more than some KiB.
pub(super) fn key(data: &[u8]) {
    let Ok(file) = KeyFile::decode(data) else {
        return;
    };
    let again = file.encode().and_then(|json| KeyFile::decode(&json));
    assert_eq!(
        again.map(|again| format!("{again:?}")),
        Ok(format!("{file:?}"))
    );
    let _any = file.created();
    let _any = file.open_with(&Key::from_bytes(&[7; 64]));
    let Ok(cost) = file.cost() else {
        assert!(file.open(b"").is_err());
        return;
    };
    let block = 128 * u64::from(cost.r());
    let blocks = u64::from(cost.p()) * block;
    let table = block << cost.log_n();
    assert!(table <= MAX_MEMORY && blocks <= MAX_BLOCKS);
    if table.saturating_mul(u64::from(cost.p())) <= 4 << 10 {
        let _any = file.open(b"secret");
    }
}

/// A snapshot.
pub(super) fn snapshot(data: &[u8]) {
    let Ok(file) = SnapshotFile::decode(data) else {
        return;
    };
    let again = file.encode().and_then(|json| SnapshotFile::decode(&json));
    assert_eq!(again.as_ref(), Ok(&file));
    let _any = time::offset(&file.time);
    if let Ok(at) = file.timestamp() {
        assert_eq!(time::parse(&time::format(at)), Some(at));
    }
    if let Some(root) = RootMeta::from_tags(&file.tags) {
        let (tags, left_out) = root.to_tags();
        assert!(tags.iter().all(|tag| RootMeta::is_tag(tag)));
        if left_out.is_empty() {
            assert_eq!(RootMeta::from_tags(&tags).as_ref(), Some(&root));
        }
    }
}

/// A lock.
pub(super) fn lock(data: &[u8]) {
    let Ok(lock) = Lock::decode(data) else {
        return;
    };
    let again = lock.encode().and_then(|json| Lock::decode(&json));
    assert_eq!(again.as_ref(), Ok(&lock));
    assert!(!lock.holder().contains(char::is_control));
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(time::parse(&lock.at(now).time), Some(now));
}

/// A configuration.
pub(super) fn config(data: &[u8]) {
    let Ok(config) = Config::decode(data) else {
        return;
    };
    let Ok(json) = config.encode() else {
        panic!("a configuration that was read cannot be written");
    };
    match Config::decode(&json) {
        // Fractions are rounded; no program puts any there.
        Ok(again) if config.others.values().any(has_fraction) => {
            assert_eq!(again.chunker_polynomial, config.chunker_polynomial);
        }
        again => assert_eq!(again.as_ref(), Ok(&config)),
    }
    let Some(polynomial) = Polynomial::parse(&config.chunker_polynomial) else {
        return;
    };
    let usable = polynomial.degree().is_some_and(|n| (16..=53).contains(&n));
    assert_eq!(Rabin::new(polynomial).is_some(), usable);
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}
