//! Watches the volume objects of this node and hands each to its task.
//!
//! Does: list and watch with the field selector `spec.node`, so that an agent never sees another
//! node's work; after a restart the first list brings back whatever was left. An object that cannot
//! be read does not stop the watch: it is failed with the reason. Does not: keep the objects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::VolumePhase;
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::Resource as _;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::object::VolumeObject;
use crate::reporter;
use crate::task;

/// Runs until it is dropped.
pub(crate) async fn run<K: VolumeObject>(ctx: Arc<Context>) {
    let config = watcher::Config::default().fields(&format!("spec.node={}", ctx.settings.node));
    let api: Api<DeserializeGuard<K>> = ctx.own();
    let mut events = std::pin::pin!(watch(api, config).default_backoff());
    // What a list that is under way has shown so far.
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        if let Ok(Event::InitApply(found)) = &event {
            listed.extend(found.meta().uid.clone());
        }
        match event {
            Ok(Event::Apply(found) | Event::InitApply(found)) => match found.0 {
                Ok(object) => task::consider(&ctx, &object),
                Err(invalid) => malformed::<K>(&ctx, invalid.metadata, &invalid.error).await,
            },
            Ok(Event::Delete(DeserializeGuard(found))) => {
                let uid = match &found {
                    Ok(object) => object.meta().uid.as_deref(),
                    Err(invalid) => invalid.metadata.uid.as_deref(),
                };
                ctx.gone(uid.unwrap_or_default());
            }
            Ok(Event::Init) => listed.clear(),
            // Deletions that happened while the watch was broken.
            Ok(Event::InitDone) => ctx.keep_only(K::KIND, &std::mem::take(&mut listed)),
            Err(error) => {
                ctx.metrics.watch_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(kind = K::KIND, %error, "the watch broke; starting again");
            }
        }
    }
}

/// Fails an object that cannot be read, so that whoever waits for it learns why.
async fn malformed<K: VolumeObject>(ctx: &Context, metadata: ObjectMeta, why: &str) {
    ctx.metrics.malformed.fetch_add(1, Ordering::Relaxed);
    let name = metadata.name.unwrap_or_default();
    tracing::error!(
        kind = K::KIND,
        name,
        error = why,
        "the object cannot be read"
    );
    match fail::<K>(ctx, &name, metadata.uid.as_deref(), why).await {
        Ok(()) => K::metrics(&ctx.metrics).finished(VolumePhase::Failed),
        Err(error) => tracing::error!(kind = K::KIND, name, "{}", error.told()),
    }
}

async fn fail<K: VolumeObject>(
    ctx: &Context,
    name: &str,
    uid: Option<&str>,
    why: &str,
) -> Result<()> {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &ctx.settings.namespace, &resource);
    let doing = || format!("fail {} {name:?}", K::KIND);
    let found = api
        .get_opt(name)
        .await
        .map_err(|source| Error::api(doing(), source))?;
    let Some(found) = found.filter(|f| f.metadata.uid.as_deref() == uid) else {
        return Ok(());
    };
    let phase = found.data.pointer("/status/phase").and_then(|p| p.as_str());
    let over = matches!(
        phase,
        Some("Completed" | "PartiallyFailed" | "Failed" | "Canceled")
    );
    if over || found.data.pointer("/spec/origin").is_some() {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": uid}, "status": {
        "phase": "Failed",
        "reason": reason::INVALID_SPEC,
        "message": format!("the object cannot be read: {why}"),
        "completionTimestamp": reporter::now(),
    }});
    let patched = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    patched.map_err(|source| Error::api(doing(), source))?;
    Ok(())
}
