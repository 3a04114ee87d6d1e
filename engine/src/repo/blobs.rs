//! Reading blobs.
