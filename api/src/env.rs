//! Environment variables read by Ark's programs, and the fixed paths and ports of its containers.

/// Namespace Ark's own objects live in (operator, agent; set from the pod's own namespace).
pub const NAMESPACE: &str = "ARK_NAMESPACE";
/// Name of the node the agent runs on.
pub const NODE_NAME: &str = "ARK_NODE_NAME";
/// Name of the pod the program runs in; part of a lock's holder identity.
pub const POD_NAME: &str = "ARK_POD_NAME";
/// Directory below which `local` locations live; unset when the chart mounts none.
pub const LOCAL_STORE_ROOT: &str = "ARK_LOCAL_STORE_ROOT";
/// Directory under which the kubelet's `pods` directory is visible to the agent.
pub const HOST_PODS: &str = "ARK_HOST_PODS";
/// Image of the init container that holds a restored pod until its volumes are back.
pub const RESTORE_WAIT_IMAGE: &str = "ARK_RESTORE_WAIT_IMAGE";
/// How long restored pods may take to be scheduled and their claims to be bound, unless a restore says otherwise
/// (a Go duration such as `30m`).
pub const RESTORE_BIND_TIMEOUT: &str = "ARK_RESTORE_BIND_TIMEOUT";
/// Name of the default location.
pub const DEFAULT_LOCATION: &str = "ARK_DEFAULT_LOCATION";
/// Log filter, in the syntax of `tracing`'s `EnvFilter`.
pub const LOG: &str = "ARK_LOG";
/// Log format: `text` or `json`.
pub const LOG_FORMAT: &str = "ARK_LOG_FORMAT";
/// Backups that the operator runs at the same time.
pub const CONCURRENT_BACKUPS: &str = "ARK_CONCURRENT_BACKUPS";
/// Volume backups and restores one agent runs at the same time.
pub const AGENT_CONCURRENCY: &str = "ARK_AGENT_CONCURRENCY";
/// Name prefix of Ark's Secret with cloud credentials when a location names none.
pub const DEFAULT_CREDENTIALS_SECRET: &str = "ARK_DEFAULT_CREDENTIALS_SECRET";
/// Address and port of `/healthz`, `/readyz` and `/metrics`, instead of every address at [`HTTP_PORT`].
pub const HTTP_ADDRESS: &str = "ARK_HTTP_ADDRESS";
/// Loopback address and port at which the operator hands out artefacts, instead of [`ARTEFACT_PORT`].
pub const ARTEFACT_ADDRESS: &str = "ARK_ARTEFACT_ADDRESS";
/// Expired backups of one location that the operator deletes at once without an acknowledgement; 100 when unset.
pub const EXPIRY_LIMIT: &str = "ARK_EXPIRY_LIMIT";
/// `true`: the operator restores and reads locations, and makes, deletes, expires and maintains nothing.
pub const RESTORE_ONLY: &str = "ARK_RESTORE_ONLY";
/// File that holds by how many seconds the operator's clock is ahead. For tests: programs built for use do not read it.
pub const TEST_CLOCK: &str = "ARK_TEST_CLOCK";
/// Number of the write at which the operator ends without warning, in place of the write: `N`
/// before it is made. For tests: programs built for use do not read it.
pub const TEST_END_AT_WRITE: &str = "ARK_TEST_END_AT_WRITE";
/// Directory in which `ark engine backup` and the agent keep fingerprints of what they read; without it they keep none.
pub const STATE_DIR: &str = "ARK_STATE_DIR";
/// The most that directory may take on disk, as [`crate::size::parse`] reads it.
pub const STATE_SIZE: &str = "ARK_STATE_SIZE";

/// Name of the `PodTemplate` from which maintenance Jobs are made; without it there are none.
pub const MAINTENANCE_TEMPLATE: &str = "ARK_MAINTENANCE_TEMPLATE";
/// How often a repository is maintained unless it says otherwise, such as `24h`.
pub const MAINTENANCE_FREQUENCY: &str = "ARK_MAINTENANCE_FREQUENCY";
/// Maintenance Jobs that may run at the same time in the cluster.
pub const MAINTENANCE_JOBS: &str = "ARK_MAINTENANCE_JOBS";
/// Repositories that one maintenance Job works on, one after the other.
pub const MAINTENANCE_JOB_REPOSITORIES: &str = "ARK_MAINTENANCE_JOB_REPOSITORIES";
/// Time within which maintenance reads all data of a repository once, such as `720h`.
pub const MAINTENANCE_VERIFY_WITHIN: &str = "ARK_MAINTENANCE_VERIFY_WITHIN";
/// Time after which a maintenance Job is ended, such as `4h`.
pub const MAINTENANCE_DEADLINE: &str = "ARK_MAINTENANCE_DEADLINE";
/// Bytes of memory the container of a maintenance Job may take: its limit.
pub const MEMORY_LIMIT: &str = "ARK_MEMORY_LIMIT";
/// Name of the Job a program runs in.
pub const JOB_NAME: &str = "ARK_JOB_NAME";

/// Where the agent sees the kubelet's `pods` directory, unless [`HOST_PODS`] says otherwise.
pub const DEFAULT_HOST_PODS: &str = "/host_pods";
/// Port of `/healthz`, `/readyz` and `/metrics` of operator and agent.
pub const HTTP_PORT: u16 = 8085;
/// Loopback port of the operator that hands out artefacts; reached by port-forward only.
pub const ARTEFACT_PORT: u16 = 8086;
