//! Collection: which objects a backup holds, and where they go.
//!
//! Discovery says what kinds there are ([`discovery`]), the backup's words say which are meant
//! ([`filter`], [`namespaces`]), pages of objects are fetched as plain JSON ([`list`]) and what they need
//! is followed ([`related`]). [`run`] puts it together and hands every object to the bundle at once, so
//! that only names and a few facts stay in memory.

pub(crate) mod discovery;
pub(crate) mod filter;
pub(crate) mod list;
pub(crate) mod namespaces;
pub(crate) mod related;
pub(crate) mod run;
