//! Locations: the table of `get`.

use ark_api::BackupStorageLocation;
use ark_api::condition::{self, kind};
use ark_api::location::LocationPhase;
use jiff::Timestamp;
use kube::ResourceExt;

use super::human::{UNSET, ago};
use super::list::{LabelColumns, by_name};
use super::table::one_line;

/// The table of `get`, with the reason below it for each location that cannot be used.
pub(crate) fn table(
    locations: &[BackupStorageLocation],
    columns: &LabelColumns,
    now: Timestamp,
) -> String {
    let mut locations: Vec<&BackupStorageLocation> = locations.iter().collect();
    locations.sort_by(|a, b| by_name(&a.name_any(), &b.name_any()));
    let mut table = columns.table(&[
        "NAME",
        "PROVIDER",
        "BUCKET/PREFIX",
        "PHASE",
        "LAST VALIDATED",
        "ACCESS MODE",
        "KEY EXPORTED",
        "DEFAULT",
    ]);
    let mut reasons = String::new();
    for location in locations {
        let status = location.status.clone().unwrap_or_default();
        let storage = &location.spec.object_storage;
        let bucket = match (storage.bucket.as_str(), storage.prefix.as_str()) {
            (bucket, "") => bucket.to_owned(),
            (bucket, prefix) => format!("{bucket}/{prefix}"),
        };
        let cells = vec![
            location.name_any(),
            location.spec.provider.clone(),
            bucket,
            status
                .phase
                .map_or_else(|| "Unknown".to_owned(), |p| format!("{p:?}")),
            ago(status.last_validation_time.as_ref(), now),
            format!("{:?}", location.spec.access_mode.unwrap_or_default()),
            condition::get(&status.conditions, kind::KEY_EXPORTED)
                .map_or_else(|| UNSET.to_owned(), |c| c.status.to_lowercase()),
            if location.spec.default == Some(true) {
                "true".to_owned()
            } else {
                String::new()
            },
        ];
        table.row(columns.cells(cells, location.metadata.labels.as_ref()));
        if status.phase == Some(LocationPhase::Unavailable) {
            let why = status
                .message
                .unwrap_or_else(|| "no reason given".to_owned());
            reasons += &format!("{}: {}\n", location.name_any(), one_line(&why));
        }
        for kind in [kind::SHARED_DIRECTORY, kind::KEY_AVAILABLE] {
            if let Some(c) =
                condition::get(&status.conditions, kind).filter(|c| c.status == "False")
            {
                reasons += &format!(
                    "{}: {} is False: {} ({})\n",
                    location.name_any(),
                    c.type_,
                    one_line(&c.message),
                    c.reason
                );
            }
        }
    }
    let mut text = table.render("");
    if !reasons.is_empty() {
        text.push('\n');
        text += &reasons;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_says_why_a_location_cannot_be_used() {
        let locations: Vec<BackupStorageLocation> = serde_json::from_value(serde_json::json!([
            {
                "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation",
                "metadata": {"name": "default"},
                "spec": {"provider": "local", "objectStorage": {"bucket": "default"}, "default": true},
                "status": {
                    "phase": "Available", "lastValidationTime": "2026-01-01T23:59:30Z",
                    "conditions": [
                        {"type": "KeyExported", "status": "False", "reason": "KeyOnlyInCluster",
                         "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                        {"type": "SharedDirectory", "status": "False", "reason": "DirectoryNotShared",
                         "message": "the agent of node-b sees another directory",
                         "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    ],
                },
            },
            {
                "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation",
                "metadata": {"name": "archive"},
                "spec": {"provider": "aws", "objectStorage": {"bucket": "b", "prefix": "p"},
                         "accessMode": "ReadOnly"},
                "status": {"phase": "Unavailable", "message": "bucket \"b\" does not exist"},
            },
        ]))
        .unwrap();
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&locations, &LabelColumns::default(), now));
        assert!(crate::print::messages::key_not_exported(&locations[0]).is_some());
        assert!(crate::print::messages::key_not_exported(&locations[1]).is_none());
    }
}
