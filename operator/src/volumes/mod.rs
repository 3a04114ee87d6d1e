//! Volumes of a backup: what is known of them ([`facts`]), who owns them ([`owner`]), and which are
//! taken, by which method, and why not ([`plan`]); how often agents tell how far they are
//! ([`pace`]). Pure: no clients, no I/O.

pub(crate) mod facts;
pub(crate) mod owner;
pub(crate) mod pace;
pub(crate) mod plan;
