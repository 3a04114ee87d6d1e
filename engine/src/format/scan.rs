//! Directories and index files gone through in one pass, as far as they are written as programs
//! write them.
//!
//! Does: of a directory find where each node ends, and the few fields of it that a walk needs,
//! without looking at a byte twice. Does not: decide what is valid. Whatever is unusual in a node
//! (escapes in a text that is needed, numbers that are no plain ones, lists of anything but ids, a
//! field given twice) it leaves to the parser, which is asked about that node alone. Nothing is
//! accepted here that the parser would refuse, or read otherwise. An index file is read here as a
//! whole, or not at all.

use super::{
    hexid::Listed,
    index::{Blob, BlobKind, Pack},
};

/// Fields of a node, where it lies in the document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) size: Option<u64>,
    pub(super) links: Option<u64>,
    pub(super) inode: Option<u64>,
    pub(super) device: Option<u64>,
    pub(super) subtree: Option<&'a str>,
    /// [`NONE`] if there is none, in so many words.
    pub(super) content: Option<&'a str>,
}

/// Where there is no list.
pub(super) const NONE: &str = "null";
/// What directories begin with.
const NODES: &str = "{\"nodes\":[";
/// What index files begin with.
const PACKS: &str = "{\"packs\":[";

/// The nodes of a directory, if it begins as usual.
pub(super) fn nodes(json: &[u8]) -> Option<Scan<'_>> {
    list(json, NODES)
}

/// A document that begins so, without control characters but for a line's end behind it.
fn list<'a>(json: &'a [u8], start: &str) -> Option<Scan<'a>> {
    // Quick, for nearly all bytes are ASCII; and from here on a piece between two ASCII bytes is
    // text.
    let json = std::str::from_utf8(json).ok()?;
    // In texts they are not allowed, and elsewhere nobody writes them but at the end.
    let usual = json.strip_suffix('\n').unwrap_or(json);
    let control = usual.bytes().map(|byte| u8::from(byte < 0x20));
    let at = start.len();
    (control.fold(0, |a, b| a | b) == 0 && json.starts_with(start)).then_some(Scan { json, at })
}

/// The packs of an index file that holds nothing else. `None` if there is anything unusual about
/// it.
pub(super) fn packs(json: &[u8]) -> Option<Vec<Pack>> {
    let mut scan = list(json, PACKS)?;
    let packs = scan.list(Scan::pack)?;
    (scan.rest().trim_end_matches([' ', '\n']) == "}").then_some(packs)
}

/// A place in a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// What is left of the document.
    pub(super) fn rest(&self) -> &'a str {
        self.json.get(self.at..).unwrap_or("")
    }

    /// Passes over so many bytes, which the parser has read.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// Passes over blanks, which nobody writes there.
    pub(super) fn blanks(&mut self) {
        while self.eat(b' ') {}
    }

    /// Passes over this byte, if it is the next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// A text without escapes, and then what follows it.
    fn text(&mut self) -> Option<&'a str> {
        let (text, plain) = self.any_text()?;
        plain.then_some(text)
    }

    /// What is between two quotes, and whether it has no escapes.
    fn any_text(&mut self) -> Option<(&'a str, bool)> {
        if !self.eat(b'"') {
            return None;
        }
        let from = self.at;
        let mut plain = true;
        loop {
            let rest = &self.json.as_bytes()[self.at..];
            let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            self.at += stop;
            if self.eat(b'"') {
                return Some((&self.json[from..self.at - 1], plain));
            }
            plain = false;
            // What is escaped is not looked at, but only what a parser knows.
            match rest.get(stop + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                // Of `\u` a parser knows more.
                _ => return None,
            }
        }
    }

    /// A whole number, as they are written.
    fn number(&mut self) -> Option<u64> {
        let from = self.at;
        let mut value = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        let digits = self.at - from;
        let leading = digits > 1 && self.json.as_bytes()[from] == b'0';
        let ends = matches!(self.peek(), Some(b',' | b'}'));
        (digits > 0 && !leading && ends).then_some(value)
    }

    /// A list of ids, or that there is none.
    fn ids_or_none(&mut self) -> Option<&'a str> {
        if self.rest().starts_with(NONE) {
            self.at += NONE.len();
            return Some(NONE);
        }
        self.ids()
    }

    /// A list of ids, as it is.
    fn ids(&mut self) -> Option<&'a str> {
        let from = self.at;
        if !self.eat(b'[') {
            return None;
        }
        if !self.eat(b']') {
            loop {
                let quoted = self.json.as_bytes().get(self.at..self.at + 66)?;
                let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let is_id = quoted[0] == b'"'
                    && quoted[65] == b'"'
                    && quoted[1..65]
                        .iter()
                        .map(|b| u8::from(!digit(b)))
                        .fold(0, |a, b| a | b)
                        == 0;
                if !is_id {
                    return None;
                }
                self.at += 66;
                if self.eat(b']') {
                    break;
                }
                if !self.eat(b',') {
                    return None;
                }
            }
        }
        Some(&self.json[from..self.at])
    }

    /// The node that begins here, and its text. `None` if there is anything unusual about it: then
    /// this is still the place.
    pub(super) fn node(&mut self) -> Option<(Scanned<'a>, &'a str)> {
        let mut scan = *self;
        let node = scan.fields()?;
        let text = &self.json[self.at..scan.at];
        *self = scan;
        Some((node, text))
    }

    fn fields(&mut self) -> Option<Scanned<'a>> {
        let mut node = Scanned::default();
        if !self.eat(b'{') {
            return None;
        }
        loop {
            let key = self.text()?;
            if !self.eat(b':') {
                return None;
            }
            match key.as_bytes() {
                b"name" => once(&mut node.name, self.text()?)?,
                b"type" => once(&mut node.kind, self.text()?)?,
                b"subtree" => once(&mut node.subtree, self.text()?)?,
                b"size" => once(&mut node.size, self.number()?)?,
                b"links" => once(&mut node.links, self.number()?)?,
                b"inode" => once(&mut node.inode, self.number()?)?,
                b"device_id" => once(&mut node.device, self.number()?)?,
                b"content" => once(&mut node.content, self.ids_or_none()?)?,
                // Nobody here needs these.
                _ => match self.peek()? {
                    b'"' => drop(self.any_text()?),
                    b'0'..=b'9' => drop(self.number()?),
                    _ => return None,
                },
            }
            if self.eat(b'}') {
                return Some(node);
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }
}

impl Scan<'_> {
    /// What comes up to the end of a list that has begun.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut all = Vec::new();
        if self.eat(b']') {
            return Some(all);
        }
        loop {
            all.push(one(self)?);
            if self.eat(b']') {
                return Some(all);
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    /// An object, whose fields are handed to `field`, which reads them.
    fn object(&mut self, mut field: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        if !self.eat(b'{') {
            return None;
        }
        loop {
            let key = self.text()?;
            if !self.eat(b':') {
                return None;
            }
            field(self, key)?;
            if self.eat(b'}') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    fn pack(&mut self) -> Option<Pack> {
        let (mut id, mut blobs) = (None, None);
        self.object(|scan, key| match key {
            "id" => once(&mut id, Listed::of(scan.text()?)),
            "blobs" if scan.eat(b'[') => once(&mut blobs, scan.list(Self::blob)?),
            _ => None,
        })?;
        Some(Pack {
            id: id?,
            blobs: blobs?,
        })
    }

    fn blob(&mut self) -> Option<Blob> {
        let (mut id, mut kind) = (None, None);
        let (mut offset, mut length, mut plain) = (None, None, None);
        self.object(|scan, key| {
            let mut number = |field: &mut Option<u32>| {
                let number = scan.number()?;
                once(field, u32::try_from(number).ok()?)
            };
            match key {
                "offset" => number(&mut offset),
                "length" => number(&mut length),
                "uncompressed_length" => number(&mut plain),
                "id" => once(&mut id, Listed::of(scan.text()?)),
                "type" => match scan.text()? {
                    "data" => once(&mut kind, BlobKind::Data),
                    "tree" => once(&mut kind, BlobKind::Tree),
                    _ => None,
                },
                _ => None,
            }
        })?;
        Some(Blob {
            id: id?,
            kind: kind?,
            offset: offset?,
            length: length?,
            uncompressed_length: plain,
        })
    }
}

/// A field that is given twice is for the parser to refuse.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}
