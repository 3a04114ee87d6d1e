//! Opens a repository, or makes it.
//!
//! Order: the spec makes sense, the location is available, the key is at hand (made only where no
//! repository exists), the repository opens; if there is none and there never was, it is made,
//! unless it is only to be opened. The engine's work runs on a blocking thread.

use ark_api::ResticRepository;
use ark_api::condition::reason;
use ark_api::layout;
use ark_engine::{InitOptions, OpenOptions, Repository};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::repository_key;
use crate::store;

/// Longest name of a namespace.
const MAX_NAMESPACE: usize = 63;

/// A repository that opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Its id.
    pub(super) id: String,
    /// Version of its format.
    pub(super) version: i32,
    /// Where it is, for people.
    pub(super) identifier: String,
}

/// Why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Stable reason.
    pub(super) reason: &'static str,
    /// Sentence.
    pub(super) message: String,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            reason: error.reason(),
            message: error.sentence(),
        }
    }
}

/// Opens or makes it.
pub(super) async fn look(context: &Context, object: &ResticRepository) -> Result<Opened, Problem> {
    let problems = problems(object);
    if !problems.is_empty() {
        return Err(Problem {
            reason: reason::INVALID_SPEC,
            message: problems.join("; "),
        });
    }
    let opened = open(context, object).await?;
    let known = object
        .status
        .as_ref()
        .and_then(|status| status.repository_id.as_deref());
    match known {
        Some(known) if known != opened.id => Err(Problem {
            reason: reason::DAMAGED,
            message: format!(
                "the repository at {} was replaced: it had id {known} and now has {}; \
                 bring the earlier one back, or point the location to where it is. Its backups restore \
                 from nowhere else",
                opened.identifier, opened.id
            ),
        }),
        _ => Ok(opened),
    }
}

async fn open(context: &Context, object: &ResticRepository) -> Result<Opened> {
    let location_name = &object.spec.backup_storage_location;
    let location = store::open_available(context, location_name).await?;
    let open_only = object.spec.open_only == Some(true);
    let key = if open_only {
        repository_key::existing(context, location_name).await?
    } else {
        repository_key::obtain(context, location_name, &location.store).await?
    };
    let store = location
        .store
        .child(&layout::repository(&object.spec.volume_namespace));
    let seen_before = object
        .status
        .as_ref()
        .is_some_and(|s| s.repository_id.is_some());
    let read_only = location.read_only();
    let runtime = tokio::runtime::Handle::current();
    let work = move || -> Result<Opened> {
        let passwords = std::slice::from_ref(&key.password);
        let opened = Repository::open(
            store.clone(),
            passwords,
            OpenOptions::default(),
            runtime.clone(),
        );
        let repository = match opened {
            Err(ark_engine::Error::NoRepository { location }) if seen_before => {
                return Err(Error::Store {
                    message: format!("the repository that was at {location} is gone"),
                    hint: "bring it back, or point the location to the bucket and prefix that hold it; backups of \
                           another namespace and to other locations go on"
                        .to_owned(),
                    class: crate::error::Class::Waiting,
                    reason: reason::DAMAGED,
                });
            }
            Err(ark_engine::Error::NoRepository { location }) if open_only => {
                return Err(Error::Store {
                    message: format!("there is no repository at {location}"),
                    hint: "check that the location has the bucket and prefix that the backup was made with"
                        .to_owned(),
                    class: crate::error::Class::Waiting,
                    reason: reason::REPOSITORY_MISSING,
                });
            }
            Err(ark_engine::Error::NoRepository { location }) if read_only => {
                return Err(Error::Store {
                    message: format!(
                        "there is no repository at {location}, and the location is read-only"
                    ),
                    hint:
                        "a repository is made by the first backup to a location that may be written"
                            .to_owned(),
                    class: crate::error::Class::Waiting,
                    reason: reason::ERROR,
                });
            }
            Err(ark_engine::Error::NoRepository { .. }) => Repository::init(
                store,
                &key.password,
                InitOptions {
                    random_password: key.generated,
                    ..InitOptions::default()
                },
                runtime,
            )?,
            other => other?,
        };
        Ok(Opened {
            id: repository.id().to_owned(),
            version: i32::try_from(repository.version()).unwrap_or_default(),
            identifier: repository.location(),
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Bug(format!("opening a repository ended badly: {error}")))?
}

/// All that is wrong with the spec.
fn problems(object: &ResticRepository) -> Vec<String> {
    let spec = &object.spec;
    let mut problems = Vec::new();
    let namespace = &spec.volume_namespace;
    let fits = !namespace.is_empty()
        && namespace.len() <= MAX_NAMESPACE
        && namespace
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !namespace.starts_with('-')
        && !namespace.ends_with('-');
    if !fits {
        problems.push("spec.volumeNamespace is not the name of a namespace".to_owned());
    }
    if spec.backup_storage_location.is_empty() {
        problems.push("spec.backupStorageLocation is empty".to_owned());
    }
    if spec.origin.is_some() {
        problems.push(
            "spec.origin marks a record read from elsewhere, which is never opened".to_owned(),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use ark_api::repository::ResticRepositorySpec;

    use super::*;

    fn object(namespace: &str, location: &str) -> ResticRepository {
        let spec = ResticRepositorySpec {
            volume_namespace: namespace.to_owned(),
            backup_storage_location: location.to_owned(),
            ..ResticRepositorySpec::default()
        };
        ResticRepository::new("r", spec)
    }

    #[test]
    fn nothing_leads_out_of_the_restic_directory() {
        assert!(problems(&object("shop-1", "default")).is_empty());
        for bad in ["", "..", "../backups", "a/b", "-a", "A", &"a".repeat(64)] {
            assert_eq!(problems(&object(bad, "default")).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        assert_eq!(problems(&object("", "")).len(), 2);
    }
}
