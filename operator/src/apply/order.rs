//! In which order resources are restored, and which never are. Pure.
//!
//! The order is Velero's, so that what restores there restores here: definitions, namespaces,
//! storage, identities, configuration, pods, then the rest by name. Two differences: objects of one
//! resource are applied in parallel, and whatever can refuse or change other objects (admission)
//! comes last of all.

/// Resources never restored, whatever a backup holds: they describe the cluster the backup was
/// taken in, or Ark's and Velero's own bookkeeping.
const NEVER: &[&str] = &[
    "nodes",
    "events",
    "events.events.k8s.io",
    "csinodes.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "csistoragecapacities.storage.k8s.io",
    "ipaddresses.networking.k8s.io",
    "resourceslices.resource.k8s.io",
    "backups.velero.io",
    "restores.velero.io",
    "resticrepositories.velero.io",
    "backuprepositories.velero.io",
    "podvolumebackups.velero.io",
    "podvolumerestores.velero.io",
    "backups.ark.heptio.com",
    "restores.ark.heptio.com",
    "resticrepositories.ark.heptio.com",
    "podvolumebackups.ark.heptio.com",
    "podvolumerestores.ark.heptio.com",
    "deletebackuprequests.ark.heptio.com",
    "downloadrequests.ark.heptio.com",
    "serverstatusrequests.ark.heptio.com",
];

/// Restored first, in this order.
const FIRST: &[&str] = &[
    CRDS,
    NAMESPACES,
    "storageclasses.storage.k8s.io",
    "volumesnapshotclasses.snapshot.storage.k8s.io",
    "volumesnapshotcontents.snapshot.storage.k8s.io",
    "volumesnapshots.snapshot.storage.k8s.io",
    VOLUMES,
    CLAIMS,
    "clusterroles.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "serviceaccounts",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "secrets",
    "configmaps",
    "limitranges",
    "priorityclasses.scheduling.k8s.io",
    "runtimeclasses.node.k8s.io",
    PODS,
    "replicasets.apps",
    "clusterclasses.cluster.x-k8s.io",
    "endpoints",
    "services",
];

/// Restored after everything else that stands by name.
const LATE: &[&str] = &[
    "clusterbootstraps.run.tanzu.vmware.com",
    "clusters.cluster.x-k8s.io",
    "clusterresourcesets.addons.cluster.x-k8s.io",
    "apps.kappctrl.k14s.io",
    "packageinstalls.packaging.carvel.dev",
];

/// Restored last: from then on they decide about other objects.
const LAST: &[&str] = &[
    "resourcequotas",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
];

/// Definitions of custom resources.
pub(crate) const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Namespaces.
pub(crate) const NAMESPACES: &str = "namespaces";
/// Volumes.
pub(crate) const VOLUMES: &str = "persistentvolumes";
/// Claims.
pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
/// Jobs.
pub(crate) const JOBS: &str = "jobs.batch";
/// Pods.
pub(crate) const PODS: &str = "pods";

/// When a resource is restored, relative to the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Definitions; applied and established before anything else is looked at.
    Definitions,
    /// Namespaces.
    Namespaces,
    /// What pods need.
    BeforePods,
    /// Pods.
    Pods,
    /// Controllers and everything else.
    AfterPods,
    /// Admission and quotas, after all volumes and controllers.
    Last,
}

/// Whether objects of `resource` are left out of every restore.
pub(crate) fn never_restored(resource: &str) -> bool {
    NEVER.contains(&resource)
}

/// The stage of `resource`.
pub(crate) fn stage(resource: &str) -> Stage {
    match rank(resource) {
        _ if LAST.contains(&resource) => Stage::Last,
        (0, _) if resource == CRDS => Stage::Definitions,
        (0, _) if resource == NAMESPACES => Stage::Namespaces,
        (0, _) if resource == PODS => Stage::Pods,
        (0, at)
            if FIRST
                .iter()
                .position(|r| *r == PODS)
                .is_some_and(|pods| at < pods) =>
        {
            Stage::BeforePods
        }
        _ => Stage::AfterPods,
    }
}

/// Puts `resources` into the order they are restored in.
pub(crate) fn sort(resources: &mut [String]) {
    resources.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
}

fn rank(resource: &str) -> (u8, usize) {
    let at = |list: &[&str]| list.iter().position(|r| *r == resource);
    if let Some(at) = at(FIRST) {
        (0, at)
    } else if let Some(at) = at(LATE) {
        (2, at)
    } else if let Some(at) = at(LAST) {
        (3, at)
    } else {
        (1, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_documented_one() {
        let mut resources: Vec<String> = [
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "statefulsets.apps",
            "clusters.cluster.x-k8s.io",
            "services",
            "replicasets.apps",
            "pods",
            "controllerrevisions.apps",
            "configmaps",
            "secrets",
            "serviceaccounts",
            "persistentvolumeclaims",
            "persistentvolumes",
            "storageclasses.storage.k8s.io",
            "namespaces",
            "customresourcedefinitions.apiextensions.k8s.io",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut wanted = resources.clone();
        wanted.reverse();
        // By name among themselves, after the services.
        wanted.retain(|r| !r.contains("revisions") && r != "services" && r != "replicasets.apps");
        let pods = wanted.iter().position(|r| r == "pods").unwrap();
        for (i, r) in ["replicasets.apps", "services", "controllerrevisions.apps"]
            .iter()
            .enumerate()
        {
            wanted.insert(pods + 1 + i, (*r).to_owned());
        }
        let late = wanted
            .iter()
            .position(|r| r.starts_with("clusters."))
            .unwrap();
        let late = wanted.remove(late);
        let end = wanted.len() - 1;
        wanted.insert(end, late);
        sort(&mut resources);
        assert_eq!(resources, wanted);
    }

    #[test]
    fn stages() {
        for (resource, wanted) in [
            (CRDS, Stage::Definitions),
            (NAMESPACES, Stage::Namespaces),
            (CLAIMS, Stage::BeforePods),
            ("priorityclasses.scheduling.k8s.io", Stage::BeforePods),
            (PODS, Stage::Pods),
            ("replicasets.apps", Stage::AfterPods),
            ("deployments.apps", Stage::AfterPods),
            ("widgets.example.org", Stage::AfterPods),
            ("resourcequotas", Stage::Last),
            (
                "mutatingwebhookconfigurations.admissionregistration.k8s.io",
                Stage::Last,
            ),
        ] {
            assert_eq!(stage(resource), wanted, "{resource}");
        }
    }

    #[test]
    fn own_and_cluster_bookkeeping_stays_out() {
        assert!(never_restored("nodes"));
        assert!(never_restored("restores.ark.heptio.com"));
        assert!(!never_restored("schedules.ark.heptio.com"));
        assert!(!never_restored("pods"));
        // A resource of the same name in another group is not ours.
        assert!(!never_restored("backups.postgresql.cnpg.io"));
    }
}
