//! Directories and the names in them.

use std::os::unix::ffi::OsStrExt as _;

use crate::format::{
    name,
    node::{self, Node},
    text,
    tree::Entries,
};

/// Bytes of a tree, read by both of its readers.
pub(super) fn tree(data: &[u8]) {
    let strict = node::decode_tree(data);
    let Ok(mut entries) = Entries::parse(data.to_vec()) else {
        assert!(strict.is_err(), "the lenient reader refuses it");
        return;
    };
    let mut count = 0;
    for node in entries.by_ref().flatten() {
        count += 1;
        if let Ok(name) = name::decode(&node.name) {
            plain(name.as_bytes());
        }
    }
    assert!(count <= entries.position());
    assert_eq!(entries.first(usize::MAX).count(), entries.position());
    let Ok(nodes) = strict else {
        return;
    };
    assert_eq!(nodes.len(), count, "the lenient reader refuses an entry");
    for (strict, lenient) in nodes.iter().zip(entries.first(count).flatten()) {
        let name = name::decode(&lenient.name);
        assert_eq!(
            name.map(|name| name.as_bytes().to_vec()).as_ref(),
            Ok(&strict.name)
        );
        assert_eq!((lenient.size, lenient.mode), (strict.size, strict.mode));
        let blobs = strict.content.iter().flatten().copied().map(Some);
        assert!(blobs.eq(lenient.content));
    }
    let json = encode(&nodes);
    let Ok(again) = node::decode_tree(&json) else {
        panic!("a tree that was written cannot be read");
    };
    assert_eq!(encode(&again), json);
    // The format cannot hold years before 0; they become the nearest it can.
    if nodes.iter().all(|n| {
        [n.mtime, n.atime, n.ctime]
            .iter()
            .all(|t| t.seconds >= -62_167_219_200)
    }) {
        assert_eq!(again, nodes);
    }
}

fn encode(nodes: &[Node]) -> Vec<u8> {
    let mut out = node::TREE_START.to_vec();
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        node.encode(&mut out);
    }
    out.extend_from_slice(node::TREE_END);
    out
}

/// A stored name; and the same bytes as a name of a file.
pub(super) fn name(data: &[u8]) {
    if let Ok(stored) = std::str::from_utf8(data)
        && let Ok(raw) = name::decode(stored)
    {
        plain(raw.as_bytes());
        comes_back(raw.as_bytes());
    }
    if !data.is_empty() && data.len() <= 255 && data != b"." && data != b".." {
        if data.iter().any(|byte| matches!(byte, 0 | b'/')) {
            assert!(name::decode(&stored(data)).is_err());
        } else {
            comes_back(data);
        }
    }
}

fn plain(raw: &[u8]) {
    assert!(!raw.is_empty() && raw.len() <= 255 && raw != b"." && raw != b"..");
    assert!(!raw.contains(&b'/') && !raw.contains(&0));
}

fn comes_back(raw: &[u8]) {
    let back = name::decode(&stored(raw));
    assert_eq!(back.as_ref().map(|name| name.as_bytes()), Ok(raw));
}

fn stored(raw: &[u8]) -> String {
    let mut json = Vec::new();
    text::name(&mut json, raw);
    let Ok(stored) = serde_json::from_slice(&json) else {
        panic!("a name that was written is no JSON");
    };
    stored
}
