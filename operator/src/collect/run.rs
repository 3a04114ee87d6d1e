//! Runs a collection: namespaces, lists, related objects, facts about volumes.
//!
//! Order: namespaces chosen; every meant kind listed page by page, each object handed to the bundle
//! at once; what the objects need fetched until nothing new is needed; definitions of custom
//! resources; Namespace objects. What cannot be read is an error row in the log and the rest goes
//! on; only a bundle that cannot be written, a cluster whose API cannot be discovered, and a stop
//! end it.

use std::collections::{BTreeMap, HashSet};

use ark_api::backup::BackupSpec;
use kube::Client;
use kube::core::Selector;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::discovery::{Broken, Discovered, Kind, discover};
use super::filter::{ResourceFilter, Unknown};
use super::list::{Page, PageSize, page};
use super::namespaces::{Chosen, choose};
use super::related::Wanted;
use crate::bundle::write::Sink;
use crate::error::{Error, Result};
use crate::json::Document;
use crate::run_log::{About, RunLog};
use crate::volumes::facts::Facts;

/// Groups that only ever answer questions; what they serve is never backed up.
const READ_ONLY_GROUPS: &[&str] = &[
    "metrics.k8s.io",
    "custom.metrics.k8s.io",
    "external.metrics.k8s.io",
];

/// What a collection needs.
pub(crate) struct Collector<'a> {
    /// The cluster.
    pub(crate) client: &'a Client,
    /// The backup's words.
    pub(crate) spec: &'a BackupSpec,
    /// Where items go.
    pub(crate) sink: &'a Sink,
    /// Where rows go.
    pub(crate) log: &'a RunLog,
    /// Ends it.
    pub(crate) stop: &'a CancellationToken,
    /// Told the number of items now and then.
    pub(crate) progress: &'a (dyn Fn(usize) + Send + Sync),
}

/// What was collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Names of all items by `apps/v1/Deployment`.
    pub(crate) resource_list: BTreeMap<String, Vec<String>>,
    /// Facts about volumes.
    pub(crate) facts: Facts,
    /// Number of items.
    pub(crate) items: usize,
    /// The resource filters leave claims out.
    pub(crate) claims_excluded: bool,
}

/// Everything that is known while collecting.
pub(super) struct State {
    pub(super) discovered: Discovered,
    pub(super) filter: ResourceFilter,
    pub(super) chosen: Chosen,
    pub(super) selectors: Vec<Option<String>>,
    pub(super) seen: HashSet<Wanted>,
    pub(super) wanted: Vec<Wanted>,
    /// Service accounts that are items.
    pub(super) accounts: HashSet<(String, String)>,
    pub(super) collected: Collected,
}

/// The namespaces of the cluster.
pub(crate) async fn all_namespaces(client: &Client) -> Result<Vec<Value>> {
    let kind = Kind {
        group: String::new(),
        version: "v1".to_owned(),
        name: "Namespace".to_owned(),
        plural: "namespaces".to_owned(),
        singular: "namespace".to_owned(),
        short_names: Vec::new(),
        namespaced: false,
    };
    let (mut all, mut next, mut size) = (Vec::new(), None, PageSize::default());
    loop {
        let Page { items, next: more } =
            page(client, &kind, None, None, next.as_deref(), &mut size).await?;
        all.extend(items.into_iter().map(Document::into_value));
        match more {
            Some(more) => next = Some(more),
            None => return Ok(all),
        }
    }
}

impl Collector<'_> {
    /// Collects. `own` is Ark's namespace.
    pub(crate) async fn run(&self, own: &str) -> Result<Collected> {
        let discovered = discover(self.client).await?;
        let spec = self.spec;
        let namespaces = all_namespaces(self.client).await?;
        let chosen = choose(
            &spec.included_namespaces,
            &spec.excluded_namespaces,
            namespaces,
            own,
        );
        self.tell_namespaces(&chosen);
        let (filter, unknown) = ResourceFilter::new(spec, &discovered, chosen.all);
        self.tell_kinds(&filter, &unknown, &discovered.broken);
        let mut state = State {
            collected: Collected {
                claims_excluded: filter.excludes("persistentvolumeclaims"),
                ..Collected::default()
            },
            discovered,
            filter,
            chosen,
            selectors: selectors(spec)?,
            seen: HashSet::new(),
            wanted: Vec::new(),
            accounts: HashSet::new(),
        };
        self.lists(&mut state).await?;
        self.follow(&mut state).await?;
        self.bindings(&mut state).await?;
        self.definitions(&mut state).await?;
        self.follow(&mut state).await?;
        self.namespace_objects(&mut state).await?;
        self.complete_facts(&mut state).await?;
        (self.progress)(state.collected.items);
        Ok(state.collected)
    }

    fn tell_namespaces(&self, chosen: &Chosen) {
        for name in &chosen.missing {
            self.log.error(
                About::Namespace(name),
                format!("namespace {name} does not exist, so nothing of it was taken"),
            );
        }
        for name in &chosen.going {
            self.log.error(
                About::Namespace(name),
                format!("namespace {name} is being deleted, so the backup holds only what was still there"),
            );
        }
        for pattern in &chosen.idle {
            self.log
                .warn(About::Ark, format!("no namespace matches {pattern:?}"));
        }
        for (name, why) in &chosen.left_out {
            self.log.warn(
                About::Namespace(name),
                format!("namespace {name} left out: {why}"),
            );
        }
        self.log
            .info(format!("{} namespaces selected", chosen.objects.len()));
    }

    fn tell_kinds(&self, filter: &ResourceFilter, unknown: &Unknown, broken: &[Broken]) {
        for name in &unknown.included {
            let message =
                format!("the cluster has no resource called {name:?}, so nothing of it was taken");
            // One backup is written for several clusters, and not each has every kind; but a list
            // that names nothing at all is a mistake.
            if filter.has_idle_list() {
                self.log.error(About::Cluster, message);
            } else {
                self.log.warn(About::Cluster, message);
            }
        }
        for name in &unknown.excluded {
            self.log.warn(
                About::Cluster,
                format!("the cluster has no resource called {name:?} to leave out"),
            );
        }
        for Broken { group, version } in broken {
            let message = format!(
                "the API {group}/{version} does not answer, so its objects are not in the backup"
            );
            if READ_ONLY_GROUPS.contains(&group.as_str()) || !filter.may_miss(group, unknown) {
                self.log.warn(About::Cluster, message);
            } else {
                self.log.error(About::Cluster, message);
            }
        }
    }

    pub(super) fn check_stop(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            Err(Error::Stopping)
        } else {
            Ok(())
        }
    }
}

/// Selectors as the API server wants them; `None` alone means everything.
fn selectors(spec: &BackupSpec) -> Result<Vec<Option<String>>> {
    let given = spec.label_selector.iter().chain(&spec.or_label_selectors);
    let mut texts = Vec::new();
    for selector in given {
        let selector = Selector::try_from(selector.clone()).map_err(|error| Error::Permanent {
            message: format!("a label selector makes no sense: {error}"),
            hint: "correct the selector",
        })?;
        texts.push((!selector.selects_all()).then(|| selector.to_string()));
    }
    if texts.is_empty() || texts.contains(&None) {
        return Ok(vec![None]);
    }
    Ok(texts)
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
