//! Values of options in restic's spelling: sizes, limits, numbers to keep, lists of tags.

use ark_engine::maintain::{Keep, Unused};

/// Bytes: a number, with a suffix of `K`, `M`, `G` or `T` for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("use a number of bytes, or one with K, M, G or T".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "it is no number of bytes".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "it is too large".to_owned())
}

/// A size, a share of what remains in percent, or `unlimited`.
pub(super) fn unused(text: &str) -> Result<Unused, String> {
    if text == "unlimited" {
        return Ok(Unused::Unlimited);
    }
    match text.strip_suffix('%') {
        Some(number) => match number.parse() {
            Ok(percent @ 0..100) => Ok(Unused::Percent(percent)),
            _ => Err("use a whole number from 0 to 99 before the %".to_owned()),
        },
        None => size(text).map(Unused::Bytes),
    }
}

/// A number of snapshots, or `unlimited`.
pub(super) fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "unlimited" | "-1" => Ok(Keep::All),
        "0" => Ok(Keep::None),
        _ => text
            .parse()
            .map(Keep::Count)
            .map_err(|_| "use a number, or unlimited".to_owned()),
    }
}

/// Lists of tags: each text is one, separated by commas.
pub(super) fn tag_lists(texts: &[String]) -> Vec<Vec<String>> {
    let list = |text: &String| text.split(',').map(|tag| tag.trim().to_owned()).collect();
    texts.iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_limits() {
        assert_eq!(size("10"), Ok(10));
        assert_eq!(size("3k"), Ok(3072));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "k", "1x", "-1", "1.5g", "99999999T", "1kk"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(unused("5%"), Ok(Unused::Percent(5)));
        assert_eq!(unused("unlimited"), Ok(Unused::Unlimited));
        assert_eq!(unused("1M"), Ok(Unused::Bytes(1 << 20)));
        for bad in ["100%", "-1%", "%", "x%"] {
            assert!(unused(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_to_keep_and_tags() {
        assert_eq!(keep("3"), Ok(Keep::Count(3)));
        assert_eq!(keep("0"), Ok(Keep::None));
        assert_eq!(keep("unlimited"), Ok(Keep::All));
        assert!(keep("-2").is_err());
        assert_eq!(
            tag_lists(&["a, b".to_owned(), String::new()]),
            [vec!["a".to_owned(), "b".to_owned()], vec![String::new()]]
        );
    }
}
