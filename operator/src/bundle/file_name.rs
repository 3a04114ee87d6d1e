//! Which file an object has in a bundle. Pure.
//!
//! Most objects have the file `<name>.json`. Some names cannot be one: RBAC allows control
//! characters, Events may have names longer than a file's may be. Such an object's file has the
//! readable beginning of its name and the name's SHA-256; the name itself is in the object, and the
//! reader compares the two.

use sha2::{Digest as _, Sha256};

/// Longest stem: a file name has at most 255 bytes, `.json` included.
const MAX_STEM: usize = 250;
/// Bytes of the readable beginning of an encoded name.
const READABLE: usize = 100;
/// What stands between the readable beginning and the hash.
const MARK: char = '~';
/// Hexadecimal digits of the hash.
const DIGITS: usize = 64;

/// The stem of the file of an object called `name`.
pub(crate) fn stem(name: &str) -> String {
    if is_plain(name) && name.len() <= MAX_STEM && !looks_encoded(name) {
        return name.to_owned();
    }
    let readable: String = name
        .chars()
        .map(|c| {
            let plain = c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
            if plain { c } else { '_' }
        })
        .take(READABLE)
        .collect();
    format!("{readable}{MARK}{}", hex::encode(Sha256::digest(name)))
}

/// Whether the file with this stem can be that of an object called `name`; releases before names
/// were encoded wrote every name as it is.
pub(crate) fn is_of(file_stem: &str, name: &str) -> bool {
    !name.is_empty() && (file_stem == name || file_stem == stem(name))
}

/// Whether a name can be a file name as it is.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 253
        && !name.contains(['/', '\\'])
        && !name.contains(char::is_control)
}

/// A name of this shape would be taken for an encoded one.
fn looks_encoded(name: &str) -> bool {
    name.rsplit_once(MARK)
        .is_some_and(|(_, tail)| tail.len() == DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_file_names() {
        for name in ["web", "system:node", "a~b", &"x".repeat(250)] {
            assert_eq!(stem(name), name);
            assert!(is_of(name, name));
        }
    }

    #[test]
    fn odd_names_have_files_of_their_own_and_are_told_apart() {
        let long = "x".repeat(251);
        let shaped = format!("a~{}", "0".repeat(64));
        let odd = [
            "tab\tx", "tab\nx", "a/b", "..", "a\\b", "ü\u{1}", &long, &shaped,
        ];
        let mut seen = std::collections::HashSet::new();
        for name in odd {
            let stem = stem(name);
            assert!(
                is_plain(&stem) && stem.len() <= MAX_STEM,
                "{name:?}: {stem}"
            );
            assert!(is_of(&stem, name));
            assert!(!is_of(&stem, "other"));
            assert!(seen.insert(stem));
        }
        assert!(stem("tab\tx").starts_with("tab_x~"));
    }

    #[test]
    fn files_of_earlier_releases_are_known() {
        let long = "x".repeat(253);
        assert!(is_of(&long, &long));
    }
}
