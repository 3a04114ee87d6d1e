//! Accounts for the volumes and claims that come back without their data: what the backup lacks is
//! never handed to an application in silence.
//!
//! Decides ([`weigh`]) and says it; what must be held back because of it is returned. Data that is
//! in the cluster already (a claim that was there, a disk that came back) is not lacking.

use std::collections::{BTreeMap, HashSet};

use ark_api::pod_volume_backup::PodReference;
use ark_api::results::ItemAction;

use super::fill::Finished;
use super::plan::{Claim, Missing, Pod};
use super::report::about;
use super::run::Run;
use super::volumes;
use crate::apply::transform::Binding;
use crate::apply::volumes::stock::{Lack, LackKind, Wanted};

/// Where the data of a volume would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In something that is made with the pod and is no claim.
    Pod,
    /// In a claim that comes back empty.
    EmptyClaim,
    /// In a claim with data of its own, or one that could not be made, which has its own row.
    Elsewhere,
}

/// How a volume without data counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Not at all.
    Nothing,
    /// The user should know.
    Warning,
    /// The application must not start with it.
    Error,
}

/// How much it counts that the backup lacks the data of a volume. Pure.
pub(crate) fn weigh(kind: LackKind, place: Place, accept: bool) -> Weight {
    let weight = match (kind, place) {
        (LackKind::Nothing, _) | (_, Place::Elsewhere) | (LackKind::Chosen, Place::Pod) => {
            Weight::Nothing
        }
        (LackKind::Chosen, Place::EmptyClaim) | (LackKind::Unprotected, Place::Pod) => {
            Weight::Warning
        }
        (LackKind::Unprotected, Place::EmptyClaim)
        | (LackKind::Failed, Place::Pod | Place::EmptyClaim) => Weight::Error,
    };
    match weight {
        Weight::Error if accept => Weight::Warning,
        weight => weight,
    }
}

/// A claim by namespace in the backup and name.
type Key = (String, String);

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    filled: HashSet<Key>,
    lacking: BTreeMap<Key, String>,
}

impl Account {
    /// Notes which claims are filled through `pod`.
    pub(super) fn filled(&mut self, pod: &Pod, wanted: &[Wanted]) {
        let claims = wanted.iter().filter_map(|w| w.volume.claim.clone());
        self.filled
            .extend(claims.map(|claim| (pod.namespace.clone(), claim)));
    }

    /// Says which volumes of `pod` come back without all their data; why the pod must not start, if
    /// so.
    pub(super) fn lacks(&mut self, run: &Run<'_>, pod: &Pod, wanted: &[Wanted]) -> Option<String> {
        let mut refuse = Vec::new();
        for missing in &pod.missing {
            refuse.extend(self.missing(run, pod, missing));
        }
        for wanted in wanted.iter().filter(|wanted| wanted.stored.partial) {
            let name = &wanted.volume.name;
            let text = format!("volume {name}: some of its files are not in the backup");
            let namespace = run.target(&pod.namespace);
            let full = format!("pods {namespace}/{}: {text}", pod.name);
            if run.order.accept_missing {
                run.report().log.warn(about(namespace), full);
            } else {
                run.report().log.error(about(namespace), full);
                refuse.push(text);
            }
        }
        (!refuse.is_empty()).then(|| refuse.join("; "))
    }

    fn missing(&mut self, run: &Run<'_>, pod: &Pod, missing: &Missing) -> Option<String> {
        let Missing { volume, lack } = missing;
        let key = volume
            .claim
            .as_ref()
            .filter(|_| !volume.ephemeral)
            .map(|claim| (pod.namespace.clone(), claim.clone()));
        let place = match &key {
            None if volume.ephemeral => Place::EmptyClaim,
            None => Place::Pod,
            Some(key) => place_of(run, key),
        };
        let namespace = run.target(&pod.namespace);
        let name = &volume.name;
        let why = format!("the backup has no data of volume {name} ({})", lack.why);
        match weigh(lack.kind, place, run.order.accept_missing) {
            Weight::Nothing => None,
            Weight::Warning => {
                run.report().row(
                    volumes::RESOURCE,
                    namespace,
                    &format!("{}/{name}", pod.name),
                    ItemAction::Skipped,
                    &format!("{why}; it comes back without"),
                    true,
                );
                // Said once is enough.
                self.filled.extend(key);
                None
            }
            Weight::Error => {
                run.report().live(|live| live.volumes.total += 1);
                let reference = PodReference {
                    namespace: namespace.to_owned(),
                    name: pod.name.clone(),
                    ..PodReference::default()
                };
                let finished = Finished::failed(why.clone());
                volumes::record(run.report(), &reference, name, &finished);
                if let Some(key) = key {
                    self.lacking.insert(key, why.clone());
                }
                Some(why)
            }
        }
    }

    /// Says which claims are made and stay empty although no pod of the restore mounts them;
    /// returns all claims that no application should get as they are, and why. `done_before`:
    /// claims that an earlier attempt filled.
    pub(super) fn claims(
        self,
        run: &Run<'_>,
        done_before: impl Fn(&Key) -> bool,
    ) -> BTreeMap<Key, String> {
        let mut empty = self.lacking;
        for (key, claim) in &run.plan.claims {
            let user = run.before().user(&key.0, &key.1);
            if let Some(user) = user.filter(|_| run.disks().awaits_data(key)) {
                let target = run.target(&key.0);
                let text = format!(
                    "claim {target}/{} has waited for its data since an earlier restore, but {user} is there and would \
                     use it meanwhile; delete {user} and restore again",
                    key.1
                );
                run.report().log.error(about(target), text);
                continue;
            }
            let known = self.filled.contains(key) || empty.contains_key(key) || done_before(key);
            if known || place_of(run, key) != Place::EmptyClaim {
                continue;
            }
            let (kind, why) = reason(claim);
            let target = run.target(&key.0);
            let content = if claim.sourced {
                "has only what its data source holds"
            } else {
                "is empty"
            };
            let text = format!("claim {target}/{} {content}: {why}", key.1);
            match weigh(kind, Place::EmptyClaim, run.order.accept_missing) {
                Weight::Nothing => {}
                Weight::Warning => run.report().log.warn(about(target), text),
                Weight::Error => {
                    run.report().log.error(about(target), text.clone());
                    empty.insert(key.clone(), text);
                }
            }
        }
        empty
    }
}

/// Why nothing fills a claim.
fn reason(claim: &Claim) -> (LackKind, String) {
    match &claim.lack {
        None => (
            LackKind::Failed,
            "the backup holds its files, but no pod that mounts it is restored".to_owned(),
        ),
        Some(Lack { kind, why }) => (*kind, format!("the backup has no data of it ({why})")),
    }
}

/// Where the data of a claim would be.
fn place_of(run: &Run<'_>, key: &Key) -> Place {
    let own_disk = run.disks().binding(key) == Binding::Same;
    if run.is_fresh(&key.0, &key.1) && !own_disk {
        Place::EmptyClaim
    } else {
        Place::Elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_how_much() {
        use LackKind::{Chosen, Failed, Nothing, Unprotected};
        for (kind, place, wanted, accepted) in [
            (Nothing, Place::EmptyClaim, Weight::Nothing, Weight::Nothing),
            (Chosen, Place::EmptyClaim, Weight::Warning, Weight::Warning),
            (Chosen, Place::Pod, Weight::Nothing, Weight::Nothing),
            (
                Unprotected,
                Place::EmptyClaim,
                Weight::Error,
                Weight::Warning,
            ),
            (Unprotected, Place::Pod, Weight::Warning, Weight::Warning),
            (Failed, Place::EmptyClaim, Weight::Error, Weight::Warning),
            (Failed, Place::Pod, Weight::Error, Weight::Warning),
            (Failed, Place::Elsewhere, Weight::Nothing, Weight::Nothing),
            (
                Unprotected,
                Place::Elsewhere,
                Weight::Nothing,
                Weight::Nothing,
            ),
        ] {
            assert_eq!(weigh(kind, place, false), wanted, "{kind:?} {place:?}");
            assert_eq!(weigh(kind, place, true), accepted, "{kind:?} {place:?}");
        }
    }
}
