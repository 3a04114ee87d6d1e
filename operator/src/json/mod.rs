//! The JSON of Kubernetes objects, kept as it came.
//!
//! Objects are decoded to be looked at, but what is stored and sent is their own text wherever nothing was
//! changed: numbers are not rounded, unknown values not interpreted, and a `ControllerRevision` compares
//! equal, byte for byte, with what its controller makes. [`encode`] writes a changed object that way,
//! [`client`] sees to it that every request escapes strings as Go's encoder does.
//!
//! Pure; text that is no JSON is an error of [`Document::read`].

pub(crate) mod client;
mod text;

use std::ops::Deref;

use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) use self::text::{encode, escape};

/// An object as its text and decoded.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    text: Box<str>,
    value: Value,
}

impl Document {
    /// Decodes `text`.
    pub(crate) fn read(text: &str) -> serde_json::Result<Self> {
        Ok(Self {
            value: serde_json::from_str(text)?,
            text: text.into(),
        })
    }

    /// An object of which there is no other text.
    pub(crate) fn made(value: Value) -> Self {
        Self {
            text: value.to_string().into(),
            value,
        }
    }

    /// The decoded object alone.
    pub(crate) fn into_value(self) -> Value {
        self.value
    }

    /// The text as it came.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl Deref for Document {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl TryFrom<&RawValue> for Document {
    type Error = serde_json::Error;

    fn try_from(raw: &RawValue) -> serde_json::Result<Self> {
        Self::read(raw.get())
    }
}
