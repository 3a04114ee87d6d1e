//! What the operator reads and writes under `backups/` and `restores/` of a location: artefacts, and the
//! claim object that gives each backup name one writer. Names come from [`ark_api::layout`] only.

pub(crate) mod artefact;
pub(crate) mod claim;
pub(crate) mod patience;
