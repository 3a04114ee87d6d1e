//! What callers give a store and get from it.

use std::path::PathBuf;

use super::Secret;

/// Where a store is and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// A directory of this machine, which must exist.
    Local {
        /// The directory.
        root: PathBuf,
    },
    /// A bucket of Amazon S3 or of a service that speaks its protocol.
    S3 {
        /// The bucket.
        bucket: String,
        /// Prefix of every object's key, without a leading slash; may be empty.
        prefix: String,
        /// `http://host:port` or `https://host[:port]`; Amazon's when absent.
        endpoint: Option<String>,
        /// The region; `us-east-1` when absent.
        region: Option<String>,
        /// The access key.
        access_key_id: Secret,
        /// Its secret.
        secret_access_key: Secret,
        /// The session token of temporary credentials.
        session_token: Option<Secret>,
        /// PEM certificates to trust beside the system's.
        ca_cert: Option<Vec<u8>>,
        /// Bucket in the path (`host/bucket`) instead of in the host name.
        path_style: bool,
        /// Accept any TLS certificate.
        insecure_skip_tls_verify: bool,
    },
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name inside the listed directory, without slashes (in recursive listings: with them).
    pub name: String,
    /// Whether it is a directory (or common prefix).
    pub is_dir: bool,
    /// Size in bytes; 0 for directories.
    pub size: u64,
    /// When the store last saw it written, by the store's clock.
    pub modified: Option<jiff::Timestamp>,
}

/// What a store knows of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Size in bytes.
    pub size: u64,
    /// When the store last saw it written, by the store's clock.
    pub modified: Option<jiff::Timestamp>,
}
