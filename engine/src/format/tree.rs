//! Trees: the entries of one directory.
//!
//! Decodes what any version of restic or rustic wrote. A node that makes no sense is an error of
//! that node alone, so that the rest of a damaged directory can still be read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Invalid, null_as_default};
use crate::crypto::Id;

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
    /// Its blobs in order; `None` stands for what is no id.
    #[serde(deserialize_with = "ids_or_null")]
    pub(crate) content: Vec<Option<Id>>,
    pub(crate) subtree: Option<String>,
    /// Why its content is not all that there was.
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) error: String,
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

/// A text that may be an id.
struct IdText(Option<Id>);

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = IdText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<IdText, E> {
                Ok(IdText(Id::parse(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A list of ids. A large file has millions: their texts are never kept.
fn ids_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<Id>>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<Option<Id>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of ids")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut ids = Vec::new();
            while let Some(IdText(id)) = list.next_element()? {
                ids.push(id);
            }
            Ok(ids)
        }
    }
    deserializer.deserialize_any(List)
}

/// More entries than any file system has in one directory are refused.
pub(crate) const MAX_ENTRIES: usize = 1 << 24;

/// The entries of a directory, decoded one by one as they are asked for.
///
/// Takes the document and 8 bytes for each entry.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    json: Vec<u8>,
    /// Where each node begins and ends.
    nodes: Vec<(u32, u32)>,
    next: usize,
}

/// Addresses and lengths of the nodes' texts.
#[derive(Default)]
struct Spans(Vec<(usize, u32)>);

#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "null_as_default")]
    nodes: Spans,
}

impl<'de> Deserialize<'de> for Spans {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Spans;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of nodes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Spans, A::Error> {
                let mut spans = Spans::default();
                while let Some(node) = list.next_element::<&'de RawValue>()? {
                    let text = node.get();
                    let length = u32::try_from(text.len()).map_err(A::Error::custom)?;
                    spans.0.push((text.as_ptr().addr(), length));
                    if spans.0.len() > MAX_ENTRIES {
                        return Err(A::Error::custom("more entries than there can be"));
                    }
                }
                Ok(spans)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl Entries {
    pub(crate) fn parse(json: Vec<u8>) -> Result<Self, Invalid> {
        let invalid = |error: &dyn fmt::Display| Invalid(format!("it is no directory: {error}"));
        let document: Document = serde_json::from_slice(&json).map_err(|error| invalid(&error))?;
        let base = json.as_ptr().addr();
        let span = |(address, length): (usize, u32)| {
            let start = u32::try_from(address.checked_sub(base)?).ok()?;
            Some((start, start.checked_add(length)?))
        };
        let nodes: Option<Vec<_>> = document.nodes.0.into_iter().map(span).collect();
        let nodes = nodes.ok_or_else(|| invalid(&"it is too long"))?;
        Ok(Self {
            json,
            nodes,
            next: 0,
        })
    }

    /// Bytes it takes.
    pub(crate) fn memory(&self) -> u64 {
        (self.json.len() + self.nodes.len() * size_of::<(u32, u32)>()) as u64
    }

    /// How many were asked for.
    pub(crate) fn position(&self) -> usize {
        self.next
    }

    /// The JSON of one of them.
    pub(crate) fn text(&self, at: usize) -> Option<&str> {
        let (start, end) = *self.nodes.get(at)?;
        let text = self.json.get(start as usize..end as usize)?;
        // It was parsed as JSON.
        std::str::from_utf8(text).ok()
    }

    fn node(&self, at: usize) -> Option<Result<Node, Invalid>> {
        let text = self.text(at)?;
        Some(serde_json::from_str(text).map_err(|error| Invalid(format!("not a node: {error}"))))
    }

    /// The first `count` ones again, whatever was asked for.
    pub(crate) fn first(&self, count: usize) -> impl Iterator<Item = Result<Node, Invalid>> {
        (0..count).map_while(|at| self.node(at))
    }
}

impl Iterator for Entries {
    type Item = Result<Node, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.node(self.next)?;
        self.next += 1;
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_node_does_not_hide_the_others() {
        let json = br#" {"nodes": [{"name":"a","type":"file","content":null},{"name":7},{"name":"b","type":"dir","mode":-1}, {"name":"c","type":"new kind"} ]}"#;
        let mut entries = Entries::parse(json.to_vec()).unwrap();
        let ok: Vec<_> = entries.by_ref().map(|node| node.is_ok()).collect();
        assert_eq!(ok, [true, false, false, true]);
        assert_eq!(entries.position(), 4);
        let names = entries.first(4).filter_map(|node| Some(node.ok()?.name));
        assert_eq!(names.collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn other_documents() {
        for json in ["{", "", "7", r#"{"nodes":7}"#, r#"{"nodes":[1,}"#] {
            assert!(Entries::parse(json.into()).is_err(), "{json}");
        }
        for json in [r#"{"nodes":null}"#, "{}", r#"{"nodes":[]}"#] {
            assert_eq!(Entries::parse(json.into()).unwrap().count(), 0, "{json}");
        }
    }
}
