//! Looking at objects again only when another object comes to mean something else to them.
//!
//! A location's status is written at every look at it, and a thousand repositories that each ask
//! three times what that means to them are thousands of requests a minute for nothing. So what an
//! object means is remembered, by its name, and only a difference wakes anybody.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Resource, ResourceExt as _};

use super::{ControllerOf, Watched};
use crate::context::Context;

/// Looks at every object of kind `K` again when an object of kind `O` comes, goes, or begins to
/// mean something else. That is rare, so those that do not depend on it may be looked at as well.
pub(super) fn on_meaning_of<K, O, T>(
    controller: ControllerOf<K>,
    context: &Context,
    meaning: impl Fn(&O) -> T + Send + Sync + 'static,
) -> ControllerOf<K>
where
    K: Watched,
    O: Watched,
    T: PartialEq + Send + Sync + 'static,
{
    let others =
        kube::Api::<DeserializeGuard<O>>::namespaced(context.client.clone(), &context.namespace);
    let mut meanings = Meanings::default();
    let changes = watcher(others, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| {
            let changed = match event {
                Ok(event) => meanings.take(event, &meaning),
                Err(error) => {
                    let kind = O::kind(&());
                    tracing::warn!(%kind, %error, "watching is disturbed; it is tried again");
                    false
                }
            };
            std::future::ready(changed.then_some(()))
        });
    controller.reconcile_all_on(changes)
}

/// What objects mean, by name.
struct Meanings<T> {
    of: HashMap<String, T>,
    /// What a list that is under way has shown.
    listed: HashSet<String>,
}

impl<T> Default for Meanings<T> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            listed: HashSet::new(),
        }
    }
}

impl<T: PartialEq> Meanings<T> {
    /// Whether an object means something else after this event. One that cannot be read means
    /// nothing; its own controller says so.
    fn take<O: Resource>(
        &mut self,
        event: Event<DeserializeGuard<O>>,
        meaning: impl Fn(&O) -> T,
    ) -> bool {
        match event {
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(object) => {
                self.listed.insert(object.name_any());
                self.changed(&object, meaning)
            }
            Event::Apply(object) => self.changed(&object, meaning),
            Event::InitDone => {
                let (listed, before) = (std::mem::take(&mut self.listed), self.of.len());
                self.of.retain(|name, _| listed.contains(name));
                self.of.len() < before
            }
            Event::Delete(object) => self.of.remove(&object.name_any()).is_some(),
        }
    }

    fn changed<O: Resource>(
        &mut self,
        object: &DeserializeGuard<O>,
        meaning: impl Fn(&O) -> T,
    ) -> bool {
        let name = object.name_any();
        match object.0.as_ref().ok().map(meaning) {
            Some(now) if self.of.get(&name) == Some(&now) => false,
            Some(now) => {
                self.of.insert(name, now);
                true
            }
            None => self.of.remove(&name).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ark_api::BackupStorageLocation;
    use ark_api::location::BackupStorageLocationSpec;

    use super::*;

    fn location(name: &str, generation: i64) -> DeserializeGuard<BackupStorageLocation> {
        let mut location = BackupStorageLocation::new(name, BackupStorageLocationSpec::default());
        location.metadata.generation = Some(generation);
        DeserializeGuard(Ok(location))
    }

    #[test]
    fn only_a_difference_wakes_and_what_is_gone_is_one() {
        let mut meanings = Meanings::default();
        let mut take = |event| {
            meanings.take(event, |location: &BackupStorageLocation| {
                location.metadata.generation
            })
        };
        assert!(!take(Event::Init));
        assert!(take(Event::InitApply(location("a", 1))));
        assert!(take(Event::InitApply(location("b", 1))));
        assert!(!take(Event::InitDone));
        // Its status was written.
        assert!(!take(Event::Apply(location("a", 1))));
        assert!(take(Event::Apply(location("a", 2))));
        assert!(take(Event::Delete(location("a", 2))));
        assert!(take(Event::Apply(location("a", 2))));
        // It went while nobody watched.
        assert!(!take(Event::Init));
        assert!(!take(Event::InitApply(location("a", 2))));
        assert!(take(Event::InitDone));
    }
}
