//! From an object as it was stored to an object as it is applied. Pure.
//!
//! Keeps of the metadata: name (and what it was generated from), namespace (mapped), labels,
//! annotations, finalizers. Drops the status, unless it is data, and whatever the cluster gave the
//! object: addresses, bindings, tokens, identities.
//!
//! Does not: decide what happens to an object that exists ([`super::conflict`]), or put the gate
//! into pods ([`super::volumes`]).
//!
//! The same [`normalize`] runs over the object in the cluster before the two are compared, so a
//! field that is dropped here never counts as a difference.

mod identity;
mod pod;
mod service;
mod storage;
mod workload;

use std::collections::BTreeMap;

use ark_api::{annotation, label};
use serde_json::{Map, Value, json};

pub(crate) use storage::Binding;
pub(crate) use workload::keep_pods;

/// Labels of earlier restores and of the backup itself; never carried into the cluster.
const BOOKKEEPING_LABELS: &[&str] = &[
    label::RESTORE_NAME,
    label::RESTORE_UID,
    label::BACKUP_NAME,
    "velero.io/restore-name",
    "velero.io/backup-name",
];

/// Annotations of earlier restores; never carried into the cluster.
const BOOKKEEPING_ANNOTATIONS: &[&str] = &[
    annotation::RESTORE_UID,
    annotation::HELD_BY,
    annotation::GAVE_UP,
    annotation::AWAITS_DATA,
];

/// What the restore says about every object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Namespace in the backup to namespace in the cluster.
    pub(crate) namespaces: &'a BTreeMap<String, String>,
    /// Keep the node ports of Services.
    pub(crate) preserve_node_ports: bool,
    /// The kind has no status that only controllers write, so that its `status` is data.
    pub(crate) status_is_data: bool,
}

impl Rules<'_> {
    /// Whether namespaces are restored under other names.
    pub(crate) fn renames(&self) -> bool {
        self.namespaces.iter().any(|(from, to)| from != to)
    }

    /// Where objects of `namespace` go.
    pub(crate) fn target<'b>(&'b self, namespace: &'b str) -> &'b str {
        self.namespaces
            .get(namespace)
            .map_or(namespace, String::as_str)
    }
}

/// Who restores an object; written on everything that is created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    /// Name of the Restore.
    pub(crate) restore: &'a str,
    /// Its uid.
    pub(crate) uid: &'a str,
    /// Name of the Backup.
    pub(crate) backup: &'a str,
}

/// Why an object of the backup is not restored; `None` when it is.
pub(crate) fn skip(resource: &str, object: &Value) -> Option<&'static str> {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Some("it was being deleted when it was backed up");
    }
    match resource {
        "pods" => pod::skip(object),
        "jobs.batch" => workload::skip_job(object),
        "configmaps" if name(object) == "kube-root-ca.crt" => Some("the cluster makes it itself"),
        "endpoints" | "endpointslices.discovery.k8s.io" => service::skip_endpoints(object),
        "apiservices.apiregistration.k8s.io" => text(
            object,
            "/metadata/labels/kube-aggregator.kubernetes.io~1automanaged",
        )
        .is_some()
        .then_some("the cluster makes it itself"),
        "persistentvolumeclaims" => storage::skip_claim(object),
        _ => storage::skip_snapshot(resource),
    }
}

/// Turns a stored object into the one to apply, without the stamp.
pub(crate) fn restored(resource: &str, object: Value, rules: Rules<'_>, binding: Binding) -> Value {
    let mut object = object;
    let namespace = text(&object, "/metadata/namespace").map(str::to_owned);
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(rules.target(&namespace));
    }
    if resource == "namespaces" {
        let target = rules.target(name(&object)).to_owned();
        object["metadata"]["name"] = json!(target);
    }
    identity::map_subjects(resource, &mut object, rules);
    if resource == "persistentvolumes" {
        storage::map_claim_ref(&mut object, rules);
    }
    normalize(resource, object, rules, binding)
}

/// Drops everything the cluster gave an object. Idempotent.
pub(crate) fn normalize(
    resource: &str,
    mut object: Value,
    rules: Rules<'_>,
    binding: Binding,
) -> Value {
    // Reads managed fields and the last applied configuration, so it comes before they go.
    if resource == "services" {
        service::strip(&mut object, rules.preserve_node_ports);
    }
    metadata(resource, &mut object);
    if !rules.status_is_data {
        remove(&mut object, "", &["status"]);
    }
    match resource {
        "pods" => pod::strip(&mut object),
        "persistentvolumes" => storage::strip_volume(&mut object),
        "persistentvolumeclaims" => storage::strip_claim(&mut object, binding),
        "jobs.batch" => workload::strip_job(&mut object),
        "secrets" => identity::strip_secret(&mut object),
        super::order::CRDS => workload::strip_definition(&mut object),
        _ => {}
    }
    object
}

/// Marks `object` as made by this restore, so that a restarted operator knows its own objects.
pub(crate) fn stamp(object: &mut Value, stamp: Stamp<'_>) {
    let labels = map_at(object, "labels");
    labels.insert(
        label::RESTORE_NAME.into(),
        json!(label::value(stamp.restore)),
    );
    labels.insert(label::RESTORE_UID.into(), json!(stamp.uid));
    labels.insert(label::BACKUP_NAME.into(), json!(label::value(stamp.backup)));
    mark(object, annotation::RESTORE_UID, stamp.uid);
}

/// Most bytes of all keys and values of an object's annotations that the API server takes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Writes a mark of ours on an object: an annotation, or a label of that name where the annotations
/// have no room for it. `value` must be a valid label value.
pub(crate) fn mark(object: &mut Value, key: &str, value: &str) {
    let annotations = map_at(object, "annotations");
    let taken: usize = annotations
        .iter()
        .filter(|(name, _)| *name != key)
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if taken + key.len() + value.len() <= MAX_ANNOTATIONS {
        annotations.insert(key.to_owned(), json!(value));
    } else {
        map_at(object, "labels").insert(key.to_owned(), json!(value));
    }
}

/// The value of a mark of ours.
pub(crate) fn marked<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    let metadata = object.get("metadata")?;
    ["annotations", "labels"]
        .iter()
        .find_map(|place| metadata.get(place)?.get(key)?.as_str())
}

/// Uid of the restore that created `object`.
pub(crate) fn stamped_by(object: &Value) -> Option<&str> {
    marked(object, annotation::RESTORE_UID)
}

/// Uid of the restore that created or changed `object`.
pub(crate) fn touched_by(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("labels")?
        .get(label::RESTORE_UID)?
        .as_str()
}

fn metadata(resource: &str, object: &mut Value) {
    let Some(old) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let mut kept = Map::new();
    for key in [
        "name",
        "generateName",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
    ] {
        if let Some(value) = old.remove(key) {
            kept.insert(key.to_owned(), value);
        }
    }
    if let Some(labels) = kept.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| {
            !BOOKKEEPING_LABELS.contains(&key.as_str())
                && !BOOKKEEPING_ANNOTATIONS.contains(&key.as_str())
                // The API server sets it to the namespace's name, which may be a new one.
                && (resource != "namespaces" || key != "kubernetes.io/metadata.name")
        });
    }
    if let Some(annotations) = kept.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !BOOKKEEPING_ANNOTATIONS.contains(&key.as_str()));
        // It repeats the object with the namespace and the values of the time it was applied.
        if resource == "namespaces" {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    kept.retain(|_, value| {
        !(value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty)
            || value.is_null())
    });
    *old = kept;
}

/// Name of an object.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// The string at a JSON pointer.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// The list at a JSON pointer; empty when there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The map `metadata.<key>`, made if needed.
pub(crate) fn map_at<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let slot = &mut object["metadata"][key];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object just now"),
    }
}

/// Removes `keys` from the map at a JSON pointer, if there is one.
fn remove(object: &mut Value, pointer: &str, keys: &[&str]) {
    if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
        for key in keys {
            // Keeps the order of the rest, for readers of diffs.
            map.shift_remove(*key);
        }
    }
}

/// Removes the map at `metadata.<key>` when nothing is left in it.
fn drop_if_empty(object: &mut Value, key: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && metadata
            .get(key)
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty)
    {
        metadata.remove(key);
    }
}

#[cfg(test)]
mod tests;
