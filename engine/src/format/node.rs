//! Nodes, the entries of trees, in canonical form.
//!
//! Does: encode nodes byte for byte as restic does, and decode those of a parent for comparison.
//! Does not: order or collect them. A tree is `{"nodes":[` + nodes with commas + [`TREE_END`];
//! nodes come in the order of their raw names. Decoding fails on anything that is not such a
//! document, and never panics.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    Invalid, hexid, null_as_default,
    text::{self, Time},
};
use crate::crypto::Id;

/// What a tree starts with.
pub(crate) const TREE_START: &[u8] = b"{\"nodes\":[";
/// What a tree ends with.
pub(crate) const TREE_END: &[u8] = b"]}\n";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Device,
    CharDevice,
    Fifo,
    Socket,
    /// `irregular`, and what later versions may add.
    Other,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Device => "dev",
            Self::CharDevice => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Other => "irregular",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "file" => Self::File,
            "dir" => Self::Dir,
            "symlink" => Self::Symlink,
            "dev" => Self::Device,
            "chardev" => Self::CharDevice,
            "fifo" => Self::Fifo,
            "socket" => Self::Socket,
            _ => Self::Other,
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// Bits as Go's `os.FileMode` has them.
    pub(crate) mode: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Time,
    pub(crate) ctime: Time,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) user: String,
    pub(crate) group: String,
    pub(crate) inode: u64,
    pub(crate) device_id: u64,
    pub(crate) size: u64,
    pub(crate) links: u64,
    pub(crate) link_target: Vec<u8>,
    /// Names and values; `None` is a value written as `null`.
    pub(crate) xattrs: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) device: u64,
    /// `Some` for files.
    pub(crate) content: Option<Vec<Id>>,
    /// `Some` for directories.
    pub(crate) subtree: Option<Id>,
    /// Why its content is not all that there was; empty if it is.
    pub(crate) error: String,
}

impl Node {
    /// Appends the canonical form.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            name,
            kind,
            mode,
            mtime,
            atime,
            ctime,
            uid,
            gid,
            user,
            group,
            inode,
            device_id,
            size,
            links,
            link_target,
            xattrs,
            device,
            content,
            subtree,
            error,
        } = self;
        out.extend_from_slice(b"{\"name\":");
        text::name(out, name);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(kind.as_str().as_bytes());
        out.push(b'"');
        optional(out, "mode", u64::from(*mode));
        for (field, time) in [("mtime", mtime), ("atime", atime), ("ctime", ctime)] {
            key(out, field);
            out.push(b'"');
            time.push(out);
            out.push(b'"');
        }
        key(out, "uid");
        text::number(out, u64::from(*uid));
        key(out, "gid");
        text::number(out, u64::from(*gid));
        for (field, value) in [("user", user), ("group", group)] {
            if !value.is_empty() {
                key(out, field);
                text::json_string(out, value.as_bytes());
            }
        }
        optional(out, "inode", *inode);
        optional(out, "device_id", *device_id);
        optional(out, "size", *size);
        optional(out, "links", *links);
        if !link_target.is_empty() {
            key(out, "linktarget");
            text::json_string(out, link_target);
            if std::str::from_utf8(link_target).is_err() {
                key(out, "linktarget_raw");
                base64(out, link_target);
            }
        }
        if !xattrs.is_empty() {
            key(out, "extended_attributes");
            encode_xattrs(out, xattrs);
        }
        optional(out, "device", *device);
        key(out, "content");
        match content {
            Some(ids) => encode_ids(out, ids),
            None => out.extend_from_slice(b"null"),
        }
        if let Some(id) = subtree {
            key(out, "subtree");
            quoted_id(out, id);
        }
        if !error.is_empty() {
            key(out, "error");
            text::json_string(out, error.as_bytes());
        }
        out.push(b'}');
    }
}

fn encode_ids(out: &mut Vec<u8>, ids: &[Id]) {
    out.reserve(ids.len() * 67 + 2);
    out.push(b'[');
    for (i, id) in ids.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        quoted_id(out, id);
    }
    out.push(b']');
}

fn encode_xattrs(out: &mut Vec<u8>, xattrs: &[(String, Option<Vec<u8>>)]) {
    out.push(b'[');
    for (i, (name, value)) in xattrs.iter().enumerate() {
        out.extend_from_slice(if i == 0 {
            b"{\"name\":"
        } else {
            b",{\"name\":"
        });
        text::json_string(out, name.as_bytes());
        key(out, "value");
        match value {
            Some(value) => base64(out, value),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn optional(out: &mut Vec<u8>, name: &str, value: u64) {
    if value != 0 {
        key(out, name);
        text::number(out, value);
    }
}

fn quoted_id(out: &mut Vec<u8>, id: &Id) {
    out.push(b'"');
    hexid::push(out, id);
    out.push(b'"');
}

fn base64(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(value).as_bytes());
    out.push(b'"');
}

#[derive(Deserialize)]
struct Tree<'a> {
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    nodes: Vec<Stored<'a>>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    #[serde(borrow, default)]
    mtime: Cow<'a, str>,
    #[serde(borrow, default)]
    atime: Cow<'a, str>,
    #[serde(borrow, default)]
    ctime: Cow<'a, str>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    linktarget: String,
    #[serde(default)]
    linktarget_raw: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    extended_attributes: Vec<StoredXattr>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
    #[serde(default, deserialize_with = "null_as_default")]
    error: String,
}

#[derive(Deserialize)]
struct StoredXattr {
    name: String,
    value: Option<String>,
}

/// The nodes of a tree. One that makes no sense makes the tree invalid.
pub(crate) fn decode_tree(json: &[u8]) -> Result<Vec<Node>, Invalid> {
    let invalid = |error: &dyn fmt::Display| Invalid(format!("it is no directory: {error}"));
    // Of all of it, so that this and the other reader of trees refuse the same.
    let json = std::str::from_utf8(json).map_err(|error| invalid(&error))?;
    let tree: Tree<'_> = serde_json::from_str(json).map_err(|error| invalid(&error))?;
    tree.nodes.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<Stored<'_>> for Node {
    type Error = Invalid;

    fn try_from(stored: Stored<'_>) -> Result<Self, Invalid> {
        let name = super::name::decode(&stored.name)?;
        let time =
            |text: &str| Time::parse(text).ok_or_else(|| Invalid::new("a time is not a time"));
        let link_target = match stored.linktarget_raw {
            Some(raw) => STANDARD.decode(raw).map_err(Invalid::new)?,
            None => stored.linktarget.into_bytes(),
        };
        let xattr = |StoredXattr { name, value }| {
            let value = value.map(|value| STANDARD.decode(value)).transpose();
            value.map(|value| (name, value)).map_err(Invalid::new)
        };
        Ok(Self {
            name: std::os::unix::ffi::OsStringExt::into_vec(name),
            kind: Kind::parse(&stored.kind),
            mode: stored.mode,
            mtime: time(&stored.mtime)?,
            atime: time(&stored.atime)?,
            ctime: time(&stored.ctime)?,
            uid: stored.uid,
            gid: stored.gid,
            user: stored.user,
            group: stored.group,
            inode: stored.inode,
            device_id: stored.device_id,
            size: stored.size,
            links: stored.links,
            link_target,
            xattrs: stored
                .extended_attributes
                .into_iter()
                .map(xattr)
                .collect::<Result<_, _>>()?,
            device: stored.device,
            content: stored.content,
            subtree: stored.subtree,
            error: stored.error,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn encode_tree(nodes: &[Node]) -> Vec<u8> {
        let mut out = TREE_START.to_vec();
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            node.encode(&mut out);
        }
        out.extend_from_slice(TREE_END);
        out
    }

    const TREE: &str = concat!(
        r#"{"nodes":[{"name":"a\\n\u0026\\xff","type":"file","mode":420,"mtime":"2024-01-02T03:04:05.12Z","#,
        r#""atime":"2024-01-02T03:04:05.12Z","ctime":"2024-02-29T23:59:59.999999999Z","uid":0,"gid":7,"user":"root","#,
        r#""inode":5,"device_id":9,"size":3,"links":2,"extended_attributes":[{"name":"user.x","value":"AAE="},{"name":"user.y","value":null}],"#,
        r#""content":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"#,
        r#"{"name":"d","type":"dir","mode":2147484141,"mtime":"1969-12-31T23:59:59.5Z","atime":"1969-12-31T23:59:59.5Z","#,
        r#""ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"content":null,"subtree":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"#,
        r#"{"name":"l","type":"symlink","mode":134218239,"mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","#,
        r#""ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"linktarget":"x\ufffd","linktarget_raw":"eP8=","device":3,"content":null}]}"#,
        "\n",
    );

    #[test]
    fn canonical_text_round_trips() {
        let nodes = decode_tree(TREE.as_bytes()).unwrap();
        assert_eq!(nodes[0].name, b"a\n&\xff");
        assert_eq!(nodes[2].link_target, b"x\xff");
        assert_eq!(
            nodes[1].mtime,
            Time {
                seconds: -1,
                nanos: 500_000_000
            }
        );
        assert_eq!(String::from_utf8(encode_tree(&nodes)).unwrap(), TREE);
        assert_eq!(encode_tree(&[]), b"{\"nodes\":[]}\n");
    }

    #[test]
    fn hostile_trees_are_errors() {
        for bad in [
            &b""[..],
            b"{",
            b"{\"nodes\":[{}]}",
            b"{\"nodes\":[{\"name\":\"..\",\"type\":\"file\"}]}",
            b"{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"mtime\":\"now\"}]}",
            &TREE.as_bytes()[..TREE.len() / 2],
        ] {
            assert!(decode_tree(bad).is_err());
        }
    }
}
