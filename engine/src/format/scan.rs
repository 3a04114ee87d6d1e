//! A directory's document gone through in one pass, as far as it is written as programs write it.
//!
//! Does: find where each node ends, and the few fields of it that a walk needs, without looking at a byte twice. Does not: decide
//! what is valid. Whatever is unusual in a node (escapes in a text that is needed, numbers that are no plain ones, lists of
//! anything but ids, a field given twice) it leaves to the parser, which is asked about that node alone. Nothing is accepted here
//! that the parser would refuse, or read otherwise.

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
    /// `None` inside: there is none, in so many words.
    pub(super) content: Option<Option<&'a str>>,
}

/// What the documents of all programs begin with.
const START: &str = "{\"nodes\":[";

/// The nodes of a document, if it begins as usual.
pub(super) fn nodes(json: &[u8]) -> Option<Scan<'_>> {
    // Quick, for nearly all bytes are ASCII; and from here on a piece between two ASCII bytes is text.
    let json = std::str::from_utf8(json).ok()?;
    // In texts they are not allowed, and elsewhere nobody writes them but at the end.
    let control = |byte: &u8| *byte < 0x20;
    let usual = json.strip_suffix('\n').unwrap_or(json);
    if usual
        .bytes()
        .map(|byte| u8::from(control(&byte)))
        .fold(0, |a, b| a | b)
        != 0
    {
        return None;
    }
    json.starts_with(START).then_some(Scan {
        json,
        at: START.len(),
    })
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
    fn ids_or_none(&mut self) -> Option<Option<&'a str>> {
        if self.rest().starts_with("null") {
            self.at += "null".len();
            return Some(None);
        }
        self.ids().map(Some)
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

    /// The node that begins here, and its text. `None` if there is anything unusual about it: then this is still the place.
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
            match key {
                "name" => once(&mut node.name, self.text()?)?,
                "type" => once(&mut node.kind, self.text()?)?,
                "subtree" => once(&mut node.subtree, self.text()?)?,
                "size" => once(&mut node.size, self.number()?)?,
                "links" => once(&mut node.links, self.number()?)?,
                "inode" => once(&mut node.inode, self.number()?)?,
                "device_id" => once(&mut node.device, self.number()?)?,
                "content" => once(&mut node.content, self.ids_or_none()?)?,
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

/// A field that is given twice is for the parser to refuse.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}
