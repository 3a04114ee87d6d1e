//! Restores: the table of `get` and the text of `describe`.

use ark_api::condition::{self, kind};
use ark_api::restore::{ExistingResourcePolicy, RestorePhase, RestoreStatus};
use ark_api::results::{ItemAction, ItemRow, Results};
use ark_api::{PodVolumeRestore, Restore};
use kube::ResourceExt;
use serde::Serialize;

use super::backup::{cluster_scoped, copy_message};
use super::describe::{Block, attempts, list, messages};
use super::human::{NONE, between, bytes, count, map_lines, names, selector, time};
use super::list::{LabelColumns, by_name};
use super::once::said_once;
use super::table::{Table, one_line};

/// Everything `describe` knows of a restore.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestoreReport {
    /// The object.
    pub(crate) restore: Restore,
    /// Errors, warnings and rows, if the artefact could be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) results: Option<Results>,
    /// Volume restores in the cluster.
    pub(crate) pod_volume_restores: Vec<PodVolumeRestore>,
    /// Why something above is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<String>,
}

/// The phase as shown; an object that nobody looked at yet is new.
pub(crate) fn phase(restore: &Restore) -> RestorePhase {
    restore
        .status
        .as_ref()
        .and_then(|s| s.phase)
        .unwrap_or_default()
}

/// The backup it restores, as far as that is known.
pub(crate) fn source(restore: &Restore) -> String {
    let resolved = restore.status.as_ref().and_then(|s| s.backup_name.clone());
    resolved
        .or_else(|| restore.spec.backup_name.clone())
        .or_else(|| {
            restore
                .spec
                .schedule_name
                .as_ref()
                .map(|s| format!("newest of {s}"))
        })
        .unwrap_or_else(|| NONE.to_owned())
}

fn selectors(restore: &Restore) -> String {
    if restore.spec.or_label_selectors.is_empty() {
        return selector(restore.spec.label_selector.as_ref());
    }
    let all: Vec<String> = restore
        .spec
        .or_label_selectors
        .iter()
        .map(|s| selector(Some(s)))
        .collect();
    all.join(" or ")
}

/// The table of `get`.
pub(crate) fn table(restores: &[Restore], columns: &LabelColumns) -> String {
    let mut restores: Vec<&Restore> = restores.iter().collect();
    restores.sort_by(|a, b| by_name(&a.name_any(), &b.name_any()));
    let mut table = columns.table(&[
        "NAME",
        "BACKUP",
        "STATUS",
        "STARTED",
        "COMPLETED",
        "ERRORS",
        "WARNINGS",
        "CREATED",
        "SELECTOR",
    ]);
    for restore in restores {
        let unknown = RestoreStatus::default();
        let status = restore.status.as_ref().unwrap_or(&unknown);
        let cells = vec![
            restore.name_any(),
            source(restore),
            format!("{:?}", phase(restore)),
            time(status.start_timestamp.as_ref()),
            time(status.completion_timestamp.as_ref()),
            status.errors.unwrap_or(0).to_string(),
            status.warnings.unwrap_or(0).to_string(),
            time(restore.metadata.creation_timestamp.as_ref()),
            selectors(restore),
        ];
        table.row(columns.cells(cells, restore.metadata.labels.as_ref()));
    }
    table.render("")
}

/// The text of `describe`.
pub(crate) fn describe(report: &RestoreReport, details: bool, colour: bool) -> String {
    let restore = &report.restore;
    let unknown = RestoreStatus::default();
    let status = restore.status.as_ref().unwrap_or(&unknown);
    let mut parts = vec![
        head(restore).render(),
        state(restore, status).coloured(colour).render(),
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
    parts.push(what(restore));
    parts.push(how(restore).render());
    parts.push(outcome(status).render());
    parts.push(volumes(&report.pod_volume_restores, status));
    if let Some(results) = &report.results {
        parts.push(items(&results.items, details));
    }
    if !report.missing.is_empty() {
        parts.push(list("Not shown", report.missing.clone()));
    }
    parts.join("\n")
}

fn head(restore: &Restore) -> Block {
    Block::new()
        .line("Name", restore.name_any())
        .line("Namespace", restore.namespace().unwrap_or_default())
        .line("Labels", map_lines(restore.labels()))
        .line("Annotations", map_lines(restore.annotations()))
}

fn state(restore: &Restore, status: &RestoreStatus) -> Block {
    let phase = phase(restore);
    let advice = match phase {
        RestorePhase::Copy => copy_message(&status.conditions),
        RestorePhase::Failed | RestorePhase::PartiallyFailed => Some(format!(
            "`ark restore logs {}` shows what went wrong",
            restore.name_any()
        )),
        _ => None,
    };
    let waiting = condition::get(&status.conditions, kind::WAITING)
        .filter(|c| c.status == "True" && !phase.is_terminal())
        .map(|c| format!("{} ({})", c.message, c.reason));
    Block::new()
        .line("Phase", format!("{phase:?}"))
        .maybe("Waiting for", waiting)
        .maybe("Earlier attempts", attempts(&status.failed_attempts))
        .maybe("Reason", status.failure_reason.clone())
        .maybe("Advice", advice)
}

fn what(restore: &Restore) -> String {
    let spec = &restore.spec;
    let mapping: Vec<String> = spec
        .namespace_mapping
        .iter()
        .map(|(from, to)| format!("{from}:{to}"))
        .collect();
    let mut text = Block::new()
        .line("Backup", source(restore))
        .maybe("Schedule", spec.schedule_name.clone())
        .render();
    text += "\nNamespaces:\n";
    text += &Block::indented()
        .line(
            "Included",
            names(&spec.included_namespaces, "all in the backup"),
        )
        .line("Excluded", names(&spec.excluded_namespaces, NONE))
        .line("Mappings", names(&mapping, NONE))
        .render();
    text += "\nResources:\n";
    text += &Block::indented()
        .line("Included", names(&spec.included_resources, "*"))
        .line("Excluded", names(&spec.excluded_resources, NONE))
        .line(
            "Cluster-scoped",
            cluster_scoped(spec.include_cluster_resources),
        )
        .render();
    text += &format!("\nLabel selector:  {}\n", one_line(&selectors(restore)));
    text
}

fn how(restore: &Restore) -> Block {
    let spec = &restore.spec;
    let flag = |value: Option<bool>| match value {
        None => "auto",
        Some(true) => "true",
        Some(false) => "false",
    };
    Block::new()
        .line("Restore PVs", flag(spec.restore_pvs))
        .line(
            "Existing Resource Policy",
            match spec.existing_resource_policy.unwrap_or_default() {
                ExistingResourcePolicy::None => "none",
                ExistingResourcePolicy::Update => "update",
            },
        )
        .line("Preserve Service NodePorts", flag(spec.preserve_node_ports))
        .maybe(
            "ItemOperationTimeout",
            spec.item_operation_timeout.map(|t| t.to_string()),
        )
}

fn outcome(status: &RestoreStatus) -> Block {
    let took = match (&status.start_timestamp, &status.completion_timestamp) {
        (Some(start), Some(end)) => format!("  (took {})", between(start, end)),
        _ => String::new(),
    };
    let progress = status.progress.clone().unwrap_or_default();
    Block::new()
        .line("Started", time(status.start_timestamp.as_ref()))
        .line(
            "Completed",
            time(status.completion_timestamp.as_ref()) + &took,
        )
        .maybe(
            "Attempts",
            status.attempt.filter(|&n| n > 1).map(|n| n.to_string()),
        )
        .line(
            "Items",
            format!("{} of {}", progress.items_restored, progress.total_items),
        )
}

fn volumes(volumes: &[PodVolumeRestore], status: &RestoreStatus) -> String {
    if volumes.is_empty() {
        let counts = status.volumes.clone().unwrap_or_default();
        return if counts.total == 0 {
            "Volumes:  <none>\n".to_owned()
        } else {
            let block = Block::indented()
                .line(
                    "Restored",
                    format!("{} of {}", counts.completed, counts.total),
                )
                .line("Failed", counts.failed.to_string())
                .line("Data", bytes(counts.bytes));
            format!("Volumes:\n{}", block.render())
        };
    }
    let mut table = Table::new([
        "NAMESPACE",
        "POD",
        "VOLUME",
        "NODE",
        "STATUS",
        "DONE",
        "SNAPSHOT",
        "MESSAGE",
    ]);
    let mut errors = Vec::new();
    let notes = said_once(volumes.iter().map(|volume| {
        let status = volume.status.as_ref();
        let message = status.and_then(|status| status.message.clone());
        let spec = &volume.spec;
        let who = format!("pod {}, volume {}", spec.pod.name, spec.volume);
        (who, message.unwrap_or_default())
    }));
    for (volume, note) in volumes.iter().zip(notes) {
        let status = volume.status.clone().unwrap_or_default();
        let spec = &volume.spec;
        table.row([
            spec.pod.namespace.clone(),
            spec.pod.name.clone(),
            spec.volume.clone(),
            spec.node.clone(),
            format!("{:?}", status.phase.unwrap_or_default()),
            super::progress::done(status.progress.as_ref()),
            spec.snapshot_id.chars().take(8).collect(),
            note,
        ]);
        errors.extend(status.file_errors.iter().map(|e| {
            format!(
                "{}/{}: {}: {}: {}",
                spec.pod.name, spec.volume, e.path, e.operation, e.message
            )
        }));
    }
    let mut text = format!("Volumes:\n{}", table.render("  "));
    if !errors.is_empty() {
        text += &format!("\n{}", list("Files that are not back", errors));
    }
    text
}

fn items(rows: &[ItemRow], details: bool) -> String {
    if rows.is_empty() {
        return "Objects:  <none>\n".to_owned();
    }
    let of = |action: ItemAction| rows.iter().filter(|r| r.action == action).count();
    let actions = [
        (ItemAction::Created, "created"),
        (ItemAction::Changed, "changed"),
        (ItemAction::Kept, "kept as they were"),
        (ItemAction::Skipped, "skipped"),
        (ItemAction::Failed, "FAILED"),
    ];
    let counts: Vec<String> = actions
        .iter()
        .filter(|(action, _)| of(*action) > 0)
        .map(|(action, word)| format!("{} {word}", of(*action)))
        .collect();
    let mut text = format!("Objects:  {}\n", counts.join(", "));
    let shown: Vec<&ItemRow> = rows
        .iter()
        .filter(|r| details || r.action == ItemAction::Failed)
        .collect();
    if !shown.is_empty() {
        let mut table = Table::new(["ACTION", "RESOURCE", "NAMESPACE", "NAME", "MESSAGE"]);
        let notes = said_once(shown.iter().map(|row| {
            let who = format!("{} {}", row.resource, row.name);
            (who, row.message.clone())
        }));
        for (row, note) in shown.into_iter().zip(notes) {
            table.row([
                format!("{:?}", row.action).to_lowercase(),
                row.resource.clone(),
                if row.namespace.is_empty() {
                    "-".to_owned()
                } else {
                    row.namespace.clone()
                },
                row.name.clone(),
                note,
            ]);
        }
        text += &table.render("  ");
    } else if of(ItemAction::Kept) + of(ItemAction::Skipped) > 0 {
        text += "  --details shows each of them with the reason\n";
    }
    text
}

/// How a finished restore is summed up in a line or two.
pub(crate) fn summary(restore: &Restore) -> String {
    let name = restore.name_any();
    let unknown = RestoreStatus::default();
    let status = restore.status.as_ref().unwrap_or(&unknown);
    let took = match (&status.start_timestamp, &status.completion_timestamp) {
        (Some(start), Some(end)) => format!(" in {}", between(start, end)),
        _ => String::new(),
    };
    let mut text = format!("Restore {name}: {:?}{took}", phase(restore));
    if matches!(
        phase(restore),
        RestorePhase::Completed | RestorePhase::PartiallyFailed
    ) {
        let items = status.progress.clone().unwrap_or_default().items_restored;
        let volumes = status.volumes.clone().unwrap_or_default();
        text += &format!(
            ", {}, {}",
            count(items, "item"),
            count(volumes.completed, "volume")
        );
        if volumes.total > 0 {
            text += &format!(" ({})", bytes(volumes.bytes));
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
    let nothing_ran = matches!(
        phase(restore),
        RestorePhase::FailedValidation | RestorePhase::Copy
    );
    let logs = if nothing_ran {
        String::new()
    } else {
        format!(" or `ark restore logs {name}`")
    };
    text + &format!("Run `ark restore describe {name}`{logs} for more.\n")
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
