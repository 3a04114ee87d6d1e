//! Makes sure that the `ResticRepository` of a namespace exists and is ready: creates the object,
//! and waits for the word of its controller. One way for backups, restores and sync.
//!
//! Writes only that object. Whether a repository may be made where there is none is the [`Mode`]:
//! only a backup makes one. An object that was created only to be opened is widened by the first
//! backup that needs it, and never narrowed again. Fails with the API server; a repository that is
//! not ready is an answer, not an error.

use std::time::Duration;

use ark_api::condition::{self, kind, reason};
use ark_api::repository::{RepositoryPhase, ResticRepositorySpec, ResticRepositoryStatus};
use ark_api::{ResticRepository, label, layout, naming};
use ark_engine::Store;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Result, is_conflict};
use crate::status::FIELD_MANAGER;

/// What is wanted of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is written, and made (with a key, if the location has none and no other repository) if
    /// there is none.
    Make,
    /// It is read. Neither a repository nor a key is made.
    Open,
}

/// A repository, ready or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The repository as `restic -r` wants it.
    pub(crate) identifier: String,
    /// Name of its object, or in words why it is not ready.
    pub(crate) ready: Result<String, String>,
}

/// How long to wait for a first word.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a repository may stay not ready where nothing would be lost; its controller tries it
/// again in the meantime.
pub(crate) const NOT_READY: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The repository of `namespace` at the location `location`, whose store is `store`. It may stay not ready for
/// `patience`.
pub(crate) async fn ensure(
    context: &Context,
    namespace: &str,
    location: &str,
    store: &Store,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Found> {
    let mode = Mode::Make;
    let identifier = store.child(&layout::repository(namespace)).location();
    let object = object(namespace, location, &identifier, mode);
    create(context, &object, mode).await?;
    let name = object.name_any();
    let ready = wait(context, &name, (namespace, location), patience, stop).await?;
    Ok(Found { identifier, ready })
}

/// Makes the object of a repository that is only to be opened, and does not wait for it: it is
/// there, and shall be seen and looked after.
pub(crate) async fn record(
    context: &Context,
    namespace: &str,
    location: &str,
    store: &Store,
) -> Result<()> {
    let identifier = store.child(&layout::repository(namespace)).location();
    let object = object(namespace, location, &identifier, Mode::Open);
    create(context, &object, Mode::Open).await
}

fn object(namespace: &str, location: &str, identifier: &str, mode: Mode) -> ResticRepository {
    let mut object = ResticRepository::new(
        &naming::repository(namespace, location),
        ResticRepositorySpec {
            volume_namespace: namespace.to_owned(),
            backup_storage_location: location.to_owned(),
            restic_identifier: Some(identifier.to_owned()),
            open_only: (mode == Mode::Open).then_some(true),
            ..ResticRepositorySpec::default()
        },
    );
    object.labels_mut().extend([
        (label::VOLUME_NAMESPACE.to_owned(), label::value(namespace)),
        (label::STORAGE_LOCATION.to_owned(), label::value(location)),
    ]);
    object
}

/// Creates the object, or lets the one that exists be made if that is wanted now.
async fn create(context: &Context, object: &ResticRepository, mode: Mode) -> Result<()> {
    let api = context.api::<ResticRepository>();
    let name = object.name_any();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, object).await {
        Ok(_) => return Ok(()),
        Err(error) if is_conflict(&error) => {}
        Err(error) => {
            return Err(Error::kube(format!("create ResticRepository {name}"))(
                error,
            ));
        }
    }
    if mode == Mode::Open {
        return Ok(());
    }
    let found = api
        .get_opt(&name)
        .await
        .map_err(Error::kube(format!("get ResticRepository {name}")))?;
    if found.is_none_or(|found| found.spec.open_only != Some(true)) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"spec": {"openOnly": null}}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&name, &params, &patch)
        .await
        .map_err(Error::kube(format!("change ResticRepository {name}")))?;
    Ok(())
}

/// Waits for the controller's word: the name, or in words why the repository is not ready.
async fn wait(
    context: &Context,
    name: &str,
    (namespace, location): (&str, &str),
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Result<String, String>> {
    let api = context.api::<ResticRepository>();
    let begin = Instant::now();
    loop {
        let found = api
            .get_opt(name)
            .await
            .map_err(Error::kube(format!("get ResticRepository {name}")))?;
        let Some(found) = found else {
            return Ok(Err(format!(
                "ResticRepository {name} was deleted in the meantime"
            )));
        };
        if found.spec.volume_namespace != namespace
            || found.spec.backup_storage_location != location
        {
            return Ok(Err(format!(
                "ResticRepository {name} is about another namespace or location"
            )));
        }
        if let Some(answer) = judge(&found, patience, begin.elapsed()) {
            return Ok(answer.map(|()| name.to_owned()));
        }
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Stopping),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// What a repository's status means after it was waited for `waited`; nothing if the wait goes on.
fn judge(
    object: &ResticRepository,
    patience: Duration,
    waited: Duration,
) -> Option<Result<(), String>> {
    let status = object.status.clone().unwrap_or_default();
    // Word about an earlier spec (one that was only to be opened, say) is no word about this one. A
    // repository that is ready stays so.
    let current = status.observed_generation == object.metadata.generation;
    match status.phase.unwrap_or_default() {
        RepositoryPhase::Ready if current => Some(Ok(())),
        RepositoryPhase::NotReady if current && waited < patience.min(worth_waiting(&status)) => {
            None
        }
        RepositoryPhase::NotReady if current => {
            let unknown = || "no reason is known".to_owned();
            Some(Err(status.message.unwrap_or_else(unknown)))
        }
        _ if waited >= PATIENCE => Some(Err(format!(
            "nobody looked at ResticRepository {}",
            object.name_any()
        ))),
        _ => None,
    }
}

/// How long at most to wait for a repository that is not ready: a wrong key or spec does not mend
/// itself, a store that is away comes back.
fn worth_waiting(status: &ResticRepositoryStatus) -> Duration {
    let lasting = [
        reason::INVALID_SPEC,
        reason::WRONG_PASSWORD,
        reason::KEY_MISSING,
    ];
    match condition::get(&status.conditions, kind::READY) {
        Some(ready) if lasting.contains(&ready.reason.as_str()) => NOT_READY,
        _ => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_wrong_key_is_not_waited_for_however_much_is_stored() {
        let hours = Duration::from_hours(4);
        for (why, waits) in [
            (reason::WRONG_PASSWORD, false),
            (reason::KEY_MISSING, false),
            (reason::UNREACHABLE, true),
            (reason::LOCATION_UNAVAILABLE, true),
        ] {
            let mut object = seen(Some(RepositoryPhase::NotReady), 2);
            let status = object.status.as_mut().unwrap();
            let now = Time("2026-01-01T00:00:00Z".parse().unwrap());
            condition::set(
                &mut status.conditions,
                kind::READY,
                false,
                why,
                "",
                Some(2),
                &now,
            );
            assert_eq!(judge(&object, hours, NOT_READY).is_none(), waits, "{why}");
        }
    }

    fn seen(phase: Option<RepositoryPhase>, observed: i64) -> ResticRepository {
        let mut object = object("shop", "default", "/store/restic/shop", Mode::Make);
        object.metadata.generation = Some(2);
        object.status = Some(ResticRepositoryStatus {
            phase,
            observed_generation: Some(observed),
            message: Some("why".to_owned()),
            ..ResticRepositoryStatus::default()
        });
        object
    }

    #[test]
    fn a_word_about_the_present_spec_decides() {
        use RepositoryPhase::{NotReady, Ready};
        let (now, soon, late) = (Duration::ZERO, NOT_READY, PATIENCE);
        let hours = Duration::from_hours(4);
        for (object, patience, waited, want) in [
            (seen(Some(Ready), 2), NOT_READY, now, Some(true)),
            (seen(Some(Ready), 1), NOT_READY, soon, None),
            (seen(Some(NotReady), 2), NOT_READY, now, None),
            (seen(Some(NotReady), 2), NOT_READY, soon, Some(false)),
            // There are volumes that are stored already.
            (seen(Some(NotReady), 2), hours, late, None),
            (seen(Some(NotReady), 2), hours, hours, Some(false)),
            // It was only to be opened then, and is to be made now.
            (seen(Some(NotReady), 1), NOT_READY, soon, None),
            (seen(Some(NotReady), 1), NOT_READY, late, Some(false)),
            (seen(None, 2), NOT_READY, soon, None),
            (seen(None, 2), NOT_READY, late, Some(false)),
        ] {
            let got = judge(&object, patience, waited).map(|answer| answer.is_ok());
            assert_eq!(got, want, "{patience:?} {waited:?} {:?}", object.status);
        }
    }

    #[test]
    fn only_what_is_opened_says_so() {
        let made = |mode| object("shop", "default", "x", mode).spec.open_only;
        assert_eq!((made(Mode::Make), made(Mode::Open)), (None, Some(true)));
    }
}
