//! A directory as a stream: each node is handed out while the document is parsed.
//!
//! Does: hold one node at a time, of which only that is decoded that tells what a directory needs (its blobs and
//! subdirectories) and what an entry is; the rest on request. A node that makes no sense is an error of that node alone.
//! Does not: keep where nodes lie, as [`super::tree::Entries`] does, so that a directory of any length takes no more than
//! its document.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Invalid, tree};
use crate::crypto::Id;

/// One entry of a directory, as much of it as a walk over directories needs.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// As stored: see [`super::name`].
    pub(crate) name: Cow<'a, str>,
    /// `file`, `dir`, `symlink` and so on.
    pub(crate) kind: Cow<'a, str>,
    /// What it says of its size.
    pub(crate) size: u64,
    /// Names it had.
    pub(crate) links: u64,
    /// Its inode, where it was read.
    pub(crate) inode: u64,
    /// The device that was on.
    pub(crate) device: u64,
    /// Directory it leads to, as stored.
    pub(crate) subtree: Option<Cow<'a, str>>,
    content: Option<&'a str>,
    text: &'a str,
}

/// Text, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Words)
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    size: Option<u64>,
    links: Option<u64>,
    inode: Option<u64>,
    device_id: Option<u64>,
    #[serde(borrow)]
    subtree: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl<'a> Node<'a> {
    /// A node's JSON.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Invalid> {
        let fields: Fields<'a> =
            serde_json::from_str(text).map_err(|error| Invalid(format!("not a node: {error}")))?;
        let or_empty = |text: Option<Text<'a>>| text.map_or(Cow::Borrowed(""), |text| text.0);
        Ok(Self {
            name: or_empty(fields.name),
            kind: or_empty(fields.kind),
            size: fields.size.unwrap_or(0),
            links: fields.links.unwrap_or(0),
            inode: fields.inode.unwrap_or(0),
            device: fields.device_id.unwrap_or(0),
            subtree: fields.subtree.map(|text| text.0),
            content: fields.content.map(RawValue::get),
            text,
        })
    }

    /// Ids of its content, in order. The one that is none is the last.
    pub(crate) fn blobs(&self) -> Ids<'a> {
        Ids {
            rest: self.content.unwrap_or("[]").as_bytes(),
            begun: false,
        }
    }

    /// Whether it has a list of content, be it empty.
    pub(crate) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// The directory it leads to, if it is one.
    ///
    /// # Errors
    /// When it is a directory and names none, or names something that is no id.
    pub(crate) fn directory(&self) -> Result<Option<Id>, Invalid> {
        match &self.subtree {
            Some(text) => Id::parse(text)
                .map(Some)
                .ok_or_else(|| Invalid::new("it names a directory without an id")),
            None if self.kind == "dir" => Err(Invalid::new("it is a directory without content")),
            None => Ok(None),
        }
    }

    /// Its JSON.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// All of it.
    #[allow(dead_code, reason = "for whoever shows entries")]
    pub(crate) fn whole(&self) -> Result<tree::Node, Invalid> {
        serde_json::from_str(self.text).map_err(|error| Invalid(format!("not a node: {error}")))
    }
}

/// The ids in a list of them. The list is valid JSON.
#[derive(Debug, Clone)]
pub(crate) struct Ids<'a> {
    rest: &'a [u8],
    begun: bool,
}

impl Iterator for Ids<'_> {
    type Item = Result<Id, Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.trim_ascii_start();
        let (first, after) = rest.split_first()?;
        let rest = match (first, self.begun) {
            (b'[', false) | (b',', true) => after.trim_ascii_start(),
            (b']', true) => {
                self.rest = b"";
                return None;
            }
            _ => rest,
        };
        if !self.begun && rest.first() == Some(&b']') {
            self.rest = b"";
            return None;
        }
        self.begun = true;
        let id = rest
            .split_first_chunk::<66>()
            .filter(|(quoted, _)| quoted[0] == b'"' && quoted[65] == b'"')
            .and_then(|(quoted, after)| {
                let text = std::str::from_utf8(&quoted[1..65]).ok()?;
                Some((Id::parse(text)?, after))
            });
        let Some((id, after)) = id else {
            self.rest = b"";
            return Some(Err(Invalid::new("its content has something that is no id")));
        };
        self.rest = after;
        Some(Ok(id))
    }
}

/// Hands each node of a directory to `each`, and stops when that returns an error, which is returned.
///
/// # Errors
/// `Ok(Err)` if the document is no directory; nodes before the place where that shows were handed out.
pub(crate) fn each<'a, E>(
    json: &'a [u8],
    mut each: impl FnMut(Result<Node<'a>, Invalid>) -> Result<(), E>,
) -> Result<Result<(), Invalid>, E> {
    let mut stopped = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let done = Document(|node| match each(node) {
        Ok(()) => true,
        Err(error) => {
            stopped = Some(error);
            false
        }
    })
    .deserialize(&mut deserializer)
    .and_then(|()| deserializer.end());
    match stopped {
        Some(error) => Err(error),
        None => Ok(done.map_err(|error| Invalid(format!("it is no directory: {error}")))),
    }
}

/// The whole document, an object.
struct Document<F>(F);

/// Its list of nodes.
struct List<'f, F>(&'f mut F);

impl<'de, F: FnMut(Result<Node<'de>, Invalid>) -> bool> DeserializeSeed<'de> for Document<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Result<Node<'de>, Invalid>) -> bool> Visitor<'de> for Document<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a directory")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "nodes" {
                if found {
                    return Err(A::Error::custom("it has two lists of nodes"));
                }
                found = true;
                map.next_value_seed(List(&mut self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de, F: FnMut(Result<Node<'de>, Invalid>) -> bool> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Result<Node<'de>, Invalid>) -> bool> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    /// As Go writes an empty list.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(node) = list.next_element::<&'de RawValue>()? {
            count += 1;
            if count > tree::MAX_ENTRIES {
                return Err(A::Error::custom("more entries than there can be"));
            }
            if !(self.0)(Node::parse(node.get())) {
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name, kind, size, subtree and content of each node that makes sense.
    type Seen = Vec<Option<(String, String, u64, Option<String>, Vec<Option<Id>>)>>;

    fn streamed(json: &[u8]) -> Result<Seen, Invalid> {
        let mut seen = Vec::new();
        let done: Result<_, ()> = each(json, |node| {
            seen.push(node.ok().map(|node| {
                let ids = node.blobs().map(Result::ok).collect();
                let subtree = node.subtree.as_deref().map(str::to_owned);
                let text = |text: &Cow<'_, str>| text.clone().into_owned();
                (text(&node.name), text(&node.kind), node.size, subtree, ids)
            }));
            Ok(())
        });
        done.unwrap().map(|()| seen)
    }

    /// The same by the other parser.
    fn spans(json: &[u8]) -> Result<Seen, Invalid> {
        let nodes = tree::Entries::parse(json.to_vec())?;
        Ok(nodes
            .map(|node| {
                node.ok().map(|node| {
                    let ids = node.content.iter().map(|text| Id::parse(text)).collect();
                    (node.name, node.kind, node.size, node.subtree, ids)
                })
            })
            .collect())
    }

    #[test]
    fn both_parsers_agree() {
        let id = Id::of(b"x");
        for json in [
            format!(
                r#"{{"nodes":[{{"name":"a","type":"file","size":7,"content":["{id}" , "{id}"],"other":[{{}}]}}]}}"#
            ),
            format!(
                r#" {{ "more":[1], "nodes" : [ {{"name":"\u00e9\\x00","type":"dir","subtree":"{id}","content":null}}, {{"name":7}}, {{"content":[ ]}} ] }} "#
            ),
            r#"{"nodes":null}"#.to_owned(),
            "{}".to_owned(),
            r#"{"nodes":[]}"#.to_owned(),
            r#"{"nodes":[7,null,"x",{}]}"#.to_owned(),
            "{".to_owned(),
            "7".to_owned(),
            String::new(),
            r#"{"nodes":7}"#.to_owned(),
            r#"{"nodes":[{}],"nodes":[]}"#.to_owned(),
            r#"{"nodes":[{}]} x"#.to_owned(),
        ] {
            assert_eq!(
                streamed(json.as_bytes()).ok(),
                spans(json.as_bytes()).ok(),
                "{json}"
            );
        }
    }

    #[test]
    fn content_that_is_none() {
        let id = Id::of(b"x");
        for (content, good) in [
            (format!(r#"["{id}",7]"#), 1),
            (format!(r#"["{id}",["{id}"]]"#), 1),
            (r#"["short"]"#.to_owned(), 0),
            ("7".to_owned(), 0),
            (r#""text""#.to_owned(), 0),
            ("{}".to_owned(), 0),
        ] {
            let json = format!(r#"{{"nodes":[{{"content":{content}}}]}}"#);
            let seen = streamed(json.as_bytes()).unwrap().remove(0).unwrap().4;
            assert_eq!(seen.len(), good + 1, "{content}");
            assert_eq!(seen.iter().flatten().count(), good, "{content}");
        }
    }

    #[test]
    fn directories_and_what_is_wrong_with_them() {
        let id = Id::of(b"x");
        let of = |text: &str| Node::parse(text).unwrap().directory();
        assert_eq!(
            of(&format!(r#"{{"type":"dir","subtree":"{id}"}}"#)),
            Ok(Some(id))
        );
        assert_eq!(of(r#"{"type":"file"}"#), Ok(None));
        assert!(of(r#"{"type":"dir"}"#).is_err() && of(r#"{"subtree":"x"}"#).is_err());
        let node = Node::parse(r#"{"name":"a","uid":7}"#).unwrap();
        assert_eq!(node.whole().unwrap().uid, 7);
    }

    #[test]
    fn it_stops_when_told() {
        let mut count = 0;
        let done = each(br#"{"nodes":[{},{},{}]}"#, |_| {
            count += 1;
            if count == 2 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((done, count), (Err("enough"), 2));
    }

    proptest! {
        #[test]
        fn any_bytes(json in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(streamed(&json).is_err() || spans(&json).is_ok());
        }
    }
}
