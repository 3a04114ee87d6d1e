//! Trees: the entries of one directory.
//!
//! Decodes what any version of restic or rustic wrote. A node that makes no sense is an error of that
//! node alone, so that the rest of a damaged directory can still be read.

use serde::Deserialize;

use super::{Invalid, null_as_default};

/// One directory. Nodes are decoded one by one with [`decode_node`].
#[derive(Debug, Deserialize)]
struct Tree {
    #[serde(default, deserialize_with = "null_as_default")]
    nodes: Vec<Box<serde_json::value::RawValue>>,
}

/// One entry of a directory, as stored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub(crate) kind: String,
    /// Bits as Go's `os.FileMode` has them.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) mode: u32,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) mtime: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) uid: u32,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) gid: u32,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) inode: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) device_id: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) size: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) links: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) linktarget: String,
    /// Base64 of a link target that is not UTF-8.
    pub(crate) linktarget_raw: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) extended_attributes: Vec<Attribute>,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) device: u64,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) content: Vec<String>,
    pub(crate) subtree: Option<String>,
}

/// An extended attribute, its value in base64.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Attribute {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) value: String,
}

/// The nodes of a directory, each as valid or not.
pub(crate) fn decode(json: &[u8]) -> Result<Vec<Result<Node, Invalid>>, Invalid> {
    let tree: Tree = serde_json::from_slice(json)
        .map_err(|error| Invalid(format!("it is no directory: {error}")))?;
    let node = |raw: Box<serde_json::value::RawValue>| {
        serde_json::from_str(raw.get()).map_err(|error| Invalid(format!("not a node: {error}")))
    };
    Ok(tree.nodes.into_iter().map(node).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_node_does_not_hide_the_others() {
        let json = br#"{"nodes":[{"name":"a","type":"file","content":null},{"name":7},{"name":"b","type":"dir","mode":-1},{"name":"c","type":"new kind"}]}"#;
        let nodes = decode(json).unwrap();
        let ok: Vec<_> = nodes.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [true, false, false, true]);
        assert!(decode(b"{").is_err());
        assert!(decode(b"{\"nodes\":null}").unwrap().is_empty());
    }
}
