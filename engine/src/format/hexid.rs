//! Ids in JSON: 64 lower-case hexadecimal digits.

use std::fmt;

use serde::de;

use crate::crypto::Id;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends the digits.
pub(crate) fn push(out: &mut Vec<u8>, id: &Id) {
    out.extend(
        id.0.iter()
            .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]),
    );
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
        Id::parse(text).ok_or_else(|| E::custom("not an id"))
    }
}

impl<'de> de::Deserialize<'de> for Id {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Visitor)
    }
}
