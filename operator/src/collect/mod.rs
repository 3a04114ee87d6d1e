//! Collection: which objects a backup holds, and where they go.
//!
//! Discovery says what kinds there are ([`discovery`]), the backup's words say which are meant
//! ([`filter`], [`namespaces`]), pages of objects are fetched as plain JSON ([`list`]) and what
//! they need is followed ([`related`]). [`run`] puts it together: lists first, each object handed
//! to the bundle at once ([`listing`], which [`leaving`] tells what is being deleted), then what
//! the objects need ([`needs`]), then what only shows at the end ([`last`]). Only names and a few
//! facts stay in memory.

pub(crate) mod discovery;
pub(crate) mod filter;
mod last;
mod leaving;
pub(crate) mod list;
mod listing;
pub(crate) mod namespaces;
mod needs;
pub(crate) mod related;
pub(crate) mod run;
