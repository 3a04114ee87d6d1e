//! Which disk (PersistentVolume) a restored claim gets: the whole table of claim and disk. Pure.
//!
//! A claim gets the disk back that it had when it was backed up if that disk is to be had: it is
//! free, released from this very claim, or gone and nobody but the restore can make it again. In
//! every other case a new disk is provisioned. A claim whose namespace is mapped is a copy and
//! never takes a disk that exists. A disk of somebody else is never touched.
//!
//! What is in a disk that comes back is the claim's own data and newer than the backup: it is kept,
//! and filled only if it is empty. Any other disk must be empty before it is filled.

use serde_json::Value;

use crate::apply::transform::{Binding, list, text};

/// What the backup says of a claim's disk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredDisk {
    /// Its storage outlives its claim.
    pub(crate) retain: bool,
    /// A provisioner made it.
    pub(crate) provisioned: bool,
    /// Its storage class.
    pub(crate) class: Option<String>,
    /// Namespace and name of the claim it belongs to.
    pub(crate) claim: Option<(String, String)>,
    /// The storage itself: driver and handle, path, server and export.
    pub(crate) source: Value,
}

/// Fields of a PersistentVolume's spec that say nothing of the storage itself.
const NOT_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

impl StoredDisk {
    /// Of a PersistentVolume.
    pub(crate) fn of(volume: &Value) -> Self {
        let claim = text(volume, "/spec/claimRef/namespace")
            .zip(text(volume, "/spec/claimRef/name"))
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        Self {
            retain: text(volume, "/spec/persistentVolumeReclaimPolicy") == Some("Retain"),
            provisioned: volume
                .pointer("/metadata/annotations/pv.kubernetes.io~1provisioned-by")
                .is_some(),
            class: text(volume, "/spec/storageClassName")
                .filter(|class| !class.is_empty())
                .map(str::to_owned),
            claim,
            source: source(volume),
        }
    }
}

/// The part of a PersistentVolume that names its storage. Attributes that only describe how it was
/// provisioned are no part of it.
fn source(volume: &Value) -> Value {
    let mut source = volume.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = source.as_object_mut() {
        spec.retain(|key, _| !NOT_SOURCE.contains(&key.as_str()));
        if let Some(csi) = spec.get("csi") {
            let place = serde_json::json!({
                "driver": csi.get("driver"), "volumeHandle": csi.get("volumeHandle"),
            });
            spec.insert("csi".to_owned(), place);
        }
    }
    source
}

/// Whether `disk` is the storage that `stored` names. A newer cluster may have added fields of its
/// own.
fn covers(stored: &Value, disk: &Value) -> bool {
    match (stored, disk) {
        (Value::Object(stored), Value::Object(disk)) => stored
            .iter()
            .all(|(key, value)| covers(value, disk.get(key).unwrap_or(&Value::Null))),
        (Value::String(text), Value::Null) => text.is_empty(),
        (stored, disk) => stored == disk,
    }
}

/// The disk of that name as the cluster has it, as the claim sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// There is none, or it is going away.
    Gone,
    /// It is the claim's disk, and nobody claims it.
    Free,
    /// It is the claim's disk and waits for a claim of this name.
    Reserved,
    /// It is the claim's disk, and the claim it was bound to is gone.
    Released,
    /// It is bound to the claim, which exists.
    Bound,
    /// It belongs to another claim, or is other storage of that name; who or what, for a person.
    Taken(String),
}

/// Facts about the claim in the backup that decide what a disk of the cluster is to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimId<'a> {
    /// Namespace in the backup.
    pub(crate) namespace: &'a str,
    /// Name.
    pub(crate) name: &'a str,
    /// Uid at the time of the backup.
    pub(crate) uid: Option<&'a str>,
    /// Whether a claim of that namespace and name exists in the cluster.
    pub(crate) exists: bool,
}

/// Looks at the disk of the cluster that has the name of the claim's disk.
pub(crate) fn here(disk: Option<&Value>, stored: Option<&StoredDisk>, claim: ClaimId<'_>) -> Here {
    let Some(disk) = disk.filter(|disk| disk.pointer("/metadata/deletionTimestamp").is_none())
    else {
        return Here::Gone;
    };
    let holder = text(disk, "/spec/claimRef/namespace").zip(text(disk, "/spec/claimRef/name"));
    let uid = text(disk, "/spec/claimRef/uid");
    let same_claim = holder == Some((claim.namespace, claim.name));
    let same_storage = match stored {
        Some(stored) => covers(&stored.source, &source(disk)),
        // Its object is not in the restore; the uid of the claim proves as much.
        None => same_claim && uid.is_some() && uid == claim.uid,
    };
    match holder {
        Some((namespace, name)) if !same_claim => {
            Here::Taken(format!("it belongs to claim {namespace}/{name}"))
        }
        _ if !same_storage => Here::Taken("it is other storage of that name".to_owned()),
        None => Here::Free,
        Some(_) if uid.is_none() => Here::Reserved,
        Some(_) if claim.exists => Here::Bound,
        Some(_) => Here::Released,
    }
}

/// Whether somebody makes new disks for claims of a class. `class`: its provisioner, `None` if
/// neither the cluster nor the backup has the class.
pub(crate) fn can_be_made(class: Option<&str>, disk: Option<&StoredDisk>) -> bool {
    match class {
        Some("kubernetes.io/no-provisioner") => false,
        Some(_) => true,
        None => disk.is_none_or(|disk| disk.provisioned),
    }
}

/// A claim and its disk.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The backup holds the claim's files.
    pub(crate) files: bool,
    /// The claim goes to another namespace.
    pub(crate) mapped: bool,
    /// The disk's object, if it is in the restore: whether it is retained.
    pub(crate) stored: Option<bool>,
    /// Somebody makes new disks for the claim.
    pub(crate) made: bool,
    /// The disk in the cluster.
    pub(crate) here: Here,
}

/// What happens to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Its object is made as it was, for the claim.
    Create,
    /// It is made free of the claim that is gone, for the claim that comes.
    Release,
    /// It stays as it is.
    Leave(String),
    /// Its object is not restored; why.
    Skip(&'static str),
}

/// What is decided about a claim and its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// How the claim is bound.
    pub(crate) binding: Binding,
    /// What happens to the disk.
    pub(crate) disk: Disk,
}

/// Why a disk is not restored.
const NEW_DISK: &str = "its claim gets a new volume";
const NEW_FILLED: &str = "its claim gets a new volume, filled from the backup";
const DELETED: &str = "its storage is deleted with its claim, so the claim gets a new volume";

/// Decides.
pub(crate) fn decide(case: &Case) -> Decision {
    let Case {
        files,
        mapped,
        stored,
        made,
        here,
    } = case;
    let same = |disk| Decision {
        binding: Binding::Same,
        disk,
    };
    // Without a provisioner only disks that an administrator made can serve, and the selector says
    // which.
    let binding = if *files && *made {
        Binding::Filled
    } else {
        Binding::Fresh
    };
    let fresh = |disk| Decision { binding, disk };
    let retain = stored.unwrap_or(true);
    match here {
        Here::Bound => same(Disk::Leave("its claim exists".to_owned())),
        Here::Free | Here::Reserved | Here::Released if *mapped => fresh(Disk::Leave(
            "it belongs to the application that the copy is made of".to_owned(),
        )),
        Here::Free => same(Disk::Leave("it is free and kept its data".to_owned())),
        Here::Reserved => same(Disk::Leave("it waits for its claim".to_owned())),
        // Its provisioner deletes it any moment.
        Here::Released if !retain && *made => fresh(Disk::Skip(DELETED)),
        Here::Released => same(Disk::Release),
        Here::Taken(why) => fresh(Disk::Leave(why.clone())),
        Here::Gone => match stored {
            Some(_) if !made => same(Disk::Create),
            Some(true) if !files => same(Disk::Create),
            _ if *files => fresh(Disk::Skip(NEW_FILLED)),
            Some(false) => fresh(Disk::Skip(DELETED)),
            _ => fresh(Disk::Skip(NEW_DISK)),
        },
    }
}

/// Whether a claim takes its content from elsewhere when it is provisioned: a snapshot or another
/// claim.
pub(crate) fn has_source(claim: &Value) -> bool {
    ["/spec/dataSource", "/spec/dataSourceRef"]
        .iter()
        .any(|pointer| {
            claim
                .pointer(pointer)
                .is_some_and(|source| !source.is_null())
        })
}

/// Whether pods on several nodes can mount a claim.
pub(crate) fn is_shared(claim: &Value) -> bool {
    list(claim, "/spec/accessModes")
        .iter()
        .any(|mode| matches!(mode.as_str(), Some("ReadWriteMany" | "ReadOnlyMany")))
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
