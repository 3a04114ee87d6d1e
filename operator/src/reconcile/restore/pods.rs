//! The pods of a restore: which of their volumes are filled, when each is made, and what became of
//! it.
//!
//! A pod is made with a gate for its volumes; pods that have to wait for volumes filled through
//! other pods are made in later waves, and not at all if such a volume failed. A pod or claim that
//! was there before keeps its data, which is said. Data of a claim that an earlier attempt has put
//! back is not put back again: its application may have written since.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ark_api::pod_volume_backup::PodReference;
use ark_api::pod_volume_restore::WhenNotEmpty;
use ark_api::results::ItemAction;
use futures::StreamExt;
use serde_json::Value;

use super::choose::{Chosen, choose, hand_over};
use super::fill::{Deadlines, Finished, Job};
use super::plan::OwnerKey;
use super::run::Run;
use super::{gates, volumes};
use crate::apply::order::PODS;
use crate::apply::run::Outcome;
use crate::apply::transform::{self, Binding, text};
use crate::apply::volumes::gate::{self, Wait};
use crate::apply::volumes::share::{self, Part, PodWants};
use crate::apply::volumes::stock::Wanted;
use crate::bundle::read::Entry;
use crate::error::Result;

/// Time a gate waits beyond the deadlines of its volumes.
const GATE_GRACE_SECONDS: u64 = 60;
/// Requests at the same time.
const PARALLEL: usize = 16;

/// A pod with volumes to fill.
struct Held {
    namespace: String,
    name: String,
    owners: BTreeSet<OwnerKey>,
    part: Part,
    /// Uid of the restored pod.
    uid: Option<String>,
    /// What became of the volumes filled through it.
    results: HashMap<String, Finished>,
    /// Why not all its data is there, as far as it is not in `results` of a pod.
    trouble: Option<String>,
    /// Why it must not start even when its volumes are back: what the backup lacks.
    refuse: Option<String>,
}

/// A pod whose gate should let its application start.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// Namespace in the cluster.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Uid.
    pub(crate) uid: String,
}

/// The pods of a restore that have volumes to fill.
pub(crate) struct Pods {
    list: Vec<Held>,
    at: HashMap<(String, String), usize>,
    /// Pods that are not made because their controller was there before; why.
    unmade: HashMap<(String, String), String>,
    /// Claims that are made and stay empty although they should not; why.
    empty: BTreeMap<(String, String), String>,
    /// Claims that an earlier attempt began to fill, by their names in the cluster, with their
    /// uids.
    begun: HashMap<(String, String), String>,
}

impl Pods {
    /// Decides what is filled, given the claims that were made.
    pub(crate) async fn prepare(run: &Run<'_>) -> Result<Self> {
        let Chosen {
            candidates,
            unmade,
            empty,
            begun,
        } = choose(run).await?;
        let wants: Vec<PodWants> = candidates
            .iter()
            .map(|candidate| PodWants {
                namespace: candidate.pod.namespace.clone(),
                wanted: candidate.wanted.clone(),
            })
            .collect();
        let many = |namespace: &str, claim: &str| {
            let key = (namespace.to_owned(), claim.to_owned());
            run.plan.claims.get(&key).is_some_and(|claim| claim.shared)
        };
        let parts = share::divide(&wants, many);
        let list: Vec<Held> = candidates
            .into_iter()
            .zip(parts)
            .map(|(candidate, part)| Held {
                namespace: candidate.pod.namespace.clone(),
                name: candidate.pod.name.clone(),
                owners: candidate.pod.owners.clone(),
                part,
                uid: None,
                results: HashMap::new(),
                trouble: candidate.trouble,
                refuse: candidate.refuse,
            })
            .collect();
        let total = list.iter().map(|pod| pod.part.fills.len()).sum::<usize>();
        run.report().live(|live| {
            live.volumes.total += i32::try_from(total).unwrap_or(i32::MAX);
        });
        let at = list
            .iter()
            .enumerate()
            .map(|(at, pod)| ((pod.namespace.clone(), pod.name.clone()), at))
            .collect();
        Ok(Self {
            list,
            at,
            unmade,
            empty,
            begun,
        })
    }

    /// Controllers that must not make pods yet: they own a pod whose volumes are filled, or their
    /// pods would mount a claim that is being filled or is empty.
    pub(crate) fn held(&self, run: &Run<'_>) -> BTreeSet<OwnerKey> {
        let owners = self.list.iter().flat_map(|pod| pod.owners.clone());
        let filling: BTreeSet<(&str, &str)> = self
            .list
            .iter()
            .flat_map(|pod| {
                let claims = pod.part.fills.iter();
                claims.filter_map(|w| Some((pod.namespace.as_str(), w.volume.claim.as_deref()?)))
            })
            .chain(self.empty.keys().map(|(n, c)| (n.as_str(), c.as_str())))
            .collect();
        let users = run.plan.users.iter().filter(|(owner, claims)| {
            claims
                .iter()
                .any(|claim| filling.contains(&(owner.0.as_str(), claim.as_str())))
        });
        owners
            .chain(users.map(|(owner, _)| owner.clone()))
            .collect()
    }

    /// Whether a pod was made that belongs to this controller.
    pub(crate) fn made_for(&self, owner: &OwnerKey) -> bool {
        self.list
            .iter()
            .any(|pod| pod.uid.is_some() && pod.owners.contains(owner))
    }

    /// Number of waves.
    pub(crate) fn waves(&self) -> usize {
        self.list
            .iter()
            .map(|pod| pod.part.wave + 1)
            .max()
            .unwrap_or(1)
    }

    /// Makes the pods of a wave; those without volumes to fill belong to the first.
    pub(crate) async fn apply_wave(&mut self, run: &Run<'_>, wave: usize) {
        let this = &*self;
        let entries = run.plan.entries(PODS);
        let works: Vec<_> = entries
            .iter()
            .map(|entry| this.apply(run, entry, wave))
            .collect();
        let made: Vec<Option<(usize, Outcome)>> = futures::stream::iter(works)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (at, outcome) in made.into_iter().flatten() {
            let pod = &mut self.list[at];
            let uid = outcome
                .own
                .as_ref()
                .and_then(|own| text(own, "/metadata/uid"));
            pod.uid = uid.map(str::to_owned);
            if pod.uid.is_none() {
                let why = format!(
                    "pod {} could not be restored: {}",
                    pod.name, outcome.message
                );
                pod.trouble.get_or_insert(why);
            }
        }
    }

    async fn apply(&self, run: &Run<'_>, entry: &Entry, wave: usize) -> Option<(usize, Outcome)> {
        let key = (entry.namespace.clone(), entry.name.clone());
        if let Some(why) = self.unmade.get(&key) {
            if wave == 0 {
                let outcome = Outcome::warning(ItemAction::Skipped, why.clone());
                run.write(PODS, run.target(&entry.namespace), &entry.name, &outcome);
            }
            return None;
        }
        let at = self.at.get(&key).copied();
        if at.map_or(0, |at| self.list[at].part.wave) != wave {
            return None;
        }
        let object = run.load(PODS, entry)?;
        let rules = run.applier.rules();
        let mut object = transform::restored(PODS, object, rules, Binding::default());
        let Some(at) = at else {
            run.apply(PODS, Some(entry), object, Binding::default())
                .await;
            return None;
        };
        if let Some(why) = self.refuse(run, at, &mut object) {
            let outcome = Outcome::failed(why);
            run.write(PODS, run.target(&entry.namespace), &entry.name, &outcome);
            return Some((at, outcome));
        }
        let outcome = run
            .apply(PODS, Some(entry), object, Binding::default())
            .await;
        Some((at, outcome))
    }

    /// Puts the gate into a pod; says why the pod must not be made at all.
    fn refuse(&self, run: &Run<'_>, at: usize, object: &mut Value) -> Option<String> {
        let part = &self.list[at].part;
        for (other, volume) in &part.follows {
            if self.list[*other].part.wave < part.wave
                && let Some(why) = self.lacks(run, *other, volume)
            {
                return Some(format!(
                    "not made, because a volume it shares is empty: {why}"
                ));
            }
        }
        let refuse = self.list[at].refuse.as_deref();
        if part.gate.is_empty() {
            return refuse.map(|why| format!("not made, because {why}"));
        }
        let Some(image) = run.common.context.settings.restore_wait_image.as_deref() else {
            return Some(format!(
                "it cannot be held until its volumes are back: the operator's {} is not set",
                ark_api::env::RESTORE_WAIT_IMAGE
            ));
        };
        let deadlines = run.common.deadlines;
        let Deadlines { bind, queue, fill } = deadlines;
        let seconds = (bind.saturating_add(queue).saturating_add(fill))
            .as_secs()
            .saturating_add(GATE_GRACE_SECONDS);
        let names: Vec<String> = part.gate.iter().cloned().collect();
        let wait = Wait {
            volumes: &names,
            deadline_seconds: seconds,
            refuse,
        };
        gate::insert(object, wait, image).err().map(str::to_owned)
    }

    /// Has the volumes of a wave filled.
    pub(crate) async fn fill(&mut self, run: &Run<'_>, wave: usize) -> Result<()> {
        let mut jobs = Vec::new();
        let mut done = Vec::new();
        for (at, pod) in self.list.iter().enumerate() {
            if pod.part.wave != wave {
                continue;
            }
            for wanted in &pod.part.fills {
                let job = self.job(run, at, wanted);
                if let Some(why) = self.impossible(run, at, wanted) {
                    let finished = Finished::failed(why);
                    for pod in [&job.reference].into_iter().chain(&job.gates) {
                        if !pod.uid.is_empty() {
                            gates::tell(&run.common.context.client, pod, &finished.message).await;
                        }
                    }
                    volumes::record(run.report(), &job.reference, &job.volume, &finished);
                    done.push((job, finished));
                } else {
                    jobs.push(job);
                }
            }
        }
        done.extend(volumes::fill(&run.common, jobs).await?);
        for (job, finished) in &done {
            if let Some(claim) = job.claim.as_ref().filter(|_| finished.usable) {
                hand_over(run, &job.reference.namespace, claim).await;
            }
        }
        for (job, finished) in done {
            self.list[job.pod].results.insert(job.volume, finished);
        }
        Ok(())
    }

    /// Pods whose gates should open now.
    pub(crate) fn openings(&self, run: &Run<'_>) -> Vec<Opening> {
        let full = |at: usize, pod: &Held| {
            let own = pod.part.fills.iter().map(|w| (at, w.volume.name.as_str()));
            let shared = pod
                .part
                .follows
                .iter()
                .map(|(at, name)| (*at, name.as_str()));
            own.chain(shared)
                .all(|(at, name)| self.lacks(run, at, name).is_none())
        };
        self.list
            .iter()
            .enumerate()
            .filter(|(at, pod)| !pod.part.gate.is_empty() && pod.refuse.is_none() && full(*at, pod))
            .filter_map(|(_, pod)| {
                Some(Opening {
                    namespace: run.target(&pod.namespace).to_owned(),
                    name: pod.name.clone(),
                    uid: pod.uid.clone()?,
                })
            })
            .collect()
    }

    fn job(&self, run: &Run<'_>, at: usize, wanted: &Wanted) -> Job {
        let volume = &wanted.volume;
        let gates = self
            .list
            .iter()
            .filter(|other| {
                other.part.wave == self.list[at].part.wave
                    && other
                        .part
                        .follows
                        .iter()
                        .any(|(pod, name)| *pod == at && *name == volume.name)
            })
            .filter_map(|other| other.reference(run))
            .collect();
        Job {
            pod: at,
            reference: self.list[at]
                .reference(run)
                .unwrap_or_else(|| PodReference {
                    namespace: run.target(&self.list[at].namespace).to_owned(),
                    name: self.list[at].name.clone(),
                    ..PodReference::default()
                }),
            volume: volume.name.clone(),
            claim: volume.claim.clone(),
            stored: wanted.stored.clone(),
            gates,
            when_not_empty: self.when_not_empty(run, at, wanted),
            begun: volume.claim.as_ref().and_then(|claim| {
                let namespace = run.target(&self.list[at].namespace).to_owned();
                self.begun.get(&(namespace, claim.clone())).cloned()
            }),
        }
    }

    /// What the agent does if the volume holds files already.
    fn when_not_empty(&self, run: &Run<'_>, at: usize, wanted: &Wanted) -> WhenNotEmpty {
        let own_disk = wanted.volume.claim.as_ref().is_some_and(|claim| {
            let key = (self.list[at].namespace.clone(), claim.clone());
            !wanted.volume.ephemeral && run.disks().binding(&key) == Binding::Same
        });
        if run.order.fill_non_empty {
            WhenNotEmpty::Fill
        } else if own_disk {
            WhenNotEmpty::Keep
        } else {
            WhenNotEmpty::Fail
        }
    }

    /// Why a volume cannot even be tried.
    fn impossible(&self, run: &Run<'_>, at: usize, wanted: &Wanted) -> Option<String> {
        let pod = &self.list[at];
        if pod.uid.is_none() {
            let unknown = || "its pod was not restored".to_owned();
            return Some(pod.trouble.clone().unwrap_or_else(unknown));
        }
        let claim = wanted
            .volume
            .claim
            .as_ref()
            .filter(|_| !wanted.volume.ephemeral)?;
        (run.claim(&pod.namespace, claim) == Some(ItemAction::Failed))
            .then(|| format!("claim {claim} could not be restored"))
    }

    /// Why a volume filled through pod `at` is not full.
    fn lacks(&self, run: &Run<'_>, at: usize, volume: &str) -> Option<String> {
        let pod = &self.list[at];
        let what = || {
            let namespace = run.target(&pod.namespace);
            format!(
                "volume {volume} of pod {namespace}/{} was not restored",
                pod.name
            )
        };
        match pod.results.get(volume) {
            Some(finished) if finished.usable => None,
            Some(finished) => Some(format!("{}: {}", what(), finished.message)),
            None => Some(what()),
        }
    }

    /// Controllers that must not make pods, and why.
    pub(crate) fn failures(&self, run: &Run<'_>) -> HashMap<OwnerKey, String> {
        let mut failed = HashMap::new();
        for (at, pod) in self.list.iter().enumerate() {
            let own = pod
                .part
                .fills
                .iter()
                .map(|wanted| (at, &wanted.volume.name));
            let shared = pod.part.follows.iter().map(|(other, name)| (*other, name));
            let why = own
                .chain(shared)
                .find_map(|(at, name)| self.lacks(run, at, name))
                .or_else(|| pod.trouble.clone());
            if let Some(why) = why {
                for owner in &pod.owners {
                    failed.entry(owner.clone()).or_insert_with(|| why.clone());
                }
            }
        }
        for (owner, claims) in &run.plan.users {
            let why = claims
                .iter()
                .find_map(|claim| self.claim_lacks(run, &owner.0, claim));
            if let Some(why) = why {
                failed.entry(owner.clone()).or_insert(why);
            }
        }
        failed
    }

    /// Why a claim does not hold all its data.
    fn claim_lacks(&self, run: &Run<'_>, namespace: &str, claim: &str) -> Option<String> {
        let key = (namespace.to_owned(), claim.to_owned());
        if let Some(why) = self.empty.get(&key) {
            return Some(why.clone());
        }
        self.list.iter().enumerate().find_map(|(at, pod)| {
            let fills = pod.part.fills.iter().filter(|wanted| {
                pod.namespace == namespace && wanted.volume.claim.as_deref() == Some(claim)
            });
            fills
                .map(|wanted| &wanted.volume.name)
                .find_map(|name| self.lacks(run, at, name))
        })
    }
}

impl Held {
    fn reference(&self, run: &Run<'_>) -> Option<PodReference> {
        Some(PodReference {
            kind: Some("Pod".to_owned()),
            namespace: run.target(&self.namespace).to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone()?,
        })
    }
}
