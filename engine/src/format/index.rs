//! Index files: which blob lies where in which pack.

use serde::{Deserialize, Serialize};

use super::{
    Invalid,
    hexid::{self, Listed},
    null_as_default, pack, scan, text,
};
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
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub(crate) id: Listed,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) blobs: Vec<Blob>,
}

/// One blob of a pack.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) id: Listed,
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
        if let Some(packs) = scan::packs(json) {
            return Ok(Self {
                packs,
                packs_to_delete: Vec::new(),
            });
        }
        Self::parse(json)
    }

    fn parse(json: &[u8]) -> Result<Self, Invalid> {
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
    let mut offset = 0;
    let listed = blobs.iter().map(|blob| {
        let at = offset;
        offset += u64::from(blob.length);
        (&blob.id, blob.kind, at, blob.length, blob.plain_length)
    });
    encode(out, id, listed);
}

/// Appends one pack as another index file lists it.
pub(crate) fn encode_listed(out: &mut Vec<u8>, pack: &Pack) -> Result<(), Invalid> {
    let ids: Option<Vec<Id>> = pack.blobs.iter().map(|blob| blob.id.id()).collect();
    let (Listed::Id(id), Some(ids)) = (&pack.id, ids) else {
        // What is no id stays as it is.
        if out.len() > START.len() {
            out.push(b',');
        }
        return serde_json::to_writer(out, pack).map_err(Invalid::new);
    };
    let listed = ids.iter().zip(&pack.blobs).map(|(id, blob)| {
        let offset = u64::from(blob.offset);
        (id, blob.kind, offset, blob.length, blob.uncompressed_length)
    });
    encode(out, id, listed);
    Ok(())
}

/// Appends a pack of blobs: id, kind, offset, length, and length before compression.
fn encode<'a>(
    out: &mut Vec<u8>,
    id: &Id,
    blobs: impl Iterator<Item = (&'a Id, BlobKind, u64, u32, Option<u32>)>,
) {
    if out.len() > START.len() {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"id\":\"");
    hexid::push(out, id);
    out.extend_from_slice(b"\",\"blobs\":[");
    for (i, (id, kind, offset, length, plain)) in blobs.enumerate() {
        out.extend_from_slice(if i == 0 {
            b"{\"id\":\""
        } else {
            b",{\"id\":\""
        });
        hexid::push(out, id);
        out.extend_from_slice(match kind {
            BlobKind::Data => b"\",\"type\":\"data\",\"offset\":",
            BlobKind::Tree => b"\",\"type\":\"tree\",\"offset\":",
        });
        text::number(out, offset);
        out.extend_from_slice(b",\"length\":");
        text::number(out, u64::from(length));
        if let Some(plain) = plain {
            out.extend_from_slice(b",\"uncompressed_length\":");
            text::number(out, u64::from(plain));
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// What the JSON of an index starts with.
pub(crate) const START: &[u8] = b"{\"packs\":[";
/// What it ends with.
pub(crate) const END: &[u8] = b"]}";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: &str = r#"{"packs":[{"id":"a1","blobs":[{"id":"b2","type":"data","offset":0,"length":70,"uncompressed_length":99},{"id":"c3","type":"tree","offset":70,"length":4294967295}]},{"id":"d4","blobs":[]}]}"#;

    /// What both ways of reading see.
    fn both(json: &[u8]) -> (Option<Vec<Pack>>, Option<Vec<Pack>>) {
        let packs = |file: Result<IndexFile, Invalid>| file.ok().map(|file| file.packs);
        (
            packs(IndexFile::decode(json)),
            packs(IndexFile::parse(json)),
        )
    }

    #[test]
    fn the_quick_way_sees_the_same() {
        assert_eq!(scan::packs(USUAL.as_bytes()).unwrap().len(), 2);
        assert!(scan::packs(b"{\"packs\":[]}\n").is_some());
        for (from, to) in [
            ("", ""),
            (",", " , "),
            ("4294967295", "4294967296"),
            ("70,", "-70,"),
            ("70,", "070,"),
            ("data", "else"),
            ("\"type\":\"data\",", ""),
            ("\"type\":\"data\",", "\"type\":\"data\",\"type\":\"tree\","),
            ("\"offset\":0", "\"offset\":0,\"more\":[1]"),
            ("\"blobs\":[]", "\"blobs\":null"),
            (",\"blobs\":[]", ""),
            (
                "[]}]}",
                "[]}],\"packs_to_delete\":[{\"id\":\"x\",\"blobs\":[]}]}",
            ),
            ("[]}]}", "[]}],\"packs\":[]}"),
            ("[]}]}", "[]}]} x"),
            ("[]}]}", "[]},]}"),
            ("b2", "b\\u0032"),
            ("b2", "b\t2"),
        ] {
            let json = USUAL.replace(from, to);
            let (quick, slow) = both(json.as_bytes());
            assert_eq!(quick, slow, "{json}");
        }
    }

    proptest! {
        #[test]
        fn index_files_with_a_change(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut json = USUAL.as_bytes().to_vec();
            let at = at.index(json.len());
            if cut {
                json.remove(at);
            } else {
                json[at] = byte;
            }
            let (quick, slow) = both(&json);
            prop_assert_eq!(quick, slow);
        }
    }

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
