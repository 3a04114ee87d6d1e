//! The table of claim and disk, line by line.

use serde_json::json;

use super::*;

/// One line: files, mapped, stored (retain), made, disk in the cluster; binding and what becomes of
/// the disk.
type Line = (bool, bool, Option<bool>, bool, Here, Binding, &'static str);

fn word(disk: &Disk) -> &'static str {
    match disk {
        Disk::Create => "create",
        Disk::Release => "release",
        Disk::Leave(_) => "leave",
        Disk::Skip(_) => "skip",
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_claim_and_disk() {
    use Binding::{Filled, Fresh, Same};
    let taken = || Here::Taken("it belongs to claim other/c".to_owned());
    let lines: Vec<Line> = vec![
        // Retained, made by a provisioner.
        (true, false, Some(true), true, Here::Gone, Filled, "skip"),
        (true, false, Some(true), true, Here::Free, Same, "leave"),
        (true, false, Some(true), true, Here::Reserved, Same, "leave"),
        (
            true,
            false,
            Some(true),
            true,
            Here::Released,
            Same,
            "release",
        ),
        (true, false, Some(true), true, Here::Bound, Same, "leave"),
        (true, false, Some(true), true, taken(), Filled, "leave"),
        (false, false, Some(true), true, Here::Gone, Same, "create"),
        (false, false, Some(true), true, Here::Free, Same, "leave"),
        (
            false,
            false,
            Some(true),
            true,
            Here::Released,
            Same,
            "release",
        ),
        (false, false, Some(true), true, taken(), Fresh, "leave"),
        // Deleted with its claim, made by a provisioner.
        (true, false, Some(false), true, Here::Gone, Filled, "skip"),
        (true, false, Some(false), true, Here::Free, Same, "leave"),
        (
            true,
            false,
            Some(false),
            true,
            Here::Released,
            Filled,
            "skip",
        ),
        (false, false, Some(false), true, Here::Gone, Fresh, "skip"),
        (
            false,
            false,
            Some(false),
            true,
            Here::Released,
            Fresh,
            "skip",
        ),
        // Made by hand.
        (true, false, Some(true), false, Here::Gone, Same, "create"),
        (true, false, Some(true), false, Here::Free, Same, "leave"),
        (
            true,
            false,
            Some(true),
            false,
            Here::Released,
            Same,
            "release",
        ),
        (true, false, Some(true), false, taken(), Fresh, "leave"),
        (true, false, Some(false), false, Here::Gone, Same, "create"),
        (
            true,
            false,
            Some(false),
            false,
            Here::Released,
            Same,
            "release",
        ),
        (false, false, Some(true), false, Here::Gone, Same, "create"),
        (false, false, Some(false), false, Here::Gone, Same, "create"),
        (false, false, Some(true), false, taken(), Fresh, "leave"),
        // A copy under another namespace takes nothing that exists.
        (true, true, Some(true), true, Here::Free, Filled, "leave"),
        (
            true,
            true,
            Some(true),
            true,
            Here::Released,
            Filled,
            "leave",
        ),
        (true, true, Some(true), true, taken(), Filled, "leave"),
        (true, true, Some(true), false, Here::Free, Fresh, "leave"),
        (true, true, Some(true), false, Here::Gone, Same, "create"),
        (
            false,
            true,
            Some(true),
            true,
            Here::Released,
            Fresh,
            "leave",
        ),
        (false, true, Some(true), true, Here::Gone, Same, "create"),
        (true, true, Some(true), true, Here::Gone, Filled, "skip"),
        // The disk's object is not in the restore.
        (true, false, None, true, Here::Gone, Filled, "skip"),
        (true, false, None, true, Here::Released, Same, "release"),
        (true, false, None, false, Here::Gone, Fresh, "skip"),
        (false, false, None, true, Here::Gone, Fresh, "skip"),
        (false, false, None, true, Here::Released, Same, "release"),
        (false, false, None, true, taken(), Fresh, "leave"),
    ];
    for (files, mapped, stored, made, here, binding, disk) in lines {
        let case = Case {
            files,
            mapped,
            stored,
            made,
            here,
        };
        let decided = decide(&case);
        assert_eq!(
            (decided.binding, word(&decided.disk)),
            (binding, disk),
            "{case:?}"
        );
    }
}

fn volume(source: &Value, claim: &Value) -> Value {
    let mut volume = json!({"metadata": {"name": "pv"}, "spec": {
        "capacity": {"storage": "1Gi"}, "claimRef": claim, "persistentVolumeReclaimPolicy": "Retain"}});
    for (key, value) in source.as_object().unwrap() {
        volume["spec"][key] = value.clone();
    }
    volume
}

#[test]
fn whose_a_disk_of_the_cluster_is() {
    let local = || json!({"local": {"path": "/a"}});
    let csi = |handle: &str, identity: &str| {
        json!({"csi": {"driver": "d", "volumeHandle": handle,
            "volumeAttributes": {"storage.kubernetes.io/csiProvisionerIdentity": identity}}})
    };
    let own = |uid: &str| json!({"namespace": "web", "name": "data", "uid": uid});
    let reserved = json!({"namespace": "web", "name": "data"});
    let other = json!({"namespace": "db", "name": "data", "uid": "u2"});
    let in_tree = || json!({"awsElasticBlockStore": {"volumeID": "vol-1"}});
    for (stored, cluster, claim, exists, wanted) in [
        (local(), local(), json!(null), false, Here::Free),
        (local(), local(), reserved.clone(), false, Here::Reserved),
        (local(), local(), own("u1"), false, Here::Released),
        // A claim of that name was made anew since the backup, and is gone as well.
        (local(), local(), own("u9"), false, Here::Released),
        (local(), local(), own("u1"), true, Here::Bound),
        (in_tree(), in_tree(), own("u1"), false, Here::Released),
        // The API server fills in what a manifest leaves out.
        (
            json!({"hostPath": {"path": "/a"}}),
            json!({"hostPath": {"path": "/a", "type": ""}}),
            json!(null),
            false,
            Here::Free,
        ),
        (
            csi("h", "1"),
            csi("h", "2"),
            own("u1"),
            false,
            Here::Released,
        ),
    ] {
        let stored = StoredDisk::of(&volume(&stored, &own("u1")));
        let claim_id = ClaimId {
            namespace: "web",
            name: "data",
            uid: Some("u1"),
            exists,
        };
        let cluster = volume(&cluster, &claim);
        assert_eq!(here(Some(&cluster), Some(&stored), claim_id), wanted);
    }
    let claim_id = ClaimId {
        namespace: "web",
        name: "data",
        uid: Some("u1"),
        exists: false,
    };
    let stored = StoredDisk::of(&volume(&csi("h", "1"), &own("u1")));
    for cluster in [
        volume(&csi("h", "1"), &other),
        volume(&csi("another", "1"), &json!(null)),
        volume(&in_tree(), &json!(null)),
        volume(&local(), &own("u1")),
    ] {
        let found = here(Some(&cluster), Some(&stored), claim_id);
        assert!(matches!(found, Here::Taken(_)), "{found:?}");
    }
    // Its object is not in the restore: only the claim's uid proves that it is its disk.
    let cluster = volume(&local(), &own("u1"));
    assert_eq!(here(Some(&cluster), None, claim_id), Here::Released);
    let free = volume(&local(), &json!(null));
    assert!(matches!(here(Some(&free), None, claim_id), Here::Taken(_)));
    let mut leaving = volume(&local(), &own("u1"));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(here(Some(&leaving), Some(&stored), claim_id), Here::Gone);
    assert_eq!(here(None, Some(&stored), claim_id), Here::Gone);
}

#[test]
fn who_makes_disks() {
    let disk = |provisioned: bool| StoredDisk {
        provisioned,
        ..StoredDisk::of(&json!({}))
    };
    for (class, disk, wanted) in [
        (Some("ebs.csi.aws.com"), Some(disk(false)), true),
        // The provisioner of local volumes signs them, and makes none for a claim.
        (
            Some("kubernetes.io/no-provisioner"),
            Some(disk(true)),
            false,
        ),
        (None, Some(disk(true)), true),
        (None, Some(disk(false)), false),
        (None, None, true),
    ] {
        assert_eq!(can_be_made(class, disk.as_ref()), wanted, "{class:?}");
    }
}
