//! From a Backup's spec to a plan that makes sense, or every reason why it does not. Pure.

use std::time::Duration;

use ark_api::backup::BackupSpec;
use ark_api::location::{AccessMode, BackupStorageLocation, LocationPhase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::apply::filter::check as check_selector;
use crate::collect::filter::uses_new_style;
use crate::collect::namespaces::is_pattern;

/// How long a backup is kept when it does not say.
const DEFAULT_TTL: Duration = Duration::from_hours(720);
/// Longest time a backup may ask to be kept: what is longer is a slip, and runs into the end of the
/// calendar.
const MAX_TTL: Duration = Duration::from_hours(24 * 366 * 100);
/// How long a volume may take when the backup does not say.
const DEFAULT_VOLUME_TIMEOUT: Duration = Duration::from_hours(4);
/// How long a volume may wait for its agent when the backup does not say.
const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_hours(24);
/// Velero's defaults, which its tools write into every manifest: they ask for nothing.
const VELERO_CSI_TIMEOUT: Duration = Duration::from_mins(10);
const VELERO_GROUP_LABEL: &str = "velero.io/volume-group";

/// What a backup is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::reconcile) struct Plan {
    /// Location.
    pub(super) location: String,
    /// How long it is kept.
    pub(super) ttl: Duration,
    /// Deadline of each volume, from the moment its agent begins with it.
    pub(super) volume_timeout: Duration,
    /// How long a volume may wait for its agent to begin with it.
    pub(super) queue_timeout: Duration,
    /// Take the files of every volume that is not excluded.
    pub(super) opt_out: bool,
}

/// Turns a spec into a plan. `default` is the location the installation names as its default.
pub(in crate::reconcile) fn validate(
    spec: &BackupSpec,
    locations: &[BackupStorageLocation],
    default: Option<&str>,
) -> Result<Plan, Vec<String>> {
    let mut problems = Vec::new();
    let location = location(spec, locations, default, &mut problems);
    unsupported(spec, &mut problems);
    filters(spec, &mut problems);
    if spec.ttl.is_some_and(|ttl| ttl.0 > MAX_TTL) {
        problems
            .push("spec.ttl is longer than a hundred years; write for example 8760h".to_owned());
    }
    let ttl = match spec.ttl {
        Some(ttl) if !ttl.0.is_zero() => ttl.0,
        _ => DEFAULT_TTL,
    };
    let or_default = |given: Option<ark_api::duration::Duration>, default| match given {
        Some(timeout) if !timeout.0.is_zero() => timeout.0,
        _ => default,
    };
    let volume_timeout = or_default(spec.item_operation_timeout, DEFAULT_VOLUME_TIMEOUT);
    let queue_timeout = or_default(spec.volume_queue_timeout, DEFAULT_QUEUE_TIMEOUT);
    let opt_out = match (
        spec.default_volumes_to_fs_backup,
        spec.default_volumes_to_restic,
    ) {
        (Some(new), Some(old)) if new != old => {
            problems.push(
                "spec.defaultVolumesToFsBackup and its old name spec.defaultVolumesToRestic contradict each other".to_owned(),
            );
            new
        }
        (new, old) => new.or(old).unwrap_or_default(),
    };
    match location {
        Some(location) if problems.is_empty() => Ok(Plan {
            location,
            ttl,
            volume_timeout,
            queue_timeout,
            opt_out,
        }),
        _ => Err(problems),
    }
}

/// Whether a location can be written to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    /// It can.
    Yes,
    /// Its controller has not judged it as it now is.
    NotYet,
    /// It cannot.
    No(String),
}

/// Whether a backup can be written to `location`.
pub(super) fn usable(location: &BackupStorageLocation) -> Usable {
    let name = location.name_any();
    if location.spec.access_mode == Some(AccessMode::ReadOnly) {
        return Usable::No(format!("location {name} is read-only"));
    }
    let Some(status) = &location.status else {
        return Usable::NotYet;
    };
    match status.phase {
        _ if status.observed_generation != location.metadata.generation => Usable::NotYet,
        Some(LocationPhase::Available) => Usable::Yes,
        None => Usable::NotYet,
        Some(LocationPhase::Unavailable) => Usable::No(format!(
            "location {name} is not available: {}",
            status.message.as_deref().unwrap_or("no reason is known")
        )),
    }
}

fn location(
    spec: &BackupSpec,
    locations: &[BackupStorageLocation],
    default: Option<&str>,
    problems: &mut Vec<String>,
) -> Option<String> {
    let known = |name: &str| locations.iter().any(|location| location.name_any() == name);
    if let Some(name) = spec
        .storage_location
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        if !known(name) {
            problems.push(format!("location {name} does not exist"));
        }
        return Some(name.to_owned());
    }
    let mut marked: Vec<String> = locations
        .iter()
        .filter(|location| location.spec.default == Some(true))
        .map(ResourceExt::name_any)
        .collect();
    marked.sort();
    match marked.as_slice() {
        [one] => Some(one.clone()),
        [] => match default {
            Some(name) if known(name) => Some(name.to_owned()),
            Some(name) => {
                problems.push(format!("the default location {name} does not exist"));
                None
            }
            None => {
                problems.push(
                    "there is no default location: name one in spec.storageLocation".to_owned(),
                );
                None
            }
        },
        several => {
            problems.push(format!(
                "several locations are marked default ({}): name one in spec.storageLocation",
                several.join(", ")
            ));
            None
        }
    }
}

/// Fields of the API that this version cannot act on: asked for, they are refused and never
/// ignored.
fn unsupported(spec: &BackupSpec, problems: &mut Vec<String>) {
    let mut refuse = |set: bool, what: &str| {
        if set {
            problems.push(format!("{what} is not supported yet by this version"));
        }
    };
    refuse(
        spec.snapshot_volumes == Some(true),
        "spec.snapshotVolumes: true (disk snapshots)",
    );
    refuse(
        spec.snapshot_move_data == Some(true),
        "spec.snapshotMoveData: true",
    );
    let mover = spec.datamover.as_deref().unwrap_or_default();
    refuse(!matches!(mover, "" | "ark" | "velero"), "spec.datamover");
    refuse(
        !spec.volume_snapshot_locations.is_empty(),
        "spec.volumeSnapshotLocations",
    );
    refuse(
        spec.hooks
            .as_ref()
            .is_some_and(|hooks| !hooks.resources.is_empty()),
        "spec.hooks",
    );
    refuse(!spec.ordered_resources.is_empty(), "spec.orderedResources");
    let csi = spec.csi_snapshot_timeout.map(|timeout| timeout.0);
    refuse(
        csi.is_some_and(|t| !t.is_zero() && t != VELERO_CSI_TIMEOUT),
        "spec.csiSnapshotTimeout",
    );
    refuse(spec.resource_policy.is_some(), "spec.resourcePolicy");
    let group = spec
        .volume_group_snapshot_label_key
        .as_deref()
        .unwrap_or_default();
    refuse(
        !matches!(group, "" | VELERO_GROUP_LABEL),
        "spec.volumeGroupSnapshotLabelKey",
    );
    let workers = spec
        .uploader_config
        .as_ref()
        .and_then(|config| config.parallel_files_upload);
    refuse(
        workers.is_some_and(|workers| workers != 0),
        "spec.uploaderConfig.parallelFilesUpload",
    );
    let template = spec
        .metadata
        .as_ref()
        .is_some_and(|metadata| !metadata.labels.is_empty() || !metadata.annotations.is_empty());
    if template {
        problems
            .push("spec.metadata only means something in the template of a Schedule".to_owned());
    }
}

fn filters(spec: &BackupSpec, problems: &mut Vec<String>) {
    if uses_new_style(spec)
        && !(spec.included_resources.is_empty()
            && spec.excluded_resources.is_empty()
            && spec.include_cluster_resources.is_none())
    {
        problems.push(
            "the filters by scope (…ClusterScopedResources, …NamespaceScopedResources) cannot be mixed with \
             includedResources, excludedResources and includeClusterResources"
                .to_owned(),
        );
    }
    if spec.label_selector.is_some() && !spec.or_label_selectors.is_empty() {
        problems.push("spec.labelSelector and spec.orLabelSelectors exclude each other".to_owned());
    }
    for (name, include, exclude, globs) in [
        (
            "Namespaces",
            &spec.included_namespaces,
            &spec.excluded_namespaces,
            true,
        ),
        (
            "Resources",
            &spec.included_resources,
            &spec.excluded_resources,
            false,
        ),
        (
            "ClusterScopedResources",
            &spec.included_cluster_scoped_resources,
            &spec.excluded_cluster_scoped_resources,
            false,
        ),
        (
            "NamespaceScopedResources",
            &spec.included_namespace_scoped_resources,
            &spec.excluded_namespace_scoped_resources,
            false,
        ),
    ] {
        lists(name, include, exclude, globs, problems);
    }
    if spec.excluded_namespaces.iter().any(|name| name == "*") {
        problems.push("spec.excludedNamespaces: * leaves nothing to take".to_owned());
    }
    if spec.excluded_resources.iter().any(|name| name == "*") {
        problems.push("spec.excludedResources: * leaves nothing to take".to_owned());
    }
    for selector in spec.label_selector.iter().chain(&spec.or_label_selectors) {
        problems.extend(
            selector_problems(selector)
                .into_iter()
                .map(|p| format!("label selector: {p}")),
        );
    }
}

fn lists(
    name: &str,
    include: &[String],
    exclude: &[String],
    globs: bool,
    problems: &mut Vec<String>,
) {
    for (list, entries) in [("included", include), ("excluded", exclude)] {
        for entry in entries {
            if let Some(why) = entry_problem(entry, globs) {
                problems.push(format!("spec.{list}{name}: {entry:?} {why}"));
            }
        }
    }
    if include.len() > 1 && include.iter().any(|entry| entry == "*") {
        problems.push(format!(
            "spec.included{name}: * means all, so nothing can stand beside it"
        ));
    }
    for entry in include
        .iter()
        .filter(|entry| *entry != "*" && exclude.contains(entry))
    {
        problems.push(format!(
            "{entry:?} is in both included{name} and excluded{name}"
        ));
    }
}

/// Why an entry of a list makes no sense.
fn entry_problem(entry: &str, globs: bool) -> Option<&'static str> {
    if entry.is_empty() {
        return Some("is empty");
    }
    if entry == "*" {
        return None;
    }
    if is_pattern(entry) && !globs {
        return Some("is a pattern; only * alone is understood here");
    }
    if entry.contains("**") || entry.contains(['{', '}', '!', '/', '\\']) {
        return Some("is not understood; use *, ? and [a-z]");
    }
    if entry.matches('[').count() != entry.matches(']').count() || entry.contains("[]") {
        return Some("has a bracket without its other half");
    }
    let known =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*' | '?' | '[' | ']');
    (!entry.chars().all(known)).then_some("holds characters that no name has")
}

fn selector_problems(selector: &LabelSelector) -> Vec<String> {
    let mut problems = check_selector(selector);
    let pairs = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| (key, vec![value]));
    let rules = selector
        .match_expressions
        .iter()
        .flatten()
        .map(|rule| (&rule.key, rule.values.iter().flatten().collect()));
    for (key, values) in pairs.chain(rules) {
        if !is_label_key(key) {
            problems.push(format!("{key:?} is not a label name"));
        }
        let bad = values
            .into_iter()
            .filter(|value| !is_label_part(value, true));
        problems.extend(bad.map(|value| format!("{value:?} is not a label value")));
    }
    problems
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_part(key, false),
        Some((prefix, name)) => {
            let dns =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            !prefix.is_empty()
                && prefix.len() <= 253
                && prefix.chars().all(dns)
                && is_label_part(name, false)
        }
    }
}

fn is_label_part(text: &str, may_be_empty: bool) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() {
        return may_be_empty;
    }
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(inner)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
