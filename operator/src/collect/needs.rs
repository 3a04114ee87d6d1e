//! Fetches what the collected objects need: objects they name, the permissions of their service
//! accounts, the definitions of their kinds.
//!
//! What cannot be fetched is an error row; what does not exist is said, and no error.

use futures::StreamExt as _;

use super::discovery::Kind;
use super::list::{Page, PageSize, get, page};
use super::listing::PARALLEL;
use super::related::{self, CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS, Wanted};
use super::run::{Collector, State};
use crate::error::Result;
use crate::run_log::About;

/// Definitions of custom resources.
const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

impl Collector<'_> {
    /// Fetches what is wanted until nothing new is.
    pub(super) async fn follow(&self, state: &mut State) -> Result<()> {
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

    /// Wants the bindings of the service accounts that are items, if they are not items anyway; the
    /// roles follow from the bindings.
    pub(super) async fn bindings(&self, state: &mut State) -> Result<()> {
        for resource in [CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS] {
            let Some(kind) = state.discovered.get(resource).cloned() else {
                continue;
            };
            let everything = state.filter.lists(&kind) && state.selectors == [None];
            if everything || state.accounts.is_empty() || !state.filter.related(&kind) {
                continue;
            }
            let (mut next, mut size) = (None, PageSize::default());
            loop {
                self.check_stop()?;
                match page(self.client, &kind, None, None, next.as_deref(), &mut size).await {
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
    pub(super) async fn definitions(&self, state: &mut State) -> Result<()> {
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
}
