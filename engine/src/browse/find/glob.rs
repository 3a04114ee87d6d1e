//! One component of a pattern: `*`, `?`, `[a-z]`, `[^a]` and `\` before a character that is meant
//! as it is.
//!
//! Pure. Names are bytes; `?` and classes take one character, or one byte where there is none. What
//! is written is judged when it is compiled, also where no name would ever reach it.

/// A compiled component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any character.
    One,
    /// Any number of bytes.
    Many,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// `Err` says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' => {
                    if tokens.last() != Some(&Token::Many) {
                        tokens.push(Token::Many);
                    }
                }
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut chars)?),
                '\\' => {
                    let meant = chars.next().ok_or("it ends with a backslash")?;
                    literal(&mut tokens, meant);
                }
                _ => literal(&mut tokens, c),
            }
        }
        Ok(Self(tokens))
    }

    /// Whether it is the whole name.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // Where the last `*` stands, and how far it reached.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let next = self.0.get(token);
            if next == Some(&Token::Many) {
                star = Some((token, at));
                token += 1;
                continue;
            }
            let step = match next {
                None if at == name.len() => return true,
                None => None,
                Some(next) => step(next, &name[at..]),
            };
            if let Some(length) = step {
                token += 1;
                at += length;
                continue;
            }
            match star {
                Some((of, reached)) if reached < name.len() => {
                    star = Some((of, reached + 1));
                    token = of + 1;
                    at = reached + 1;
                }
                _ => return false,
            }
        }
    }
}

fn literal(tokens: &mut Vec<Token>, c: char) {
    let bytes = c
        .encode_utf8(&mut [0; 4])
        .bytes()
        .map(Token::Byte)
        .collect::<Vec<_>>();
    tokens.extend(bytes);
}

/// What follows a `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            member(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// One end of a range.
fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, &'static str> {
    const OPEN: &str = "a [ has no ]";
    match chars.next().ok_or(OPEN)? {
        '-' | ']' => Err("a class needs a \\ before - and ]"),
        '\\' => chars.next().ok_or(OPEN),
        c => Ok(c),
    }
}

/// How many bytes of the name a token takes, if it fits.
fn step(token: &Token, name: &[u8]) -> Option<usize> {
    let first = *name.first()?;
    match token {
        Token::Byte(byte) => (first == *byte).then_some(1),
        Token::One => Some(character(name).1),
        Token::Class { negated, ranges } => {
            let (c, length) = character(name);
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            (inside != *negated).then_some(length)
        }
        Token::Many => None,
    }
}

/// The first character; a byte that is none stands for itself alone.
fn character(name: &[u8]) -> (char, usize) {
    let four = &name[..name.len().min(4)];
    let valid = match std::str::from_utf8(four) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&four[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid
        .chars()
        .next()
        .map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8()))
}

/// In lower case, each character for itself; bytes that are no text stay.
pub(super) fn lower(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let low = c.to_lowercase().next().unwrap_or(c);
            out.extend_from_slice(low.encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &[u8]) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn components() {
        for (pattern, name, so) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("*", ".hidden", true),
            ("*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a?c", "aéc", true),
            ("a??c", "aéc", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "éx", true),
            ("[é-ü]", "ö", true),
            (r"[\]\-]", "-", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("*a", "aaaa", true),
            ("*.tar.*", "x.tar.gz", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name.as_bytes()), so, "{pattern} {name}");
        }
        assert!(fits("?", b"\xff") && fits("a?b", b"a\xffb") && !fits("?", b"\xff\xff"));
        assert!(fits("*\u{e9}", b"\xff\xc3\xa9"));
    }

    #[test]
    fn what_makes_no_sense() {
        for bad in [
            "[", "[]", "[]a]", "[a", "[^]", "[-a]", "[a-]", "[a-", r"[a\", r"a\", "[x-]",
        ] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cases() {
        assert_eq!(lower("ÄBc\u{130}".as_bytes()), "äbci".as_bytes());
        assert_eq!(lower(b"A\xffB"), b"a\xffb");
    }

    proptest! {
        /// Against the obvious way, which takes exponential time.
        #[test]
        fn as_by_trying_everything(pattern in "[ab*?]{0,8}", name in "[abé]{0,8}") {
            fn slow(pattern: &[char], name: &[char]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some(('*', rest)) => (0..=name.len()).any(|n| slow(rest, &name[n..])),
                    Some((c, rest)) => name
                        .split_first()
                        .is_some_and(|(first, more)| (*c == '?' || c == first) && slow(rest, more)),
                }
            }
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, name.as_bytes()), slow(&chars(&pattern), &chars(&name)));
        }

        #[test]
        fn no_name_makes_it_fail(pattern in ".{0,12}", name in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(glob) = Glob::parse(&pattern) {
                glob.matches(&name);
            }
        }
    }
}
