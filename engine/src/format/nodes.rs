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

use super::{
    Invalid,
    scan::{self, Scanned},
    tree,
};
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
    fn scanned(fields: &Scanned<'a>, text: &'a str) -> Self {
        let or_empty = |text: Option<&'a str>| Cow::Borrowed(text.unwrap_or(""));
        Self {
            name: or_empty(fields.name),
            kind: or_empty(fields.kind),
            size: fields.size.unwrap_or(0),
            links: fields.links.unwrap_or(0),
            inode: fields.inode.unwrap_or(0),
            device: fields.device.unwrap_or(0),
            subtree: fields.subtree.map(Cow::Borrowed),
            content: fields.content.filter(|ids| *ids != scan::NONE),
            text,
        }
    }

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

/// Hands each node of a directory to `each`, and stops when that returns an error, which is
/// returned.
///
/// # Errors
/// `Ok(Err)` if the document is no directory; nodes before the place where that shows were handed out.
pub(crate) fn each<'a, E>(
    json: &'a [u8],
    mut each: impl FnMut(Result<Node<'a>, Invalid>) -> Result<(), E>,
) -> Result<Result<(), Invalid>, E> {
    let Some(mut scan) = scan::nodes(json) else {
        return parsed(json, each);
    };
    let none = |why: &str| Ok(Err(Invalid(format!("it is no directory: {why}"))));
    let mut count = 0;
    scan.blanks();
    let mut ended = scan.eat(b']');
    while !ended {
        count += 1;
        if count > tree::MAX_ENTRIES {
            return none("more entries than there can be");
        }
        if let Some((fields, text)) = scan.node() {
            each(Ok(Node::scanned(&fields, text)))?;
        } else {
            // The parser knows where it ends, and what it means.
            let mut parser = serde_json::Deserializer::from_str(scan.rest());
            match <&RawValue>::deserialize(&mut parser) {
                Ok(text) => {
                    scan.skip(text.get().len());
                    each(Node::parse(text.get()))?;
                }
                Err(error) => return none(&error.to_string()),
            }
        }
        scan.blanks();
        ended = scan.eat(b']');
        if !ended && !scan.eat(b',') {
            return none("its list has no end");
        }
        scan.blanks();
    }
    if scan.rest().trim_end_matches([' ', '\n']) == "}" {
        return Ok(Ok(()));
    }
    // What comes after the list is for the parser.
    let rest = format!("{{\"nodes\":[]{}", scan.rest());
    parsed(rest.as_bytes(), |_| Ok(()))
}

fn parsed<'a, E>(
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
#[path = "nodes_tests.rs"]
mod tests;
