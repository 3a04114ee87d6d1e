//! Runs a collection: namespaces, lists, related objects, facts about volumes.
//!
//! Order: namespaces chosen; every meant kind listed page by page, each object handed to the bundle at
//! once; what the objects need fetched until nothing new is needed; definitions of custom resources;
//! Namespace objects. What cannot be read is an error row in the log and the rest goes on; only a bundle
//! that cannot be written, a cluster whose API cannot be discovered, and a stop end it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ark_api::backup::BackupSpec;
use futures::StreamExt as _;
use kube::Client;
use kube::core::Selector;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::discovery::{Broken, Discovered, Kind, discover};
use super::filter::{ResourceFilter, Unknown};
use super::list::{Page, get, is_expired, page};
use super::namespaces::{Chosen, choose, has_exclude_label, text};
use super::related::{self, Wanted};
use crate::bundle::write::{Item, Sink, is_plain};
use crate::error::{Error, Result};
use crate::run_log::{About, RunLog};
use crate::volumes::facts::Facts;

/// Requests under way at the same time.
const PARALLEL: usize = 4;
/// With more namespaces than this, a kind is listed over all of them at once.
const SEPARATE: usize = 16;
/// How often a list starts again because it took too long to page through.
const RESTARTS: u32 = 3;
/// Definitions of custom resources.
const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
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
struct State {
    discovered: Discovered,
    filter: ResourceFilter,
    chosen: Chosen,
    selectors: Vec<Option<String>>,
    seen: HashSet<Wanted>,
    wanted: Vec<Wanted>,
    /// Service accounts that are items.
    accounts: HashSet<(String, String)>,
    collected: Collected,
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
    let (mut all, mut next) = (Vec::new(), None);
    loop {
        let Page { items, next: more } = page(client, &kind, None, None, next.as_deref()).await?;
        all.extend(items);
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
            self.log.error(
                About::Cluster,
                format!("the cluster has no resource called {name:?}, so nothing of it was taken"),
            );
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

    /// Lists every kind that is meant.
    async fn lists(&self, state: &mut State) -> Result<()> {
        let kinds: Vec<Arc<Kind>> = state
            .discovered
            .kinds
            .iter()
            // Namespaces come last, when it is known which have items.
            .filter(|kind| kind.resource() != "namespaces" && state.filter.lists(kind))
            .cloned()
            .map(Arc::new)
            .collect();
        let few = state.chosen.objects.len() <= SEPARATE && !state.chosen.all;
        let names: Vec<String> = state.chosen.objects.keys().cloned().collect();
        let mut jobs: Vec<(Arc<Kind>, Option<String>, Option<String>)> = Vec::new();
        for kind in &kinds {
            for selector in &state.selectors {
                let job = |namespace| (kind.clone(), namespace, selector.clone());
                if kind.namespaced && few {
                    jobs.extend(names.iter().cloned().map(Some).map(job));
                } else if !kind.namespaced || !names.is_empty() {
                    jobs.push(job(None));
                }
            }
        }
        let mut pages = futures::stream::iter(jobs)
            .map(|(kind, namespace, selector)| async move {
                let (home, selected) = (namespace.as_deref(), selector.as_deref());
                let first = page(self.client, &kind, home, selected, None).await;
                (kind, namespace, selector, first)
            })
            .buffered(PARALLEL);
        while let Some((kind, namespace, selector, first)) = pages.next().await {
            self.check_stop()?;
            let (home, selected) = (namespace.as_deref(), selector.as_deref());
            if let Err(error) = self.rest(state, &kind, home, selected, first).await? {
                let about = home.map_or(About::Cluster, About::Namespace);
                self.log.error(
                    about,
                    format!("objects are missing from the backup: {error}"),
                );
            }
        }
        Ok(())
    }

    /// Takes the first page and all after it. The outer error ends the run, the inner one is a row.
    async fn rest(
        &self,
        state: &mut State,
        kind: &Kind,
        namespace: Option<&str>,
        selector: Option<&str>,
        mut current: Result<Page>,
    ) -> Result<Result<()>> {
        let mut restarts = 0;
        loop {
            let next = match current {
                Ok(Page { items, next }) => {
                    for object in items {
                        self.listed(state, kind, object).await?;
                    }
                    (self.progress)(state.collected.items);
                    match next {
                        None => return Ok(Ok(())),
                        next => next,
                    }
                }
                // What was taken already is recognised, so starting again costs time only.
                Err(error) if is_expired(&error) && restarts < RESTARTS => {
                    restarts += 1;
                    None
                }
                Err(error) => return Ok(Err(error)),
            };
            self.check_stop()?;
            current = page(self.client, kind, namespace, selector, next.as_deref()).await;
        }
    }

    /// One object of a list.
    async fn listed(&self, state: &mut State, kind: &Kind, object: Value) -> Result<()> {
        let namespace = text(&object, "/metadata/namespace");
        if kind.namespaced && !state.chosen.objects.contains_key(namespace) {
            return Ok(());
        }
        self.take(state, kind, object).await
    }

    /// Puts one object into the bundle, unless it is excluded, being deleted, or there already.
    async fn take(&self, state: &mut State, kind: &Kind, mut object: Value) -> Result<()> {
        let resource = kind.resource();
        let namespace = text(&object, "/metadata/namespace").to_owned();
        let name = text(&object, "/metadata/name").to_owned();
        let about = match namespace.as_str() {
            "" => About::Cluster,
            namespace => About::Namespace(namespace),
        };
        if !object.is_object() || !is_plain(&name) || kind.namespaced != is_plain(&namespace) {
            self.log.error(
                about,
                format!("{resource} {name:?} has no sensible name and is not in the backup"),
            );
            return Ok(());
        }
        let key = Wanted {
            resource: resource.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        if !state.seen.insert(key) {
            return Ok(());
        }
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            self.log.info(format!(
                "{resource} {namespace}/{name} is being deleted; left out"
            ));
            return Ok(());
        }
        let excluded = has_exclude_label(&object);
        if let Err(error) = state.collected.facts.note(&resource, &object, !excluded) {
            self.log.error(
                about,
                format!(
                    "{resource} {name} has an unusual form, so its volumes cannot be told: {error}"
                ),
            );
        }
        if excluded {
            self.log.info(format!(
                "{resource} {namespace}/{name} carries the label that excludes it"
            ));
            return Ok(());
        }
        if resource == "serviceaccounts" {
            state.accounts.insert((namespace.clone(), name.clone()));
        }
        state.wanted.extend(related::of(&resource, &object));
        // Items of a list of built-in kinds do not say what they are.
        if let Some(map) = object.as_object_mut() {
            let mut whole = serde_json::Map::new();
            whole.insert("apiVersion".to_owned(), kind.api_version().into());
            whole.insert("kind".to_owned(), kind.name.clone().into());
            map.retain(|key, _| key != "apiVersion" && key != "kind");
            whole.append(map);
            *map = whole;
        }
        let json = serde_json::to_vec(&object).map_err(|error| Error::Bug(error.to_string()))?;
        let shown = if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        };
        state
            .collected
            .resource_list
            .entry(format!("{}/{}", kind.api_version(), kind.name))
            .or_default()
            .push(shown);
        state.collected.items += 1;
        self.sink
            .add(Item {
                resource,
                version: kind.version.clone(),
                namespace,
                name,
                json,
            })
            .await
    }

    /// Fetches what is wanted until nothing new is.
    async fn follow(&self, state: &mut State) -> Result<()> {
        loop {
            let mut batch: Vec<Wanted> = std::mem::take(&mut state.wanted)
                .into_iter()
                .filter(|wanted| !state.seen.contains(wanted))
                .collect();
            batch.sort();
            batch.dedup();
            let jobs: Vec<(Kind, Wanted)> = batch
                .into_iter()
                .filter_map(|wanted| {
                    Some((state.discovered.get(&wanted.resource)?.clone(), wanted))
                })
                .filter(|(kind, wanted)| {
                    let home =
                        !kind.namespaced || state.chosen.objects.contains_key(&wanted.namespace);
                    home && state.filter.related(kind)
                })
                .collect();
            if jobs.is_empty() {
                return Ok(());
            }
            let mut objects = futures::stream::iter(jobs)
                .map(|(kind, wanted)| async move {
                    let namespace = kind.namespaced.then_some(wanted.namespace.as_str());
                    let object = get(self.client, &kind, namespace, &wanted.name).await;
                    (kind, wanted, object)
                })
                .buffered(PARALLEL);
            while let Some((kind, wanted, object)) = objects.next().await {
                self.check_stop()?;
                match object {
                    Ok(Some(object)) => self.take(state, &kind, object).await?,
                    // Not every kind has a definition; asking is how one finds out.
                    Ok(None) if wanted.resource == DEFINITIONS => {
                        state.seen.insert(wanted);
                    }
                    Ok(None) => {
                        self.log.info(format!(
                            "{} {} does not exist",
                            wanted.resource, wanted.name
                        ));
                        state.seen.insert(wanted);
                    }
                    Err(error) => {
                        let Wanted { resource, name, .. } = &wanted;
                        self.log.error(
                            About::Cluster,
                            format!(
                                "{resource} {name}, which the backup needs, is not in it: {error}"
                            ),
                        );
                        state.seen.insert(wanted);
                    }
                }
            }
        }
    }

    /// Wants the bindings and roles of the service accounts that are items.
    async fn bindings(&self, state: &mut State) -> Result<()> {
        for resource in [
            "clusterrolebindings.rbac.authorization.k8s.io",
            "rolebindings.rbac.authorization.k8s.io",
        ] {
            let Some(kind) = state.discovered.get(resource).cloned() else {
                continue;
            };
            let everything = state.filter.lists(&kind) && state.selectors == [None];
            if everything || state.accounts.is_empty() || !state.filter.related(&kind) {
                continue;
            }
            let mut next = None;
            loop {
                self.check_stop()?;
                match page(self.client, &kind, None, None, next.as_deref()).await {
                    Ok(Page { items, next: more }) => {
                        for binding in &items {
                            state.wanted.extend(related::of_binding(
                                resource,
                                binding,
                                &state.accounts,
                            ));
                        }
                        match more {
                            Some(more) => next = Some(more),
                            None => break,
                        }
                    }
                    Err(error) => {
                        self.log.error(
                            About::Cluster,
                            format!("the permissions of service accounts may be missing: {error}"),
                        );
                        break;
                    }
                }
            }
        }
        self.follow(state).await
    }

    /// Wants the definition of every custom resource that has items.
    async fn definitions(&self, state: &mut State) -> Result<()> {
        let with_items: Vec<String> = state
            .discovered
            .kinds
            .iter()
            .filter(|kind| kind.group.contains('.'))
            .filter(|kind| {
                let shown = format!("{}/{}", kind.api_version(), kind.name);
                state.collected.resource_list.contains_key(&shown)
            })
            .map(Kind::resource)
            .collect();
        // A kind of an aggregated API has no definition; asking for it finds nothing.
        state
            .wanted
            .extend(with_items.into_iter().map(|name| Wanted {
                resource: DEFINITIONS.to_owned(),
                namespace: String::new(),
                name,
            }));
        self.follow(state).await
    }

    /// Takes the Namespace objects: of all chosen namespaces, or with selectors of those that have items.
    async fn namespace_objects(&self, state: &mut State) -> Result<()> {
        let Some(kind) = state.discovered.get("namespaces").cloned() else {
            return Err(Error::Bug("the cluster has no namespaces".to_owned()));
        };
        if state.filter.excludes("namespaces") {
            return Ok(());
        }
        let selected = state.selectors != [None];
        let inhabited: HashSet<String> = state
            .seen
            .iter()
            .map(|seen| seen.namespace.clone())
            .collect();
        let objects = std::mem::take(&mut state.chosen.objects);
        for (name, object) in &objects {
            if !selected || inhabited.contains(name) {
                self.take(state, &kind, object.clone()).await?;
            }
        }
        state.chosen.objects = objects;
        Ok(())
    }

    /// Fetches what is not known yet of claims and disks that pods use.
    async fn complete_facts(&self, state: &mut State) -> Result<()> {
        let unknown = state.collected.facts.unknown_claims().into_iter();
        self.facts(state, "persistentvolumeclaims", unknown.collect())
            .await?;
        let unknown = state.collected.facts.unknown_disks().into_iter();
        let disks = unknown.map(|name| (String::new(), name)).collect();
        self.facts(state, "persistentvolumes", disks).await
    }

    async fn facts(
        &self,
        state: &mut State,
        resource: &str,
        names: Vec<(String, String)>,
    ) -> Result<()> {
        let Some(kind) = state.discovered.get(resource).cloned() else {
            return Ok(());
        };
        for (namespace, name) in names {
            self.check_stop()?;
            let home = kind.namespaced.then_some(namespace.as_str());
            match get(self.client, &kind, home, &name).await {
                Ok(Some(object)) => {
                    if let Err(error) = state.collected.facts.note(resource, &object, false) {
                        self.log.error(About::Cluster, format!("{resource} {name} has an unusual form: {error}"));
                    }
                }
                Ok(None) => {}
                Err(error) => self.log.error(
                    About::Cluster,
                    format!("{resource} {name} cannot be looked at, so its volume cannot be judged: {error}"),
                ),
            }
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<()> {
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
