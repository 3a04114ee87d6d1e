//! The one error type of the operator.
//!
//! Does: name what failed, on which object, how it is treated ([`Error::class`]) and what a person
//! should do ([`Error::hint`]). Does not: log, retry, or carry secrets.

use kube::ResourceExt;

/// Result with the operator's [`Error`].
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// How an error is treated. The class alone decides on requeue and condition reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// May succeed when simply tried again, after a back-off.
    Transient,
    /// Succeeds once something outside changes.
    Waiting,
    /// Fails the same way every time: say so and stop.
    Permanent,
    /// A mistake in Ark.
    Bug,
}

/// What failed, and on which object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused a request or did not answer.
    #[error("cannot {action}: {}", describe(source))]
    Kube {
        /// What was being done, and on which object: `get Backup heptio-ark/b`.
        action: String,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// The object store or a repository.
    #[error("{message}")]
    Store {
        /// What the engine said.
        message: String,
        /// What to do.
        hint: String,
        /// How the engine classes it.
        class: Class,
        /// Stable reason for conditions, from [`ark_api::condition::reason`].
        reason: &'static str,
    },
    /// The location does not exist, or makes no sense, or lacks its Secret.
    #[error("backup storage location {name:?}: {message}")]
    Location {
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
        /// Stable reason for conditions, from [`ark_api::condition::reason`].
        reason: &'static str,
    },
    /// Something outside has to happen first.
    #[error("{0}")]
    Waiting(String),
    /// It cannot work, whatever happens outside.
    #[error("{message}")]
    Permanent {
        /// What cannot work.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The operator's own disk.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was being done, and with which file.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Data that does not have the form it must have.
    #[error("{what} cannot be read: {message}")]
    Malformed {
        /// Which data.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// The operator is stopping; the work is taken up again by the next one.
    #[error("the operator is stopping; the work is taken up again afterwards")]
    Stopping,
    /// The user wants no more work on it.
    #[error("it was cancelled")]
    Cancelled,
    /// Something that cannot happen, happened.
    #[error("internal error: {0}")]
    Bug(String),
}

impl Error {
    /// An error of the API server while doing `action`.
    pub(crate) fn kube(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Kube {
            action,
            source: Box::new(source),
        }
    }

    /// An error of the operator's own disk while doing `action`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// Data `what` that does not have the form it must have.
    pub(crate) fn malformed<E: std::fmt::Display>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Malformed {
            what,
            message: error.to_string(),
        }
    }

    /// How to treat it.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Kube { source, .. } => classify(source),
            Self::Store { class, .. } => *class,
            Self::Location { .. } | Self::Waiting(_) => Class::Waiting,
            Self::Permanent { .. } | Self::Malformed { .. } | Self::Cancelled => Class::Permanent,
            Self::Io { .. } | Self::Stopping => Class::Transient,
            Self::Bug(_) => Class::Bug,
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Kube { source, .. } => match status_code(source) {
                Some(401 | 403) => {
                    "give the operator's service account the missing permission (docs/operations/rbac.md)"
                }
                Some(_) => "see the API server's message",
                None => "check that the API server can be reached; it is tried again",
            },
            Self::Store { hint, .. } => hint,
            Self::Location { reason, .. }
                if *reason == ark_api::condition::reason::LOCATION_UNAVAILABLE =>
            {
                "it goes on by itself once the location is available"
            }
            Self::Location { .. } => {
                "correct the location or its Secret; it is looked at again at once"
            }
            Self::Waiting(_) => "it goes on by itself once that has happened",
            Self::Permanent { hint, .. } => hint,
            Self::Io { .. } => "check the space and the permissions of the operator's /tmp",
            Self::Malformed { .. } => "the data is damaged or was not written by Ark or Velero",
            Self::Stopping | Self::Cancelled => "nothing needs to be done",
            Self::Bug(_) => "please report it, with the operator's log",
        }
    }

    /// Stable reason for conditions, from [`ark_api::condition::reason`].
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Store { reason, .. } | Self::Location { reason, .. } => reason,
            _ => ark_api::condition::reason::ERROR,
        }
    }

    /// The text for a status: what failed, and what to do.
    pub(crate) fn sentence(&self) -> String {
        format!("{self} ({})", self.hint())
    }
}

/// The first `limit` bytes of a text, cut between characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// HTTP status of an API error, if the server answered at all.
pub(crate) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the object did not exist.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    status_code(error) == Some(404)
}

/// Whether the object changed in the meantime, or exists already.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    status_code(error) == Some(409)
}

/// The server's own words, or the chain of causes of a failure before it could answer.
pub(crate) fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() {
            format!("{} ({})", status.reason, status.code)
        } else {
            status.message.clone()
        };
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// How an error of the API server is treated.
pub(crate) fn classify(error: &kube::Error) -> Class {
    if matches!(error, kube::Error::SerdeError(_)) {
        return Class::Permanent;
    }
    match status_code(error) {
        // No answer, or one that says to come back.
        None | Some(408 | 409 | 429 | 500..) => Class::Transient,
        // Permissions and missing kinds are put right from outside.
        Some(401 | 403 | 404) => Class::Waiting,
        Some(_) => Class::Permanent,
    }
}

/// `Kind namespace/name`, for messages.
pub(crate) fn show<K: kube::Resource<DynamicType = ()>>(object: &K) -> String {
    let kind = K::kind(&());
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16) -> Error {
        Error::kube("get Backup a/b")(kube::Error::Api(Box::new(
            Status::failure("no", "Reason").with_code(code),
        )))
    }

    #[test]
    fn class_follows_the_answer() {
        assert_eq!(api(409).class(), Class::Transient);
        assert_eq!(api(503).class(), Class::Transient);
        assert_eq!(api(403).class(), Class::Waiting);
        assert_eq!(api(422).class(), Class::Permanent);
    }

    #[test]
    fn text_says_what_and_what_to_do() {
        let text = api(403).sentence();
        assert!(
            text.contains("get Backup a/b") && text.contains("rbac.md"),
            "{text}"
        );
        assert!(!text.contains("ApiError"), "{text}");
    }
}
