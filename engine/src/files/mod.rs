//! Local files.
