//! The one error type of the engine.
//!
//! Does: name what failed, on which object, how a caller should treat it ([`Error::class`]) and
//! what a person should do ([`Error::hint`]). Does not: log, retry, or carry secrets (messages are
//! built from locations and object names only).

use std::{io, path::PathBuf};

/// Result with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a caller should treat an error. The class alone decides on retry, condition and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// May succeed when simply tried again, after a back-off.
    Transient,
    /// Succeeds once something outside changes: credentials, a lock, a missing directory.
    Waiting,
    /// Fails the same way every time for this input: say so and stop.
    Permanent,
    /// A mistake in the engine or in a library under it.
    Bug,
}

/// What failed, and on which object.
///
/// The display text never contains a password or a key, and says nothing about what to do; that is
/// [`Error::hint`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not be reached, or gave up answering.
    #[error("store {location} is unreachable: {message}")]
    Unreachable {
        /// Where the store is.
        location: String,
        /// What happened.
        message: String,
    },
    /// A request took longer than its limit, also when repeated.
    #[error("store {location}: {operation} of {path:?} timed out")]
    Timeout {
        /// Where the store is.
        location: String,
        /// What was tried.
        operation: &'static str,
        /// The object.
        path: String,
    },
    /// The store refused the credentials.
    #[error("store {location} denies access ({operation} of {path:?}): {message}")]
    AccessDenied {
        /// Where the store is.
        location: String,
        /// What was tried.
        operation: &'static str,
        /// The object.
        path: String,
        /// What the store said.
        message: String,
    },
    /// The bucket, or the root directory of a local store, does not exist.
    #[error("store {location} does not exist: {message}")]
    NoStore {
        /// Where the store should be.
        location: String,
        /// What was missing.
        message: String,
    },
    /// An object that must exist is missing.
    #[error("store {location}: {path:?} is missing")]
    ObjectMissing {
        /// Where the store is.
        location: String,
        /// The object.
        path: String,
    },
    /// An object is larger than any valid one of its kind.
    #[error("store {location}: {path:?} is larger than the limit of {limit} bytes")]
    ObjectTooLarge {
        /// Where the store is.
        location: String,
        /// The object.
        path: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// An object ends before what was asked for.
    #[error("store {location}: {path:?} is too short: {message}")]
    ObjectShort {
        /// Where the store is.
        location: String,
        /// The object.
        path: String,
        /// How much of it there is.
        message: String,
    },
    /// Any other failure of the store.
    #[error("store {location}: {operation} of {path:?} failed: {message}")]
    Store {
        /// Where the store is.
        location: String,
        /// What was tried.
        operation: &'static str,
        /// The object.
        path: String,
        /// What the store said.
        message: String,
        /// Whether trying again later may help.
        temporary: bool,
    },
    /// The configuration of a store, or an argument, cannot work.
    #[error("invalid {what}: {message}")]
    InvalidConfig {
        /// Which setting.
        what: &'static str,
        /// Why it cannot work.
        message: String,
    },
    /// The operation was cancelled by its caller.
    #[error("cancelled")]
    Cancelled,

    /// There is no repository at this place.
    #[error("no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// There is a repository, or part of one, where a new one was to be made.
    #[error("a repository, or part of one, already exists at {location}")]
    AlreadyExists {
        /// Where.
        location: String,
    },
    /// No key of the repository opens with the passwords given.
    #[error("none of the {tried} password(s) given opens the repository at {location}")]
    WrongPassword {
        /// Where.
        location: String,
        /// How many passwords were tried.
        tried: usize,
    },
    /// The repository's format version is not one this engine knows.
    #[error("repository {location} has format version {version}, this engine knows 1 and 2")]
    UnsupportedVersion {
        /// Where.
        location: String,
        /// The version found.
        version: u32,
    },
    /// Somebody else holds a conflicting lock.
    #[error("repository {location} is locked by {holder} since {since}")]
    Locked {
        /// Where.
        location: String,
        /// Who, as written in the lock: `user@host (pid)`.
        holder: String,
        /// Since when, as written in the lock.
        since: String,
    },
    /// The own lock could not be refreshed in time, or was removed by somebody.
    #[error("the lock on {location} was lost: {message}")]
    LockLost {
        /// Where.
        location: String,
        /// Why.
        message: String,
    },
    /// No snapshot has this id.
    #[error("no snapshot {id:?} in {location}")]
    SnapshotNotFound {
        /// Where.
        location: String,
        /// The id or prefix asked for.
        id: String,
    },
    /// Several snapshots have this prefix.
    #[error("snapshot id {id:?} is ambiguous in {location}: {count} snapshots match")]
    SnapshotAmbiguous {
        /// Where.
        location: String,
        /// The prefix asked for.
        id: String,
        /// How many match.
        count: usize,
    },
    /// Content of the repository that is not what the format allows.
    #[error("repository {location}: {what} is damaged: {message}")]
    Damaged {
        /// Where.
        location: String,
        /// Which part.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// The repository changed under a running operation in a way that makes its result unsafe.
    #[error("repository {location} changed during the operation: {message}")]
    RepositoryChanged {
        /// Where.
        location: String,
        /// What changed.
        message: String,
    },

    /// A snapshot has no such path.
    #[error("snapshot {snapshot} in {location} has no {path}", path = .path.display())]
    PathNotFound {
        /// Where.
        location: String,
        /// Id of the snapshot.
        snapshot: String,
        /// The path.
        path: PathBuf,
    },
    /// What was read could not be handed on.
    #[error("cannot write the output: {source}")]
    Output {
        /// What the system said.
        source: io::Error,
    },
    /// Something that could destroy data was not done.
    #[error("{what} of {location} was refused: {message}")]
    Refused {
        /// Where.
        location: String,
        /// What was asked for.
        what: &'static str,
        /// Why not.
        message: String,
        /// What to do instead.
        hint: &'static str,
    },

    /// The directory to archive cannot be used at all.
    #[error("cannot archive {path}: {source}", path = .path.display())]
    Source {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory to restore into cannot be used at all.
    #[error("cannot restore into {path}: {source}", path = .path.display())]
    Target {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The memory allowed does not suffice.
    #[error("{what} needs {needed} bytes of memory in all, {limit} are allowed")]
    MemoryLimit {
        /// What it was needed for.
        what: String,
        /// How many bytes would do, as far as can be told by now.
        needed: u64,
        /// How many there are.
        limit: u64,
    },
    /// A failure inside the repository library that has no better name here.
    #[error("{operation} failed: {message}")]
    Engine {
        /// What was running.
        operation: &'static str,
        /// What the library said.
        message: String,
    },
    /// Something that cannot happen, happened.
    #[error("internal error: {0}")]
    Bug(String),
}

impl Error {
    /// How to treat this error.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::LockLost { .. }
            | Self::RepositoryChanged { .. }
            | Self::Store {
                temporary: true, ..
            } => Class::Transient,
            Self::AccessDenied { .. }
            | Self::NoStore { .. }
            | Self::NoRepository { .. }
            | Self::WrongPassword { .. }
            | Self::Locked { .. } => Class::Waiting,
            Self::ObjectMissing { .. }
            | Self::ObjectTooLarge { .. }
            | Self::ObjectShort { .. }
            | Self::Store { .. }
            | Self::InvalidConfig { .. }
            | Self::Cancelled
            | Self::AlreadyExists { .. }
            | Self::UnsupportedVersion { .. }
            | Self::SnapshotNotFound { .. }
            | Self::SnapshotAmbiguous { .. }
            | Self::Damaged { .. }
            | Self::Refused { .. }
            | Self::PathNotFound { .. }
            | Self::Output { .. }
            | Self::Source { .. }
            | Self::Target { .. }
            | Self::MemoryLimit { .. }
            | Self::Engine { .. } => Class::Permanent,
            Self::Bug(_) => Class::Bug,
        }
    }

    /// Whether what the store holds is wrong: an object is missing, too large, too short, or cannot
    /// be decoded.
    ///
    /// Nothing else is damage. Only an error of this kind may lead to a verdict on the repository,
    /// or to the removal of something; a store that does not answer, or that answers with a
    /// failure, says nothing of what it holds.
    pub fn is_content(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::ObjectMissing { .. }
                | Self::ObjectTooLarge { .. }
                | Self::ObjectShort { .. }
        )
    }

    /// Whether the error is of one object, so that others may still be read: its content is wrong,
    /// or the store fails to hand it out, as a disk does with a bad sector. A reader may then go on
    /// with another copy or another object.
    pub fn is_of_one_object(&self) -> bool {
        let refused = matches!(
            self,
            Self::Store {
                temporary: false,
                ..
            }
        );
        refused || self.is_content()
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Unreachable { .. } => {
                "check the endpoint's address, the network and the store's health; it is tried again"
            }
            Self::Timeout { .. } => "the store answers too slowly; it is tried again",
            Self::AccessDenied { .. } => {
                "check the access key and secret, and that they may list, read and write this bucket"
            }
            Self::NoStore { .. } => "create the bucket or directory, or correct its name",
            Self::ObjectMissing { .. } | Self::ObjectShort { .. } | Self::Damaged { .. } => {
                "run a check of the repository, which says what is damaged and what to do; a damaged snapshot file is removed by forgetting its id, a damaged index file by repairing the index"
            }
            Self::ObjectTooLarge { .. } => {
                "the object is not what its name says; remove it if nothing of yours wrote it"
            }
            Self::Store {
                temporary: true, ..
            } => "the store had a passing failure; it is tried again",
            Self::Store { .. } => "see the store's own message; free space or correct its settings",
            Self::InvalidConfig { .. } => "correct the setting",
            Self::Cancelled => "start it again if it is still wanted",
            Self::NoRepository { .. } => "initialise a repository here, or correct the location",
            Self::AlreadyExists { .. } => {
                "open the existing repository with its password, or choose another location"
            }
            Self::WrongPassword { .. } => {
                "give the password the repository was made with, or one added to it later"
            }
            Self::UnsupportedVersion { .. } => "use a newer release of this engine",
            Self::Locked { .. } => {
                "wait until the holder is done; the lock of a dead holder goes away by itself, after 30 minutes or, on its own machine, at once"
            }
            Self::LockLost { .. } => "start it again; look for another program that removes locks",
            Self::SnapshotNotFound { .. } => "list the snapshots to see which exist",
            Self::SnapshotAmbiguous { .. } => "give more characters of the id",
            Self::RepositoryChanged { .. } => {
                "start it again; do not run maintenance that ignores locks beside backups"
            }
            Self::PathNotFound { .. } => "list the snapshot to see its paths",
            Self::Output { .. } => "check what reads it, and that there is space",
            Self::Refused { hint, .. } => hint,
            Self::Source { .. } => "check that the directory exists and can be read",
            Self::Target { .. } => "check that the directory exists and can be written",
            Self::MemoryLimit { .. } => "allow that much memory, and a little more",
            Self::Engine { .. } => "see the message; a check of the repository may tell more",
            Self::Bug(_) => "please report it, with the log",
        }
    }
}
