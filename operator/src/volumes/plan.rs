//! Which volumes a backup takes, by which method, and why not: a row for every volume of every
//! selected pod and for every selected claim that no pod mounts. Nothing is skipped without a row.
//!
//! Who asked decides what a volume that cannot be taken means: one that the user named, or that the
//! opt-out mode includes, has *failed*; one that nobody asked for is *unprotected* if it holds
//! data.

use std::collections::{BTreeMap, BTreeSet};

use ark_api::pod_volume_backup::{ClaimReference, PodReference};
use ark_api::volume::{VolumeClass, VolumeMethod, VolumeReason, VolumeRow};

use super::facts::{ClaimFacts, Facts, PodFacts, PodVolume, Source};

/// What is said of a claim that never had a volume.
const NO_VOLUME_YET: &str = "the claim has no volume yet, so there is nothing to store";

/// A volume to be taken by the agent of its node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    /// Its row.
    pub(crate) row: usize,
    /// Its pod.
    pub(crate) pod: PodReference,
    /// Its name in the pod.
    pub(crate) volume: String,
    /// Claim behind it.
    pub(crate) claim: Option<ClaimReference>,
    /// Node of the pod.
    pub(crate) node: String,
    /// Workload that owns the pod.
    pub(crate) owner: String,
}

/// What becomes of all volumes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// One row a volume, and one a claim that no pod mounts.
    pub(crate) rows: Vec<VolumeRow>,
    /// Volumes to be taken.
    pub(crate) tasks: Vec<Task>,
    /// Rows whose data is that of another row: theirs, and the other.
    pub(crate) followers: Vec<(usize, usize)>,
    /// Rows of emptyDirs that nobody named, of pods that are being deleted.
    pub(crate) fleeting: Vec<usize>,
    /// What the user should know: namespace and sentence.
    pub(crate) warnings: Vec<(String, String)>,
}

/// What the backup's words say about volumes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Take every volume that is not excluded, instead of those named.
    pub(crate) opt_out: bool,
    /// The resource filters leave claims out.
    pub(crate) claims_excluded: bool,
}

/// What is decided about one volume.
struct Verdict {
    class: VolumeClass,
    reason: VolumeReason,
    message: Option<String>,
}

fn verdict(class: VolumeClass, reason: VolumeReason) -> Verdict {
    Verdict {
        class,
        reason,
        message: None,
    }
}

impl Verdict {
    fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// Decides about every volume. `agents`: nodes with a running agent.
pub(crate) fn plan(facts: &Facts, agents: &BTreeSet<String>, rules: Rules) -> Plan {
    let mut plan = Plan::default();
    // The row that takes a claim, by namespace and claim.
    let mut takers: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut mounted: BTreeSet<(String, String)> = BTreeSet::new();
    // A pod that is being deleted may be gone any moment: what others have as well is taken through
    // them.
    let mut pods: Vec<&PodFacts> = facts.pods.values().collect();
    pods.sort_by_key(|pod| pod.leaving);
    for pod in pods {
        warn_about_names(pod, &mut plan);
        for volume in &pod.volumes {
            let claim = claim_of(volume).map(|claim| (pod.namespace.clone(), claim.to_owned()));
            let decided = decide(facts, pod, volume, agents, rules);
            let index = plan.rows.len();
            if let Some(key) = claim
                .as_ref()
                .filter(|_| pod.phase == "Running" && volume.mounted)
            {
                mounted.insert(key.clone());
            }
            let taken = match decided {
                None => claim.as_ref().is_none_or(|key| !takers.contains_key(key)),
                Some(_) => false,
            };
            plan.rows.push(row(pod, volume, decided));
            if taken {
                if let Some(key) = claim {
                    takers.insert(key, index);
                }
                if pod.leaving && volume.source == Source::Scratch && !is_named(pod, volume, rules)
                {
                    plan.fleeting.push(index);
                }
                plan.tasks.push(task(facts, index, pod, volume));
            }
        }
        unknown_names(pod, rules, &mut plan);
    }
    share(&takers, &mut plan);
    unmounted_claims(facts, &mounted, &takers, rules, &mut plan);
    plan
}

impl Plan {
    /// An emptyDir that nobody named and that ended with its pod before it was read is no failure:
    /// every rollout makes such volumes.
    pub(crate) fn forgive_ended_pods(&mut self) {
        for index in std::mem::take(&mut self.fleeting) {
            if let Some(row) = self.rows.get_mut(index)
                && (row.class, row.reason) == (VolumeClass::Failed, VolumeReason::PodNotRunning)
            {
                row.class = VolumeClass::NotData;
                row.message =
                    Some("the pod was being deleted, and the volume ended with it".to_owned());
            }
        }
    }
}

/// Whether the pod's annotation asks for the volume.
fn is_named(pod: &PodFacts, volume: &PodVolume, rules: Rules) -> bool {
    !rules.opt_out && pod.included.contains(&volume.name)
}

/// Rows of claims that another row takes follow that row, unless the user excluded them.
fn share(takers: &BTreeMap<(String, String), usize>, plan: &mut Plan) {
    for (index, row) in plan.rows.iter_mut().enumerate() {
        let Some(claim) = &row.claim else { continue };
        let key = (row.namespace.clone(), claim.clone());
        let Some(taker) = takers.get(&key).copied().filter(|taker| *taker != index) else {
            continue;
        };
        if row.class == VolumeClass::Chosen {
            continue;
        }
        row.class = VolumeClass::Taken;
        row.method = Some(VolumeMethod::Files);
        row.reason = VolumeReason::TakenThroughOtherPod;
        row.message = None;
        plan.followers.push((index, taker));
    }
}

/// Claims that are items and that no running pod of the backup mounts.
fn unmounted_claims(
    facts: &Facts,
    mounted: &BTreeSet<(String, String)>,
    takers: &BTreeMap<(String, String), usize>,
    rules: Rules,
    plan: &mut Plan,
) {
    let named: BTreeSet<(String, String)> = plan
        .rows
        .iter()
        .filter_map(|row| Some((row.namespace.clone(), row.claim.clone()?)))
        .collect();
    for (key, claim) in &facts.claims {
        if !claim.item || mounted.contains(key) || takers.contains_key(key) || named.contains(key) {
            continue;
        }
        let decided = if rules.claims_excluded {
            verdict(VolumeClass::Chosen, VolumeReason::ExcludedByFilter)
        } else if !claim.bound && claim.disk.is_none() {
            verdict(VolumeClass::NotData, VolumeReason::ClaimNotBound).saying(NO_VOLUME_YET)
        } else {
            verdict(VolumeClass::Unprotected, VolumeReason::NotMounted)
        };
        plan.rows.push(VolumeRow {
            namespace: key.0.clone(),
            pod: None,
            volume: None,
            claim: Some(key.1.clone()),
            class: decided.class,
            method: None,
            reason: decided.reason,
            message: decided.message,
            pod_volume_backup: None,
            snapshot_id: None,
            bytes: None,
            new_bytes: None,
            files: None,
        });
    }
}

/// Names in the opt-in annotation that the pod does not have: asked for, and not taken.
fn unknown_names(pod: &PodFacts, rules: Rules, plan: &mut Plan) {
    if rules.opt_out {
        return;
    }
    for name in &pod.included {
        if pod.volumes.iter().any(|volume| volume.name == *name) {
            continue;
        }
        plan.rows.push(VolumeRow {
            namespace: pod.namespace.clone(),
            pod: Some(pod.name.clone()),
            volume: Some(name.clone()),
            claim: None,
            class: VolumeClass::Failed,
            method: Some(VolumeMethod::Files),
            reason: VolumeReason::NoSuchVolume,
            message: Some("the annotation names a volume that the pod does not have".to_owned()),
            pod_volume_backup: None,
            snapshot_id: None,
            bytes: None,
            new_bytes: None,
            files: None,
        });
    }
}

/// Names in the opt-out annotation that the pod does not have exclude nothing; somebody should
/// know.
fn warn_about_names(pod: &PodFacts, plan: &mut Plan) {
    for name in &pod.excluded {
        if !pod.volumes.iter().any(|volume| volume.name == *name) {
            plan.warnings.push((
                pod.namespace.clone(),
                format!(
                    "pod {}: the annotation excludes volume {name:?}, which the pod does not have",
                    pod.name
                ),
            ));
        }
    }
}

fn claim_of(volume: &PodVolume) -> Option<&str> {
    match &volume.source {
        Source::Claim(claim) => Some(claim),
        _ => None,
    }
}

/// `None`: it is to be taken.
fn decide(
    facts: &Facts,
    pod: &PodFacts,
    volume: &PodVolume,
    agents: &BTreeSet<String>,
    rules: Rules,
) -> Option<Verdict> {
    use VolumeClass::{Chosen, Failed, NotData, Unprotected};
    use VolumeReason as Reason;

    let named = is_named(pod, volume, rules);
    let claim = claim_of(volume)
        .and_then(|claim| facts.claims.get(&(pod.namespace.clone(), claim.to_owned())));
    if volume.source == Source::NotData {
        return Some(verdict(NotData, Reason::NoDataOfItsOwn));
    }
    if pod.excluded.contains(&volume.name) && !named {
        return Some(verdict(Chosen, Reason::ExcludedByAnnotation));
    }
    if claim.is_some_and(|claim| claim.excluded) {
        return Some(verdict(Chosen, Reason::ExcludedByLabel));
    }
    if claim_of(volume).is_some() && rules.claims_excluded && !named {
        return Some(verdict(Chosen, Reason::ExcludedByFilter));
    }
    // No agent can read these, whoever asked.
    let unreadable = if volume.source == Source::HostPath
        || claim.is_some_and(|claim| facts.on_host_path(claim))
    {
        Some(Reason::HostPath)
    } else if volume.device || claim.is_some_and(|claim| claim.block) {
        Some(Reason::BlockVolume)
    } else {
        None
    };
    if let Some(reason) = unreadable {
        return Some(verdict(if named { Failed } else { Unprotected }, reason));
    }
    if !rules.opt_out && !named {
        // An emptyDir lives and dies with its pod; who wants it kept says so.
        let class = if volume.source == Source::Scratch {
            Chosen
        } else {
            Unprotected
        };
        return Some(verdict(class, Reason::NotAnnotated));
    }
    cannot_take_now(facts, pod, volume, agents, named)
}

/// Why a volume that is wanted cannot be taken at this moment.
fn cannot_take_now(
    facts: &Facts,
    pod: &PodFacts,
    volume: &PodVolume,
    agents: &BTreeSet<String>,
    named: bool,
) -> Option<Verdict> {
    use VolumeClass::{Failed, NotData, Unprotected};
    use VolumeReason as Reason;

    let is_claim = claim_of(volume).is_some();
    if matches!(pod.phase.as_str(), "Succeeded" | "Failed") {
        let finished = if is_claim {
            verdict(Unprotected, Reason::PodNotRunning)
        } else {
            verdict(NotData, Reason::PodNotRunning)
        };
        return Some(finished.saying("the pod has finished and is not restored"));
    }
    if !volume.mounted {
        let unmounted = match (is_claim, named) {
            (true, true) => verdict(Failed, Reason::NotMounted),
            (true, false) => verdict(Unprotected, Reason::NotMounted),
            (false, _) => verdict(NotData, Reason::NotMounted),
        };
        return Some(unmounted.saying("no container mounts it, so the node has not either"));
    }
    if pod.hooks {
        return Some(verdict(Failed, Reason::HooksUnsupported).saying(
            "the pod asks for hooks, which this version cannot run; remove the annotations to have the volume taken without them",
        ));
    }
    if let Some(why) = claim_of(volume).and_then(|name| without_volume(facts, pod, name)) {
        return Some(why);
    }
    if pod.node.is_none() && !is_claim {
        return Some(
            verdict(NotData, Reason::PodNotRunning)
                .saying("the pod has no node yet, so the volume does not exist"),
        );
    }
    if pod.phase != "Running" {
        return Some(
            verdict(Failed, Reason::PodNotRunning).saying(format!("the pod is {}", pod.phase)),
        );
    }
    match &pod.node {
        Some(node) if agents.contains(node) => None,
        Some(node) => Some(verdict(Failed, Reason::NoAgentOnNode).saying(format!(
            "node {node} has no running agent; check the agent's DaemonSet and its tolerations"
        ))),
        None => Some(verdict(Failed, Reason::PodNotRunning).saying("the pod has no node")),
    }
}

/// What a claim that is not bound means. One that never had a volume holds nothing; one that names
/// a volume has lost it or has not got it yet, and one that could not be looked at may hold
/// anything.
fn without_volume(facts: &Facts, pod: &PodFacts, name: &str) -> Option<Verdict> {
    use VolumeClass::{Failed, NotData};
    use VolumeReason::ClaimNotBound;

    let key = (pod.namespace.clone(), name.to_owned());
    match facts.claims.get(&key) {
        Some(ClaimFacts { bound: true, .. }) => None,
        Some(ClaimFacts { disk: None, .. }) => {
            Some(verdict(NotData, ClaimNotBound).saying(NO_VOLUME_YET))
        }
        Some(ClaimFacts {
            disk: Some(disk), ..
        }) => Some(verdict(Failed, ClaimNotBound).saying(format!(
            "the claim names volume {disk} and is not bound to it"
        ))),
        None if facts.absent_claims.contains(&key) => Some(
            verdict(NotData, ClaimNotBound)
                .saying("the claim does not exist, so there is nothing to store"),
        ),
        None => Some(
            verdict(Failed, ClaimNotBound)
                .saying("the claim could not be looked at; see the errors"),
        ),
    }
}

fn row(pod: &PodFacts, volume: &PodVolume, decided: Option<Verdict>) -> VolumeRow {
    // What is to be taken counts as failed until it is taken.
    let method = decided
        .as_ref()
        .is_none_or(|v| matches!(v.class, VolumeClass::Failed))
        .then_some(VolumeMethod::Files);
    let decided = decided.unwrap_or_else(|| {
        verdict(VolumeClass::Failed, VolumeReason::AgentError).saying("not taken yet")
    });
    VolumeRow {
        namespace: pod.namespace.clone(),
        pod: Some(pod.name.clone()),
        volume: Some(volume.name.clone()),
        claim: claim_of(volume).map(str::to_owned),
        class: decided.class,
        method,
        reason: decided.reason,
        message: decided.message,
        pod_volume_backup: None,
        snapshot_id: None,
        bytes: None,
        new_bytes: None,
        files: None,
    }
}

fn task(facts: &Facts, row: usize, pod: &PodFacts, volume: &PodVolume) -> Task {
    let claim = claim_of(volume).map(|name| {
        let known = facts.claims.get(&(pod.namespace.clone(), name.to_owned()));
        ClaimReference {
            name: name.to_owned(),
            uid: known.map(|claim| claim.uid.clone()).unwrap_or_default(),
            volume_name: known.and_then(|claim| claim.disk.clone()),
        }
    });
    Task {
        row,
        pod: PodReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        },
        volume: volume.name.clone(),
        claim,
        node: pod.node.clone().unwrap_or_default(),
        owner: pod.owner.clone(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
