//! One directory without what is lost. Pure.
//!
//! Nodes that lost nothing are taken over byte for byte, and of the others everything but what
//! changes: so attributes that this engine does not know stay, and a canonical document becomes a
//! canonical one.

use std::{borrow::Cow, convert::Infallible, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Loss;
use crate::{
    crypto::Id,
    format::{
        Invalid, hexid,
        node::{TREE_END, TREE_START},
        nodes::{self, Node},
        text,
    },
};

/// The document of an empty directory.
pub(super) const EMPTY: &[u8] = b"{\"nodes\":[]}\n";

/// What is known of others.
pub(super) trait Known {
    /// Bytes of a part of a file; `None` if it is lost.
    fn data(&self, id: &Id) -> Option<u64>;
    /// What became of a directory.
    fn directory(&self, id: &Id) -> Inner;
}

/// What became of a directory in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    /// Nothing.
    Whole,
    /// It has another id; its position in the index.
    Mended(Id, u32),
    /// It cannot be read.
    Lost,
}

/// A directory's new document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) json: Vec<u8>,
    /// It is another one.
    pub(super) changed: bool,
    /// It needs the empty directory, which is not there.
    pub(super) needs_empty: bool,
    /// Stored names and what happened.
    pub(super) losses: Vec<(Box<str>, Loss)>,
    /// Stored names of directories that lost something, with their positions.
    pub(super) below: Vec<(Box<str>, u32)>,
}

/// What a node is worth, as far as it can be told without its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It lacks nothing.
    Whole,
    /// It makes no sense.
    Senseless,
    /// A directory; `None` if it does not say which.
    Directory(Option<Id>),
    /// A file that lacks some of its content, and has this much.
    Lacks(u64),
    /// A file that says another size than this.
    Size(u64),
}

/// Looks at a node.
pub(super) fn judge(node: &Node<'_>, data: impl Fn(&Id) -> Option<u64>) -> Verdict {
    match &*node.kind {
        "dir" => Verdict::Directory(node.directory().ok().flatten()),
        "file" => {
            let (mut size, mut lacks) = (0_u64, !node.has_content());
            for id in node.blobs() {
                match id.ok().and_then(|id| data(&id)) {
                    Some(bytes) => size = size.saturating_add(bytes),
                    None => lacks = true,
                }
            }
            if lacks {
                Verdict::Lacks(size)
            } else if size == node.size {
                Verdict::Whole
            } else {
                Verdict::Size(size)
            }
        }
        "" | "irregular" => Verdict::Senseless,
        _ => Verdict::Whole,
    }
}

/// Writes a directory without what is lost.
///
/// # Errors
/// When the document is no directory at all.
pub(super) fn rewrite(plain: &[u8], known: &impl Known) -> Result<Rewritten, Invalid> {
    let mut new = Rewritten::default();
    new.json.reserve_exact(plain.len() + TREE_END.len());
    new.json.extend_from_slice(TREE_START);
    let done: Result<_, Infallible> = nodes::each(plain, |node| {
        let before = new.json.len();
        if before > TREE_START.len() {
            new.json.push(b',');
        }
        let gone = match node {
            Ok(node) if one(&mut new, &node, known).is_ok() => None,
            Ok(node) => Some(Box::from(&*node.name)),
            Err(_) => Some("?".into()),
        };
        if let Some(name) = gone {
            new.json.truncate(before);
            new.losses.push((name, Loss::Entry));
        }
        Ok(())
    });
    match done {
        Ok(done) => done?,
        Err(never) => match never {},
    }
    new.json.extend_from_slice(TREE_END);
    new.changed = !new.losses.is_empty() || !new.below.is_empty();
    Ok(new)
}

/// Appends a node.
///
/// # Errors
/// When it makes no sense. What was appended has to go then.
fn one(new: &mut Rewritten, node: &Node<'_>, known: &impl Known) -> Result<(), Invalid> {
    let name = || Box::from(&*node.name);
    match judge(node, |id| known.data(id)) {
        Verdict::Whole => new.json.extend_from_slice(node.text().as_bytes()),
        Verdict::Senseless => return Err(Invalid::new("it is of no kind")),
        Verdict::Directory(id) => {
            let inner = id.map_or(Inner::Lost, |id| known.directory(&id));
            let empty = Id::of(EMPTY);
            match inner {
                Inner::Whole => new.json.extend_from_slice(node.text().as_bytes()),
                Inner::Mended(id, position) => {
                    edit(&mut new.json, node.text(), Change::Subtree(&id))?;
                    new.below.push((name(), position));
                }
                // What is lost is known, and can be had again.
                Inner::Lost if id == Some(empty) => {
                    new.json.extend_from_slice(node.text().as_bytes());
                    new.needs_empty = true;
                }
                Inner::Lost => {
                    edit(&mut new.json, node.text(), Change::Subtree(&empty))?;
                    new.losses.push((name(), Loss::Directory));
                    new.needs_empty = true;
                }
            }
        }
        Verdict::Lacks(left) => {
            let ids: Vec<Id> = node
                .blobs()
                .filter_map(Result::ok)
                .filter(|id| known.data(id).is_some())
                .collect();
            let change = Change::Content(left, Some(&ids));
            edit(&mut new.json, node.text(), change)?;
            let lost = node.size.saturating_sub(left);
            new.losses.push((name(), Loss::Content { lost, left }));
        }
        Verdict::Size(content) => {
            edit(&mut new.json, node.text(), Change::Content(content, None))?;
            let stated = node.size;
            new.losses.push((name(), Loss::Size { stated, content }));
        }
    }
    Ok(())
}

/// What changes in a node.
#[derive(Clone, Copy)]
enum Change<'a> {
    /// A file's size, and its content, if that changes.
    Content(u64, Option<&'a [Id]>),
    /// The directory it leads to.
    Subtree(&'a Id),
}

/// A node's fields, in order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What comes behind the size in a canonical node.
const BEHIND_SIZE: [&str; 7] = [
    "links",
    "linktarget",
    "linktarget_raw",
    "extended_attributes",
    "generic_attributes",
    "device",
    "content",
];

/// Appends a node with a change.
fn edit(out: &mut Vec<u8>, node: &str, change: Change<'_>) -> Result<(), Invalid> {
    let Fields(fields) = serde_json::from_str(node)
        .map_err(|error| Invalid(format!("a node cannot be changed: {error}")))?;
    let mut new = Edited {
        out,
        begun: false,
        size: None,
        ids: None,
        subtree: None,
    };
    match change {
        Change::Content(size, ids) => (new.size, new.ids) = (Some(size), ids),
        Change::Subtree(id) => new.subtree = Some(id),
    }
    // A field that is replaced is written where it was, or where it belongs.
    let replaced = match change {
        Change::Content(_, Some(_)) => &["size", "content"][..],
        Change::Content(_, None) => &["size"],
        Change::Subtree(_) => &["subtree"],
    };
    new.out.push(b'{');
    for (key, value) in &fields {
        match &**key {
            "size" => new.size(),
            "error" => {
                new.content();
                new.subtree();
            }
            name if BEHIND_SIZE.contains(&name) => {
                new.size();
                if name == "content" {
                    new.content();
                }
            }
            "subtree" => new.subtree(),
            _ => {}
        }
        if !replaced.contains(&&**key) {
            new.key(key);
            new.out.extend_from_slice(value.get().as_bytes());
        }
    }
    new.size();
    new.content();
    new.subtree();
    new.out.push(b'}');
    Ok(())
}

/// A node being written; what is still to come is taken when it is written.
struct Edited<'a> {
    out: &'a mut Vec<u8>,
    begun: bool,
    size: Option<u64>,
    ids: Option<&'a [Id]>,
    subtree: Option<&'a Id>,
}

impl Edited<'_> {
    fn key(&mut self, key: &str) {
        if std::mem::replace(&mut self.begun, true) {
            self.out.push(b',');
        }
        text::json_string(self.out, key.as_bytes());
        self.out.push(b':');
    }

    /// A size of zero is not written.
    fn size(&mut self) {
        if let Some(size) = self.size.take().filter(|size| *size != 0) {
            self.key("size");
            text::number(self.out, size);
        }
    }

    fn content(&mut self) {
        let Some(ids) = self.ids.take() else { return };
        self.key("content");
        self.out.push(b'[');
        for (n, id) in ids.iter().enumerate() {
            if n > 0 {
                self.out.push(b',');
            }
            self.id(id);
        }
        self.out.push(b']');
    }

    fn subtree(&mut self) {
        if let Some(id) = self.subtree.take() {
            self.key("subtree");
            self.id(id);
        }
    }

    fn id(&mut self, id: &Id) {
        self.out.push(b'"');
        hexid::push(self.out, id);
        self.out.push(b'"');
    }
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
