//! From a spooled bundle to what is restored, in which order. Reads the spool, nothing else.
//!
//! Looks at every object once. Chosen are the objects the filters admit, and those that a chosen
//! object cannot do without (a pod's claims and service account, a claim's volume and class, the
//! definition of a custom resource); a resource that the user left out stays out in any case.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::validate::Order;
use crate::apply::order::{self, CLAIMS, CRDS, NAMESPACES, PODS, VOLUMES};
use crate::apply::transform::{self, Binding, list, text};
use crate::apply::volumes;
use crate::apply::volumes::stock::{Stock, Wanted};
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
    /// Whoever owns it, all the way up.
    pub(crate) owners: BTreeSet<OwnerKey>,
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
    /// How each claim is bound.
    pub(crate) bindings: HashMap<(String, String), Binding>,
    /// Claims that pods on several nodes can mount.
    pub(crate) many_nodes: HashSet<(String, String)>,
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

fn group(api_version: &str) -> &str {
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
    /// Volume of each claim.
    claims: HashMap<(String, String), Option<String>>,
    many_nodes: HashSet<(String, String)>,
    /// Whether each volume is restored as it is, and if not, why.
    volumes: HashMap<String, Result<(), &'static str>>,
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
    Ok(scan.into_plan(stock))
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
                let volume = text(object, "/spec/volumeName").map(str::to_owned);
                self.claims.insert(id.clone(), volume);
                let many = list(object, "/spec/accessModes")
                    .iter()
                    .any(|mode| matches!(mode.as_str(), Some("ReadWriteMany" | "ReadOnlyMany")));
                if many {
                    self.many_nodes.insert(id);
                }
            }
            VOLUMES => {
                let has_data = text(object, "/spec/claimRef/namespace")
                    .zip(text(object, "/spec/claimRef/name"))
                    .is_some_and(|(namespace, name)| stock.has_claim(namespace, name));
                let kept = transform::keep_volume(object, has_data);
                self.volumes.insert(entry.name.clone(), kept);
            }
            _ => {}
        }
        self.owned(object);
        let skip = transform::skip(resource, object);
        if resource == PODS && skip.is_none() {
            let wanted = stock.wanted(&entry.namespace, &entry.name, volumes::of_pod(object));
            self.pods.push(Pod {
                namespace: entry.namespace.clone(),
                name: entry.name.clone(),
                wanted,
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

    /// How a claim is bound.
    fn binding(&self, claim: &(String, String), chosen: &HashSet<&Key>, stock: &Stock) -> Binding {
        if stock.has_claim(&claim.0, &claim.1) {
            return Binding::Filled;
        }
        let Some(Some(volume)) = self.claims.get(claim) else {
            return Binding::Fresh;
        };
        let key = (VOLUMES.to_owned(), String::new(), volume.clone());
        let kept = self.volumes.get(volume).is_some_and(Result::is_ok);
        if kept && chosen.contains(&key) {
            Binding::Same
        } else {
            Binding::Fresh
        }
    }

    fn into_plan(mut self, stock: &Stock) -> Plan {
        let picked = self.choose();
        let chosen: HashSet<&Key> = picked.iter().map(|at| &self.facts[*at].key).collect();
        let bindings = self
            .claims
            .keys()
            .map(|claim| (claim.clone(), self.binding(claim, &chosen, stock)))
            .collect();
        let mut pods: Vec<Pod> = std::mem::take(&mut self.pods);
        pods.retain(|pod| {
            let key = (PODS.to_owned(), pod.namespace.clone(), pod.name.clone());
            !pod.wanted.is_empty() && chosen.contains(&key)
        });
        for pod in &mut pods {
            pod.owners = self.owners_of(&pod.namespace, &pod.name);
        }
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
            bindings,
            many_nodes: self.many_nodes,
            never: self.never,
            ..Plan::default()
        };
        let mut resources: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for (at, fact) in self.facts.into_iter().enumerate() {
            if !picked.contains(&at) {
                continue;
            }
            let (resource, namespace, name) = fact.key;
            let volume = (resource == VOLUMES)
                .then(|| self.volumes.get(&name).copied())
                .flatten();
            let why = fact.skip.or(volume.and_then(Result::err));
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

/// Whether a cluster role binding is about a service account of a restored namespace.
fn binds_account_within(resource: &str, object: &Value, order: &Order) -> bool {
    resource == "clusterrolebindings.rbac.authorization.k8s.io"
        && list(object, "/subjects")
            .iter()
            .filter_map(|subject| text(subject, "/namespace"))
            .any(|namespace| order.namespaces.admit(namespace))
}

/// What an object cannot do without.
fn needs(resource: &str, object: &Value) -> Vec<Key> {
    let namespace = text(object, "/metadata/namespace").unwrap_or_default();
    let mut needs = Vec::new();
    let mut need = |resource: &str, namespace: &str, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            needs.push((resource.to_owned(), namespace.to_owned(), name.to_owned()));
        }
    };
    match resource {
        PODS => {
            for volume in list(object, "/spec/volumes") {
                let claim = text(volume, "/persistentVolumeClaim/claimName");
                need(CLAIMS, namespace, claim);
            }
            let account = text(object, "/spec/serviceAccountName");
            need("serviceaccounts", namespace, account);
            let class = text(object, "/spec/priorityClassName");
            need("priorityclasses.scheduling.k8s.io", "", class);
            let class = text(object, "/spec/runtimeClassName");
            need("runtimeclasses.node.k8s.io", "", class);
        }
        CLAIMS => {
            need(VOLUMES, "", text(object, "/spec/volumeName"));
            let class = text(object, "/spec/storageClassName");
            need("storageclasses.storage.k8s.io", "", class);
        }
        VOLUMES => {
            let class = text(object, "/spec/storageClassName");
            need("storageclasses.storage.k8s.io", "", class);
        }
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io" => {
            let name = text(object, "/roleRef/name");
            match text(object, "/roleRef/kind") {
                Some("ClusterRole") => need("clusterroles.rbac.authorization.k8s.io", "", name),
                Some("Role") => need("roles.rbac.authorization.k8s.io", namespace, name),
                _ => {}
            }
        }
        // A definition's name is its resource: `widgets.example.org`.
        _ if resource.contains('.') => need(CRDS, "", Some(resource)),
        _ => {}
    }
    needs
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
