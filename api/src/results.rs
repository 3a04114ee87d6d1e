//! Errors and warnings of a backup or restore, and the rows of a restore: the artefacts that
//! `describe` prints. Shape of Velero's `results` file, with `ark` in place of `velero`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Messages by what they concern.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// About Ark itself: store, repository, agents.
    #[serde(default, alias = "velero", skip_serializing_if = "Vec::is_empty")]
    pub ark: Vec<String>,
    /// About cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    /// About one namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, Vec<String>>,
}

impl Messages {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.ark.len() + self.cluster.len() + self.namespaces.values().map(Vec::len).sum::<usize>()
    }

    /// No messages at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a message about `namespace`, or about the cluster when it is empty.
    pub fn add(&mut self, namespace: &str, message: impl Into<String>) {
        if namespace.is_empty() {
            self.cluster.push(message.into());
        } else {
            self.namespaces
                .entry(namespace.to_owned())
                .or_default()
                .push(message.into());
        }
    }
}

/// The `results` artefact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// What went wrong.
    #[serde(default)]
    pub errors: Messages,
    /// What the user should know.
    #[serde(default)]
    pub warnings: Messages,
    /// Every object of a restore that was created, changed, kept, skipped or failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemRow>,
}

/// What a restore did with one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ItemAction {
    /// It did not exist and was created.
    Created,
    /// It existed and was changed to the backup's state.
    Changed,
    /// It existed and was left as it is.
    Kept,
    /// It is of a kind, or in a state, that is never restored.
    Skipped,
    /// It could not be restored.
    Failed,
}

/// One object of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemRow {
    /// Plural resource with group, `deployments.apps`; core resources without a group, `pods`.
    pub resource: String,
    /// Namespace it was restored to; empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What happened.
    pub action: ItemAction,
    /// Why, where that is not obvious.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
