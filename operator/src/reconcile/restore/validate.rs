//! From the spec of a Restore to an [`Order`] that nothing later has to check again. Pure.
//!
//! Says everything that is wrong at once. Fields that this version cannot act on are refused, never
//! ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ark_api::Backup;
use ark_api::backup::{BackupPhase, Hooks};
use ark_api::restore::{
    ExistingResourcePolicy, MissingVolumeData, NonEmptyVolumes, RestoreSpec, RestoreUploaderConfig,
};
use kube::ResourceExt;

use crate::apply::filter::{self, Names, Selectors};

/// Deadline of a volume when the restore names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_hours(4);
/// Deadline for the agent to start to fill a volume when the restore names none.
const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_hours(24);

/// Where the backup comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This backup.
    Backup(String),
    /// The newest good backup of a schedule.
    Schedule {
        /// Its name.
        name: String,
        /// Backups that are `PartiallyFailed` count as well.
        partially_failed: bool,
    },
}

/// A restore that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Where the backup comes from.
    pub(crate) source: Source,
    /// Namespaces, by their names in the backup.
    pub(crate) namespaces: Names,
    /// Resources, in the words of the user until `words` has put them into their full form.
    pub(crate) resources: Names,
    /// Labels.
    pub(crate) selectors: Selectors,
    /// Cluster-scoped objects: all, none, or those that restored objects need.
    pub(crate) cluster_resources: Option<bool>,
    /// Namespace in the backup to namespace in the cluster.
    pub(crate) mapping: BTreeMap<String, String>,
    /// Keep the node ports of Services.
    pub(crate) preserve_node_ports: bool,
    /// What happens to objects that exist.
    pub(crate) policy: ExistingResourcePolicy,
    /// Deadline of each volume.
    pub(crate) volume_timeout: Duration,
    /// Deadline for pods to be scheduled and claims to be bound, if the restore has one of its own.
    pub(crate) bind_timeout: Option<Duration>,
    /// Deadline for the agent to start to fill a volume.
    pub(crate) queue_timeout: Duration,
    /// Applications start with what data there is, even if the backup lacks some.
    pub(crate) accept_missing: bool,
    /// Volumes that hold files are filled.
    pub(crate) fill_non_empty: bool,
}

/// Checks a spec.
pub(crate) fn check(spec: &RestoreSpec) -> Result<Order, Vec<String>> {
    let RestoreSpec {
        backup_name,
        schedule_name,
        allow_partially_failed,
        included_namespaces,
        excluded_namespaces,
        included_resources,
        excluded_resources,
        namespace_mapping,
        label_selector,
        or_label_selectors,
        preserve_node_ports,
        include_cluster_resources,
        existing_resource_policy,
        item_operation_timeout,
        volume_bind_timeout,
        volume_queue_timeout,
        missing_volume_data,
        non_empty_volumes,
        uploader_config: _,
        restore_pvs: _,
        restore_status: _,
        hooks: _,
        resource_modifier: _,
        resource_policy: _,
        origin: _,
        cancel: _,
    } = spec;
    let mut wrong = unsupported(spec);
    let source = source(
        backup_name.as_deref(),
        schedule_name.as_deref(),
        allow_partially_failed.unwrap_or_default(),
        &mut wrong,
    );
    let selectors: Vec<_> = label_selector
        .iter()
        .chain(or_label_selectors)
        .cloned()
        .collect();
    if label_selector.is_some() && !or_label_selectors.is_empty() {
        wrong.push("labelSelector and orLabelSelectors exclude each other".to_owned());
    }
    for selector in &selectors {
        let problems = filter::check(selector);
        wrong.extend(
            problems
                .into_iter()
                .map(|problem| format!("label selector: {problem}")),
        );
    }
    wrong.extend(namespaces(spec));
    let given = |timeout: &Option<ark_api::duration::Duration>| {
        timeout
            .map(|timeout| timeout.0)
            .filter(|timeout| !timeout.is_zero())
    };
    let volume_timeout = given(item_operation_timeout);
    let queue_timeout = given(volume_queue_timeout).unwrap_or_else(|| {
        volume_timeout.map_or(DEFAULT_QUEUE_TIMEOUT, |own| own.min(DEFAULT_QUEUE_TIMEOUT))
    });
    let volume_timeout = volume_timeout.unwrap_or(DEFAULT_TIMEOUT);
    match source {
        Some(source) if wrong.is_empty() => Ok(Order {
            source,
            namespaces: Names::new(included_namespaces, excluded_namespaces),
            resources: Names::new(included_resources, excluded_resources),
            selectors: Selectors(selectors),
            cluster_resources: *include_cluster_resources,
            mapping: namespace_mapping.clone(),
            preserve_node_ports: preserve_node_ports.unwrap_or(false),
            policy: existing_resource_policy.unwrap_or_default(),
            volume_timeout,
            bind_timeout: given(volume_bind_timeout),
            queue_timeout,
            accept_missing: *missing_volume_data == Some(MissingVolumeData::Accept),
            fill_non_empty: *non_empty_volumes == Some(NonEmptyVolumes::Fill),
        }),
        _ => Err(wrong),
    }
}

fn source(
    backup: Option<&str>,
    schedule: Option<&str>,
    partially_failed: bool,
    wrong: &mut Vec<String>,
) -> Option<Source> {
    let given = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    match (given(backup), given(schedule)) {
        (Some(backup), None) => return Some(Source::Backup(backup)),
        (None, Some(name)) => {
            return Some(Source::Schedule {
                name,
                partially_failed,
            });
        }
        (Some(_), Some(_)) => {
            wrong.push("backupName and scheduleName exclude each other".to_owned());
        }
        (None, None) => wrong.push("backupName or scheduleName must be given".to_owned()),
    }
    None
}

/// Fields this version cannot act on.
fn unsupported(spec: &RestoreSpec) -> Vec<String> {
    let hooks = |Hooks { resources }: &Hooks| !resources.is_empty();
    let RestoreUploaderConfig {
        write_sparse_files,
        parallel_files_download,
    } = spec.uploader_config.clone().unwrap_or_default();
    [
        (
            spec.restore_pvs == Some(false),
            "restorePVs: false is not supported yet; leave claims out with excludedResources",
        ),
        (
            spec.restore_status.is_some(),
            "restoreStatus is not supported yet",
        ),
        (
            spec.hooks.as_ref().is_some_and(hooks),
            "hooks are not supported yet",
        ),
        (
            spec.resource_modifier.is_some(),
            "resourceModifier is not supported yet",
        ),
        (
            spec.resource_policy.is_some(),
            "resourcePolicy is not supported yet",
        ),
        (
            write_sparse_files == Some(false),
            "uploaderConfig.writeSparseFiles: false is not supported yet",
        ),
        (
            parallel_files_download.is_some_and(|workers| workers != 1),
            "uploaderConfig.parallelFilesDownload is not supported yet",
        ),
    ]
    .into_iter()
    .filter(|(wrong, _)| *wrong)
    .map(|(_, text)| text.to_owned())
    .collect()
}

/// What is wrong with the namespaces.
fn namespaces(spec: &RestoreSpec) -> Vec<String> {
    let mut wrong = Vec::new();
    let (included, excluded) = (&spec.included_namespaces, &spec.excluded_namespaces);
    for (list, names) in [
        ("includedNamespaces", included),
        ("excludedNamespaces", excluded),
    ] {
        for name in names.iter().filter(|name| !is_namespace_pattern(name)) {
            wrong.push(format!("{list}: {name:?} is not the name of a namespace"));
        }
    }
    let twice: BTreeSet<_> = included
        .iter()
        .filter(|name| excluded.contains(name))
        .collect();
    for name in twice {
        wrong.push(format!("namespace {name:?} is included and excluded"));
    }
    for (from, to) in &spec.namespace_mapping {
        if !is_namespace(from) || !is_namespace(to) {
            wrong.push(format!(
                "namespaceMapping: {from:?} to {to:?} are not names of namespaces"
            ));
        }
    }
    wrong
}

/// Whether `name` can be the name of a namespace.
fn is_namespace(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The same with the characters of globs.
fn is_namespace_pattern(name: &str) -> bool {
    let inner = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*' | '?' | '[' | ']')
    };
    !name.is_empty() && name.len() <= 253 && name.chars().all(inner)
}

/// Whether a restore may read `backup`; says why not.
pub(crate) fn usable(backup: &Backup) -> Result<(), String> {
    let name = backup.name_any();
    let status = backup.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if backup.metadata.deletion_timestamp.is_some() || phase == BackupPhase::Deleting {
        return Err(format!("backup {name:?} is being deleted"));
    }
    match phase {
        BackupPhase::Completed | BackupPhase::PartiallyFailed => Ok(()),
        // Cancelled after its items were collected: what was finished by then is stored.
        BackupPhase::Canceled if status.volumes.is_some() => Ok(()),
        BackupPhase::Canceled => Err(format!(
            "backup {name:?} was cancelled before its items were stored"
        )),
        BackupPhase::Failed | BackupPhase::FailedValidation => {
            let why = status
                .failure_reason
                .or_else(|| status.validation_errors.first().cloned())
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            Err(format!(
                "backup {name:?} failed ({phase:?}) and cannot be restored{why}"
            ))
        }
        BackupPhase::Copy => Err(format!(
            "Backup {name:?} is a copy of one that was executed and stands for no stored backup; delete it to have \
             the stored backup of that name shown in its place"
        )),
        running => Err(format!(
            "backup {name:?} is not finished yet ({running:?}); create the restore again when it is"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(spec: Value) -> Result<Order, Vec<String>> {
        check(&serde_json::from_value(spec).unwrap())
    }

    fn backup(name: &str, status: &Value) -> Backup {
        serde_json::from_value(json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Backup",
            "metadata": {"name": name}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn defaults() {
        let order = run(json!({"backupName": "b"})).unwrap();
        assert_eq!(order.source, Source::Backup("b".into()));
        assert_eq!(order.volume_timeout, DEFAULT_TIMEOUT);
        assert_eq!(order.bind_timeout, None);
        assert_eq!(order.queue_timeout, DEFAULT_QUEUE_TIMEOUT);
        assert!(!order.accept_missing && !order.fill_non_empty);
        assert_eq!(order.policy, ExistingResourcePolicy::None);
        let order = run(json!({"scheduleName": "s", "itemOperationTimeout": "30s"})).unwrap();
        let schedule = |partially_failed| Source::Schedule {
            name: "s".into(),
            partially_failed,
        };
        assert_eq!(order.source, schedule(false));
        assert_eq!(order.queue_timeout, Duration::from_secs(30));
        let order = run(json!({"scheduleName": "s", "allowPartiallyFailed": true})).unwrap();
        assert_eq!(order.source, schedule(true));
        let order = run(
            json!({"backupName": "b", "itemOperationTimeout": "30s", "volumeBindTimeout": "1h",
            "volumeQueueTimeout": "2h", "missingVolumeData": "accept", "nonEmptyVolumes": "fill"}),
        )
        .unwrap();
        assert_eq!(order.bind_timeout, Some(Duration::from_hours(1)));
        assert_eq!(order.queue_timeout, Duration::from_hours(2));
        assert!(order.accept_missing && order.fill_non_empty);
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let cases = [
            (json!({}), vec!["must be given"]),
            (json!({"backupName": ""}), vec!["must be given"]),
            (
                json!({"backupName": "a", "scheduleName": "b"}),
                vec!["exclude each other"],
            ),
            (
                json!({"backupName": "a", "restorePVs": false, "restoreStatus": {},
                       "hooks": {"resources": [{"name": "x"}]},
                       "resourceModifier": {"kind": "configmap", "name": "m"},
                       "resourcePolicy": {"kind": "configmap", "name": "m"},
                       "uploaderConfig": {"parallelFilesDownload": 8, "writeSparseFiles": false}}),
                vec![
                    "restorePVs",
                    "restoreStatus",
                    "hooks",
                    "resourceModifier",
                    "resourcePolicy",
                    "writeSparseFiles",
                    "parallelFilesDownload",
                ],
            ),
            (
                json!({"backupName": "a", "labelSelector": {}, "orLabelSelectors": [
                    {"matchExpressions": [{"key": "a", "operator": "Near"}]}]}),
                vec!["exclude each other", "Near"],
            ),
            (
                json!({"backupName": "a", "includedNamespaces": ["Web", "x"], "excludedNamespaces": ["x"],
                       "namespaceMapping": {"a": "B", "c": "d"}}),
                vec!["\"Web\"", "included and excluded", "\"B\""],
            ),
        ];
        for (spec, wanted) in cases {
            let wrong = run(spec.clone()).unwrap_err();
            assert_eq!(wrong.len(), wanted.len(), "{spec}: {wrong:?}");
            for word in wanted {
                assert!(wrong.iter().any(|w| w.contains(word)), "{word}: {wrong:?}");
            }
        }
        assert!(
            run(
                json!({"backupName": "a", "hooks": {"resources": []}, "restorePVs": true,
            "includedNamespaces": ["*", "web-*"]})
            )
            .is_ok()
        );
    }

    #[test]
    fn only_finished_backups_are_usable() {
        for (status, wanted) in [
            (json!({"phase": "Completed"}), None),
            (json!({"phase": "PartiallyFailed"}), None),
            (json!({"phase": "InProgress"}), Some("not finished")),
            (json!({}), Some("not finished")),
            (
                json!({"phase": "Failed", "failureReason": "the store is gone"}),
                Some("the store is gone"),
            ),
            (
                json!({"phase": "FailedValidation", "validationErrors": ["no such namespace"]}),
                Some("no such namespace"),
            ),
            (json!({"phase": "Deleting"}), Some("being deleted")),
        ] {
            match (usable(&backup("b", &status)), wanted) {
                (Ok(()), None) => {}
                (Err(why), Some(wanted)) => assert!(why.contains(wanted), "{why}"),
                (result, _) => panic!("{status}: {result:?}"),
            }
        }
    }
}
