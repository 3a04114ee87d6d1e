//! What can go wrong in a command: what failed, on which object, and what to do about it.
//!
//! Chains of causes are not shown: the API server's and the library's errors are turned into one
//! reason here, once.

use std::fmt;
use std::path::PathBuf;

use crate::exit::Exit;

/// Result of anything in this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An object in Ark's namespace, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Kind.
    pub(crate) kind: String,
    /// Name; empty when all objects of the kind are meant.
    pub(crate) name: String,
    /// Namespace.
    pub(crate) namespace: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "{} objects in namespace {}", self.kind, self.namespace)
        } else {
            write!(
                f,
                "{} {:?} in namespace {}",
                self.kind, self.name, self.namespace
            )
        }
    }
}

/// Why the API server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no such object.
    NotFound,
    /// The server does not know the kind.
    UnknownKind,
    /// There is such an object already.
    Exists,
    /// The user may not.
    Forbidden(String),
    /// The user is unknown.
    Unauthorized,
    /// The server refuses the content.
    Invalid(String),
    /// The server cannot be reached.
    Unreachable(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("it does not exist"),
            Self::UnknownKind => f.write_str("the cluster does not know this kind"),
            Self::Exists => f.write_str("it exists already"),
            Self::Unauthorized => f.write_str("the cluster does not accept your credentials"),
            Self::Unreachable(text) => write!(f, "the cluster cannot be reached ({text})"),
            Self::Forbidden(text) | Self::Invalid(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line makes no sense, beyond what the parser sees.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
    },
    /// No connection can be configured.
    #[error("cannot use the kubeconfig: {message}")]
    Kubeconfig {
        /// Why not.
        message: String,
    },
    /// A call to the API server failed.
    #[error("cannot {verb} {object}: {reason}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// On what.
        object: Object,
        /// Why it failed.
        reason: Reason,
    },
    /// An artefact could not be had.
    #[error("cannot fetch the {artefact} of {owner}: {message}")]
    Artefact {
        /// Which, in words.
        artefact: &'static str,
        /// Of which backup or restore.
        owner: String,
        /// Why not.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {verb} {}: {message}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why it failed.
        message: String,
    },
    /// Something is not in the state that the command needs.
    #[error("{message}")]
    State {
        /// What is the matter.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A deadline passed.
    #[error("{message}")]
    Timeout {
        /// What was waited for, and for how long.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The user does not want to wait any more, or there is nothing left to wait for.
    #[error("{message}")]
    Cancelled {
        /// What was going on.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The engine could not do it.
    #[error("{0}")]
    Engine(#[from] ark_engine::Error),
    /// The terminal or the pipe does not take any more.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// A fault of this program.
    #[error("{0} (this is a bug)")]
    Bug(String),
}

impl Error {
    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Usage,
            Self::Timeout { .. } => Exit::Timeout,
            Self::Cancelled { .. } => Exit::Cancelled,
            _ => Exit::Error,
        }
    }

    /// Whether the reader of the output went away, which is no reason to complain.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let error = match self {
            Self::Output(error) => error,
            Self::Engine(ark_engine::Error::Output { source }) => source,
            _ => return false,
        };
        error.kind() == std::io::ErrorKind::BrokenPipe
    }

    /// What to do about it, if that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { .. } => Some("add --help to see what the command takes".to_owned()),
            Self::Kubeconfig { .. } => Some(
                "point --kubeconfig or KUBECONFIG at the cluster, and --kubecontext at a context in it"
                    .to_owned(),
            ),
            Self::Api { object, reason, .. } => api_hint(object, reason),
            Self::Artefact { hint, .. } => Some((*hint).to_owned()),
            Self::State { hint, .. } | Self::Timeout { hint, .. } | Self::Cancelled { hint, .. } => {
                Some(hint.clone())
            }
            Self::Engine(error) => Some(engine_hint(error)),
            Self::File { .. } | Self::Output(_) => None,
            Self::Bug(_) => Some("please report it with the command that you ran".to_owned()),
        }
    }
}

/// The engine's hint, with the command that does it where there is one.
fn engine_hint(error: &ark_engine::Error) -> String {
    use ark_engine::Error as Engine;
    match error {
        Engine::NoRepository { .. } | Engine::NoStore { .. } => {
            "correct --repo, or make a repository with `ark engine init`".to_owned()
        }
        Engine::Locked { .. } => {
            "wait until the holder is done; `ark engine unlock` removes locks of dead holders"
                .to_owned()
        }
        Engine::SnapshotNotFound { .. } => {
            "`ark engine snapshots` shows those that exist".to_owned()
        }
        Engine::PathNotFound { .. } => "`ark engine ls` shows the paths of a snapshot".to_owned(),
        _ => error.hint().to_owned(),
    }
}

fn api_hint(object: &Object, reason: &Reason) -> Option<String> {
    let noun = match object.kind.as_str() {
        "Backup" => Some("backup"),
        "Restore" => Some("restore"),
        "BackupStorageLocation" => Some("backup-location"),
        _ => None,
    };
    match (reason, noun) {
        (Reason::NotFound, Some(noun)) => Some(format!(
            "`ark -n {} {noun} get` shows those that exist; is Ark in another namespace?",
            object.namespace
        )),
        (Reason::Exists, Some(noun)) => Some(format!(
            "choose another name, or look at it with `ark {noun} describe {}`",
            object.name
        ))
        .filter(|_| noun != "backup-location"),
        (Reason::UnknownKind, _) => {
            Some("Ark is not installed in this cluster: install its Helm chart first".to_owned())
        }
        (Reason::Forbidden(_), _) => Some(
            "ask for a role that allows it; docs/operations/rbac.md lists what users need"
                .to_owned(),
        ),
        (Reason::Unauthorized | Reason::Unreachable(_), _) => Some(
            "check --kubeconfig, KUBECONFIG and --kubecontext; does `kubectl get pods` work?"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The reason behind an error of the Kubernetes client.
pub(crate) fn reason(error: &kube::Error) -> Reason {
    match error {
        kube::Error::Api(status) => {
            // A kind that is not there is a 404 without the details a missing object has.
            let names_object = status.details.as_ref().is_some_and(|d| !d.name.is_empty());
            match status.code {
                404 if names_object => Reason::NotFound,
                404 if status.message.starts_with("namespaces ") => Reason::NotFound,
                404 => Reason::UnknownKind,
                409 if status.reason == "AlreadyExists" => Reason::Exists,
                403 => Reason::Forbidden(status.message.clone()),
                401 => Reason::Unauthorized,
                400 | 422 => Reason::Invalid(status.message.clone()),
                _ if status.message.is_empty() => Reason::Other(format!("status {}", status.code)),
                _ => Reason::Other(status.message.clone()),
            }
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => Reason::Unreachable(root(error)),
        other => Reason::Other(root(other)),
    }
}

/// The innermost cause: what the operating system or the server said.
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> Object {
        Object {
            kind: "Backup".into(),
            name: name.into(),
            namespace: "heptio-ark".into(),
        }
    }

    fn status(json: serde_json::Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(json).unwrap()))
    }

    #[test]
    fn missing_object_and_missing_kind_differ() {
        let object = status(serde_json::json!({
            "code": 404, "reason": "NotFound", "message": "backups \"x\" not found",
            "details": {"name": "x", "kind": "backups"},
        }));
        assert_eq!(reason(&object), Reason::NotFound);
        let kind = status(serde_json::json!({"code": 404, "message": "404 page not found"}));
        assert_eq!(reason(&kind), Reason::UnknownKind);
    }

    #[test]
    fn messages_and_hints() {
        let errors = [
            Error::Api {
                verb: "read",
                object: object("x"),
                reason: Reason::NotFound,
            },
            Error::Api {
                verb: "create",
                object: object("x"),
                reason: Reason::Exists,
            },
            Error::Api {
                verb: "list",
                object: object(""),
                reason: Reason::UnknownKind,
            },
            Error::Api {
                verb: "list",
                object: object(""),
                reason: Reason::Forbidden("backups is forbidden: User \"jo\" cannot list".into()),
            },
            Error::Api {
                verb: "list",
                object: object(""),
                reason: Reason::Unreachable("Connection refused (os error 111)".into()),
            },
            Error::Kubeconfig {
                message: "no context named prod".into(),
            },
            Error::usage("give --from-backup or a backup's name"),
            Error::File {
                verb: "write",
                path: "key.txt".into(),
                message: "File exists (os error 17)".into(),
            },
        ];
        let shown: Vec<String> = errors
            .iter()
            .map(|e| format!("{}{}", crate::print::error_text(e), e.exit() as u8))
            .collect();
        insta::assert_snapshot!(shown.join("\n\n"));
    }
}
