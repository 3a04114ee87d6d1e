//! The one error type of the agent.
//!
//! Does: say what failed and on which object ([`std::fmt::Display`]), how it is treated
//! ([`Error::class`]), its stable word ([`Error::reason`]) and what a person should do
//! ([`Error::hint`]). Does not: log, retry, or carry secrets.

use ark_api::condition::reason;
use ark_engine::Class;

/// Result with the agent's [`Error`].
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, and on which object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server could not be asked, or said no.
    #[error("{doing}: {source}")]
    Api {
        doing: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The volume object itself no longer exists, or another one has its name. Nobody is left to
    /// tell.
    #[error("the object is gone")]
    ObjectGone,
    /// The stop was asked for: by the object, its deletion or the process's end.
    #[error("cancelled")]
    Cancelled,
    /// The spec lacks something no default can replace.
    #[error("{0}")]
    InvalidSpec(String),

    #[error("location {0:?} does not exist")]
    LocationMissing(String),
    #[error("location {name:?} cannot be used: {problems}")]
    InvalidLocation { name: String, problems: String },
    #[error("location {0:?} is read-only")]
    ReadOnly(String),
    #[error("location {location:?}: {what} of Secret {secret:?} is missing")]
    CredentialsMissing {
        location: String,
        secret: String,
        what: String,
    },
    #[error("location {location:?}: the repository key (Secret {secret:?}) is missing")]
    KeyMissing { location: String, secret: String },
    #[error("location {location:?}: this node does not see the operator's directory: {message}")]
    DirectoryNotShared { location: String, message: String },

    #[error("pod {namespace}/{name} with uid {uid} no longer exists")]
    PodGone {
        namespace: String,
        name: String,
        uid: String,
    },
    #[error("pod {pod} is {state}")]
    PodNotRunning { pod: String, state: String },
    #[error("pod {pod} has no volume {volume:?}; it has: {has}")]
    NoSuchVolume {
        pod: String,
        volume: String,
        has: String,
    },
    #[error("volume {volume:?} cannot be read or written as files: {why}")]
    UnsupportedVolume { volume: String, why: &'static str },
    #[error("volume {volume:?} is a block device, which has no files")]
    BlockVolume { volume: String },
    #[error("the claim of volume {volume:?} is not bound to a PersistentVolume")]
    ClaimNotBound { volume: String },
    #[error("volume {volume:?}: {message}")]
    VolumeNotFound { volume: String, message: String },
    #[error("volume {volume:?}: nothing is mounted at {path}")]
    VolumeNotMounted { volume: String, path: String },
    #[error("{path}: {message}")]
    UnsafePath { path: String, message: String },
    #[error("{dir} is not the kubelet's pods directory: {message}")]
    WrongKubeletRoot { dir: String, message: String },

    /// Waited for: the gate of a restored pod.
    #[error("{0}")]
    GateNotStarted(String),
    #[error("pod {pod}: {message}")]
    GateOpen { pod: String, message: String },
    #[error("the volume is not empty: it holds {first}, and nothing was written into it")]
    NotEmpty { first: String },
    #[error("cannot write the gate of pod {pod}: {message}")]
    Gate { pod: String, message: String },
    #[error("given up after {0} attempts: the agent was stopped or failed each time; last: {1}")]
    TooManyAttempts(i32, String),

    #[error(transparent)]
    Engine(#[from] ark_engine::Error),
    /// Something that cannot happen, happened.
    #[error("internal error: {0}")]
    Bug(String),
}

impl Error {
    /// Wraps an error of the client.
    pub(crate) fn api(doing: impl Into<String>, source: kube::Error) -> Self {
        Self::Api {
            doing: doing.into(),
            source: Box::new(source),
        }
    }

    /// How it is treated. Differs from the engine's view in one thing: what only a person can put
    /// right (a password, a missing bucket) ends the volume at once, with words, instead of letting
    /// a whole backup wait for a deadline of hours. A lock is waited for.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Api { source, .. } => match **source {
                kube::Error::Api(ref status)
                    if matches!(status.code, 400 | 403 | 404 | 405 | 422) =>
                {
                    Class::Permanent
                }
                _ => Class::Transient,
            },
            Self::Engine(ark_engine::Error::Locked { .. }) | Self::GateNotStarted(_) => {
                Class::Waiting
            }
            Self::Engine(error) => match error.class() {
                Class::Waiting => Class::Permanent,
                class => class,
            },
            Self::Bug(_) => Class::Bug,
            _ => Class::Permanent,
        }
    }

    /// The error as a stable word for status and conditions.
    pub(crate) fn reason(&self) -> &'static str {
        use ark_engine::Error as Engine;
        match self {
            Self::InvalidSpec(_) | Self::InvalidLocation { .. } | Self::ReadOnly(_) => {
                reason::INVALID_SPEC
            }
            Self::LocationMissing(_) => reason::LOCATION_UNAVAILABLE,
            Self::CredentialsMissing { .. } => reason::CREDENTIALS_MISSING,
            Self::KeyMissing { .. } => reason::KEY_MISSING,
            Self::DirectoryNotShared { .. } => reason::DIRECTORY_NOT_SHARED,
            Self::Engine(Engine::NoRepository { .. }) => reason::REPOSITORY_MISSING,
            Self::PodGone { .. } => reason::POD_GONE,
            Self::PodNotRunning { .. } => reason::POD_NOT_RUNNING,
            Self::NoSuchVolume { .. } => reason::NO_SUCH_VOLUME,
            Self::UnsupportedVolume { .. } => reason::UNSUPPORTED_VOLUME,
            Self::BlockVolume { .. } => reason::BLOCK_VOLUME,
            Self::ClaimNotBound { .. } => reason::CLAIM_NOT_BOUND,
            Self::VolumeNotFound { .. } => reason::VOLUME_NOT_FOUND,
            Self::VolumeNotMounted { .. } => reason::VOLUME_NOT_MOUNTED,
            Self::WrongKubeletRoot { .. } => reason::WRONG_KUBELET_ROOT,
            Self::GateNotStarted(_) => reason::GATE_NOT_STARTED,
            Self::GateOpen { .. } => reason::GATE_OPEN,
            Self::NotEmpty { .. } => reason::VOLUME_NOT_EMPTY,
            Self::TooManyAttempts(..) => reason::TOO_MANY_ATTEMPTS,
            Self::Cancelled | Self::Engine(Engine::Cancelled) => reason::CANCELLED,
            Self::Engine(Engine::Unreachable { .. } | Engine::Timeout { .. }) => {
                reason::UNREACHABLE
            }
            Self::Engine(Engine::AccessDenied { .. }) => reason::CREDENTIALS_REFUSED,
            Self::Engine(Engine::NoStore { .. }) => reason::BUCKET_NOT_FOUND,
            Self::Engine(Engine::WrongPassword { .. }) => reason::WRONG_PASSWORD,
            Self::Engine(Engine::Locked { .. }) => reason::LOCKED,
            Self::Engine(Engine::SnapshotNotFound { .. } | Engine::SnapshotAmbiguous { .. }) => {
                reason::SNAPSHOT_NOT_FOUND
            }
            Self::Engine(Engine::Damaged { .. } | Engine::ObjectMissing { .. }) => reason::DAMAGED,
            Self::Api { .. }
            | Self::ObjectGone
            | Self::UnsafePath { .. }
            | Self::Gate { .. }
            | Self::Engine(_)
            | Self::Bug(_) => reason::ERROR,
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Api { .. } => "check the agent's role and the API server",
            Self::InvalidSpec(_) => "the operator writes these objects; do not make them by hand",
            Self::LocationMissing(_) | Self::InvalidLocation { .. } => {
                "correct the BackupStorageLocation"
            }
            Self::ReadOnly(_) => "set its accessMode to ReadWrite, or use another location",
            Self::CredentialsMissing { .. } => "create the Secret, or correct spec.credential",
            Self::KeyMissing { .. } => {
                "put the key back from where it was exported to; Ark makes no new one while repositories exist"
            }
            Self::DirectoryNotShared { .. } => {
                "mount the same directory into the operator and every agent (chart value localStore)"
            }
            Self::PodGone { .. } | Self::PodNotRunning { .. } => {
                "back it up while the pod is running"
            }
            Self::NotEmpty { .. } => {
                "empty the volume or delete the claim and restore again, or restore with nonEmptyVolumes: fill"
            }
            Self::NoSuchVolume { .. } => "correct the pod's annotation",
            Self::UnsupportedVolume { .. } => "leave it out with the excludes annotation",
            Self::BlockVolume { .. } => "use a disk snapshot, or leave it out",
            Self::ClaimNotBound { .. } => "see the claim's events",
            Self::VolumeNotFound { .. } => "see the kubelet's log on this node for the volume",
            Self::VolumeNotMounted { .. } => {
                "the agent needs the pods directory with mountPropagation HostToContainer; see also the kubelet's log"
            }
            Self::UnsafePath { .. } => "find out who changed the kubelet's directories",
            Self::WrongKubeletRoot { .. } => {
                "set the chart value agent.kubeletRoot to the kubelet's --root-dir (ARK_HOST_PODS is where its pods directory is mounted)"
            }
            Self::GateNotStarted(_) => "see the pod's events",
            Self::GateOpen { .. } => {
                "restore again under another namespace or after deleting the pod"
            }
            Self::Gate { .. } => "see the kubelet's log on this node",
            Self::TooManyAttempts(..) => "see the agent's previous logs and its memory limit",
            Self::Cancelled | Self::ObjectGone => "start it again if it is still wanted",
            Self::Engine(error) => error.hint(),
            Self::Bug(_) => "please report it, with the agent's log",
        }
    }

    /// What happened and what to do, for a status message.
    pub(crate) fn told(&self) -> String {
        format!("{self}: {}", self.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_waited_for_and_a_wrong_password_is_not() {
        let locked = Error::Engine(ark_engine::Error::Locked {
            location: "l".to_owned(),
            holder: "h".to_owned(),
            since: "s".to_owned(),
        });
        assert_eq!(
            (locked.class(), locked.reason()),
            (Class::Waiting, "Locked")
        );
        let wrong = Error::Engine(ark_engine::Error::WrongPassword {
            location: "l".to_owned(),
            tried: 1,
        });
        assert_eq!(wrong.class(), Class::Permanent);
        assert_eq!(wrong.reason(), "WrongPassword");
        let away = Error::Engine(ark_engine::Error::Unreachable {
            location: "l".to_owned(),
            message: "m".to_owned(),
        });
        assert_eq!(away.class(), Class::Transient);
    }

    #[test]
    fn every_status_message_says_what_to_do() {
        let told = Error::WrongKubeletRoot {
            dir: "/host_pods".to_owned(),
            message: "it does not exist".to_owned(),
        }
        .told();
        assert!(
            told.contains("agent.kubeletRoot") && told.contains("ARK_HOST_PODS"),
            "{told}"
        );
    }
}
