//! The root directory's own metadata, which a tree does not hold, as tags of the snapshot.
//!
//! `ark.root=<mode>:<uid>:<gid>:<mtime>`: mode in octal with setuid, setgid and sticky bits, mtime in
//! nanoseconds since 1970. `ark.root-xattr=<name>:<base64>` for each extended attribute. Tags that do not
//! parse are ignored: anybody may set tags.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::Timestamp;

const ROOT: &str = "ark.root=";
const XATTR: &str = "ark.root-xattr=";
/// Attributes beyond this much text are left out: tags are read with every listing.
const MAX_TEXT: usize = 16 << 10;

/// Metadata of the root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootMeta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
}

impl RootMeta {
    /// The tags, and the names of attributes that do not fit.
    pub(crate) fn to_tags(&self) -> (Vec<String>, Vec<&str>) {
        let nanos = self.mtime.as_nanosecond();
        let mut tags = vec![format!(
            "{ROOT}{:04o}:{}:{}:{nanos}",
            self.mode, self.uid, self.gid
        )];
        let mut left_out = Vec::new();
        let mut text = 0;
        for (name, value) in &self.attributes {
            let tag = format!("{XATTR}{name}:{}", BASE64.encode(value));
            text += tag.len();
            // restic separates tags by commas on its command line.
            if text > MAX_TEXT || name.contains([',', ':']) {
                left_out.push(name.as_str());
            } else {
                tags.push(tag);
            }
        }
        (tags, left_out)
    }

    pub(crate) fn from_tags(tags: &[String]) -> Option<Self> {
        let mut fields = tags
            .iter()
            .find_map(|tag| tag.strip_prefix(ROOT))?
            .split(':');
        let mut next = || fields.next();
        let mode = u32::from_str_radix(next()?, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)?;
        let (uid, gid) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let mtime = Timestamp::from_nanosecond(next()?.parse().ok()?).ok()?;
        let attribute = |tag: &String| {
            let (name, value) = tag.strip_prefix(XATTR)?.split_once(':')?;
            Some((name.to_owned(), BASE64.decode(value).ok()?))
        };
        Some(Self {
            mode,
            uid,
            gid,
            mtime,
            attributes: tags.iter().filter_map(attribute).collect(),
        })
    }

    /// Whether a tag is one of these.
    pub(crate) fn is_tag(tag: &str) -> bool {
        tag.starts_with(ROOT) || tag.starts_with(XATTR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip() {
        let meta = RootMeta {
            mode: 0o2770,
            uid: 999,
            gid: 0,
            mtime: Timestamp::new(-5, -1).unwrap(),
            attributes: vec![("user.a".to_owned(), vec![0, 255])],
        };
        let (tags, left_out) = meta.to_tags();
        assert_eq!(
            tags,
            [
                "ark.root=2770:999:0:-5000000001",
                "ark.root-xattr=user.a:AP8"
            ]
        );
        assert!(left_out.is_empty() && tags.iter().all(|tag| RootMeta::is_tag(tag)));
        assert_eq!(RootMeta::from_tags(&tags), Some(meta));
    }

    #[test]
    fn other_texts_are_ignored() {
        for tag in [
            "ark.root=",
            "ark.root=9:0:0:0",
            "ark.root=77777:0:0:0",
            "ark.root=755:-1:0:0",
            "ark.root=755:0:0",
            "x",
        ] {
            assert_eq!(RootMeta::from_tags(&[tag.to_owned()]), None, "{tag}");
        }
    }
}
