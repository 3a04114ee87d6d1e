//! What is left out of an archive: patterns in the syntax of `.gitignore`, relative to the source.

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, Result};

/// Compiled patterns.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Option<Gitignore>);

impl Filter {
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let invalid = |error: ignore::Error| Error::InvalidConfig {
            what: "exclude pattern",
            message: error.to_string(),
        };
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            builder.add_line(None, pattern).map_err(invalid)?;
        }
        Ok(Self(Some(builder.build().map_err(invalid)?)))
    }

    /// Whether an entry is left out, and all that is below it.
    pub(crate) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        self.0.as_ref().is_some_and(|patterns| {
            patterns
                .matched(Path::new("/").join(path), is_dir)
                .is_ignore()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitignore_syntax() {
        let patterns = ["*.log", "/cache/", "!keep.log", "deep/**/x"].map(String::from);
        let filter = Filter::new(&patterns).unwrap();
        for (path, is_dir, out) in [
            ("a.log", false, true),
            ("d/a.log", false, true),
            ("keep.log", false, false),
            ("cache", true, true),
            ("cache", false, false),
            ("d/cache", true, false),
            ("deep/1/2/x", false, true),
            ("other", false, false),
        ] {
            assert_eq!(filter.excludes(Path::new(path), is_dir), out, "{path}");
        }
        assert!(Filter::new(&["[z-a]".to_owned()]).is_err());
    }
}
