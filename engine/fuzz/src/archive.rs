//! The part of the archiver that reads what this program wrote on its own machine.

pub(crate) mod fingerprints {
    #[path = "../../../../src/archive/fingerprints/format.rs"]
    pub(crate) mod format;
}
