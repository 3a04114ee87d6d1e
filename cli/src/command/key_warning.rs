//! The reminder that a location's repository key exists only in the cluster. Commands that make or describe
//! a backup, or make or list locations, give it on standard error until the key is exported; others do not.
//!
//! A user who may not read locations gets no reminder: the command itself is not held up by it.

use std::collections::BTreeSet;

use ark_api::{Backup, BackupStorageLocation};
use kube::ResourceExt;

use super::Context;
use crate::kube::Cluster;
use crate::print::messages;

/// The reminder for these locations.
pub(crate) fn show(context: &Context, locations: &[BackupStorageLocation]) {
    for text in locations.iter().filter_map(messages::key_not_exported) {
        context.printer.warn(&text);
    }
}

/// The reminder for the locations of these backups.
pub(crate) async fn for_backups(context: &Context, cluster: &Cluster, backups: &[Backup]) {
    let names: BTreeSet<Option<String>> = backups
        .iter()
        .map(|b| b.spec.storage_location.clone())
        .collect();
    if names.is_empty() {
        return;
    }
    let Ok(locations) = cluster.list::<BackupStorageLocation>("").await else {
        return;
    };
    show(context, &concerned(locations, &names));
}

/// Those locations that are named; `None` stands for the default location.
fn concerned(
    locations: Vec<BackupStorageLocation>,
    names: &BTreeSet<Option<String>>,
) -> Vec<BackupStorageLocation> {
    let only = locations.len() == 1;
    let is_default = |l: &BackupStorageLocation| l.spec.default == Some(true) || only;
    locations
        .into_iter()
        .filter(|l| names.contains(&Some(l.name_any())) || (names.contains(&None) && is_default(l)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_means_the_default() {
        let location = |name: &str, default: bool| -> BackupStorageLocation {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation",
                "metadata": {"name": name}, "spec": {"provider": "local", "default": default},
            }))
            .unwrap()
        };
        let all = || vec![location("a", false), location("b", true)];
        let names = |l: Vec<BackupStorageLocation>| -> Vec<String> {
            l.iter().map(ResourceExt::name_any).collect()
        };
        assert_eq!(names(concerned(all(), &BTreeSet::from([None]))), ["b"]);
        assert_eq!(
            names(concerned(all(), &BTreeSet::from([Some("a".to_owned())]))),
            ["a"]
        );
        assert_eq!(
            names(concerned(
                vec![location("a", false)],
                &BTreeSet::from([None])
            )),
            ["a"]
        );
    }
}
