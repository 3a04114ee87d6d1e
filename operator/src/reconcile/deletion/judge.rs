//! Whether a backup may be deleted now. Pure.

use ark_api::backup::BackupPhase;
use ark_api::location::{AccessMode, BackupStorageLocation, LocationPhase};
use ark_api::requests::RequestPhase;
use ark_api::{Backup, DeleteBackupRequest, Restore, label};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The backup is deleted now.
    Go,
    /// Only the object is deleted, because nothing else belongs to it or because that was asked
    /// for; the sentence says what is left.
    ObjectOnly(Option<String>),
    /// Later, when what the sentence says has ended.
    Waits(String),
    /// Not, for this reason.
    Refused(String),
}

/// Location of a backup; empty if it never had one.
pub(in crate::reconcile) fn location_of(backup: &Backup) -> String {
    backup.spec.storage_location.clone().unwrap_or_default()
}

/// Whether a restore that has not ended reads the backup.
pub(super) fn reads(restore: &Restore, backup: &str) -> bool {
    let status = restore.status.as_ref();
    let phase = status.and_then(|status| status.phase).unwrap_or_default();
    restore.spec.origin.is_none() && !phase.is_terminal() && is_of(restore, backup)
}

/// Whether a restore is of the backup.
pub(super) fn is_of(restore: &Restore, backup: &str) -> bool {
    let resolved = restore
        .status
        .as_ref()
        .and_then(|status| status.backup_name.as_deref());
    resolved.or(restore.spec.backup_name.as_deref()) == Some(backup)
}

/// Whether a location answers.
pub(in crate::reconcile) fn available(location: &BackupStorageLocation) -> bool {
    location.status.as_ref().and_then(|status| status.phase) == Some(LocationPhase::Available)
}

/// Why a request is not about this backup but about an earlier one of its name: a request that was
/// exported and applied again deletes nothing twice.
pub(super) fn is_of_another(request: &DeleteBackupRequest, backup: &Backup) -> Option<String> {
    let meant = request.labels().get(label::BACKUP_UID)?;
    let origin = backup.spec.origin.as_ref().map(|origin| &origin.uid);
    let known = backup.uid().as_ref() == Some(meant) || origin == Some(meant);
    (!known).then(|| {
        format!(
            "the request is for an earlier backup named {}, with uid {meant}; make a new request for the one of today",
            backup.name_any()
        )
    })
}

/// Judges a request. `location` is the backup's, if there is one of that name.
pub(super) fn judge(
    backup: &Backup,
    location: Option<&BackupStorageLocation>,
    restores: &[Restore],
    force: bool,
) -> Verdict {
    let name = backup.name_any();
    let phase = backup
        .status
        .as_ref()
        .and_then(|status| status.phase)
        .unwrap_or_default();
    let runs =
        backup.spec.origin.is_none() && !phase.is_terminal() && phase != BackupPhase::Deleting;
    if runs {
        return Verdict::Refused(format!(
            "backup {name} has not ended ({phase:?}); cancel it first, or wait until it has ended"
        ));
    }
    let readers: Vec<String> = restores
        .iter()
        .filter(|restore| reads(restore, &name))
        .map(ResourceExt::name_any)
        .collect();
    if !readers.is_empty() {
        return Verdict::Waits(format!(
            "the restore {} still reads the backup",
            readers.join(", ")
        ));
    }
    // It was refused before anything was written; what a copy is a copy of has an object of its
    // own.
    if matches!(phase, BackupPhase::FailedValidation | BackupPhase::Copy) {
        return Verdict::ObjectOnly(None);
    }
    let name = location_of(backup);
    let Some(location) = location else {
        let left = format!("its data stays where it is, because there is no location {name:?}");
        return if force || name.is_empty() {
            Verdict::ObjectOnly(Some(left))
        } else {
            Verdict::Refused(format!(
                "the location {name:?} of the backup does not exist; create it again, or delete with force: then {left}"
            ))
        };
    };
    if location.spec.access_mode == Some(AccessMode::ReadOnly) {
        return Verdict::Refused(format!(
            "location {name} is read-only: nothing is deleted from it"
        ));
    }
    if available(location) {
        return Verdict::Go;
    }
    let why = location
        .status
        .as_ref()
        .and_then(|status| status.message.as_deref())
        .unwrap_or("it has not been validated yet");
    if force {
        Verdict::ObjectOnly(Some(format!(
            "its data stays where it is, because location {name} is not available: {why}"
        )))
    } else {
        Verdict::Waits(format!("location {name} is not available: {why}"))
    }
}

/// Writes a verdict into a request.
pub(super) fn write(request: &mut DeleteBackupRequest, verdict: &Verdict, now: &Time) {
    let status = request.status.get_or_insert_default();
    match verdict {
        Verdict::Go | Verdict::ObjectOnly(_) => {
            status.phase = Some(RequestPhase::InProgress);
            status.waiting_for = None;
            status.errors.clear();
        }
        Verdict::Waits(what) => {
            // The phase stays: `InProgress` says that something has been deleted already.
            status.phase.get_or_insert(RequestPhase::New);
            status.waiting_for = Some(what.clone());
        }
        Verdict::Refused(why) => {
            status.phase = Some(RequestPhase::Processed);
            status.waiting_for = None;
            status.errors = vec![why.clone()];
            status.completion_timestamp = Some(now.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use ark_api::backup::{BackupSpec, BackupStatus};
    use ark_api::location::BackupStorageLocationStatus;
    use ark_api::restore::{RestorePhase, RestoreStatus};

    use super::*;

    fn backup(phase: BackupPhase) -> Backup {
        let spec = BackupSpec {
            storage_location: Some("here".to_owned()),
            ..BackupSpec::default()
        };
        let mut backup = Backup::new("b", spec);
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            ..BackupStatus::default()
        });
        backup
    }

    fn location(phase: LocationPhase) -> BackupStorageLocation {
        let mut location = BackupStorageLocation::new(
            "here",
            ark_api::location::BackupStorageLocationSpec::default(),
        );
        location.status = Some(BackupStorageLocationStatus {
            phase: Some(phase),
            ..BackupStorageLocationStatus::default()
        });
        location
    }

    fn restore(backup: &str, phase: Option<RestorePhase>) -> Restore {
        let mut restore = Restore::new("r", ark_api::restore::RestoreSpec::default());
        restore.spec.backup_name = Some(backup.to_owned());
        restore.status = Some(RestoreStatus {
            phase,
            ..RestoreStatus::default()
        });
        restore
    }

    fn verdict(backup: &Backup, location: Option<&BackupStorageLocation>) -> Verdict {
        judge(backup, location, &[], false)
    }

    #[test]
    fn a_backup_that_runs_is_refused_and_one_that_ended_goes() {
        let here = location(LocationPhase::Available);
        for phase in [
            BackupPhase::New,
            BackupPhase::Queued,
            BackupPhase::InProgress,
        ] {
            let found = verdict(&backup(phase), Some(&here));
            assert!(matches!(found, Verdict::Refused(_)), "{phase:?} {found:?}");
        }
        for phase in [
            BackupPhase::Completed,
            BackupPhase::PartiallyFailed,
            BackupPhase::Failed,
            BackupPhase::Deleting,
        ] {
            assert_eq!(
                verdict(&backup(phase), Some(&here)),
                Verdict::Go,
                "{phase:?}"
            );
        }
        for phase in [BackupPhase::FailedValidation, BackupPhase::Copy] {
            let nothing = verdict(&backup(phase), Some(&here));
            assert_eq!(nothing, Verdict::ObjectOnly(None), "{phase:?}");
        }
    }

    #[test]
    fn a_request_for_an_earlier_backup_of_the_name_is_none_for_this_one() {
        let mut backup = backup(BackupPhase::Completed);
        backup.metadata.uid = Some("new".to_owned());
        let mut request =
            DeleteBackupRequest::new("d", ark_api::requests::DeleteBackupRequestSpec::default());
        assert_eq!(is_of_another(&request, &backup), None);
        for (uid, other) in [("new", false), ("old", true)] {
            request
                .labels_mut()
                .insert(label::BACKUP_UID.to_owned(), uid.to_owned());
            assert_eq!(is_of_another(&request, &backup).is_some(), other, "{uid}");
        }
        backup.spec.origin = Some(ark_api::origin::Origin {
            uid: "old".to_owned(),
            ..ark_api::origin::Origin::default()
        });
        assert_eq!(is_of_another(&request, &backup), None);
    }

    #[test]
    fn a_restore_that_reads_the_backup_is_waited_for() {
        let here = location(LocationPhase::Available);
        let done = backup(BackupPhase::Completed);
        for (restore, waits) in [
            (restore("b", None), true),
            (restore("b", Some(RestorePhase::InProgress)), true),
            (restore("b", Some(RestorePhase::Completed)), false),
            (restore("b2", Some(RestorePhase::InProgress)), false),
        ] {
            let found = judge(&done, Some(&here), std::slice::from_ref(&restore), true);
            assert_eq!(matches!(found, Verdict::Waits(_)), waits, "{restore:?}");
        }
        let mut of_schedule = restore("", Some(RestorePhase::InProgress));
        of_schedule.spec.backup_name = None;
        of_schedule.status.as_mut().unwrap().backup_name = Some("b".to_owned());
        assert!(reads(&of_schedule, "b"));
    }

    #[test]
    fn a_location_that_is_away_is_waited_for_and_a_read_only_one_refuses() {
        let done = backup(BackupPhase::Completed);
        let away = location(LocationPhase::Unavailable);
        assert!(matches!(verdict(&done, Some(&away)), Verdict::Waits(_)));
        let forced = judge(&done, Some(&away), &[], true);
        assert!(matches!(forced, Verdict::ObjectOnly(Some(_))), "{forced:?}");
        assert!(matches!(verdict(&done, None), Verdict::Refused(_)));
        let mut frozen = location(LocationPhase::Available);
        frozen.spec.access_mode = Some(AccessMode::ReadOnly);
        for force in [false, true] {
            let found = judge(&done, Some(&frozen), &[], force);
            assert!(matches!(found, Verdict::Refused(_)), "{found:?}");
        }
    }
}
