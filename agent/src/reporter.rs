//! Writes a volume object's status.
//!
//! Does: send only what changed since the last write, to the object with exactly this uid, as often as the
//! agent may write at all ([`crate::writes`]). Does not: decide what a status says (that is
//! [`crate::report`]). A status that says something final is written until it is there, the object is
//! gone or the process ends.

use std::sync::Arc;
use std::time::Duration;

use ark_api::condition::reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::object::{VolumeObject, VolumeStatus as _};
use crate::report::{self, Finish};
use crate::writes::{self, Writes};

/// Longest wait between two tries of a write that must succeed.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Writer of one object's status.
pub(crate) struct Reporter<K: VolumeObject> {
    api: Api<K>,
    name: String,
    uid: String,
    generation: Option<i64>,
    /// The status as it is to be; saved by one of the methods.
    pub(crate) status: K::Status,
    written: Map<String, Value>,
    writes: Arc<Writes>,
    tell_every: Duration,
    shutdown: CancellationToken,
}

/// The time, as statuses hold it: to the second.
pub(crate) fn now() -> Time {
    let now = jiff::Timestamp::now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

impl<K: VolumeObject> Reporter<K> {
    /// For `object`, as it was read a moment ago.
    pub(crate) fn new(
        api: Api<K>,
        object: &K,
        writes: Arc<Writes>,
        shutdown: CancellationToken,
    ) -> Self {
        let meta = object.meta();
        let status = object.status().cloned().unwrap_or_default();
        Self {
            api,
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation,
            written: as_map(&status),
            status,
            tell_every: writes::asked_pause(meta.annotations.as_ref()),
            writes,
            shutdown,
        }
    }

    /// Time between two writes that only tell how far it is: no less than `own`, nor than the
    /// object asks for.
    pub(crate) fn tell_every(&self, own: Duration) -> Duration {
        own.max(self.tell_every)
    }

    /// Says that it waits for a slot, and where it stands. What was said of that before is only
    /// renewed when the agent may write.
    pub(crate) async fn queued(&mut self, place: &str) -> Result<()> {
        let first = self.status.common().reason.as_deref() != Some(reason::QUEUED);
        report::queued(&mut self.status, place, self.generation, &now());
        if first {
            self.save_surely().await
        } else {
            self.save_if_allowed().await
        }
    }

    /// Says what is waited for.
    pub(crate) async fn waiting(&mut self, reason: &str, message: &str) -> Result<()> {
        let status = &mut self.status;
        report::waiting(status, reason, message, self.generation, &now());
        self.save_surely().await
    }

    /// Says that the transfer begins.
    pub(crate) async fn started(&mut self, attempt: i32) -> Result<()> {
        let now = now();
        let common = self.status.common();
        common.accepted.get_or_insert_with(|| now.clone());
        *common.observed_generation = self.generation;
        report::started(&mut self.status, attempt, self.generation, &now);
        self.save_surely().await
    }

    /// Says that the volume held nothing before anything was written. Written before the first file
    /// is, so that a later attempt knows the files it finds as its own.
    pub(crate) async fn target_empty(&mut self) -> Result<()> {
        ark_api::condition::set(
            self.status.common().conditions,
            ark_api::condition::kind::TARGET_EMPTY,
            true,
            reason::OK,
            "",
            self.generation,
            &now(),
        );
        self.save_surely().await
    }

    /// Notes how far it is, without writing it.
    pub(crate) fn note(&mut self, counts: ark_engine::ProgressCounts) {
        report::progress(&mut self.status, counts);
    }

    /// Says how far it is; the next time will do if it cannot be said now.
    pub(crate) async fn progress(&mut self, counts: ark_engine::ProgressCounts) -> Result<()> {
        self.note(counts);
        self.save_if_allowed().await
    }

    /// Says that it is being cancelled; no harm if that cannot be said.
    pub(crate) async fn canceling(&mut self) -> Result<()> {
        report::canceling(&mut self.status);
        match self.save().await {
            Err(Error::Api { .. }) => Ok(()),
            other => other,
        }
    }

    /// Says how it ended.
    pub(crate) async fn finished(&mut self, finish: &Finish) -> Result<()> {
        report::finished(&mut self.status, finish, self.generation, &now());
        self.save_surely().await
    }

    /// Writes until it is written. Fails with `ObjectGone`, or with `Cancelled` if the process ends
    /// before.
    async fn save_surely(&mut self) -> Result<()> {
        let mut pause = Duration::from_secs(1);
        loop {
            match self.save().await {
                Err(error @ Error::Api { .. }) => {
                    tracing::warn!(name = self.name, "{}", error.told());
                    tokio::select! {
                        () = self.shutdown.cancelled() => return Err(Error::Cancelled),
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
                    }
                }
                other => return other,
            }
        }
    }

    /// One try, if the agent may write something that is only good to know.
    async fn save_if_allowed(&mut self) -> Result<()> {
        if !self.writes.may_tell() {
            return Ok(());
        }
        match self.save().await {
            Err(Error::Api { doing, source }) => {
                tracing::debug!(name = self.name, %source, "{doing}");
                Ok(())
            }
            other => other,
        }
    }

    /// One try.
    async fn save(&mut self) -> Result<()> {
        let wanted = as_map(&self.status);
        let Some(status) = difference(&self.written, &wanted) else {
            return Ok(());
        };
        let writes = Arc::clone(&self.writes);
        let _turn = writes.turn().await?;
        // With the uid in it, the patch is refused if the object was made anew meanwhile.
        let patch = json!({"metadata": {"uid": self.uid}, "status": status});
        let params = PatchParams::default();
        let result = self
            .api
            .patch_status(&self.name, &params, &Patch::Merge(&patch))
            .await;
        match result {
            Ok(_) => {
                self.written = wanted;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::ObjectGone),
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                let doing = format!("write the status of {} {:?}", K::KIND, self.name);
                match self.api.get_metadata_opt(&self.name).await {
                    Ok(there)
                        if there.as_ref().and_then(|t| t.metadata.uid.as_deref())
                            != Some(&self.uid) =>
                    {
                        Err(Error::ObjectGone)
                    }
                    _ => Err(Error::api(doing, kube::Error::Api(status))),
                }
            }
            Err(source) => {
                let doing = format!("write the status of {} {:?}", K::KIND, self.name);
                Err(Error::api(doing, source))
            }
        }
    }
}

fn as_map(status: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        // A status serialises to an object, always.
        _ => Map::new(),
    }
}

/// A merge patch from `old` to `new`, `None` if they are the same.
fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<Value> {
    let mut patch = Map::new();
    for (key, value) in new {
        if old.get(key) != Some(value) {
            patch.insert(key.clone(), value.clone());
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn only_changes_are_sent_and_what_is_gone_is_removed() {
        let old = map(json!({"phase": "Accepted", "message": "waiting", "attempt": 1}));
        let new = map(json!({"phase": "InProgress", "attempt": 1}));
        assert_eq!(
            difference(&old, &new),
            Some(json!({"phase": "InProgress", "message": null}))
        );
        assert_eq!(difference(&new, &new), None);
    }
}
