//! Backups: the table of `get` and the text of `describe`.

use std::collections::BTreeMap;

use ark_api::backup::{BackupPhase, BackupStatus};
use ark_api::condition::{self, kind};
use ark_api::results::Results;
use ark_api::volume::VolumeRow;
use ark_api::{Backup, PodVolumeBackup};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::describe::{Block, attempts, list, messages};
use super::human::{NONE, UNSET, between, bytes, count, map_lines, names, selector, time, until};
use super::list::{LabelColumns, by_name};
use super::table::one_line;
use super::volumes;

/// Everything `describe` knows of a backup.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupReport {
    /// The object.
    pub(crate) backup: Backup,
    /// Errors and warnings, if the artefact could be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) results: Option<Results>,
    /// Volume rows, if the artefact could be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) volumes: Option<Vec<VolumeRow>>,
    /// Volume backups in the cluster.
    pub(crate) pod_volume_backups: Vec<PodVolumeBackup>,
    /// Names of all items, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<BTreeMap<String, Vec<String>>>,
    /// Why something above is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<String>,
}

/// The phase as shown; an object that nobody looked at yet is new.
pub(crate) fn phase(backup: &Backup) -> BackupPhase {
    backup
        .status
        .as_ref()
        .and_then(|s| s.phase)
        .unwrap_or_default()
}

/// The table of `get`.
pub(crate) fn table(backups: &[Backup], columns: &LabelColumns, now: Timestamp) -> String {
    let mut backups: Vec<&Backup> = backups.iter().collect();
    backups.sort_by(|a, b| by_name(&a.name_any(), &b.name_any()));
    let mut table = columns.table(&[
        "NAME",
        "STATUS",
        "ERRORS",
        "WARNINGS",
        "UNPROTECTED",
        "CREATED",
        "EXPIRES",
        "STORAGE LOCATION",
        "SELECTOR",
    ]);
    for backup in backups {
        let unknown = BackupStatus::default();
        let status = backup.status.as_ref().unwrap_or(&unknown);
        let cells = vec![
            backup.name_any(),
            format!("{:?}", phase(backup)),
            status.errors.unwrap_or(0).to_string(),
            status.warnings.unwrap_or(0).to_string(),
            status
                .unprotected_volumes
                .map_or_else(|| UNSET.to_owned(), |n| n.to_string()),
            time(status.start_timestamp.as_ref()),
            until(status.expiration.as_ref(), now),
            location(backup),
            selectors(backup),
        ];
        table.row(columns.cells(cells, backup.metadata.labels.as_ref()));
    }
    table.render("")
}

fn location(backup: &Backup) -> String {
    backup
        .spec
        .storage_location
        .clone()
        .unwrap_or_else(|| "<default>".to_owned())
}

fn selectors(backup: &Backup) -> String {
    if backup.spec.or_label_selectors.is_empty() {
        return selector(backup.spec.label_selector.as_ref());
    }
    let all: Vec<String> = backup
        .spec
        .or_label_selectors
        .iter()
        .map(|s| selector(Some(s)))
        .collect();
    all.join(" or ")
}

/// The text of `describe`.
pub(crate) fn describe(report: &BackupReport, details: bool, colour: bool) -> String {
    let backup = &report.backup;
    let unknown = BackupStatus::default();
    let status = backup.status.as_ref().unwrap_or(&unknown);
    let mut parts = vec![
        head(backup).render(),
        state(backup, status).coloured(colour).render(),
    ];
    if !status.validation_errors.is_empty() {
        parts.push(list("Validation errors", status.validation_errors.clone()));
    }
    parts.push(
        messages(
            "Errors",
            report.results.as_ref().map(|r| &r.errors),
            status.errors.unwrap_or(0),
        ) + &messages(
            "Warnings",
            report.results.as_ref().map(|r| &r.warnings),
            status.warnings.unwrap_or(0),
        ),
    );
    parts.push(what(backup));
    parts.push(how(backup).render());
    parts.push(outcome(status).render());
    parts.push(volumes::section(report, status));
    if details {
        parts.push(items(report.items.as_ref()));
    }
    if !report.missing.is_empty() {
        parts.push(list("Not shown", report.missing.clone()));
    }
    parts.join("\n")
}

fn head(backup: &Backup) -> Block {
    let origin = backup.spec.origin.as_ref();
    Block::new()
        .line("Name", backup.name_any())
        .line("Namespace", backup.namespace().unwrap_or_default())
        .line("Labels", map_lines(backup.labels()))
        .line("Annotations", map_lines(backup.annotations()))
        .maybe(
            "Origin",
            origin.map(|o| format!("location {}, cluster {}", o.location, o.cluster)),
        )
}

fn state(backup: &Backup, status: &BackupStatus) -> Block {
    let name = backup.name_any();
    let phase = phase(backup);
    let advice = match phase {
        BackupPhase::Failed | BackupPhase::PartiallyFailed => {
            Some(format!("`ark backup logs {name}` shows what went wrong"))
        }
        BackupPhase::Copy => copy_message(&status.conditions),
        BackupPhase::FailedValidation => Some(
            "nothing was backed up; create it again with the errors below corrected".to_owned(),
        ),
        _ => None,
    };
    let unprotected = status.unprotected_volumes.filter(|&n| n > 0).map(|n| {
        format!(
            "{} with data that this backup does NOT hold; see Volumes",
            count(n, "volume")
        )
    });
    let waiting = condition::get(&status.conditions, kind::WAITING)
        .filter(|c| c.status == "True" && !phase.is_terminal())
        .map(|c| format!("{} ({})", c.message, c.reason));
    Block::new()
        .line("Phase", format!("{phase:?}"))
        .maybe(
            "Position",
            status.queue_position.map(|place| place.to_string()),
        )
        .maybe("Waiting for", waiting)
        .maybe("Earlier attempts", attempts(&status.failed_attempts))
        .maybe("Reason", status.failure_reason.clone())
        .maybe("Advice", advice)
        .maybe("Unprotected", unprotected)
}

/// What the operator says of an object that is only a copy.
pub(crate) fn copy_message(conditions: &[Condition]) -> Option<String> {
    condition::get(conditions, kind::COPY).map(|copy| copy.message.clone())
}

fn what(backup: &Backup) -> String {
    let spec = &backup.spec;
    let mut text = String::from("Namespaces:\n");
    text += &Block::indented()
        .line("Included", names(&spec.included_namespaces, "*"))
        .line("Excluded", names(&spec.excluded_namespaces, NONE))
        .render();
    text += "\nResources:\n";
    let scoped = [
        &spec.included_cluster_scoped_resources,
        &spec.excluded_cluster_scoped_resources,
        &spec.included_namespace_scoped_resources,
        &spec.excluded_namespace_scoped_resources,
    ];
    let block = if scoped.iter().all(|l| l.is_empty()) {
        Block::indented()
            .line("Included", names(&spec.included_resources, "*"))
            .line("Excluded", names(&spec.excluded_resources, NONE))
            .line(
                "Cluster-scoped",
                cluster_scoped(spec.include_cluster_resources),
            )
    } else {
        Block::indented()
            .line("Included cluster-scoped", names(scoped[0], NONE))
            .line("Excluded cluster-scoped", names(scoped[1], NONE))
            .line("Included namespace-scoped", names(scoped[2], "*"))
            .line("Excluded namespace-scoped", names(scoped[3], NONE))
    };
    text += &block.render();
    text += &format!("\nLabel selector:  {}\n", one_line(&selectors(backup)));
    text
}

/// How a tri-state reads.
pub(crate) fn cluster_scoped(include: Option<bool>) -> &'static str {
    match include {
        None => "auto",
        Some(true) => "included",
        Some(false) => "excluded",
    }
}

fn how(backup: &Backup) -> Block {
    let spec = &backup.spec;
    let opt_out = spec
        .default_volumes_to_fs_backup
        .or(spec.default_volumes_to_restic)
        == Some(true);
    Block::new()
        .line("Storage Location", location(backup))
        .line(
            "File System Backup",
            if opt_out {
                "every volume that is not excluded"
            } else {
                "volumes that pods name"
            },
        )
        .maybe("TTL", spec.ttl.map(|t| t.to_string()))
        .maybe(
            "ItemOperationTimeout",
            spec.item_operation_timeout.map(|t| t.to_string()),
        )
}

fn outcome(status: &BackupStatus) -> Block {
    let took = match (&status.start_timestamp, &status.completion_timestamp) {
        (Some(start), Some(end)) => format!("  (took {})", between(start, end)),
        _ => String::new(),
    };
    let progress = status.progress.clone().unwrap_or_default();
    Block::new()
        .maybe("Backup Format Version", status.format_version.clone())
        .line("Started", time(status.start_timestamp.as_ref()))
        .line(
            "Completed",
            time(status.completion_timestamp.as_ref()) + &took,
        )
        .line("Expiration", time(status.expiration.as_ref()))
        .maybe(
            "Attempts",
            status.attempt.filter(|&n| n > 1).map(|n| n.to_string()),
        )
        .line(
            "Items",
            format!("{} of {}", progress.items_backed_up, progress.total_items),
        )
        .maybe(
            "Volume data",
            status.bytes.map(|all| {
                let new = status
                    .new_bytes
                    .map(|n| format!(", {} new in the repository", bytes(n)));
                bytes(all) + &new.unwrap_or_default()
            }),
        )
}

/// The names of all items, by kind.
pub(crate) fn items(items: Option<&BTreeMap<String, Vec<String>>>) -> String {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return "Resource List:  <none>\n".to_owned();
    };
    let mut text = String::from("Resource List:\n");
    for (kind, names) in items {
        text += &format!("  {}:\n", one_line(kind));
        for name in names {
            text += &format!("    - {}\n", one_line(name));
        }
    }
    text
}

/// How a finished backup is summed up in a line or two.
pub(crate) fn summary(backup: &Backup) -> String {
    let name = backup.name_any();
    let unknown = BackupStatus::default();
    let status = backup.status.as_ref().unwrap_or(&unknown);
    let took = match (&status.start_timestamp, &status.completion_timestamp) {
        (Some(start), Some(end)) => format!(" in {}", between(start, end)),
        _ => String::new(),
    };
    let mut text = format!("Backup {name}: {:?}{took}", phase(backup));
    let items = status.progress.clone().unwrap_or_default().items_backed_up;
    if phase(backup).is_restorable() {
        let volumes = status.volumes.unwrap_or_default();
        let wanted = volumes.taken + volumes.partial + volumes.failed;
        text += &format!(", {}, ", count(items, "item"));
        if volumes.taken < wanted {
            text += &format!("{} of ", volumes.taken);
        }
        text += &count(wanted, "volume");
        if let Some(all) = status.bytes {
            text += &format!(
                " ({}, {} new)",
                bytes(all),
                bytes(status.new_bytes.unwrap_or(0))
            );
        }
    }
    text.push('\n');
    for error in &status.validation_errors {
        text += &format!("  {}\n", one_line(error));
    }
    if let Some(reason) = &status.failure_reason {
        text += &format!("  {}\n", one_line(reason));
    }
    let (errors, warnings) = (status.errors.unwrap_or(0), status.warnings.unwrap_or(0));
    if errors + warnings > 0 {
        text += &format!(
            "  {}, {}\n",
            count(errors, "error"),
            count(warnings, "warning")
        );
    }
    if let Some(n) = status.unprotected_volumes.filter(|&n| n > 0) {
        let volumes = count(n, "volume");
        text += &format!("  UNPROTECTED: {volumes} whose data this backup does not hold\n");
    }
    let nothing_ran = matches!(
        phase(backup),
        BackupPhase::FailedValidation | BackupPhase::Copy
    );
    let logs = if nothing_ran {
        String::new()
    } else {
        format!(" or `ark backup logs {name}`")
    };
    text + &format!("Run `ark backup describe {name}`{logs} for more.\n")
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
