//! What can only be known at the end of a collection: which Namespace objects belong to it, and
//! what is still unknown of the claims and disks that pods use.

use std::collections::HashSet;

use super::list::get;
use super::run::{Collector, State};
use crate::error::{Error, Result};
use crate::json::Document;
use crate::run_log::About;

/// Claims.
const CLAIMS: &str = "persistentvolumeclaims";

impl Collector<'_> {
    /// Takes the Namespace objects: of all chosen namespaces, or with selectors of those that have
    /// items.
    pub(super) async fn namespace_objects(&self, state: &mut State) -> Result<()> {
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
                self.take(state, &kind, Document::made(object.clone()))
                    .await?;
            }
        }
        state.chosen.objects = objects;
        Ok(())
    }

    /// Fetches what is not known yet of claims and disks that pods use.
    pub(super) async fn complete_facts(&self, state: &mut State) -> Result<()> {
        let unknown = state.collected.facts.unknown_claims().into_iter();
        self.facts(state, CLAIMS, unknown.collect()).await?;
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
                Ok(None) if resource == CLAIMS => {
                    state.collected.facts.absent_claims.insert((namespace, name));
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
}
