//! Claims and volumes: which binding survives a restore.

use serde_json::{Value, json};

use super::{Rules, drop_if_empty, list, remove, text};

/// Annotations the volume controllers and the scheduler put on a claim.
const CLAIM_ANNOTATIONS: &[&str] = &[
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-resizer",
];

/// What a restored claim is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A volume provisioned anew: its data comes from the backup, or there is none to keep.
    #[default]
    Fresh,
    /// A fresh volume that is filled from the backup: sources of data are dropped as well.
    Filled,
    /// The volume it was bound to, restored as it is.
    Same,
}

/// A claim that a pod's ephemeral volume made belongs to that pod, which makes a new one.
pub(super) fn skip_claim(claim: &Value) -> Option<&'static str> {
    list(claim, "/metadata/ownerReferences")
        .iter()
        .any(|owner| {
            text(owner, "/kind") == Some("Pod")
                && owner.get("controller").and_then(Value::as_bool) == Some(true)
        })
        .then_some("its pod makes it anew for an ephemeral volume")
}

/// Snapshots and their contents stand for something in the storage of the cluster they come from. A
/// content that is made anew can have that deleted or names nothing, and a snapshot would be taken
/// anew, of a volume that is just being filled.
pub(super) fn skip_snapshot(resource: &str) -> Option<&'static str> {
    match resource {
        "volumesnapshotcontents.snapshot.storage.k8s.io"
        | "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io" => {
            Some("it stands for a snapshot in the storage it was taken in, which Ark does not hold")
        }
        "volumesnapshots.snapshot.storage.k8s.io"
        | "volumegroupsnapshots.groupsnapshot.storage.k8s.io" => Some(
            "the snapshot it names is not in the backup, and another one would be taken of the restored volume",
        ),
        _ => None,
    }
}

pub(super) fn strip_claim(claim: &mut Value, binding: Binding) {
    remove(claim, "/metadata/annotations", CLAIM_ANNOTATIONS);
    drop_if_empty(claim, "annotations");
    match binding {
        Binding::Same => {}
        Binding::Fresh => remove(claim, "/spec", &["volumeName"]),
        Binding::Filled => remove(
            claim,
            "/spec",
            &["volumeName", "dataSource", "dataSourceRef", "selector"],
        ),
    }
}

pub(super) fn strip_volume(volume: &mut Value) {
    remove(
        volume,
        "/metadata/annotations",
        &["pv.kubernetes.io/bound-by-controller"],
    );
    drop_if_empty(volume, "annotations");
    // The claim has a new uid; by namespace and name the two find each other again.
    remove(volume, "/spec/claimRef", &["uid", "resourceVersion"]);
}

pub(super) fn map_claim_ref(volume: &mut Value, rules: Rules<'_>) {
    if let Some(namespace) = text(volume, "/spec/claimRef/namespace") {
        let target = rules.target(namespace).to_owned();
        volume["spec"]["claimRef"]["namespace"] = json!(target);
    }
}
