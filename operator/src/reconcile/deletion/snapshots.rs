//! Forgets the snapshots of backups: one lock and one listing for each repository, however many
//! backups.
//!
//! A snapshot is a backup's when its tag `backup-uid` says so; ids in a bucket's lists are not
//! trusted, and a snapshot whose volume object was lost is found all the same. The engine's work
//! runs on a blocking thread.
//!
//! Order: lock, snapshots, unlock. A process that ends in between leaves its lock; the next attempt
//! knows that lock for a dead process's ([`holder`]), and removes it also where nothing is left to
//! be forgotten, so that no backup waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ark_api::naming::tag;
use ark_api::{condition::reason, layout, naming};
use ark_engine::maintain::{self, Forget};
use ark_engine::{Cancel, OpenOptions, Repository, Secret, Store};

use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::holder;
use crate::store::{OpenLocation, repository_password};

/// How long a lock in the way is put up with: agents let go of theirs a moment after the last
/// volume. With a longer one the request waits.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// A backup whose snapshots are to go.
pub(super) struct Wanted {
    /// Uids its snapshots may be tagged with.
    pub(super) uids: Vec<String>,
    /// Namespaces of its volumes; `None` if that is not known.
    pub(super) namespaces: Option<BTreeSet<String>>,
}

/// Which tags to look for in which repository. Only repositories that are there count, so that a
/// name from a bucket leads nowhere else.
fn tags_by_repository(
    wanted: &[Wanted],
    repositories: &BTreeSet<String>,
) -> BTreeMap<String, Vec<String>> {
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for backup in wanted {
        for repository in repositories {
            let concerned = backup
                .namespaces
                .as_ref()
                .is_none_or(|namespaces| namespaces.contains(repository));
            if concerned {
                tags.entry(repository.clone()).or_default().extend(
                    backup
                        .uids
                        .iter()
                        .map(|uid| format!("{}={uid}", tag::BACKUP_UID)),
                );
            }
        }
    }
    tags
}

/// Forgets the snapshots of all `wanted`. Returns how many went, and for each repository that could
/// not be worked on why; an error means that nothing could be done at all.
pub(super) async fn forget(
    context: &Context,
    location: &OpenLocation,
    wanted: &[Wanted],
) -> Result<(usize, BTreeMap<String, Error>)> {
    let entries = location.store.list("restic").await?;
    let repositories: BTreeSet<String> = entries
        .into_iter()
        .filter(|entry| entry.is_dir)
        .map(|entry| entry.name.trim_end_matches('/').to_owned())
        .collect();
    let tags = tags_by_repository(wanted, &repositories);
    let (mut forgotten, mut failed) = (0, BTreeMap::new());
    if tags.is_empty() {
        return Ok((forgotten, failed));
    }
    let name = location.name();
    let Some((_, password)) = repository_password(context, &name).await? else {
        return Err(Error::Location {
            name: name.clone(),
            message: format!(
                "Secret {} with the key of its repositories does not exist",
                naming::key_secret(&name)
            ),
            reason: reason::KEY_MISSING,
        });
    };
    for (namespace, tags) in tags {
        let store = location.store.child(&layout::repository(&namespace));
        let options = OpenOptions {
            retry_lock: LOCK_PATIENCE,
            ..holder::options(context, location)
        };
        let cancel = context.shutdown.clone();
        match forget_in(store, password.clone(), options, tags, cancel).await {
            Ok(count) => forgotten += count,
            Err(Error::Stopping) => return Err(Error::Stopping),
            Err(error) => {
                failed.insert(namespace, error);
            }
        }
    }
    Ok((forgotten, failed))
}

async fn forget_in(
    store: Store,
    password: Secret,
    options: OpenOptions,
    tags: Vec<String>,
    cancel: Cancel,
) -> Result<usize> {
    let runtime = tokio::runtime::Handle::current();
    let remains = store.list("snapshots").await?;
    let work = move || -> Result<usize> {
        let opened = Repository::open(store, &[password], options, runtime);
        let repository = match opened {
            // Nothing is left to be forgotten.
            Err(ark_engine::Error::NoRepository { .. }) if remains.is_empty() => return Ok(0),
            other => other?,
        };
        // Looked up without a lock first: most often another backup is being written meanwhile, and
        // a backup without a snapshot here has nothing to wait for.
        let there = repository
            .snapshots()?
            .iter()
            .any(|snapshot| snapshot.tags.iter().any(|tag| tags.contains(tag)));
        if !there {
            // What forgot them may have been killed before it let go of its lock.
            return match repository.unlock(false, &cancel) {
                Ok(_) => Ok(0),
                Err(ark_engine::Error::Cancelled) => Err(Error::Stopping),
                Err(error) => Err(error.into()),
            };
        }
        match maintain::forget(&repository, &Forget::Tagged(tags), false, &cancel) {
            Ok(report) => Ok(report.removed.len()),
            Err(ark_engine::Error::Cancelled) => Err(Error::Stopping),
            Err(error) => Err(error.into()),
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Bug(format!("forgetting snapshots ended badly: {error}")))?
}

/// Whether a repository that could not be worked on may be worked on later without anybody's doing.
pub(super) fn passes(error: &Error) -> bool {
    matches!(error.class(), Class::Transient | Class::Waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_repository_is_looked_at_once_for_all_backups() {
        let wanted = [
            Wanted {
                uids: vec!["u1".to_owned()],
                namespaces: Some(set(&["shop", "../elsewhere", "gone"])),
            },
            Wanted {
                uids: vec!["u2".to_owned(), "u2-before".to_owned()],
                namespaces: None,
            },
            Wanted {
                uids: vec!["u3".to_owned()],
                namespaces: Some(set(&[])),
            },
        ];
        let tags = tags_by_repository(&wanted, &set(&["shop", "blog"]));
        let of = |name: &str| tags[name].join(" ");
        assert_eq!(
            of("shop"),
            "backup-uid=u1 backup-uid=u2 backup-uid=u2-before"
        );
        assert_eq!(of("blog"), "backup-uid=u2 backup-uid=u2-before");
        assert_eq!(tags.len(), 2);
    }
}
