//! Rustic.
pub(crate) struct RusticStore;
pub(crate) struct WriteGuard;
