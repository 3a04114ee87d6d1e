//! Makes sure that the repository of a namespace exists and is ready: creates the object and waits for
//! its controller's word.

use std::time::Duration;

use ark_api::repository::{RepositoryPhase, ResticRepositorySpec};
use ark_api::{ResticRepository, label, naming};
use kube::ResourceExt;
use kube::api::PostParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Result, is_conflict};
use crate::status::FIELD_MANAGER;

/// How long to wait for a first word.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a repository may stay not ready; its controller tries it again in the meantime.
const NOT_READY: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The name of a repository that is ready, or in words why it is not.
pub(super) async fn ensure(
    context: &Context,
    namespace: &str,
    location: &str,
    identifier: &str,
    stop: &CancellationToken,
) -> Result<Result<String, String>> {
    let name = naming::repository(namespace, location);
    let api = context.api::<ResticRepository>();
    let mut object = ResticRepository::new(
        &name,
        ResticRepositorySpec {
            volume_namespace: namespace.to_owned(),
            backup_storage_location: location.to_owned(),
            restic_identifier: Some(identifier.to_owned()),
            ..ResticRepositorySpec::default()
        },
    );
    object.labels_mut().extend([
        (label::VOLUME_NAMESPACE.to_owned(), label::value(namespace)),
        (label::STORAGE_LOCATION.to_owned(), label::value(location)),
    ]);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, &object).await {
        Ok(_) => {}
        Err(error) if is_conflict(&error) => {}
        Err(error) => {
            return Err(Error::kube(format!("create ResticRepository {name}"))(
                error,
            ));
        }
    }
    let begin = Instant::now();
    loop {
        let found = api
            .get_opt(&name)
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
                "ResticRepository {name} is about another namespace or location; delete it"
            )));
        }
        let status = found.status.unwrap_or_default();
        let waited = begin.elapsed();
        match status.phase {
            Some(RepositoryPhase::Ready) => return Ok(Ok(name)),
            Some(RepositoryPhase::NotReady) if waited >= NOT_READY => {
                return Ok(Err(status
                    .message
                    .unwrap_or_else(|| "no reason is known".to_owned())));
            }
            None | Some(RepositoryPhase::New) if waited >= PATIENCE => {
                return Ok(Err(format!("nobody looked at ResticRepository {name}")));
            }
            _ => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Stopping),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
