//! From a spooled bundle to what is restored, in which order. Reads the spool, nothing else.
//!
//! Looks at every object once. Chosen are the objects the filters admit, and those that a chosen
//! object cannot do without (a pod's claims and service account, a claim's volume and class, the
//! definition of a custom resource); a resource that the user left out stays out in any case.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::needs::{binds_account_within, job_of, needs};
use super::validate::Order;
use crate::apply::order::{self, CLAIMS, NAMESPACES, PODS, Stage, VOLUMES};
use crate::apply::transform::{self, list, text};
use crate::apply::volumes::disks::{self, StoredDisk};
use crate::apply::volumes::stock::{Lack, Stock, Wanted};
use crate::apply::volumes::users::{self, ClaimName};
use crate::apply::volumes::{self, PodVolume};
use crate::bundle::read::{Entry, Spool};
use crate::error::Result;

/// Key of an object: resource, namespace in the backup, name.
pub(crate) type Key = (String, String, String);
/// Key of an owner: namespace in the backup, group, kind, name.
pub(crate) type OwnerKey = (String, String, String, String);

/// An object that is not restored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Resource.
    pub(crate) resource: String,
    /// Namespace in the backup.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Why.
    pub(crate) why: String,
}

/// A pod that wants volumes filled.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Namespace in the backup.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Volumes that the backup holds files of.
    pub(crate) wanted: Vec<Wanted>,
    /// Volumes that it holds no files of, although there was a reason to expect some.
    pub(crate) missing: Vec<Missing>,
    /// Whoever owns it, all the way up.
    pub(crate) owners: BTreeSet<OwnerKey>,
}

/// A volume of a pod whose files the backup does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    /// The volume.
    pub(crate) volume: PodVolume,
    /// Why not.
    pub(crate) lack: Lack,
}

/// What the backup says of a claim.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// Its uid.
    pub(crate) uid: Option<String>,
    /// Its disk.
    pub(crate) disk: Option<String>,
    /// Its storage class.
    pub(crate) class: Option<String>,
    /// Its content comes from a snapshot or another claim when it is provisioned.
    pub(crate) sourced: bool,
    /// Pods on several nodes can mount it.
    pub(crate) shared: bool,
    /// Why its files are not in the backup; `None`: they are.
    pub(crate) lack: Option<Lack>,
    /// Whether it is restored.
    pub(crate) chosen: bool,
}

impl Claim {
    /// Of a PersistentVolumeClaim.
    fn of(object: &Value, lack: Option<Lack>) -> Self {
        let named = |pointer: &str| {
            text(object, pointer)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
        };
        Self {
            uid: named("/metadata/uid"),
            disk: named("/spec/volumeName"),
            class: named("/spec/storageClassName"),
            sourced: disks::has_source(object),
            shared: disks::is_shared(object),
            lack,
            chosen: false,
        }
    }
}

/// What is restored.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Resources in the order they are restored, each with its objects.
    pub(crate) resources: Vec<(String, Vec<Entry>)>,
    /// Namespaces in the backup that objects are restored from.
    pub(crate) namespaces: BTreeSet<String>,
    /// Objects that are chosen and yet not restored.
    pub(crate) skipped: Vec<Skipped>,
    /// Resources that are never restored, with the number of their objects.
    pub(crate) never: BTreeMap<String, usize>,
    /// Pods with files to restore.
    pub(crate) pods: Vec<Pod>,
    /// Pods that carry annotations of restore hooks, which this version cannot run.
    pub(crate) hooked: Vec<(String, String)>,
    /// Claims, by namespace in the backup and name.
    pub(crate) claims: BTreeMap<(String, String), Claim>,
    /// Disks, by name.
    pub(crate) disks: HashMap<String, StoredDisk>,
    /// Provisioners of storage classes.
    pub(crate) provisioners: HashMap<String, String>,
    /// Controllers with the claims that their pods mount.
    pub(crate) users: HashMap<OwnerKey, BTreeSet<String>>,
    /// Where the objects are that own a pod of [`Self::pods`] or mount a claim through their pods.
    pub(crate) controllers: HashMap<OwnerKey, (String, Entry)>,
}

impl Plan {
    /// Number of objects that are to be applied.
    pub(crate) fn len(&self) -> usize {
        self.resources
            .iter()
            .map(|(_, entries)| entries.len())
            .sum()
    }

    /// Objects of `resource`.
    pub(crate) fn entries(&self, resource: &str) -> &[Entry] {
        self.resources
            .iter()
            .find(|(name, _)| name == resource)
            .map_or(&[], |(_, entries)| entries)
    }
}

/// The owner key of an object.
pub(crate) fn owner_key(object: &Value) -> OwnerKey {
    let namespace = text(object, "/metadata/namespace").unwrap_or_default();
    let version = text(object, "/apiVersion").unwrap_or_default();
    (
        namespace.to_owned(),
        group(version).to_owned(),
        text(object, "/kind").unwrap_or_default().to_owned(),
        transform::name(object).to_owned(),
    )
}

/// Group of an `apiVersion`; empty for the core group.
pub(super) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// How an object came to be considered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// The filters admit it.
    Chosen,
    /// It is restored if a chosen object needs it.
    OnNeed,
}

struct Fact {
    key: Key,
    entry: Entry,
    choice: Choice,
    skip: Option<&'static str>,
    needs: Vec<Key>,
}

#[derive(Default)]
struct Scan {
    facts: Vec<Fact>,
    owners: HashMap<OwnerKey, Vec<OwnerKey>>,
    pods: Vec<Pod>,
    hooked: Vec<(String, String)>,
    claims: BTreeMap<(String, String), Claim>,
    disks: HashMap<String, StoredDisk>,
    provisioners: HashMap<String, String>,
    /// Jobs that pods belong to.
    jobs: HashMap<(String, String), Key>,
    /// Claims that pods of a controller mount, by name or, for a StatefulSet, by the beginning of
    /// their names.
    users: HashMap<OwnerKey, Vec<ClaimName>>,
    controllers: HashMap<OwnerKey, (String, Entry)>,
    never: BTreeMap<String, usize>,
}

/// Makes the plan.
pub(crate) fn make(spool: &Spool, order: &Order, stock: &Stock) -> Result<Plan> {
    let mut scan = Scan::default();
    for resource in spool.resources() {
        if order::never_restored(resource) {
            let count = spool.entries(resource).len();
            scan.never.insert(resource.to_owned(), count);
            continue;
        }
        // A namespace comes back as it was even if only what is in it was asked for.
        let asked = order.resources.admit_resource(resource);
        if !asked && resource != NAMESPACES {
            continue;
        }
        for entry in spool.entries(resource) {
            if !within(resource, entry, order) {
                continue;
            }
            let object = spool.load(resource, entry)?;
            scan.look(resource, entry, &object, asked, order, stock);
        }
    }
    Ok(scan.into_plan())
}

/// Whether the filters leave an object in reach at all.
fn within(resource: &str, entry: &Entry, order: &Order) -> bool {
    if !entry.namespace.is_empty() {
        return order.namespaces.admit(&entry.namespace);
    }
    if resource == NAMESPACES {
        return order.namespaces.admit(&entry.name);
    }
    order.cluster_resources != Some(false)
}

impl Scan {
    fn look(
        &mut self,
        resource: &str,
        entry: &Entry,
        object: &Value,
        asked: bool,
        order: &Order,
        stock: &Stock,
    ) {
        let labels = object
            .pointer("/metadata/labels")
            .and_then(|labels| serde_json::from_value(labels.clone()).ok())
            .unwrap_or_default();
        let everything = order.cluster_resources == Some(true) || order.namespaces.is_everything();
        let in_scope = !entry.namespace.is_empty()
            || resource == NAMESPACES
            || everything
            || binds_account_within(resource, object, order);
        let chosen = asked && in_scope && order.selectors.admit(&labels);
        let id = (entry.namespace.clone(), entry.name.clone());
        match resource {
            CLAIMS => {
                let lack = stock.claim_lack(&entry.namespace, &entry.name);
                let claim = Claim::of(object, lack);
                self.claims.insert(id.clone(), claim);
            }
            VOLUMES => {
                let disk = StoredDisk::of(object);
                self.disks.insert(entry.name.clone(), disk);
            }
            "storageclasses.storage.k8s.io" => {
                if let Some(provisioner) = text(object, "/provisioner") {
                    self.provisioners
                        .insert(entry.name.clone(), provisioner.to_owned());
                }
            }
            _ if order::stage(resource) == Stage::AfterPods => {
                let key = owner_key(object);
                let claims = users::claims_of(object);
                if !claims.is_empty() {
                    self.users.insert(key.clone(), claims);
                }
                self.controllers
                    .insert(key, (resource.to_owned(), entry.clone()));
            }
            _ => {}
        }
        self.owned(object);
        let skip = transform::skip(resource, object);
        if resource == PODS && skip.is_none() {
            let (namespace, name) = (&entry.namespace, &entry.name);
            if let Some(job) = job_of(object) {
                self.jobs.insert((namespace.clone(), name.clone()), job);
            }
            let all = volumes::of_pod(object);
            let wanted = stock.wanted(namespace, name, all.clone());
            let missing = all
                .into_iter()
                .filter(|volume| wanted.iter().all(|w| w.volume.name != volume.name))
                .filter_map(|volume| {
                    let lack = stock.volume_lack(namespace, name, &volume)?;
                    Some(Missing { volume, lack })
                })
                .collect();
            self.pods.push(Pod {
                namespace: namespace.clone(),
                name: name.clone(),
                wanted,
                missing,
                owners: BTreeSet::new(),
            });
            let annotations = object.pointer("/metadata/annotations");
            let hooked = annotations.and_then(Value::as_object).is_some_and(|map| {
                map.keys().any(|key| {
                    ark_api::annotation::RESTORE_HOOK_PREFIXES
                        .iter()
                        .any(|prefix| key.starts_with(prefix))
                })
            });
            if hooked {
                self.hooked
                    .push((entry.namespace.clone(), entry.name.clone()));
            }
        }
        self.facts.push(Fact {
            key: (
                resource.to_owned(),
                entry.namespace.clone(),
                entry.name.clone(),
            ),
            entry: entry.clone(),
            choice: if chosen {
                Choice::Chosen
            } else {
                Choice::OnNeed
            },
            skip,
            needs: needs(resource, object),
        });
    }

    fn owned(&mut self, object: &Value) {
        let owners: Vec<OwnerKey> = list(object, "/metadata/ownerReferences")
            .iter()
            .filter_map(|owner| {
                Some((
                    text(object, "/metadata/namespace")
                        .unwrap_or_default()
                        .to_owned(),
                    group(text(owner, "/apiVersion")?).to_owned(),
                    text(owner, "/kind")?.to_owned(),
                    text(owner, "/name")?.to_owned(),
                ))
            })
            .collect();
        if !owners.is_empty() {
            self.owners.insert(owner_key(object), owners);
        }
    }

    /// Owners of a pod, all the way up.
    fn owners_of(&self, namespace: &str, pod: &str) -> BTreeSet<OwnerKey> {
        let mut found = BTreeSet::new();
        let start = (
            namespace.to_owned(),
            String::new(),
            "Pod".to_owned(),
            pod.to_owned(),
        );
        let mut open = vec![start];
        while let Some(key) = open.pop() {
            for owner in self.owners.get(&key).into_iter().flatten() {
                if found.insert(owner.clone()) {
                    open.push(owner.clone());
                }
            }
        }
        found
    }

    /// Everything chosen, and what that needs.
    fn choose(&self) -> HashSet<usize> {
        let by_key: HashMap<&Key, usize> = self
            .facts
            .iter()
            .enumerate()
            .map(|(at, fact)| (&fact.key, at))
            .collect();
        let mut open: Vec<usize> = (0..self.facts.len())
            .filter(|at| self.facts[*at].choice == Choice::Chosen)
            .collect();
        let mut chosen: HashSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            let fact = &self.facts[at];
            if fact.skip.is_some() {
                continue;
            }
            let namespace = (NAMESPACES.to_owned(), String::new(), fact.key.1.clone());
            for need in fact.needs.iter().chain([&namespace]) {
                if let Some(found) = by_key.get(need)
                    && chosen.insert(*found)
                {
                    open.push(*found);
                }
            }
        }
        chosen
    }

    /// Pods without files to restore whose Job is restored: a Job cannot take up a pod of the Job
    /// it was, and would run a second one beside it.
    fn made_anew(&self, pods: &[Pod], picked: &HashSet<usize>) -> HashSet<(String, String)> {
        let jobs: HashSet<&Key> = picked
            .iter()
            .map(|at| &self.facts[*at])
            .filter(|fact| fact.skip.is_none())
            .map(|fact| &fact.key)
            .collect();
        pods.iter()
            .filter(|pod| pod.wanted.is_empty())
            .map(|pod| (pod.namespace.clone(), pod.name.clone()))
            .filter(|pod| self.jobs.get(pod).is_some_and(|job| jobs.contains(job)))
            .collect()
    }

    fn into_plan(mut self) -> Plan {
        let picked = self.choose();
        let chosen: HashSet<&Key> = picked.iter().map(|at| &self.facts[*at].key).collect();
        for ((namespace, name), claim) in &mut self.claims {
            let key = (CLAIMS.to_owned(), namespace.clone(), name.clone());
            claim.chosen = chosen.contains(&key);
        }
        let in_restore = |resource: &str, name: &String| {
            chosen.contains(&(resource.to_owned(), String::new(), name.clone()))
        };
        self.disks.retain(|name, _| in_restore(VOLUMES, name));
        self.provisioners
            .retain(|name, _| in_restore("storageclasses.storage.k8s.io", name));
        let picked_controller = |_: &OwnerKey, (resource, entry): &mut (String, Entry)| {
            let key = (
                resource.clone(),
                entry.namespace.clone(),
                entry.name.clone(),
            );
            chosen.contains(&key)
        };
        self.controllers.retain(picked_controller);
        let users: HashMap<OwnerKey, BTreeSet<String>> = std::mem::take(&mut self.users)
            .into_iter()
            .filter(|(key, _)| self.controllers.contains_key(key))
            .map(|(key, names)| {
                let claims = users::named(&names, &key.0, self.claims.keys());
                (key, claims)
            })
            .filter(|(_, claims)| !claims.is_empty())
            .collect();
        let mut pods: Vec<Pod> = std::mem::take(&mut self.pods);
        let made_anew = self.made_anew(&pods, &picked);
        pods.retain(|pod| !made_anew.contains(&(pod.namespace.clone(), pod.name.clone())));
        pods.retain(|pod| {
            let key = (PODS.to_owned(), pod.namespace.clone(), pod.name.clone());
            !(pod.wanted.is_empty() && pod.missing.is_empty()) && chosen.contains(&key)
        });
        for pod in &mut pods {
            pod.owners = self.owners_of(&pod.namespace, &pod.name);
        }
        let owners: HashSet<&OwnerKey> = pods.iter().flat_map(|pod| &pod.owners).collect();
        self.controllers
            .retain(|key, _| owners.contains(key) || users.contains_key(key));
        let hooked = self
            .hooked
            .iter()
            .filter(|(namespace, name)| {
                chosen.contains(&(PODS.to_owned(), namespace.clone(), name.clone()))
            })
            .cloned()
            .collect();
        let mut plan = Plan {
            pods,
            hooked,
            claims: self.claims,
            disks: self.disks,
            provisioners: self.provisioners,
            users,
            controllers: self.controllers,
            never: self.never,
            ..Plan::default()
        };
        let mut resources: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for (at, fact) in self.facts.into_iter().enumerate() {
            if !picked.contains(&at) {
                continue;
            }
            let (resource, namespace, name) = fact.key;
            let anew = resource == PODS && made_anew.contains(&(namespace.clone(), name.clone()));
            let why = fact
                .skip
                .or_else(|| anew.then_some("its Job is restored and makes it anew"));
            if let Some(why) = why {
                plan.skipped.push(Skipped {
                    resource,
                    namespace,
                    name,
                    why: why.to_owned(),
                });
                continue;
            }
            if !namespace.is_empty() {
                plan.namespaces.insert(namespace);
            }
            resources.entry(resource).or_default().push(fact.entry);
        }
        let mut names: Vec<String> = resources.keys().cloned().collect();
        order::sort(&mut names);
        plan.resources = names
            .into_iter()
            .map(|name| {
                let entries = resources.remove(&name).unwrap_or_default();
                (name, entries)
            })
            .collect();
        plan
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
