//! The Backup of a run: what it looks like, and its creation, which can be done again.

use ark_api::{Backup, Schedule, annotation, naming, template};
use jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::{Resource, ResourceExt};

use super::plan::made_for;
use crate::context::Context;
use crate::error::{Error, Result, is_conflict};
use crate::status::FIELD_MANAGER;

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Its Backup has this name.
    Backup(String),
    /// An object that is not the run's has the name.
    Taken(String),
}

/// Makes the Backup of the run that was due at `due`; it may exist already.
pub(super) async fn make(
    context: &Context,
    schedule: &Schedule,
    due: Timestamp,
    shift: SignedDuration,
) -> Result<Made> {
    let backup = build(schedule, due, shift);
    let name = backup.name_any();
    let api = context.api::<Backup>();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, &backup).await {
        Ok(_) => {
            tracing::info!(schedule = schedule.name_any(), backup = name, %due, "backup made");
            Ok(Made::Backup(name))
        }
        Err(error) if is_conflict(&error) => {
            let found = api
                .get(&name)
                .await
                .map_err(Error::kube(format!("get Backup {name}")))?;
            let uid = schedule.uid().unwrap_or_default();
            Ok(if made_for(&found, &uid) == Some(due) {
                Made::Backup(name)
            } else {
                tracing::warn!(
                    backup = name,
                    "another Backup has the name of a run; the run is skipped"
                );
                Made::Taken(name)
            })
        }
        Err(error) => Err(Error::kube(format!("create Backup {name}"))(error)),
    }
}

/// What the Backup of a run looks like. Its name comes from the due time and the shift alone.
fn build(schedule: &Schedule, due: Timestamp, shift: SignedDuration) -> Backup {
    let name = schedule.name_any();
    let start = due.checked_add(shift).unwrap_or(due);
    let mut backup = template::backup(schedule, &naming::timestamped(&name, start));
    backup.annotations_mut().extend([
        (annotation::SCHEDULED_AT.to_owned(), due.to_string()),
        (
            annotation::SCHEDULE_UID.to_owned(),
            schedule.uid().unwrap_or_default(),
        ),
    ]);
    if schedule.spec.use_owner_references_in_backup == Some(true) {
        backup.metadata.owner_references =
            schedule.controller_owner_ref(&()).map(|owner| vec![owner]);
    }
    backup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_tells_which_run_it_is_of() {
        let mut schedule: Schedule = serde_json::from_value(serde_json::json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Schedule",
            "metadata": {"name": "daily", "uid": "u"}, "spec": {},
        }))
        .unwrap();
        let due = "2026-01-02T01:00:00Z".parse().unwrap();
        let made = |schedule: &Schedule| build(schedule, due, SignedDuration::from_secs(7));
        let backup = made(&schedule);
        assert_eq!(backup.name_any(), "daily-20260102010007");
        assert_eq!(made_for(&backup, "u"), Some(due));
        assert!(backup.metadata.owner_references.is_none());
        schedule.spec.use_owner_references_in_backup = Some(true);
        let owners = made(&schedule).metadata.owner_references.unwrap();
        assert_eq!(
            (owners[0].name.as_str(), owners[0].uid.as_str()),
            ("daily", "u")
        );
    }
}
