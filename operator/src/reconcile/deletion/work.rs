//! One pass over all requests for backups at one location.

use std::collections::{BTreeMap, BTreeSet};

use ark_api::backup::BackupPhase;
use ark_api::condition::reason;
use ark_api::location::BackupStorageLocation;
use ark_api::{Backup, DeleteBackupRequest, PodVolumeBackup, Restore, label};
use ark_engine::Store;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::EventType;
use serde_json::json;

use super::bucket::{self, Owner};
use super::judge::{self, Verdict};
use super::snapshots::{self, Wanted};
use super::{answer, open_requests};
use crate::context::Context;
use crate::error::{Error, Result, is_conflict, is_not_found};
use crate::store::{self, OpenLocation};

/// Backups deleted in one pass; the next pass takes more.
const AT_ONCE: usize = 200;

/// A backup that is being deleted, and all requests for it.
struct Job {
    backup: Backup,
    requests: Vec<DeleteBackupRequest>,
    force: bool,
    /// The directory in the bucket is the backup's.
    owns_directory: bool,
    /// What could not be deleted.
    left: Vec<String>,
    /// Something could not be deleted that may be later.
    later: bool,
}

impl Job {
    fn new(backup: Backup, requests: Vec<DeleteBackupRequest>, force: bool) -> Self {
        Self {
            backup,
            requests,
            force,
            owns_directory: false,
            left: Vec::new(),
            later: false,
        }
    }

    fn name(&self) -> String {
        self.backup.name_any()
    }

    fn failed(&mut self, what: &str, error: &Error) {
        self.later |= snapshots::passes(error);
        self.left.push(format!("{what}: {}", error.sentence()));
    }

    /// Whether the next step may be done: nothing is left that would be lost from sight.
    fn goes_on(&self) -> bool {
        self.left.is_empty() || self.force
    }
}

/// Does all that can be done now for the requests at `location`.
pub(super) async fn pass(context: &Context, location: &str) -> Result<()> {
    let mut requests: BTreeMap<String, Vec<DeleteBackupRequest>> = BTreeMap::new();
    for request in open_requests(context).await? {
        let name = request.spec.backup_name.clone();
        requests.entry(name).or_default().push(request);
    }
    let backups: Vec<Backup> = context.list(&ListParams::default()).await?;
    let found = if location.is_empty() {
        None
    } else {
        context
            .api::<BackupStorageLocation>()
            .get_opt(location)
            .await
            .map_err(Error::kube(format!("get BackupStorageLocation {location}")))?
    };
    let mut jobs = Vec::new();
    for backup in backups {
        if jobs.len() >= AT_ONCE || judge::location_of(&backup) != location {
            continue;
        }
        let Some(requests) = requests.remove(&backup.name_any()) else {
            continue;
        };
        let name = backup.name_any();
        match begin(context, backup, requests, found.as_ref()).await {
            Ok(job) => jobs.extend(job),
            // One that changes meanwhile must not hold up the others; the next pass looks at it
            // again.
            Err(error) => tracing::warn!(backup = name, %error, "not deleted in this pass"),
        }
    }
    if jobs.is_empty() {
        return Ok(());
    }
    let Some(found) = found else {
        return Ok(());
    };
    let store = store::open(context, &found).await?;
    let location = OpenLocation {
        location: found,
        store,
    };
    delete(context, &location, &mut jobs).await?;
    for job in jobs {
        let name = job.name();
        if let Err(error) = end(context, job).await {
            tracing::warn!(backup = name, %error, "not deleted to the end in this pass");
        }
    }
    Ok(())
}

/// Judges the requests for a backup and marks it. Returns a job if its data is to be deleted.
async fn begin(
    context: &Context,
    backup: Backup,
    requests: Vec<DeleteBackupRequest>,
    location: Option<&BackupStorageLocation>,
) -> Result<Option<Job>> {
    let mut meant = Vec::new();
    for request in requests {
        match judge::is_of_another(&request, &backup) {
            Some(why) => answer(context, &request, &Verdict::Refused(why)).await?,
            None => meant.push(request),
        }
    }
    let requests = meant;
    if requests.is_empty() {
        return Ok(None);
    }
    let force = requests
        .iter()
        .any(|request| request.spec.force == Some(true));
    let restores: Vec<Restore> = context.list(&ListParams::default()).await?;
    let verdict = judge::judge(&backup, location, &restores, force);
    for request in &requests {
        answer(context, request, &verdict).await?;
    }
    match verdict {
        Verdict::Waits(_) | Verdict::Refused(_) => return Ok(None),
        Verdict::ObjectOnly(left) => {
            let mut job = Job::new(backup, requests, force);
            job.left.extend(left);
            job.force = true;
            end(context, job).await?;
            return Ok(None);
        }
        Verdict::Go => {}
    }
    for request in &requests {
        name_backup(context, request, &backup).await?;
    }
    let marked = mark(context, &backup).await?;
    // A restore that was created before the mark was there to be seen is waited for after all.
    let restores: Vec<Restore> = context.list(&ListParams::default()).await?;
    let again = judge::judge(&marked, location, &restores, force);
    if again != Verdict::Go {
        for request in &requests {
            answer(context, request, &again).await?;
        }
        put_back(context, &backup).await?;
        return Ok(None);
    }
    Ok(Some(Job::new(marked, requests, force)))
}

/// Writes into a request which backup it is for, before anything is deleted.
async fn name_backup(
    context: &Context,
    request: &DeleteBackupRequest,
    backup: &Backup,
) -> Result<()> {
    let uid = backup.uid().unwrap_or_default();
    if request.labels().contains_key(label::BACKUP_UID) {
        return Ok(());
    }
    let name = request.name_any();
    let patch = json!({"metadata": {"uid": request.uid(), "labels": {label::BACKUP_UID: uid}}});
    match context
        .api::<DeleteBackupRequest>()
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        // Its user took it back, or took it back and asked again.
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
        Err(error) => Err(Error::kube(format!(
            "write into DeleteBackupRequest {name}"
        ))(error)),
    }
}

/// Makes the Backup's phase `Deleting`.
async fn mark(context: &Context, backup: &Backup) -> Result<Backup> {
    let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    crate::status::update(&context.api::<Backup>(), &name, &uid, |backup| {
        backup.status.get_or_insert_default().phase = Some(BackupPhase::Deleting);
    })
    .await
}

/// Gives the Backup the phase back that it had before [`mark`].
async fn put_back(context: &Context, backup: &Backup) -> Result<()> {
    let (name, uid) = (backup.name_any(), backup.uid().unwrap_or_default());
    let before = backup.status.as_ref().and_then(|status| status.phase);
    crate::status::update(&context.api::<Backup>(), &name, &uid, |backup| {
        backup.status.get_or_insert_default().phase = before;
    })
    .await?;
    Ok(())
}

/// Deletes what the jobs' backups have outside the cluster, and their restores. What fails for one
/// backup is written into its job and holds up no other.
async fn delete(context: &Context, location: &OpenLocation, jobs: &mut [Job]) -> Result<()> {
    let store = &location.store;
    let mut wanted = Vec::new();
    for job in &mut *jobs {
        let namespaces = match mark_stored(context, store, job).await {
            Ok(namespaces) => namespaces,
            Err(error) => {
                job.failed("its directory could not be marked", &error);
                // Snapshots of a backup that still looks good are not touched.
                if job.goes_on() {
                    None
                } else {
                    Some(BTreeSet::new())
                }
            }
        };
        wanted.push(Wanted {
            uids: bucket::uids(&job.backup),
            namespaces,
        });
    }
    forget(context, location, jobs, &wanted).await?;
    let restores: Vec<Restore> = context.list(&ListParams::default()).await?;
    for job in jobs {
        if context.shutdown.is_cancelled() {
            return Err(Error::Stopping);
        }
        if !job.goes_on() {
            continue;
        }
        let name = job.name();
        for restore in restores
            .iter()
            .filter(|restore| judge::is_of(restore, &name))
        {
            if let Err(error) = delete_restore(context, store, restore).await {
                let what = format!("its restore {} could not be deleted", restore.name_any());
                job.failed(&what, &error);
            }
        }
        if job.goes_on()
            && job.owns_directory
            && let Err(error) = bucket::remove_backup(store, &name).await
        {
            job.failed("its artefacts could not be removed", &error);
        }
    }
    Ok(())
}

/// Makes the bucket say that the backup is being deleted. Returns the namespaces of its volumes, or `None` if these
/// are not known.
async fn mark_stored(
    context: &Context,
    store: &Store,
    job: &mut Job,
) -> Result<Option<BTreeSet<String>>> {
    let name = job.name();
    let marker = match bucket::owner(store, &job.backup).await? {
        Owner::Ours(marker) => {
            job.owns_directory = true;
            marker
        }
        // A directory that is not mounted for a moment looks the same as one that holds nothing.
        Owner::Nobody if store.list("").await?.is_empty() => {
            return Err(Error::Location {
                name: judge::location_of(&job.backup),
                message: "there is nothing at all; is it mounted?".to_owned(),
                reason: reason::LOCATION_UNAVAILABLE,
            });
        }
        Owner::Nobody => None,
        Owner::Other => {
            tracing::warn!(
                backup = name,
                "the directory of that name at the location is not this backup's and stays"
            );
            None
        }
    };
    let Some(marker) = marker else {
        return Ok(None);
    };
    bucket::mark_deleting(store, &name, marker).await?;
    let Some(mut namespaces) = bucket::namespaces(store, &name).await? else {
        return Ok(None);
    };
    namespaces.extend(namespaces_of_objects(context, &job.backup).await?);
    Ok(Some(namespaces))
}

/// Forgets the jobs' snapshots and writes into each job what could not be forgotten.
async fn forget(
    context: &Context,
    location: &OpenLocation,
    jobs: &mut [Job],
    wanted: &[Wanted],
) -> Result<()> {
    let failed = match snapshots::forget(context, location, wanted).await {
        Ok((count, failed)) => {
            tracing::info!(location = location.name(), count, "snapshots forgotten");
            failed
        }
        Err(Error::Stopping) => return Err(Error::Stopping),
        Err(error) => {
            for job in jobs {
                job.failed("its snapshots could not be forgotten", &error);
            }
            return Ok(());
        }
    };
    for (job, wanted) in jobs.iter_mut().zip(wanted) {
        for (namespace, error) in &failed {
            let concerned = wanted
                .namespaces
                .as_ref()
                .is_none_or(|namespaces| namespaces.contains(namespace));
            if concerned {
                let what = format!("its snapshots of namespace {namespace} could not be forgotten");
                job.failed(&what, error);
            }
        }
    }
    Ok(())
}

/// Namespaces of the volume objects that the cluster still has of a backup.
async fn namespaces_of_objects(context: &Context, backup: &Backup) -> Result<Vec<String>> {
    let selector = format!("{}={}", label::BACKUP_UID, backup.uid().unwrap_or_default());
    let objects: Vec<PodVolumeBackup> = context
        .list(&ListParams::default().labels(&selector))
        .await?;
    Ok(objects
        .into_iter()
        .map(|object| object.spec.pod.namespace)
        .collect())
}

/// Deletes a restore: its artefacts, then the object.
async fn delete_restore(context: &Context, store: &Store, restore: &Restore) -> Result<()> {
    bucket::remove_restore(store, &context.cluster, restore).await?;
    delete_object(context, restore).await
}

/// Deletes an object, if it is still the one that was seen.
pub(in crate::reconcile) async fn delete_object<K>(context: &Context, object: &K) -> Result<()>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let name = object.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match context.api::<K>().delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(Error::kube(format!("delete {} {name}", K::kind(&())))(
            error,
        )),
    }
}

/// Ends a job: the object and the requests go, or the requests say what is left.
async fn end(context: &Context, job: Job) -> Result<()> {
    let name = job.name();
    if !job.goes_on() {
        let verdict = if job.later {
            Verdict::Waits(job.left.join("; "))
        } else {
            Verdict::Refused(format!(
                "{}; what is left stays marked as being deleted: mend the cause and ask again, or delete with force",
                job.left.join("; ")
            ))
        };
        for request in &job.requests {
            answer(context, request, &verdict).await?;
        }
        return Ok(());
    }
    if !job.left.is_empty() {
        let left = job.left.join("; ");
        tracing::warn!(backup = name, left, "deleted by force; something is left");
        context
            .event(&job.backup, EventType::Warning, "DeletedByForce", &left)
            .await;
    }
    delete_object(context, &job.backup).await?;
    for request in &job.requests {
        delete_object(context, request).await?;
    }
    tracing::info!(backup = name, "backup deleted");
    context.metrics.upkeep.deletion_done();
    Ok(())
}
