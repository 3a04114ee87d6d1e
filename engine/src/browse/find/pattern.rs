//! Patterns of paths, as `restic find` takes them.
//!
//! A pattern is a list of components ([`super::glob`]); `**` stands for any number of them. One
//! that begins with `/` is held against the whole path, any other against every run of components
//! in it. What lies below a match matches, too.
//!
//! Pure. A path is gone through component by component: what is known of the part above is a [`Masks`], so that what
//! matches inside a directory follows from that and from the directory alone, wherever it is named.

use super::glob::{Glob, lower};
use crate::error::{Error, Result};

/// Patterns with more components are refused: a bit stands for each.
const MOST: usize = 62;

/// Several patterns; a path fits if one does.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    list: Vec<Pattern>,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    parts: Vec<Part>,
    rooted: bool,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`.
    Any,
    One(Glob),
}

/// For each pattern, after how many of its components the path so far may be: a bit for each
/// number.
pub(super) type Masks = Vec<u64>;

impl Patterns {
    /// Compiles them.
    ///
    /// # Errors
    /// `InvalidConfig`.
    pub(super) fn new(texts: &[String], ignore_case: bool) -> Result<Self> {
        let compile = |text: &String| {
            let lowered = ignore_case.then(|| lower(text.as_bytes()));
            let text = match lowered.map(String::from_utf8) {
                Some(Ok(text)) => text,
                _ => text.clone(),
            };
            Pattern::parse(&text).map_err(|why| Error::InvalidConfig {
                what: "pattern",
                message: format!("{text:?}: {why}"),
            })
        };
        Ok(Self {
            list: texts.iter().map(compile).collect::<Result<_>>()?,
            ignore_case,
        })
    }

    /// Above everything.
    pub(super) fn start(&self) -> Masks {
        self.list.iter().map(|pattern| pattern.closure(1)).collect()
    }

    /// Below directories whose names mean nothing to any pattern: how it is nearly everywhere.
    pub(super) fn usual(&self) -> Masks {
        let below = |pattern: &Pattern| pattern.step(pattern.closure(1), |_| false);
        self.list.iter().map(below).collect()
    }

    /// One component further.
    pub(super) fn step(&self, masks: &[u64], name: &[u8]) -> Masks {
        let lowered = self.ignore_case.then(|| lower(name));
        let name = lowered.as_deref().unwrap_or(name);
        let each = self.list.iter().zip(masks);
        each.map(|(pattern, mask)| pattern.step(*mask, |glob| glob.matches(name)))
            .collect()
    }

    /// Whether a path that led here fits.
    pub(super) fn fits(&self, masks: &[u64]) -> bool {
        let mut each = self.list.iter().zip(masks);
        each.any(|(pattern, mask)| mask & (1 << pattern.parts.len()) != 0)
    }

    /// Whether nothing below can fit.
    pub(super) fn is_dead(masks: &[u64]) -> bool {
        masks.iter().all(|mask| *mask == 0)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        // Elsewhere a `!` in front turns a pattern round; here it has no meaning.
        let text = text.strip_prefix('!').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self {
                parts: Vec::new(),
                rooted: false,
            });
        }
        let rooted = text.starts_with('/');
        let mut names: Vec<&str> = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." if names.last().is_some_and(|name| *name != "..") => {
                    names.pop();
                }
                ".." if rooted => {}
                name => names.push(name),
            }
        }
        if names.is_empty() {
            // The root directory, hence everything; or the name `.`, which nothing has.
            names.push(if rooted { "**" } else { "." });
        }
        if names.len() > MOST {
            return Err(format!("it has more than {MOST} components"));
        }
        let part = |name: &str| match name {
            "**" => Ok(Part::Any),
            name => Ok(Part::One(Glob::parse(name)?)),
        };
        let parts: Result<Vec<_>, &str> = names.into_iter().map(part).collect();
        Ok(Self {
            parts: parts?,
            rooted,
        })
    }

    /// Adds where a `**` leads that stands for nothing.
    fn closure(&self, mut mask: u64) -> u64 {
        for (n, part) in self.parts.iter().enumerate() {
            if matches!(part, Part::Any) && mask & (1 << n) != 0 {
                mask |= 1 << (n + 1);
            }
        }
        mask
    }

    fn step(&self, mask: u64, matches: impl Fn(&Glob) -> bool) -> u64 {
        // What fits goes on fitting below.
        let mut next = mask & (1 << self.parts.len());
        for (n, part) in self.parts.iter().enumerate() {
            if mask & (1 << n) == 0 {
                continue;
            }
            match part {
                Part::Any => next |= 1 << n,
                Part::One(glob) if matches(glob) => next |= 1 << (n + 1),
                Part::One(_) => {}
            }
        }
        if !self.rooted {
            next |= 1;
        }
        self.closure(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        let patterns = Patterns::new(&[pattern.to_owned()], false).unwrap();
        let mut masks = patterns.start();
        for name in path.split('/').skip(1) {
            assert!(!Patterns::is_dead(&masks) || !patterns.fits(&masks));
            masks = patterns.step(&masks, name.as_bytes());
        }
        patterns.fits(&masks)
    }

    #[test]
    fn as_restic_matches() {
        for (pattern, path, so) in [
            ("foo", "/foo", true),
            ("foo", "/a/foo", true),
            ("foo", "/foo/below/it", true),
            ("foo", "/food", false),
            ("*.go", "/a/b.go", true),
            ("a/b", "/x/a/b", true),
            ("a/b", "/x/a/c/b", false),
            ("a/*/b", "/x/a/c/b", true),
            ("a/**/b", "/x/a/b", true),
            ("a/**/b", "/x/a/c/d/b/e", true),
            ("a/**/b", "/x/b/a", false),
            ("/a", "/a/b", true),
            ("/a", "/x/a", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/**/c", "/a/c", true),
            ("/**/c", "/a/b/c", true),
            ("**/c", "/c", true),
            ("**", "/c", true),
            ("/", "/a/b", true),
            ("", "/a", true),
            (".", "/a", false),
            ("./a//b/", "/a/b", true),
            ("a/../b", "/b", true),
            ("../a", "/a", false),
            ("/../a", "/a", true),
            ("!foo", "/foo", true),
            ("a/a/b", "/a/a/a/b", true),
            ("*/b", "/b", false),
            ("*/b", "/a/b", true),
        ] {
            assert_eq!(fits(pattern, path), so, "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_usual_and_what_is_dead() {
        let of = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            Patterns::new(&texts, false).unwrap()
        };
        for texts in [&["foo"][..], &["a/b", "*.c"], &["/**/x"], &["**/x", "y"]] {
            let patterns = of(texts);
            let usual = patterns.usual();
            assert!(!Patterns::is_dead(&usual), "{texts:?}");
            assert_eq!(patterns.step(&usual, b"nothing"), usual, "{texts:?}");
            assert_eq!(patterns.start(), usual, "{texts:?}");
        }
        assert!(Patterns::is_dead(&of(&["/a/b"]).usual()));
        let patterns = of(&["/a/b", "c"]);
        assert_ne!(patterns.start(), patterns.usual());
        assert_eq!(patterns.step(&patterns.start(), b"x"), patterns.usual());
    }

    #[test]
    fn cases_and_nonsense() {
        let patterns = Patterns::new(&["ÄB*".to_owned()], true).unwrap();
        assert!(patterns.fits(&patterns.step(&patterns.start(), "äBc".as_bytes())));
        for bad in ["[", "a/[z", "x\\", &"a/".repeat(63)] {
            assert!(Patterns::new(&[bad.to_owned()], false).is_err(), "{bad}");
        }
        assert!(Patterns::new(&["a/".repeat(62)], false).is_ok());
    }
}
