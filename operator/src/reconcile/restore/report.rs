//! What a restore did: rows, messages, counts. One call writes a row, its log line and, where it is
//! one, its error or warning, so that the three never disagree.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ark_api::restore::{RestoreProgress, RestoreVolumeCounts};
use ark_api::results::{ItemAction, ItemRow, Results};
use tokio::sync::watch;

use crate::run_log::{About, RunLog};

/// What the status shows while the restore runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Live {
    /// Items.
    pub(crate) progress: RestoreProgress,
    /// Volumes.
    pub(crate) volumes: RestoreVolumeCounts,
    /// What is being waited for: reason and message.
    pub(crate) waiting: Option<(&'static str, String)>,
}

/// The report of one run.
pub(crate) struct Report {
    /// The log.
    pub(crate) log: RunLog,
    items: Mutex<Vec<ItemRow>>,
    live: watch::Sender<Live>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(log: RunLog) -> Self {
        Self {
            log,
            items: Mutex::default(),
            live: watch::Sender::new(Live::default()),
        }
    }

    /// Changes of [`Live`].
    pub(crate) fn subscribe(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// Changes what the status shows.
    pub(crate) fn live(&self, change: impl FnOnce(&mut Live)) {
        self.live.send_if_modified(|live| {
            let before = live.clone();
            change(live);
            *live != before
        });
    }

    /// What the status shows now.
    pub(crate) fn now(&self) -> Live {
        self.live.borrow().clone()
    }

    /// One object, `warn` if the user should know although nothing failed.
    pub(crate) fn row(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        action: ItemAction,
        message: &str,
        warn: bool,
    ) {
        let path = path(resource, namespace, name);
        let about = about(namespace);
        match action {
            ItemAction::Failed => self.log.error(about, format!("{path}: {message}")),
            _ if warn => self.log.warn(about, format!("{path}: {message}")),
            _ => {
                let word = word(action);
                let colon = if message.is_empty() { "" } else { ": " };
                self.log.info(format!("{path} {word}{colon}{message}"));
            }
        }
        self.items().push(ItemRow {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            action,
            message: message.to_owned(),
        });
    }

    /// What of an object, whose row is written, did not come back.
    pub(crate) fn lost(&self, resource: &str, namespace: &str, name: &str, why: &str) {
        let path = path(resource, namespace, name);
        self.log.error(about(namespace), format!("{path}: {why}"));
    }

    /// One item of the plan is dealt with.
    pub(crate) fn done(&self) {
        self.live(|live| live.progress.items_restored += 1);
    }

    /// Whether an object has a row.
    pub(crate) fn has(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.items().iter().any(|row| {
            (
                row.resource.as_str(),
                row.namespace.as_str(),
                row.name.as_str(),
            ) == (resource, namespace, name)
        })
    }

    /// Number of objects with which this was done, volumes left out.
    pub(crate) fn count(&self, action: ItemAction) -> usize {
        let items = self.items();
        let rows = items.iter().filter(|row| row.action == action);
        rows.filter(|row| row.resource != super::volumes::RESOURCE)
            .count()
    }

    /// Whether not a single object is in the cluster, although some should be.
    pub(crate) fn nothing_restored(&self) -> bool {
        let items = self.items();
        let failed = items.iter().any(|row| row.action == ItemAction::Failed);
        let good = items.iter().any(|row| {
            matches!(
                row.action,
                ItemAction::Created | ItemAction::Changed | ItemAction::Kept
            ) && row.resource != "namespaces"
        });
        failed && !good
    }

    /// The `results` artefact.
    pub(crate) fn results(&self) -> Results {
        let mut results = self.log.results();
        results.items.clone_from(&self.items());
        results.items.sort_by(|a, b| {
            (&a.resource, &a.namespace, &a.name).cmp(&(&b.resource, &b.namespace, &b.name))
        });
        results
    }

    /// The `resource-list` artefact: names with what was done, by resource.
    pub(crate) fn resource_list(&self) -> BTreeMap<String, Vec<String>> {
        let mut list: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in self.items().iter() {
            let name = if row.namespace.is_empty() {
                row.name.clone()
            } else {
                format!("{}/{}", row.namespace, row.name)
            };
            list.entry(row.resource.clone())
                .or_default()
                .push(format!("{name}({})", word(row.action)));
        }
        for names in list.values_mut() {
            names.sort();
        }
        list
    }

    fn items(&self) -> MutexGuard<'_, Vec<ItemRow>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(resource: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{resource} {name}")
    } else {
        format!("{resource} {namespace}/{name}")
    }
}

/// A namespace, or the cluster when it is empty.
pub(crate) fn about(namespace: &str) -> About<'_> {
    if namespace.is_empty() {
        About::Cluster
    } else {
        About::Namespace(namespace)
    }
}

fn word(action: ItemAction) -> &'static str {
    match action {
        ItemAction::Created => "created",
        ItemAction::Changed => "changed",
        ItemAction::Kept => "kept",
        ItemAction::Skipped => "skipped",
        ItemAction::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn rows_messages_and_counts_agree() {
        let spool = tempfile::tempdir().unwrap();
        let log = RunLog::create("restore/r", spool.path(), Arc::new(SystemClock)).unwrap();
        let report = Report::new(log);
        assert!(!report.nothing_restored());
        report.row("namespaces", "", "web", ItemAction::Created, "", false);
        report.row("pods", "web", "a", ItemAction::Failed, "no room", false);
        assert!(report.nothing_restored());
        report.row("configmaps", "web", "c", ItemAction::Kept, "differs", true);
        assert!(!report.nothing_restored());
        let results = report.results();
        assert_eq!(results.errors.namespaces["web"], ["pods web/a: no room"]);
        assert_eq!(
            results.warnings.namespaces["web"],
            ["configmaps web/c: differs"]
        );
        assert_eq!(results.items.len(), 3);
        assert_eq!(report.resource_list()["pods"], ["web/a(failed)".to_owned()]);
        let mut changes = report.subscribe();
        report.live(|_| {});
        assert!(!changes.has_changed().unwrap());
        report.done();
        assert!(changes.has_changed().unwrap());
        assert_eq!(changes.borrow_and_update().progress.items_restored, 1);
    }
}
