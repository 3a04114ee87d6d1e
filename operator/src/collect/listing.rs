//! Lists every kind that is meant, page by page, and hands each object to the bundle at once.
//!
//! A page that cannot be read is an error row and the other lists go on. A list that expired while
//! it was paged through starts again: what was taken already is recognised.

use std::sync::Arc;

use super::discovery::Kind;
use super::leaving::{self, Leaving};
use super::list::{Page, PageSize, is_expired, page};
use super::namespaces::{has_exclude_label, text};
use super::related::{self, Wanted};
use super::run::{Collector, State};
use crate::bundle::file_name::is_plain;
use crate::bundle::write::Item;
use crate::error::Result;
use crate::json::{self, Document};
use crate::run_log::About;
use futures::StreamExt as _;

/// Requests under way at the same time.
pub(super) const PARALLEL: usize = 4;
/// With more namespaces than this, a kind is listed over all of them at once.
const SEPARATE: usize = 16;
/// How often a list starts again because it took too long to page through.
const RESTARTS: u32 = 3;

impl Collector<'_> {
    /// Lists every kind that is meant.
    pub(super) async fn lists(&self, state: &mut State) -> Result<()> {
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
                let mut size = PageSize::default();
                let first = page(self.client, &kind, home, selected, None, &mut size).await;
                (kind, namespace, selector, first, size)
            })
            .buffered(PARALLEL);
        while let Some((kind, namespace, selector, first, size)) = pages.next().await {
            self.check_stop()?;
            let (home, selected) = (namespace.as_deref(), selector.as_deref());
            if let Err(error) = self.rest(state, &kind, home, selected, first, size).await? {
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
        mut size: PageSize,
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
            current = page(
                self.client,
                kind,
                namespace,
                selector,
                next.as_deref(),
                &mut size,
            )
            .await;
        }
    }

    /// One object of a list.
    async fn listed(&self, state: &mut State, kind: &Kind, object: Document) -> Result<()> {
        let namespace = text(&object, "/metadata/namespace");
        if kind.namespaced && !state.chosen.objects.contains_key(namespace) {
            return Ok(());
        }
        self.take(state, kind, object).await
    }

    /// Puts one object into the bundle, unless it is excluded, is going away, or is there already.
    pub(super) async fn take(
        &self,
        state: &mut State,
        kind: &Kind,
        object: Document,
    ) -> Result<()> {
        let resource = kind.resource();
        let namespace = text(&object, "/metadata/namespace").to_owned();
        let name = text(&object, "/metadata/name").to_owned();
        let about = match namespace.as_str() {
            "" => About::Cluster,
            namespace => About::Namespace(namespace),
        };
        if !object.is_object() || name.is_empty() || kind.namespaced != is_plain(&namespace) {
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
        let leaving = leaving::judge(&resource, &object);
        match leaving {
            Leaving::No | Leaving::Held => {}
            Leaving::Ended => {
                self.log.info(format!(
                    "{resource} {namespace}/{name} has ended and is being deleted; left out"
                ));
                return Ok(());
            }
            Leaving::Gone => {
                self.log.warn(
                    about,
                    format!("{resource} {name} is being deleted and is not in the backup"),
                );
                return Ok(());
            }
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
        let mut whole = serde_json::Map::new();
        whole.insert("apiVersion".to_owned(), kind.api_version().into());
        whole.insert("kind".to_owned(), kind.name.clone().into());
        let rest = object.as_object().into_iter().flatten();
        for (key, value) in rest.filter(|(key, _)| *key != "apiVersion" && *key != "kind") {
            whole.insert(key.clone(), value.clone());
        }
        let mut whole = serde_json::Value::from(whole);
        if leaving == Leaving::Held {
            leaving::keep(&mut whole);
        }
        let json = json::encode(&whole, Some(object.text()));
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
}
