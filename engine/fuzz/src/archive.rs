//! The part of the archiver that reads what this program wrote on its own machine.

#[path = "../../src/archive/fingerprints/format.rs"]
pub(crate) mod format;

pub(crate) mod fingerprints {
    pub(crate) use super::format;
}
