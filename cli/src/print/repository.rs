//! Repositories: the table of `get`, `describe`, and how maintenance ended.

use ark_api::ResticRepository;
use ark_api::condition::{self, kind};
use ark_api::maintenance::{MaintenanceResult, MaintenanceRun, Verification};
use ark_api::repository::{RepositoryPhase, ResticRepositoryStatus};
use kube::ResourceExt;

use super::describe::{Block, list};
use super::human::{UNSET, bytes, count, time};
use super::list::{LabelColumns, by_name};
use super::table::one_line;

/// The table of `get`, with the reason below it for each repository that cannot be used.
pub(crate) fn table(repositories: &[ResticRepository], columns: &LabelColumns) -> String {
    let mut repositories: Vec<&ResticRepository> = repositories.iter().collect();
    repositories.sort_by(|a, b| by_name(&a.name_any(), &b.name_any()));
    let mut table = columns.table(&[
        "NAME",
        "NAMESPACE",
        "LOCATION",
        "STATUS",
        "FORMAT",
        "ID",
        "HEALTH",
        "STORED",
        "LAST MAINTENANCE",
    ]);
    let mut reasons = String::new();
    for repository in repositories {
        let status = repository.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        let id = status.repository_id.unwrap_or_default();
        let cells = vec![
            repository.name_any(),
            repository.spec.volume_namespace.clone(),
            repository.spec.backup_storage_location.clone(),
            format!("{phase:?}"),
            status
                .format_version
                .map_or_else(|| UNSET.to_owned(), |v| format!("v{v}")),
            id.get(..8).unwrap_or(UNSET).to_owned(),
            health(&status.conditions).to_owned(),
            status.stored_bytes.map_or_else(|| UNSET.to_owned(), bytes),
            time(status.last_maintenance_time.as_ref()),
        ];
        table.row(columns.cells(cells, repository.metadata.labels.as_ref()));
        if phase == RepositoryPhase::NotReady {
            let why = status
                .message
                .unwrap_or_else(|| "no reason given".to_owned());
            reasons += &format!("{}: {}\n", repository.name_any(), one_line(&why));
        }
    }
    let mut text = table.render("");
    if !reasons.is_empty() {
        text.push('\n');
        text += &reasons;
    }
    text
}

/// Whether the last check found the repository whole, in a word.
fn health(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> &'static str {
    match condition::get(conditions, kind::HEALTHY).map(|found| found.status.as_str()) {
        Some("True") => "good",
        Some("False") => "damaged",
        _ => "not checked",
    }
}

/// All about a repository.
pub(crate) fn describe(repository: &ResticRepository) -> String {
    let status = repository.status.clone().unwrap_or_default();
    let ResticRepositoryStatus {
        phase,
        message,
        conditions,
        repository_id,
        format_version,
        last_maintenance_time,
        recent_maintenance,
        stored_bytes,
        reclaimable_bytes,
        verification,
        ..
    } = status;
    let mut text = Block::new()
        .line("Name", repository.name_any())
        .line("Namespace", repository.spec.volume_namespace.clone())
        .line("Location", repository.spec.backup_storage_location.clone())
        .maybe("Place", repository.spec.restic_identifier.clone())
        .line("Phase", format!("{:?}", phase.unwrap_or_default()))
        .maybe("Message", message)
        .maybe("Id", repository_id)
        .maybe(
            "Format",
            format_version.map(|version| format!("v{version}")),
        )
        .line("Health", health(&conditions))
        .maybe("Stored", stored_bytes.map(bytes))
        .maybe("Reclaimable", reclaimable_bytes.map(bytes))
        .line("Last maintenance", time(last_maintenance_time.as_ref()))
        .render();
    if !recent_maintenance.is_empty() {
        text.push('\n');
        text += &list("Maintenance", recent_maintenance.iter().rev().map(run_line));
    }
    if let Some(verification) = verification {
        text.push('\n');
        text += &verified(&verification);
    }
    text
}

/// How the last maintenance ended, in a line, with what a check found below it.
pub(crate) fn outcome(repository: &ResticRepository) -> String {
    let status = repository.status.clone().unwrap_or_default();
    let run = status.recent_maintenance.last().map(run_line);
    let mut text = format!(
        "{}: {}\n",
        repository.name_any(),
        run.as_deref().unwrap_or("no maintenance yet")
    );
    if let Some(verification) = status.verification.filter(|found| found.defects > 0) {
        text += &verified(&verification);
    }
    text
}

fn run_line(run: &MaintenanceRun) -> String {
    let end = time(run.complete_timestamp.as_ref());
    let freed = run
        .freed_bytes
        .map(|freed| format!(", {} freed", bytes(freed)))
        .unwrap_or_default();
    match run.result {
        MaintenanceResult::Succeeded => format!("{end} succeeded{freed}"),
        MaintenanceResult::Failed => {
            let why = run.message.as_deref().unwrap_or("no reason given");
            format!("{end} failed{freed}: {why}")
        }
    }
}

fn verified(verification: &Verification) -> String {
    let shares = match verification.shares {
        0 | 1 => UNSET.to_owned(),
        shares => format!(
            "{} of {shares} read",
            verification.turn.rem_euclid(i64::from(shares))
        ),
    };
    let mut text = String::from("Verification:\n");
    text += &Block::indented()
        .line("Last check", time(verification.last_time.as_ref()))
        .line("Data read by it", bytes(verification.read_bytes))
        .line("Shares of the data", shares)
        .line(
            "All data last read",
            time(verification.all_read_time.as_ref()),
        )
        .line("Damage", count(verification.defects, "defect"))
        .render();
    if !verification.findings.is_empty() {
        text += &list("Findings", verification.findings.iter().cloned());
    }
    if !verification.affected_backups.is_empty() {
        text += &list(
            "Affected backups",
            verification.affected_backups.iter().cloned(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_says_why_a_repository_cannot_be_used() {
        let repositories: Vec<ResticRepository> = serde_json::from_value(serde_json::json!([
            {
                "apiVersion": "ark.heptio.com/v1", "kind": "ResticRepository",
                "metadata": {"name": "shop-default-0123456789"},
                "spec": {"volumeNamespace": "shop", "backupStorageLocation": "default"},
                "status": {"phase": "Ready", "formatVersion": 2, "repositoryID": "0123456789abcdef"},
            },
            {
                "apiVersion": "ark.heptio.com/v1", "kind": "ResticRepository",
                "metadata": {"name": "blog-default-0123456789"},
                "spec": {"volumeNamespace": "blog", "backupStorageLocation": "default"},
                "status": {"phase": "NotReady", "message": "the key opens no key file"},
            },
        ]))
        .unwrap();
        insta::assert_snapshot!(table(&repositories, &LabelColumns::default()));
    }

    #[test]
    fn a_description_says_what_maintenance_did_and_checks_found() {
        let repository: ResticRepository = serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "ResticRepository",
            "metadata": {"name": "shop-default-0123456789"},
            "spec": {"volumeNamespace": "shop", "backupStorageLocation": "default"},
            "status": {
                "phase": "Ready", "formatVersion": 2, "repositoryID": "0123456789abcdef",
                "storedBytes": 5_368_709_120_i64, "reclaimableBytes": 1_048_576,
                "lastMaintenanceTime": "2026-01-02T03:04:05Z",
                "conditions": [{
                    "type": "Healthy", "status": "False", "reason": "Damaged", "message": "",
                    "lastTransitionTime": "2026-01-02T03:04:05Z",
                }],
                "recentMaintenance": [
                    {"result": "Failed", "completeTimestamp": "2026-01-01T03:04:05Z", "message": "the pod was evicted"},
                    {"result": "Succeeded", "completeTimestamp": "2026-01-02T03:04:05Z", "freedBytes": 104_857_600},
                ],
                "verification": {
                    "lastTime": "2026-01-02T03:04:05Z", "turn": 7, "shares": 30, "readBytes": 178_956_970,
                    "defects": 1, "findings": ["pack 01ab: the index names it, and it is not there"],
                    "affectedBackups": ["daily-20260101"],
                },
            },
        }))
        .unwrap();
        insta::assert_snapshot!(describe(&repository));
    }
}
