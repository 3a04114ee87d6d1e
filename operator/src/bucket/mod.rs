//! What the operator reads and writes under `backups/` and `restores/` of a location: artefacts, and the
//! claim objects that give each name of a backup or restore one writer. Names come from [`ark_api::layout`] only.

pub(crate) mod artefact;
pub(crate) mod claim;
pub(crate) mod patience;
pub(crate) mod restore_claim;
