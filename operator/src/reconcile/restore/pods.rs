//! The pods of a restore: which of their volumes are filled, when each is made, and what became of it.
//!
//! A pod is made with a gate for its volumes; pods that have to wait for volumes filled through other
//! pods are made in later waves, and not at all if such a volume failed. A pod or claim that was
//! there before keeps its data, which is said. Data of a claim that an earlier attempt has put back
//! is not put back again: its application may have written since.

use std::collections::{BTreeSet, HashMap};

use ark_api::pod_volume_backup::PodReference;
use ark_api::results::ItemAction;
use futures::StreamExt;
use kube::ResourceExt;
use serde_json::Value;

use super::earlier::{Existing, finished_claims, is_to_fill, look};
use super::fill::{Finished, Job};
use super::plan::{self, OwnerKey};
use super::report::about;
use super::run::Run;
use super::volumes;
use crate::apply::order::PODS;
use crate::apply::run::Outcome;
use crate::apply::transform::{self, Binding, text};
use crate::apply::volumes::gate;
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
}

/// The pods of a restore that have volumes to fill.
pub(crate) struct Pods {
    list: Vec<Held>,
    at: HashMap<(String, String), usize>,
}

impl Pods {
    /// Decides what is filled, given the claims that were made.
    pub(crate) async fn prepare(run: &Run<'_>) -> Result<Self> {
        let uid = run.common.restore.uid().unwrap_or_default();
        let mut earlier = finished_claims(&volumes::of_restore(run.common.context, &uid).await?);
        let mut candidates: Vec<(&plan::Pod, Vec<Wanted>, Option<String>)> = Vec::new();
        let looks: Vec<_> = run
            .plan
            .pods
            .iter()
            .map(|pod| look(run, pod, &uid))
            .collect();
        let existing: Vec<Result<Existing>> = futures::stream::iter(looks)
            .buffered(PARALLEL)
            .collect()
            .await;
        for (pod, existing) in run.plan.pods.iter().zip(existing) {
            if existing? == Existing::Foreign {
                let namespace = run.target(&pod.namespace);
                let text = format!(
                    "pods {namespace}/{}: it exists, so the files of its volumes were left as they are",
                    pod.name
                );
                run.report().log.warn(about(namespace), text);
                continue;
            }
            let mut trouble = None;
            let wanted = pod
                .wanted
                .iter()
                .filter(|wanted| is_to_fill(run, pod, wanted, &mut earlier, &mut trouble))
                .cloned()
                .collect();
            if !Vec::is_empty(&wanted) || trouble.is_some() {
                candidates.push((pod, wanted, trouble));
            }
        }
        let wants: Vec<PodWants> = candidates
            .iter()
            .map(|(pod, wanted, _)| PodWants {
                namespace: pod.namespace.clone(),
                wanted: wanted.clone(),
            })
            .collect();
        let many = |namespace: &str, claim: &str| {
            let key = (namespace.to_owned(), claim.to_owned());
            run.plan.many_nodes.contains(&key)
        };
        let parts = share::divide(&wants, many);
        let list: Vec<Held> = candidates
            .into_iter()
            .zip(parts)
            .map(|((pod, _, trouble), part)| Held {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                owners: pod.owners.clone(),
                part,
                uid: None,
                results: HashMap::new(),
                trouble,
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
        Ok(Self { list, at })
    }

    /// Whoever owns a pod whose volumes are filled.
    pub(crate) fn held(&self) -> BTreeSet<OwnerKey> {
        self.list
            .iter()
            .flat_map(|pod| pod.owners.clone())
            .collect()
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
        if part.gate.is_empty() {
            return None;
        }
        let Some(image) = run.common.context.settings.restore_wait_image.as_deref() else {
            return Some(format!(
                "it cannot be held until its volumes are back: the operator's {} is not set",
                ark_api::env::RESTORE_WAIT_IMAGE
            ));
        };
        let deadlines = run.common.deadlines;
        let seconds = (deadlines.bind + deadlines.fill).as_secs() + GATE_GRACE_SECONDS;
        let names: Vec<String> = part.gate.iter().cloned().collect();
        gate::insert(object, &names, image, seconds);
        None
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
                    volumes::record(run.report(), &job.reference, &job.volume, &finished);
                    done.push((job, finished));
                } else {
                    if wanted.stored.partial {
                        run.report().log.warn(
                            about(&job.reference.namespace),
                            format!("{}: some of its files are not in the backup", job.what()),
                        );
                    }
                    jobs.push(job);
                }
            }
        }
        done.extend(volumes::fill(&run.common, jobs).await?);
        for (job, finished) in done {
            self.list[job.pod].results.insert(job.volume, finished);
        }
        Ok(())
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
        failed
    }

    /// Says which claims were made and stay empty although the backup holds their files.
    pub(crate) fn epilogue(&self, run: &Run<'_>) {
        let filled: BTreeSet<(&str, &str)> = self
            .list
            .iter()
            .flat_map(|pod| {
                let fills = pod.part.fills.iter();
                fills.filter_map(|w| Some((pod.namespace.as_str(), w.volume.claim.as_deref()?)))
            })
            .collect();
        let known: BTreeSet<(&str, &str)> = run
            .plan
            .pods
            .iter()
            .flat_map(|pod| {
                let wanted = pod.wanted.iter();
                wanted.filter_map(|w| Some((pod.namespace.as_str(), w.volume.claim.as_deref()?)))
            })
            .collect();
        let mut empty: Vec<&(String, String)> = run
            .plan
            .bindings
            .iter()
            .filter(|(_, binding)| **binding == Binding::Filled)
            .map(|(claim, _)| claim)
            .filter(|(namespace, claim)| {
                let key = (namespace.as_str(), claim.as_str());
                // What a pod wanted and did not get has its row.
                run.is_fresh(namespace, claim) && !filled.contains(&key) && !known.contains(&key)
            })
            .collect();
        empty.sort();
        for (namespace, claim) in empty {
            let target = run.target(namespace);
            let text = format!(
                "claim {target}/{claim} is empty: the backup holds its files, but no pod that mounts it is restored"
            );
            // Pods were left out by the user's own words, or they were not.
            if run.order.resources.admit_resource(PODS) {
                run.report().log.error(about(target), text);
            } else {
                run.report().log.warn(about(target), text);
            }
        }
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
