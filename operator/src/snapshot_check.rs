//! Whether the snapshot that an agent names was taken for the volume object in whose status it
//! stands.
//!
//! An agent may write the status of its node's volume objects, and a node may be taken over. A
//! snapshot is therefore taken into a backup only if it exists and carries the uid of the very
//! object that ordered it, which is in no other snapshot. Reads one document for each volume; a
//! repository is opened once for all volumes of a backup, without a lock, since nothing else is
//! read. A store that does not answer is an error, and no verdict.

use std::collections::BTreeMap;

use ark_api::naming::tag;
use ark_api::{PodVolumeBackup, layout};
use ark_engine::{OpenOptions, Repository, Store};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::store;

/// Snapshots read at the same time.
const PARALLEL: usize = 8;

/// What is wrong with the snapshots of these objects at a location: the object's name, and the
/// reason. Objects without a snapshot are left out.
pub(crate) async fn wrong_snapshots(
    context: &Context,
    location: &str,
    store: &Store,
    objects: &[PodVolumeBackup],
) -> Result<BTreeMap<String, String>> {
    let named: Vec<_> = objects.iter().filter_map(Named::of).collect();
    if named.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut repositories = BTreeMap::new();
    for object in &named {
        if !repositories.contains_key(&object.namespace) {
            let opened = open(context, location, store, &object.namespace).await?;
            repositories.insert(object.namespace.clone(), opened);
        }
    }
    let found: Vec<Option<(String, String)>> = futures::stream::iter(named)
        .map(|object| {
            let repository = repositories.get(&object.namespace).cloned();
            async move {
                let name = object.name.clone();
                let wrong = match repository.flatten() {
                    Some(repository) => blocking(move || object.wrong(&repository)).await?,
                    None => Some("the agent named a snapshot where no repository is".to_owned()),
                };
                Ok::<_, Error>(wrong.map(|why| (name, why)))
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// An object whose status names a snapshot.
struct Named {
    name: String,
    uid: String,
    /// Whose repository the snapshot is in.
    namespace: String,
    snapshot: String,
}

impl Named {
    fn of(object: &PodVolumeBackup) -> Option<Self> {
        let spec = &object.spec;
        Some(Self {
            name: object.name_any(),
            uid: object.uid()?,
            namespace: spec
                .tags
                .get(tag::NAMESPACE)
                .unwrap_or(&spec.pod.namespace)
                .clone(),
            snapshot: object.status.as_ref()?.snapshot_id.clone()?,
        })
    }

    /// Why the snapshot is not the object's. Blocks.
    fn wrong(&self, repository: &Repository) -> Result<Option<String>> {
        let found = match repository.find_snapshot(&self.snapshot) {
            Ok(found) => found,
            Err(error @ ark_engine::Error::SnapshotNotFound { .. }) => {
                return Ok(Some(format!(
                    "the agent named a snapshot that does not exist: {error}"
                )));
            }
            Err(error @ ark_engine::Error::Damaged { .. }) => {
                return Ok(Some(format!("the snapshot cannot be read: {error}")));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(not_of(&found.tags, &self.uid).then(|| {
            format!(
                "the agent named snapshot {}, which was not taken for this volume (it lacks the tag {})",
                found.id,
                own_tag(&self.uid)
            )
        }))
    }
}

fn own_tag(uid: &str) -> String {
    format!("{}={uid}", tag::VOLUME_BACKUP_UID)
}

/// Whether a snapshot with these tags was taken for another object than the one with this uid, or
/// for several.
fn not_of(tags: &[String], uid: &str) -> bool {
    let prefix = own_tag("");
    let mut named = tags.iter().filter(|tag| tag.starts_with(&prefix));
    named.next() != Some(&own_tag(uid)) || named.next().is_some()
}

/// The repository of a namespace, if there is one.
async fn open(
    context: &Context,
    location: &str,
    store: &Store,
    namespace: &str,
) -> Result<Option<Repository>> {
    let Some((_, password)) = store::repository_password(context, location).await? else {
        return Err(Error::Waiting(format!(
            "the repository key of location {location} is missing"
        )));
    };
    let store = store.child(&layout::repository(namespace));
    let runtime = tokio::runtime::Handle::current();
    let options = OpenOptions {
        no_lock: true,
        ..OpenOptions::default()
    };
    blocking(
        move || match Repository::open(store, &[password], options, runtime) {
            Err(ark_engine::Error::NoRepository { .. }) => Ok(None),
            opened => Ok(Some(opened?)),
        },
    )
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::Bug(format!(
            "reading a snapshot ended badly: {error}"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_uid_of_the_object_itself_will_do() {
        for (tags, not) in [
            (&["ns=shop", "pvb-uid=u1"][..], false),
            (&["pvb-uid=u2"], true),
            (&["pvb-uid=u1", "pvb-uid=u2"], true),
            (&["pvb-uid=u2", "pvb-uid=u1"], true),
            (&["pvb-uid=u"], true),
            (&["ns=shop"], true),
            (&[], true),
        ] {
            let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            assert_eq!(not_of(&tags, "u1"), not, "{tags:?}");
        }
    }
}
