//! Ids in JSON: 64 lower-case hexadecimal digits.

use std::fmt;

use serde::{Deserialize, Serialize, de};

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

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Visitor)
    }
}

/// What stands where an id should: one, or a text that is kept as it is, for whoever needs an id to
/// say what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum Listed {
    /// An id.
    Id(Id),
    /// Something else.
    Other(Box<str>),
}

impl Listed {
    /// What this text is.
    pub(crate) fn of(text: &str) -> Self {
        Id::parse(text).map_or_else(|| Self::Other(text.into()), Self::Id)
    }

    /// The id, if it is one.
    pub(crate) fn id(&self) -> Option<Id> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Other(_) => None,
        }
    }
}

impl From<String> for Listed {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl Serialize for Listed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => serializer.collect_str(id),
            Self::Other(text) => serializer.serialize_str(text),
        }
    }
}
