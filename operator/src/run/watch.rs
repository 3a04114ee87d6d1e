//! Tells runs that their object was deleted, or that the user wants it cancelled. One watch of each
//! kind.
//!
//! A watch that breaks begins with a new list, and what is missing there is gone. An object of
//! which a run starts after its deletion was seen is noticed by the run itself: the first write of
//! its status fails.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use ark_api::{Backup, Restore};
use futures::StreamExt as _;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::registry::Kind;
use crate::context::Context;

/// An object that runs work on.
pub(crate) trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its kind.
    const KIND: Kind;
    /// Whether the user wants no more work on it.
    fn is_cancelled(&self) -> bool;
}

impl Watched for Backup {
    const KIND: Kind = Kind::Backup;

    fn is_cancelled(&self) -> bool {
        self.spec.cancel == Some(true)
    }
}

impl Watched for Restore {
    const KIND: Kind = Kind::Restore;

    fn is_cancelled(&self) -> bool {
        self.spec.cancel == Some(true)
    }
}

/// Watches all objects of a kind until the process stops.
pub(crate) async fn watch<K: Watched>(context: Arc<Context>) {
    let api =
        kube::Api::<DeserializeGuard<K>>::namespaced(context.client.clone(), &context.namespace);
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    // Runs when a list began, without those whose objects the list has shown.
    let mut missing: HashSet<String> = HashSet::new();
    loop {
        let event = tokio::select! {
            () = context.shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(watcher::Event::Init)) => {
                missing = context
                    .runs
                    .running(K::KIND)
                    .into_iter()
                    .map(|subject| subject.uid)
                    .collect();
            }
            Some(Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => {
                let uid = object.uid().unwrap_or_default();
                missing.remove(&uid);
                if object.meta().deletion_timestamp.is_some() {
                    context.runs.delete(&uid);
                } else if object.0.as_ref().is_ok_and(K::is_cancelled) {
                    context.runs.cancel(&uid);
                }
            }
            Some(Ok(watcher::Event::InitDone)) => {
                for uid in missing.drain() {
                    context.runs.delete(&uid);
                }
            }
            Some(Ok(watcher::Event::Delete(object))) => {
                context.runs.delete(&object.uid().unwrap_or_default());
            }
            Some(Err(error)) => {
                tracing::warn!(kind = %K::KIND, %error, "watching is disturbed; it is tried again");
            }
            None => return,
        }
    }
}
