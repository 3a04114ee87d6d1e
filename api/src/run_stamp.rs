//! Whether an object is an order given to this cluster, or the copy of one that was executed already.
//!
//! An API server drops the status of an object that is created, so an exported Backup or Restore that is
//! applied again looks like a new order. Before a run starts, its object is stamped with its own uid
//! ([`RUN_UID`](crate::annotation::RUN_UID)); an object that carries another object's stamp is a copy. What Velero executed is
//! recognised by what Velero writes, and what Ark executed before it wrote stamps by the status that
//! `kubectl apply` keeps in its annotation. Pure.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::annotation::{KUBECTL_APPLIED, RUN_UID};

/// What Velero writes on each Backup that it executes: annotations with this prefix.
const VELERO_SOURCE_CLUSTER: &str = "velero.io/source-cluster-k8s-";
/// Finalizer that Velero puts on each Restore that it executes.
const VELERO_RESTORE_FINALIZER: &str = "restores.velero.io/external-resources-finalizer";

/// Why an object counts as a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It carries the stamp of the object of this uid, which was executed.
    Executed(String),
    /// Velero executed it, in this or another cluster.
    ByVelero,
    /// It was applied with a status of this phase, which the API server dropped.
    WithStatus(String),
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed(uid) => write!(
                f,
                "the object is a copy of one that was executed (uid {uid})"
            ),
            Self::ByVelero => f.write_str("the object is a copy of one that Velero executed"),
            Self::WithStatus(phase) => write!(
                f,
                "the object is a copy: it was applied with the status {phase}"
            ),
        }
    }
}

impl Copied {
    /// A sentence for the user: what the object is, that nothing is executed, and the command that has it
    /// executed on purpose. `resource` is the full name, `backups.ark.heptio.com`.
    pub fn explain(&self, resource: &str, metadata: &ObjectMeta) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!(
            "{self} and is not executed; to execute it on purpose: kubectl -n {} annotate {resource} {} {RUN_UID}={} --overwrite",
            text(&metadata.namespace),
            text(&metadata.name),
            text(&metadata.uid),
        )
    }
}

/// Whether the object with this metadata is a copy; `None`: it is an order of this cluster's own. An object
/// with `spec.origin` is a record whatever this says.
pub fn judge(metadata: &ObjectMeta) -> Option<Copied> {
    if let Some(stamp) = stamp(metadata) {
        return (metadata.uid.as_deref() != Some(stamp))
            .then(|| Copied::Executed(stamp.to_owned()));
    }
    let mut annotations = metadata.annotations.iter().flatten();
    let from_velero = annotations.any(|(key, _)| key.starts_with(VELERO_SOURCE_CLUSTER))
        || metadata
            .finalizers
            .iter()
            .flatten()
            .any(|name| name == VELERO_RESTORE_FINALIZER);
    if from_velero {
        return Some(Copied::ByVelero);
    }
    applied_phase(metadata).map(Copied::WithStatus)
}

/// The uid in the object's stamp.
pub fn stamp(metadata: &ObjectMeta) -> Option<&str> {
    let stamp = metadata.annotations.as_ref()?.get(RUN_UID)?;
    Some(stamp.as_str())
}

/// The phase that the manifest given to `kubectl apply` had. A manifest that says `phase: New` or nothing
/// was written by a person.
fn applied_phase(metadata: &ObjectMeta) -> Option<String> {
    let applied = metadata.annotations.as_ref()?.get(KUBECTL_APPLIED)?;
    let applied: Value = serde_json::from_str(applied).ok()?;
    let phase = applied.pointer("/status/phase")?.as_str()?;
    (!matches!(phase, "" | "New")).then(|| phase.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(metadata: Value) -> Option<Copied> {
        judge(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn an_order_is_told_from_a_copy() {
        let applied = |status: Value| {
            let manifest = json!({"spec": {}, "status": status}).to_string();
            json!({"uid": "u", "annotations": {KUBECTL_APPLIED: manifest}})
        };
        let executed = |uid: &str| Some(Copied::Executed(uid.to_owned()));
        for (metadata, expected) in [
            (json!({"uid": "u"}), None),
            (json!({"uid": "u", "annotations": {RUN_UID: "u"}}), None),
            (
                json!({"uid": "u", "annotations": {RUN_UID: "v"}}),
                executed("v"),
            ),
            (
                json!({"uid": "u", "annotations": {RUN_UID: ""}}),
                executed(""),
            ),
            (
                json!({"uid": "u", "annotations": {"velero.io/source-cluster-k8s-gitversion": "v1.32.3"}}),
                Some(Copied::ByVelero),
            ),
            (
                json!({"uid": "u", "finalizers": [VELERO_RESTORE_FINALIZER]}),
                Some(Copied::ByVelero),
            ),
            (
                applied(json!({"phase": "Completed"})),
                Some(Copied::WithStatus("Completed".to_owned())),
            ),
            (applied(json!({"phase": ""})), None),
            (applied(json!({"phase": null})), None),
            (applied(json!({})), None),
            (
                json!({"uid": "u", "annotations": {KUBECTL_APPLIED: "{"}}),
                None,
            ),
        ] {
            assert_eq!(judged(metadata.clone()), expected, "{metadata}");
        }
    }

    #[test]
    fn the_stamp_of_its_own_uid_makes_any_copy_an_order() {
        let metadata = json!({
            "uid": "u", "finalizers": [VELERO_RESTORE_FINALIZER],
            "annotations": {RUN_UID: "u", "velero.io/source-cluster-k8s-gitversion": "v1.32.3"},
        });
        assert_eq!(judged(metadata), None);
    }

    #[test]
    fn the_explanation_names_the_command() {
        let metadata: ObjectMeta =
            serde_json::from_value(json!({"name": "b", "namespace": "heptio-ark", "uid": "u"}))
                .unwrap();
        assert_eq!(
            Copied::Executed("v".to_owned()).explain("backups.ark.heptio.com", &metadata),
            "the object is a copy of one that was executed (uid v) and is not executed; to execute it on purpose: \
             kubectl -n heptio-ark annotate backups.ark.heptio.com b ark.heptio.com/run-uid=u --overwrite"
        );
    }
}
