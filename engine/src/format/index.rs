//! Index files: which blob lies where in which pack.

use serde::{Deserialize, Serialize};

use super::{Invalid, hexid, null_as_default, pack, text};
use crate::crypto::Id;

/// An index file. `packs_to_delete` is an extension other programs write: those packs may still be
/// read, and are not counted on.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct IndexFile {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) packs: Vec<Pack>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) packs_to_delete: Vec<Pack>,
}

/// One pack of an index file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) blobs: Vec<Blob>,
}

/// One blob of a pack.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: BlobKind,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uncompressed_length: Option<u32>,
}

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BlobKind {
    /// Part of a file.
    Data,
    /// A directory.
    Tree,
}

impl IndexFile {
    pub(crate) fn decode(json: &[u8]) -> Result<Self, Invalid> {
        let parsed = if json.first() == Some(&b'[') {
            // The oldest form of the format: a list of packs.
            serde_json::from_slice(json).map(|packs| Self {
                packs,
                packs_to_delete: Vec::new(),
            })
        } else {
            serde_json::from_slice(json)
        };
        parsed.map_err(|error| Invalid(format!("it is no index: {error}")))
    }
}

/// Appends one pack to the JSON of an index, whose beginning and end are [`START`] and [`END`].
pub(crate) fn encode_pack(out: &mut Vec<u8>, id: &Id, blobs: &[pack::Blob]) {
    if out.len() > START.len() {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"id\":\"");
    hexid::push(out, id);
    out.extend_from_slice(b"\",\"blobs\":[");
    let mut offset = 0;
    for (i, blob) in blobs.iter().enumerate() {
        out.extend_from_slice(if i == 0 {
            b"{\"id\":\""
        } else {
            b",{\"id\":\""
        });
        hexid::push(out, &blob.id);
        out.extend_from_slice(match blob.kind {
            BlobKind::Data => b"\",\"type\":\"data\",\"offset\":",
            BlobKind::Tree => b"\",\"type\":\"tree\",\"offset\":",
        });
        text::number(out, offset);
        out.extend_from_slice(b",\"length\":");
        text::number(out, u64::from(blob.length));
        if let Some(len) = blob.plain_length {
            out.extend_from_slice(b",\"uncompressed_length\":");
            text::number(out, u64::from(len));
        }
        out.push(b'}');
        offset += u64::from(blob.length);
    }
    out.extend_from_slice(b"]}");
}

/// Appends one pack as another index file lists it.
pub(crate) fn encode_listed(out: &mut Vec<u8>, pack: &Pack) -> Result<(), Invalid> {
    if out.len() > START.len() {
        out.push(b',');
    }
    serde_json::to_writer(out, pack).map_err(Invalid::new)
}

/// What the JSON of an index starts with.
pub(crate) const START: &[u8] = b"{\"packs\":[";
/// What it ends with.
pub(crate) const END: &[u8] = b"]}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let blob = |n: u8, kind, length, plain_length| pack::Blob {
            id: Id([n; 32]),
            kind,
            length,
            plain_length,
        };
        let packs = [
            (
                Id([9; 32]),
                vec![
                    blob(1, BlobKind::Data, 40, Some(70)),
                    blob(2, BlobKind::Data, 50, None),
                ],
            ),
            (Id([8; 32]), vec![blob(3, BlobKind::Tree, 60, Some(1))]),
        ];
        let mut json = START.to_vec();
        for (id, blobs) in &packs {
            encode_pack(&mut json, id, blobs);
        }
        json.extend_from_slice(END);
        let index = IndexFile::decode(&json).unwrap();
        let mut again = START.to_vec();
        for pack in &index.packs {
            encode_listed(&mut again, pack).unwrap();
        }
        again.extend_from_slice(END);
        assert_eq!(again, json, "copied as it is");
        assert_eq!(index.packs.len(), 2);
        let second = &index.packs[0].blobs[1];
        assert_eq!(
            (second.offset, second.length, second.uncompressed_length),
            (40, 50, None)
        );
        assert_eq!(index.packs[1].blobs[0].kind, BlobKind::Tree);
    }
}
