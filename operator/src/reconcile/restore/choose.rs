//! Decides which pods are made, with which volumes to fill, before claims are divided among pods.
//!
//! Looks at the pods that are there, and says what the backup lacks ([`super::account`]). Fails
//! only if the API server refuses to be asked.

use std::collections::{BTreeMap, HashMap};

use ark_api::annotation;
use futures::StreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::account::Account;
use super::earlier::{Existing, begun_claims, finished_claims, is_to_fill, look, running};
use super::plan;
use super::report::about;
use super::run::Run;
use super::volumes;
use crate::apply::volumes::stock::Wanted;
use crate::error::{Result, describe, is_not_found};

/// Requests at the same time.
const PARALLEL: usize = 16;

/// A pod of the backup, before it is decided through which pod each claim is filled.
pub(super) struct Candidate<'a> {
    /// The pod.
    pub(super) pod: &'a plan::Pod,
    /// What is filled.
    pub(super) wanted: Vec<Wanted>,
    /// Why not all its data will be there.
    pub(super) trouble: Option<String>,
    /// Why it must not start even when its volumes are back.
    pub(super) refuse: Option<String>,
}

/// What is decided before claims are divided among pods.
pub(super) struct Chosen<'a> {
    /// Pods with volumes to fill or to answer for.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// Pods that are not made because their controller was there before; why.
    pub(super) unmade: HashMap<(String, String), String>,
    /// Claims that are made and stay empty although they should not; why.
    pub(super) empty: BTreeMap<(String, String), String>,
    /// Claims that an earlier attempt began to fill, by their names in the cluster, with their
    /// uids.
    pub(super) begun: HashMap<(String, String), String>,
}

/// Looks at what is there, and decides which pods are made with which volumes to fill. Says what
/// the backup lacks.
pub(super) async fn choose<'a>(run: &'a Run<'_>) -> Result<Chosen<'a>> {
    let uid = run.common.restore.uid().unwrap_or_default();
    let fills = volumes::of_restore(run.common.context, &uid).await?;
    let (mut earlier, begun) = (finished_claims(&fills), begun_claims(&fills));
    let running = running(run).await?;
    let mut unmade = HashMap::new();
    let mut account = Account::default();
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    let looks: Vec<_> = run
        .plan
        .pods
        .iter()
        .map(|pod| look(run, pod, &uid, &running))
        .collect();
    let existing: Vec<Result<Existing>> = futures::stream::iter(looks)
        .buffered(PARALLEL)
        .collect()
        .await;
    for (pod, existing) in run.plan.pods.iter().zip(existing) {
        let namespace = run.target(&pod.namespace);
        let existing = existing?;
        if existing == Existing::Foreign {
            if pod.wanted.is_empty() {
                continue;
            }
            let text = format!(
                "pods {namespace}/{}: it exists, so the files of its volumes were left as they are",
                pod.name
            );
            run.report().log.warn(about(namespace), text);
            continue;
        }
        let living = run.before().living(&pod.owners);
        if let Some(controller) = living.filter(|_| existing == Existing::None) {
            let why = format!(
                "{controller} was there before and makes its pods itself, so the files of its volumes were left as \
                 they are"
            );
            unmade.insert((pod.namespace.clone(), pod.name.clone()), why);
            continue;
        }
        let mut trouble = None;
        let wanted: Vec<Wanted> = pod
            .wanted
            .iter()
            .filter(|wanted| is_to_fill(run, pod, wanted, &mut earlier, &mut trouble))
            .cloned()
            .collect();
        account.filled(pod, &wanted);
        let refuse = account.lacks(run, pod, &wanted);
        if trouble.is_none() {
            trouble.clone_from(&refuse);
        }
        if !wanted.is_empty() || trouble.is_some() {
            candidates.push(Candidate {
                pod,
                wanted,
                trouble,
                refuse,
            });
        }
    }
    let done_before = |key: &(String, String)| {
        earlier.contains_key(&(run.target(&key.0).to_owned(), key.1.clone()))
    };
    let empty = account.claims(run, done_before);
    if run.order.accept_missing {
        for (key, claim) in &run.plan.claims {
            if claim.lack.is_some() && run.disks().awaits_data(key) {
                hand_over(run, run.target(&key.0), &key.1).await;
            }
        }
    }
    Ok(Chosen {
        candidates,
        unmade,
        empty,
        begun,
    })
}

/// Takes the mark off a claim that is full: from now on it is its application's.
pub(super) async fn hand_over(run: &Run<'_>, namespace: &str, claim: &str) {
    let key = annotation::AWAITS_DATA;
    let patch = json!({ "metadata": { "annotations": { key: null }, "labels": { key: null } } });
    let api: Api<PersistentVolumeClaim> = Api::namespaced(run.applier.client.clone(), namespace);
    let params = PatchParams::default();
    match api.patch(claim, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => {}
        // A later restore then looks whether the claim is empty, and finds that it is not.
        Err(error) => tracing::warn!(namespace, claim, error = %describe(&error),
            "cannot take the mark off a claim that is full"),
    }
}
