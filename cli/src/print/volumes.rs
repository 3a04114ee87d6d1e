//! The volumes of a backup: the rows that say what became of each, with what needs attention first.

use ark_api::PodVolumeBackup;
use ark_api::backup::BackupStatus;
use ark_api::volume::{VolumeClass, VolumeMethod, VolumeRow};

use super::backup::BackupReport;
use super::describe::{Block, list};
use super::human::bytes;
use super::table::Table;

/// Volumes that are named beside a message they share.
const SHOWN: usize = 3;

/// What became of the volumes, as far as it is known.
pub(crate) fn section(report: &BackupReport, status: &BackupStatus) -> String {
    if let Some(rows) = &report.volumes {
        return volume_rows(rows);
    }
    if !report.pod_volume_backups.is_empty() && status.completion_timestamp.is_none() {
        return running(&report.pod_volume_backups);
    }
    let Some(counts) = status.volumes else {
        return "Volumes:  not known yet\n".to_owned();
    };
    let block = Block::indented()
        .line("Taken", counts.taken.to_string())
        .line("Partial", counts.partial.to_string())
        .line("Failed", counts.failed.to_string())
        .line("Left out by choice", counts.chosen.to_string())
        .line("Not data", counts.not_data.to_string())
        .line("Unprotected", counts.unprotected.to_string());
    format!("Volumes:\n{}", block.render())
}

fn volume_rows(rows: &[VolumeRow]) -> String {
    if rows.is_empty() {
        return "Volumes:  <none>\n".to_owned();
    }
    let mut rows: Vec<&VolumeRow> = rows.iter().collect();
    rows.sort_by(|a, b| {
        (severity(a.class), &a.namespace, &a.pod, &a.volume, &a.claim).cmp(&(
            severity(b.class),
            &b.namespace,
            &b.pod,
            &b.volume,
            &b.claim,
        ))
    });
    let mut table = Table::new([
        "CLASS",
        "NAMESPACE",
        "POD",
        "VOLUME",
        "CLAIM",
        "METHOD",
        "REASON",
        "FILES",
        "SIZE",
        "NEW",
    ]);
    let dash = || "-".to_owned();
    for row in &rows {
        table.row([
            class(row.class).to_owned(),
            row.namespace.clone(),
            row.pod.clone().unwrap_or_else(dash),
            row.volume.clone().unwrap_or_else(dash),
            row.claim.clone().unwrap_or_else(dash),
            row.method.map_or_else(dash, |m| match m {
                VolumeMethod::Files => "files".to_owned(),
                VolumeMethod::DiskSnapshot => "disk snapshot".to_owned(),
            }),
            format!("{:?}", row.reason),
            row.files.map_or_else(dash, |n| n.to_string()),
            row.bytes.map_or_else(dash, bytes),
            row.new_bytes.map_or_else(dash, bytes),
        ]);
    }
    let mut text = format!("Volumes:\n{}", table.render("  "));
    let told = told(&rows);
    if !told.is_empty() {
        text += &format!("\n{}", list("Volume messages", told));
    }
    text
}

/// What is said of the rows. What is said of several is said once: with their number if they are many, since the
/// table above shows which.
fn told(rows: &[&VolumeRow]) -> Vec<String> {
    let mut by_message: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows {
        let Some(message) = row.message.as_deref() else {
            continue;
        };
        let who = match (&row.pod, &row.volume, &row.claim) {
            (Some(pod), Some(volume), _) => format!("{}/{pod}: {volume}", row.namespace),
            (_, _, Some(claim)) => format!("{}: claim {claim}", row.namespace),
            _ => row.namespace.clone(),
        };
        match by_message.iter_mut().find(|(known, _)| *known == message) {
            Some((_, names)) => names.push(who),
            None => by_message.push((message, vec![who])),
        }
    }
    by_message
        .into_iter()
        .map(|(message, names)| {
            let count = names.len();
            match names.get(..SHOWN) {
                Some(first) if count > SHOWN => {
                    format!("{} and {} more: {message}", first.join(", "), count - SHOWN)
                }
                _ => format!("{}: {message}", names.join(", ")),
            }
        })
        .collect()
}

/// What needs attention comes first.
fn severity(class: VolumeClass) -> u8 {
    match class {
        VolumeClass::Unprotected => 0,
        VolumeClass::Failed => 1,
        VolumeClass::Partial => 2,
        VolumeClass::Taken => 3,
        VolumeClass::Chosen => 4,
        VolumeClass::NotData => 5,
    }
}

fn class(class: VolumeClass) -> &'static str {
    match class {
        VolumeClass::Taken => "taken",
        VolumeClass::Partial => "PARTIAL",
        VolumeClass::Failed => "FAILED",
        VolumeClass::Chosen => "left out",
        VolumeClass::NotData => "not data",
        VolumeClass::Unprotected => "UNPROTECTED",
    }
}

fn running(volumes: &[PodVolumeBackup]) -> String {
    let mut table = Table::new([
        "NAMESPACE",
        "POD",
        "VOLUME",
        "NODE",
        "STATUS",
        "DONE",
        "MESSAGE",
    ]);
    for volume in volumes {
        let status = volume.status.clone().unwrap_or_default();
        table.row([
            volume.spec.pod.namespace.clone(),
            volume.spec.pod.name.clone(),
            volume.spec.volume.clone(),
            volume.spec.node.clone(),
            format!("{:?}", status.phase.unwrap_or_default()),
            super::progress::done(status.progress.as_ref()),
            status.message.unwrap_or_default(),
        ]);
    }
    format!("Volumes:\n{}", table.render("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_several_volumes_is_said_once() {
        let row = |pod: &str, message: &str| -> VolumeRow {
            serde_json::from_value(serde_json::json!({
                "namespace": "n", "pod": pod, "volume": "v", "class": "failed", "reason": "AgentError",
                "message": message,
            }))
            .unwrap()
        };
        let rows = [
            row("a", "down"),
            row("b", "other"),
            row("c", "down"),
            row("d", "down"),
            row("e", "down"),
        ];
        let rows: Vec<&VolumeRow> = rows.iter().collect();
        assert_eq!(
            told(&rows),
            ["n/a: v, n/c: v, n/d: v and 1 more: down", "n/b: v: other"]
        );
    }
}
