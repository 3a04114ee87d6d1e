//! Workspace tasks.
