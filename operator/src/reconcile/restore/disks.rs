//! Gives claims the disks (PersistentVolumes) that are theirs: looks at the cluster, decides
//! ([`crate::apply::volumes::disks`]), and makes, frees or leaves each disk.
//!
//! Order: looked at before any claim is made; a disk is freed or made before its claim is. Fails
//! only if the API server refuses to be asked; what fails of one disk is its row. Idempotent: a
//! disk that was freed or made by an earlier attempt waits for its claim, which is one of the cases
//! decided about.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ark_api::annotation;
use ark_api::results::ItemAction;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::plan;
use super::run::Run;
use crate::apply::order::VOLUMES;
use crate::apply::run::Outcome;
use crate::apply::transform::{self, Binding};
use crate::apply::volumes::disks::{Case, ClaimId, Decision, Disk, can_be_made, decide, here};
use crate::bundle::read::Entry;
use crate::error::{Error, Result, describe, is_conflict};
use crate::status::FIELD_MANAGER;

/// Requests at the same time.
const PARALLEL: usize = 16;
/// How long a claim that is being deleted may take to go away before it counts as there.
const LEAVING: Duration = Duration::from_mins(1);

/// How often a disk is freed again after somebody else changed it.
const FREE_TRIES: usize = 5;

/// A claim by namespace in the backup and name.
type Key = (String, String);

/// What is decided about every claim and disk of a restore.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    claims: HashMap<Key, Found>,
    /// What happens to each disk, by name.
    fates: BTreeMap<String, Disk>,
    /// Uids of the claims that disks were bound to.
    holders: HashMap<String, String>,
}

/// What is known of one claim.
#[derive(Debug)]
struct Found {
    binding: Binding,
    exists: bool,
    awaits_data: bool,
}

impl Disks {
    /// How a claim is bound.
    pub(crate) fn binding(&self, claim: &Key) -> Binding {
        self.claims
            .get(claim)
            .map_or(Binding::Fresh, |found| found.binding)
    }

    /// Whether a claim of that name was there before this attempt.
    pub(crate) fn exists(&self, claim: &Key) -> bool {
        self.claims.get(claim).is_some_and(|found| found.exists)
    }

    /// Whether a claim was there before and no application was meant to have it yet.
    pub(crate) fn awaits_data(&self, claim: &Key) -> bool {
        self.claims
            .get(claim)
            .is_some_and(|found| found.awaits_data)
    }
}

/// Looks at the claims and disks of the cluster, and decides.
pub(crate) async fn prepare(run: &Run<'_>) -> Result<Disks> {
    if run.plan.claims.is_empty() {
        return Ok(Disks::default());
    }
    let provisioners = provisioners(run).await?;
    let mut looks = Vec::new();
    for (key, claim) in &run.plan.claims {
        if claim.chosen {
            looks.push(look(run, key, claim));
        }
    }
    let found: Vec<Seen> = futures::stream::iter(looks)
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let mut all = Disks::default();
    for Seen { key, claim, disk } in found {
        let stored_claim = &run.plan.claims[&key];
        let name = stored_claim.disk.as_deref();
        let stored = name.and_then(|name| run.plan.disks.get(name));
        let class = stored_claim
            .class
            .as_ref()
            .or_else(|| stored.and_then(|disk| disk.class.as_ref()))
            .and_then(|class| provisioners.get(class));
        let id = ClaimId {
            namespace: &key.0,
            name: &key.1,
            uid: stored_claim.uid.as_deref(),
            exists: claim.is_some(),
        };
        let case = Case {
            files: stored_claim.lack.is_none(),
            mapped: run.target(&key.0) != key.0,
            stored: stored.map(|disk| disk.retain),
            made: can_be_made(class.map(String::as_str), stored),
            here: here(disk.as_ref(), stored, id),
        };
        let Decision {
            binding,
            disk: what,
        } = decide(&case);
        // A claim that never had a disk waits for one as it did.
        if let Some(name) = name {
            let holder = disk
                .as_ref()
                .and_then(|disk| transform::text(disk, "/spec/claimRef/uid"));
            if let Some(holder) = holder {
                all.holders.insert(name.to_owned(), holder.to_owned());
            }
            all.fates.insert(name.to_owned(), what);
        }
        let found = Found {
            binding,
            exists: claim.is_some(),
            awaits_data: claim.is_some_and(|claim| {
                let key = annotation::AWAITS_DATA;
                claim.annotations().contains_key(key) || claim.labels().contains_key(key)
            }),
        };
        all.claims.insert(key, found);
    }
    Ok(all)
}

/// Provisioners of storage classes, of the backup's and of the cluster's, which win.
async fn provisioners(run: &Run<'_>) -> Result<HashMap<String, String>> {
    let api: Api<StorageClass> = Api::all(run.applier.client.clone());
    let classes = api
        .list(&ListParams::default())
        .await
        .map_err(Error::kube("list storage classes"))?;
    let mut all = run.plan.provisioners.clone();
    for class in classes {
        all.insert(class.name_any(), class.provisioner);
    }
    Ok(all)
}

/// A claim and its disk, as the cluster has them.
struct Seen {
    key: Key,
    claim: Option<PersistentVolumeClaim>,
    disk: Option<Value>,
}

async fn look(run: &Run<'_>, key: &Key, stored: &plan::Claim) -> Result<Seen> {
    let claim = existing(run, key).await?;
    let disk = match &stored.disk {
        None => None,
        Some(name) => {
            let api: Api<PersistentVolume> = Api::all(run.applier.client.clone());
            let action = format!("get PersistentVolume {name}");
            api.get_opt(name).await.map_err(Error::kube(action))?
        }
    };
    let disk = disk
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| Error::Bug(error.to_string()))?;
    Ok(Seen {
        key: key.clone(),
        claim,
        disk,
    })
}

/// The claim of that name in the cluster. One that is going away is waited for.
async fn existing(run: &Run<'_>, (namespace, name): &Key) -> Result<Option<PersistentVolumeClaim>> {
    let namespace = run.target(namespace);
    let api: Api<PersistentVolumeClaim> = Api::namespaced(run.applier.client.clone(), namespace);
    let get = async || {
        let action = format!("get PersistentVolumeClaim {namespace}/{name}");
        api.get_opt(name).await.map_err(Error::kube(action))
    };
    let found = get().await?;
    let Some(uid) = found
        .as_ref()
        .filter(|claim| claim.metadata.deletion_timestamp.is_some())
        .and_then(ResourceExt::uid)
    else {
        return Ok(found);
    };
    let gone = await_condition(api.clone(), name, conditions::is_deleted(&uid));
    match tokio::time::timeout(LEAVING, gone).await {
        Ok(_) => get().await,
        // Applying it says so.
        Err(tokio::time::error::Elapsed { .. }) => Ok(found),
    }
}

/// Frees and makes disks, and writes a row for each.
pub(crate) async fn apply(run: &Run<'_>, disks: &Disks, entries: &[Entry]) {
    let in_restore = |name: &str| entries.iter().any(|entry| entry.name == name);
    let others = disks
        .fates
        .iter()
        .filter(|(name, disk)| **disk == Disk::Release && !in_restore(name));
    for (name, _) in others {
        let outcome = release(run, disks, name).await;
        run.report().row(
            VOLUMES,
            "",
            name,
            outcome.action,
            &outcome.message,
            outcome.warn,
        );
    }
    let works: Vec<_> = entries.iter().map(|entry| one(run, disks, entry)).collect();
    let mut ended = futures::stream::iter(works).buffer_unordered(PARALLEL);
    while ended.next().await.is_some() {}
}

async fn one(run: &Run<'_>, disks: &Disks, entry: &Entry) {
    let name = &entry.name;
    let outcome = match disks.fates.get(name) {
        Some(Disk::Release) => release(run, disks, name).await,
        Some(Disk::Leave(why)) => Outcome::new(ItemAction::Kept, why.clone()),
        Some(Disk::Skip(why)) => skipped(why),
        None if goes_with_its_claim(run, name) => {
            skipped("its storage is deleted with its claim, which is not part of this restore")
        }
        Some(Disk::Create) | None => {
            let Some(object) = run.load(VOLUMES, entry) else {
                return;
            };
            let binding = Binding::default();
            let object = transform::restored(VOLUMES, object, run.applier.rules(), binding);
            run.apply(VOLUMES, Some(entry), object, binding).await;
            return;
        }
    };
    run.write(VOLUMES, "", name, &outcome);
}

fn skipped(why: &str) -> Outcome {
    Outcome::new(ItemAction::Skipped, why)
}

/// Whether a disk of no claim of this restore is of use only with its claim.
fn goes_with_its_claim(run: &Run<'_>, name: &str) -> bool {
    let disk = run.plan.disks.get(name);
    disk.is_some_and(|disk| disk.claim.is_some() && !disk.retain)
}

/// Makes a disk free of the claim that is gone: the claim that comes has another uid.
async fn release(run: &Run<'_>, disks: &Disks, name: &str) -> Outcome {
    match free(run, name, disks.holders.get(name)).await {
        Ok(()) => Outcome::new(
            ItemAction::Changed,
            "its claim was gone; it waits for the restored one, with the data it holds",
        ),
        Err(why) => Outcome::failed(format!(
            "it could not be freed for its claim, which waits for it: {why}"
        )),
    }
}

/// Frees a disk as long as it belongs to the claim with the uid `holder`.
async fn free(run: &Run<'_>, name: &str, holder: Option<&String>) -> Result<(), String> {
    let api: Api<PersistentVolume> = Api::all(run.applier.client.clone());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    // Its controller writes the status of a disk whose claim went away a moment ago.
    let mut tries = 0;
    loop {
        let disk = api.get(name).await.map_err(|error| describe(&error))?;
        let claim = disk.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        match claim.and_then(|claim| claim.uid.as_ref()) {
            None => return Ok(()),
            uid if uid != holder => return Err("it was given to another claim".to_owned()),
            Some(_) => {}
        }
        let patch = json!({
            "metadata": { "resourceVersion": disk.metadata.resource_version },
            "spec": { "claimRef": { "uid": null, "resourceVersion": null } },
        });
        match api.patch(name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(()),
            Err(error) if is_conflict(&error) && tries < FREE_TRIES => tries += 1,
            Err(error) => return Err(describe(&error)),
        }
    }
}
