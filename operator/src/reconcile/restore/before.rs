//! Controllers that were in the cluster before the restore.
//!
//! A controller that lives makes its pods itself: the pods of the backup are not made beside it, a
//! claim that its pods would mount before it is full is not made either, and the controller itself
//! is never held back.
//!
//! A controller that an earlier restore holds without pods, and that nobody has changed since, is
//! taken out of the way: it would remove the pods through which its volumes are to be filled. The
//! backup has it, so it comes back as soon as they are. Fails only if the API server refuses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use ark_api::annotation;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Preconditions, PropagationPolicy};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::Value;

use super::plan::OwnerKey;
use super::report::about;
use super::run::Run;
use crate::apply::transform::{self, text};
use crate::error::{Error, Result, describe, is_not_found};

/// Requests at the same time.
const PARALLEL: usize = 16;
/// How long a controller may take to go away.
const LEAVING: Duration = Duration::from_mins(1);

/// Controllers that lived before.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Each with its name for a person.
    living: HashMap<OwnerKey, String>,
    /// Claims that their pods mount, by namespace in the backup and name, with the controller's
    /// name.
    claims: HashMap<(String, String), String>,
}

impl Before {
    /// The first of these controllers that lived before.
    pub(crate) fn living<'a>(
        &self,
        owners: impl IntoIterator<Item = &'a OwnerKey>,
    ) -> Option<&str> {
        owners
            .into_iter()
            .find_map(|owner| self.living.get(owner))
            .map(String::as_str)
    }

    /// Whether this controller lived before.
    pub(crate) fn is_living(&self, owner: &OwnerKey) -> bool {
        self.living.contains_key(owner)
    }

    /// The controller that lived before and whose pods mount a claim.
    pub(crate) fn user(&self, namespace: &str, claim: &str) -> Option<&str> {
        let key = (namespace.to_owned(), claim.to_owned());
        self.claims.get(&key).map(String::as_str)
    }
}

/// What a controller of the cluster is to the restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This restore made it.
    Own,
    /// An earlier restore holds it without pods.
    Held,
    /// Anything else.
    Lives,
}

/// Judges a controller. Pure.
pub(crate) fn standing(object: &Value, restore_uid: &str) -> Standing {
    if transform::stamped_by(object) == Some(restore_uid) {
        return Standing::Own;
    }
    let marked = transform::marked(object, annotation::HELD_BY).is_some();
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let idle = number("/spec/replicas") == Some(0)
        || object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
    let without_pods = ["/status/replicas", "/status/active"]
        .iter()
        .all(|pointer| number(pointer).unwrap_or(0) == 0);
    // The generation counts changes of the spec.
    let unchanged = number("/metadata/generation").is_none_or(|generation| generation <= 1);
    if marked && idle && without_pods && unchanged {
        Standing::Held
    } else {
        Standing::Lives
    }
}

/// Looks at the controllers of the restore's volumes, and takes those out of the way that an
/// earlier restore holds.
pub(crate) async fn look(run: &Run<'_>) -> Result<Before> {
    let mut works = Vec::new();
    for (key, (resource, _)) in &run.plan.controllers {
        works.push(one(run, key, resource));
    }
    let found: Vec<Option<OwnerKey>> = futures::stream::iter(works)
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let living: HashSet<OwnerKey> = found.into_iter().flatten().collect();
    let mut before = Before::default();
    for key in &living {
        let (_, _, kind, name) = key;
        let what = format!("{} {name}", kind.to_lowercase());
        for claim in claims_of(run, key) {
            before
                .claims
                .insert((key.0.clone(), claim.to_owned()), what.clone());
        }
        before.living.insert(key.clone(), what);
    }
    Ok(before)
}

/// Claims that pods of a controller mount: those of its template, and those of its pods in the
/// backup.
fn claims_of<'a>(run: &'a Run<'_>, key: &OwnerKey) -> BTreeSet<&'a str> {
    let template = run.plan.users.get(key).into_iter().flatten();
    let pods = run.plan.pods.iter().filter(|pod| pod.owners.contains(key));
    let mounted = pods.flat_map(|pod| {
        let wanted = pod.wanted.iter().map(|wanted| &wanted.volume);
        let missing = pod.missing.iter().map(|missing| &missing.volume);
        wanted
            .chain(missing)
            .filter(|volume| !volume.ephemeral)
            .filter_map(|volume| volume.claim.as_deref())
    });
    template.map(String::as_str).chain(mounted).collect()
}

/// One controller; its key if it lives.
async fn one(run: &Run<'_>, key: &OwnerKey, resource: &str) -> Result<Option<OwnerKey>> {
    let (namespace, _, _, name) = key;
    if namespace.is_empty() {
        return Ok(None);
    }
    let namespace = run.target(namespace);
    // A kind that the cluster does not serve has no objects there; applying it says so.
    let Some(target) = run.applier.served.resolve(resource, "").await? else {
        return Ok(None);
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(run.applier.client.clone(), namespace, &target.resource);
    let action = || format!("get {resource} {namespace}/{name}");
    let found: Option<DynamicObject> = api.get_opt(name).await.map_err(Error::kube(action()))?;
    let Some(found) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let object = serde_json::to_value(found).map_err(|error| Error::Bug(error.to_string()))?;
    match standing(&object, &run.applier.uid) {
        Standing::Own => return Ok(None),
        Standing::Lives => return Ok(Some(key.clone())),
        Standing::Held => {}
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        preconditions: Some(Preconditions {
            uid: Some(uid.clone()),
            resource_version: text(&object, "/metadata/resourceVersion").map(str::to_owned),
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => return Ok(None),
        Err(error) => {
            run.report().log.warn(
                about(namespace),
                format!(
                    "{resource} {namespace}/{name}: an earlier restore holds it without pods, and it could not be \
                     taken out of the way ({}); delete it and restore again to have its volumes filled",
                    describe(&error)
                ),
            );
            return Ok(Some(key.clone()));
        }
    }
    let gone = await_condition(api, name, conditions::is_deleted(&uid));
    match tokio::time::timeout(LEAVING, gone).await {
        Ok(_) => {
            run.report().log.info(format!(
                "{resource} {namespace}/{name}: an earlier restore held it without pods; it was deleted and is made \
                 again once its volumes are back"
            ));
            Ok(None)
        }
        Err(tokio::time::error::Elapsed { .. }) => Ok(Some(key.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_an_earlier_restore_holds_untouched_is_taken_away() {
        let object = |marks: Value, generation: i64, spec: Value, status: Value| {
            json!({"metadata": {"name": "web", "annotations": marks, "generation": generation},
                "spec": spec, "status": status})
        };
        let held = json!({annotation::HELD_BY: "uid-0", annotation::RESTORE_UID: "uid-0"});
        let own = json!({annotation::HELD_BY: "uid-1", annotation::RESTORE_UID: "uid-1"});
        let none = || json!({});
        let zero = || json!({"replicas": 0});
        for (object, wanted) in [
            (object(held.clone(), 1, zero(), none()), Standing::Held),
            (
                object(held.clone(), 1, json!({"suspend": true}), none()),
                Standing::Held,
            ),
            (object(own, 1, zero(), none()), Standing::Own),
            // Scaled to nothing by its user.
            (object(none(), 1, zero(), none()), Standing::Lives),
            // Changed since.
            (object(held.clone(), 2, zero(), none()), Standing::Lives),
            (
                object(held.clone(), 1, json!({"replicas": 1}), none()),
                Standing::Lives,
            ),
            (
                object(held.clone(), 1, zero(), json!({"replicas": 1})),
                Standing::Lives,
            ),
            (object(held, 1, none(), none()), Standing::Lives),
        ] {
            assert_eq!(standing(&object, "uid-1"), wanted, "{object}");
        }
    }
}
