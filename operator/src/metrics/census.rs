//! How many objects of each kind are in which phase, counted when somebody asks: what waits, what
//! runs, and which deletions are pending. Counted from what the controllers' watches show, so that
//! it costs no request, is right after a restart, and forgets what was deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of objects.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ObjectLabels {
    kind: String,
    phase: String,
}

/// The phases of all objects of a kind.
type Phases = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The count. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Census {
    objects: Family<ObjectLabels, Gauge>,
    followed: Arc<Mutex<Followed>>,
}

#[derive(Default)]
struct Followed {
    kinds: Vec<(String, Phases)>,
    /// The last count; what is not there any more is shown as 0, so that its series does not break
    /// off.
    last: BTreeMap<ObjectLabels, i64>,
}

impl Census {
    /// A count of nothing, registered.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let census = Self::default();
        registry.register(
            "objects",
            "Objects of Ark in the cluster, by kind and phase",
            census.objects.clone(),
        );
        census
    }

    /// Counts objects of `kind`, whose phases are `phases`, from now on.
    pub(crate) fn follow(
        &self,
        kind: &str,
        phases: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) {
        self.followed()
            .kinds
            .push((kind.to_owned(), Box::new(phases)));
    }

    /// Counts.
    pub(super) fn take(&self) {
        let mut followed = self.followed();
        let mut count: BTreeMap<ObjectLabels, i64> = followed
            .last
            .keys()
            .map(|labels| (labels.clone(), 0))
            .collect();
        for (kind, phases) in &followed.kinds {
            for phase in phases() {
                let labels = ObjectLabels {
                    kind: kind.clone(),
                    phase: phase.to_lowercase(),
                };
                *count.entry(labels).or_default() += 1;
            }
        }
        for (labels, number) in &count {
            self.objects.get_or_create(labels).set(*number);
        }
        followed.last = count;
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_counted_as_none() {
        let mut registry = Registry::default();
        let census = Census::register(&mut registry);
        let phases = Arc::new(Mutex::new(vec!["Queued".to_owned(), "Queued".to_owned()]));
        let shown = Arc::clone(&phases);
        census.follow("Backup", move || shown.lock().unwrap().clone());
        let line = |number: i64| format!(r#"objects{{kind="Backup",phase="queued"}} {number}"#);
        for number in [2, 0] {
            census.take();
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            assert!(text.contains(&line(number)), "{text}");
            phases.lock().unwrap().clear();
        }
    }
}
