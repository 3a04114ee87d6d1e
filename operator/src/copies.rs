//! Stamps what is executed, and marks what is only a copy; what is which says [`ark_api::run_stamp`].
//!
//! Order: the stamp is written before the run begins, so an object that was exported at any moment
//! of its run is known for a copy wherever it is applied again. A kill between stamp and run
//! changes nothing: the stamp carries the object's own uid, and the run begins when the operator is
//! back.

use std::fmt::Debug;

use ark_api::annotation::RUN_UID;
use ark_api::condition::{self, kind, reason};
use ark_api::run_stamp::{judge, stamp as stamp_of};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::status::FIELD_MANAGER;

/// Writes the stamp of `object`, unless it carries one.
pub(crate) async fn stamp<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if stamp_of(object.meta()).is_some() {
        return Ok(());
    }
    let (name, uid) = (object.name_any(), object.uid());
    let patch = json!({"metadata": {"uid": uid, "annotations": {RUN_UID: uid}}});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&name, &params, &Patch::Merge(patch))
        .await
        .map(drop)
        .map_err(Error::kube(format!("stamp {} {name}", K::kind(&()))))
}

/// If `object` is a copy: has `mark` write that into its status (the sentence, the time), puts an
/// event on it when that is news, and returns true.
pub(crate) async fn mark_copy<K>(
    context: &Context,
    object: &K,
    mark: impl Fn(&mut K, &str, &Time),
) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + PartialEq
        + Serialize
        + DeserializeOwned,
{
    let Some(copied) = judge(object.meta()) else {
        return Ok(false);
    };
    let resource = format!("{}.{}", K::plural(&()), K::group(&()));
    let text = copied.explain(&resource, object.meta());
    let (now, uid) = (context.clock.time(), object.uid().unwrap_or_default());
    let mut news = false;
    crate::status::update(&context.api::<K>(), &object.name_any(), &uid, |object| {
        let before = object.clone();
        mark(object, &text, &now);
        news = *object != before;
    })
    .await?;
    if news {
        tracing::warn!(kind = %K::kind(&()), object = object.name_any(), text, "a copy is not executed");
        context
            .event(object, EventType::Warning, reason::COPY_OF_EXECUTED, &text)
            .await;
    }
    Ok(true)
}

/// Notes in `conditions` that the object is a copy.
pub(crate) fn note_copy(
    conditions: &mut Vec<Condition>,
    text: &str,
    generation: Option<i64>,
    now: &Time,
) {
    condition::set(
        conditions,
        kind::COPY,
        true,
        reason::COPY_OF_EXECUTED,
        text,
        generation,
        now,
    );
}

/// Forgets that the object was a copy: somebody wants it executed.
pub(crate) fn forget_copy(conditions: &mut Vec<Condition>) {
    conditions.retain(|condition| condition.type_ != kind::COPY);
}
