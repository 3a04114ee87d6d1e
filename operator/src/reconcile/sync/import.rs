//! Makes one backup appear: the Backup, its volume objects, the repositories' objects, and the
//! Backup's status last.

use std::collections::BTreeSet;

use ark_api::backup::BackupPhase;
use ark_api::origin::Origin;
use ark_api::{Backup, BackupStorageLocation, PodVolumeBackup, label, layout, naming};
use ark_engine::Store;
use futures::TryStreamExt;
use kube::api::{ObjectMeta, PostParams};
use kube::{Resource, ResourceExt};

use super::judge::is_name;
use crate::bucket::artefact::read_json_gz;
use crate::context::Context;
use crate::error::{Class, Error, Result, is_conflict};
use crate::repository;
use crate::status::FIELD_MANAGER;

/// Volume objects made at the same time.
const PARALLEL: usize = 8;

/// Makes the backup appear. The inner error is the reason why it is refused.
pub(super) async fn import(
    context: &Context,
    location: &BackupStorageLocation,
    store: &Store,
    found: Backup,
) -> Result<Result<(), String>> {
    let name = found.name_any();
    let volumes: Option<Vec<PodVolumeBackup>> =
        match read_json_gz(store, &layout::pod_volume_backups(&name)).await {
            Ok(volumes) => volumes,
            Err(error) if error.class() == Class::Permanent => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
    let deleting =
        found.status.as_ref().and_then(|status| status.phase) == Some(BackupPhase::Deleting);
    let volumes = match volumes {
        Some(volumes) => volumes,
        None if deleting => Vec::new(),
        None => {
            return Ok(Err(
                "its marker is there and the list of its volumes is not: it was copied in part"
                    .to_owned(),
            ));
        }
    };
    let Some(backup) = create(context, &found).await? else {
        // Somebody's own Backup took the name meanwhile.
        return Ok(Ok(()));
    };
    let backup = match backup {
        Ok(backup) => backup,
        Err(why) => return Ok(Err(why)),
    };
    let repositories: BTreeSet<String> = volumes
        .iter()
        .map(|volume| volume.spec.pod.namespace.clone())
        .filter(|namespace| is_name(namespace) && !namespace.contains('.'))
        .collect();
    let owner = &backup;
    futures::stream::iter(volumes.into_iter().map(Ok::<_, Error>))
        .try_for_each_concurrent(PARALLEL, |volume| async move {
            make_volume(context, location, owner, &volume).await
        })
        .await?;
    for namespace in repositories {
        make_repository(context, location, store, &namespace).await?;
    }
    let status = found.status;
    let uid = backup.uid().unwrap_or_default();
    crate::status::update(&context.api::<Backup>(), &name, &uid, |backup| {
        backup.status.clone_from(&status);
    })
    .await?;
    Ok(Ok(()))
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Creates the Backup, or finds the one that an interrupted import created. `None`: the name is
/// another's. The inner error: the API server does not accept what the marker says.
async fn create(context: &Context, found: &Backup) -> Result<Option<Result<Backup, String>>> {
    let name = found.name_any();
    let api = context.api::<Backup>();
    match api.create(&params(), found).await {
        Ok(backup) => Ok(Some(Ok(backup))),
        Err(error) if is_conflict(&error) => {
            let there = api
                .get(&name)
                .await
                .map_err(Error::kube(format!("get Backup {name}")))?;
            let same = there.spec.origin == found.spec.origin;
            Ok(same.then_some(Ok(there)))
        }
        Err(error) => {
            let error = Error::kube(format!("create Backup {name}"))(error);
            if error.class() == Class::Permanent {
                return Ok(Some(Err(error.to_string())));
            }
            Err(error)
        }
    }
}

/// Makes the volume object; one that cannot be made is only missing from lists, for restores read
/// the bucket.
async fn make_volume(
    context: &Context,
    location: &BackupStorageLocation,
    backup: &Backup,
    stored: &PodVolumeBackup,
) -> Result<()> {
    let name = stored.name_any();
    if !is_name(&name) {
        tracing::warn!(
            backup = backup.name_any(),
            "a volume object with an odd name is left out"
        );
        return Ok(());
    }
    let object = volume(location, backup, stored);
    let api = context.api::<PodVolumeBackup>();
    let made = match api.create(&params(), &object).await {
        Ok(made) => made,
        Err(error) if is_conflict(&error) => match api.get_opt(&name).await {
            Ok(Some(there)) if there.spec.origin == object.spec.origin => there,
            Ok(_) => return Ok(()),
            Err(error) => return Err(Error::kube(format!("get PodVolumeBackup {name}"))(error)),
        },
        Err(error) => {
            let error = Error::kube(format!("create PodVolumeBackup {name}"))(error);
            if error.class() == Class::Permanent {
                tracing::warn!(%error, backup = backup.name_any(), "a volume object is left out");
                return Ok(());
            }
            return Err(error);
        }
    };
    let uid = made.uid().unwrap_or_default();
    crate::status::update(&api, &name, &uid, |object| {
        object.status.clone_from(&stored.status);
    })
    .await?;
    Ok(())
}

/// A volume object as a record of this cluster's.
fn volume(
    location: &BackupStorageLocation,
    backup: &Backup,
    stored: &PodVolumeBackup,
) -> PodVolumeBackup {
    let here = location.name_any();
    let mut object = PodVolumeBackup::new(&stored.name_any(), stored.spec.clone());
    let namespace = stored.spec.pod.namespace.clone();
    object.spec.backup_storage_location.clone_from(&here);
    object.spec.repository = naming::repository(&namespace, &here);
    object.spec.cancel = false;
    object.spec.origin = Some(Origin {
        location: here.clone(),
        cluster: backup
            .spec
            .origin
            .as_ref()
            .map(|origin| origin.cluster.clone())
            .unwrap_or_default(),
        uid: stored.uid().unwrap_or_default(),
    });
    let name = backup.name_any();
    object.metadata = ObjectMeta {
        name: object.metadata.name.take(),
        owner_references: backup.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    object.labels_mut().extend([
        (label::BACKUP_NAME.to_owned(), label::value(&name)),
        (
            label::BACKUP_UID.to_owned(),
            backup.uid().unwrap_or_default(),
        ),
        (label::STORAGE_LOCATION.to_owned(), label::value(&here)),
    ]);
    object
}

/// Makes the object of a repository that is there, so that it is seen and looked after.
async fn make_repository(
    context: &Context,
    location: &BackupStorageLocation,
    store: &Store,
    namespace: &str,
) -> Result<()> {
    let path = format!("{}/config", layout::repository(namespace));
    if store.stat(&path).await?.is_none() {
        return Ok(());
    }
    repository::record(context, namespace, &location.name_any(), store).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_object_is_a_record_that_belongs_to_its_backup() {
        let stored: PodVolumeBackup = serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "PodVolumeBackup",
            "metadata": {"name": "v", "uid": "u", "labels": {"ark.heptio.com/backup-uid": "old"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Backup", "name": "b", "uid": "old"}]},
            "spec": {"node": "n", "pod": {"namespace": "shop", "name": "p", "uid": "p"}, "volume": "data",
                "backupStorageLocation": "theirs", "repository": "r", "tags": {"a": "b"}, "snapshotPath": "/", "cancel": true},
        }))
        .unwrap();
        let mut backup = Backup::new("b", ark_api::backup::BackupSpec::default());
        backup.metadata.uid = Some("new".to_owned());
        backup.spec.origin = Some(Origin {
            cluster: "c".to_owned(),
            ..Origin::default()
        });
        let location = BackupStorageLocation::new(
            "here",
            ark_api::location::BackupStorageLocationSpec::default(),
        );
        let object = volume(&location, &backup, &stored);
        assert_eq!(object.labels()[label::BACKUP_UID], "new");
        assert_eq!(
            object.metadata.owner_references.as_ref().unwrap()[0].uid,
            "new"
        );
        let origin = object.spec.origin.unwrap();
        assert_eq!((origin.uid.as_str(), origin.cluster.as_str()), ("u", "c"));
        assert_eq!(object.spec.backup_storage_location, "here");
        assert!(!object.spec.cancel);
    }
}
