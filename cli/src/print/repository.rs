//! Repositories: the table of `get`.

use ark_api::ResticRepository;
use ark_api::repository::RepositoryPhase;
use kube::ResourceExt;

use super::human::{UNSET, time};
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
}
