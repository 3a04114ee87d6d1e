//! What there is to do for a Restore. Pure.

use ark_api::restore::RestorePhase;
use ark_api::{Restore, run_stamp};

/// What there is to do for a Restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing: it has ended, is going away, or is a record of another cluster.
    None,
    /// It was executed before Ark wrote stamps.
    Stamp,
    /// It is new, or was a copy when it was looked at last.
    Start,
    /// It was being executed when the operator stopped.
    GoOn,
}

/// What there is to do for `restore`.
pub(super) fn of(restore: &Restore) -> Work {
    if restore.spec.origin.is_some() || restore.metadata.deletion_timestamp.is_some() {
        return Work::None;
    }
    let status = restore.status.as_ref();
    match status.and_then(|status| status.phase).unwrap_or_default() {
        RestorePhase::Completed | RestorePhase::PartiallyFailed | RestorePhase::Failed
            if run_stamp::stamp(&restore.metadata).is_none() =>
        {
            Work::Stamp
        }
        RestorePhase::Copy => Work::Start,
        RestorePhase::InProgress | RestorePhase::Finalizing => Work::GoOn,
        phase if phase.is_terminal() => Work::None,
        _ => Work::Start,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_restore_runs_once() {
        let stamp = json!({ark_api::annotation::RUN_UID: "u"});
        for (annotations, status, wanted) in [
            (json!({}), json!({}), Work::Start),
            (json!({}), json!({"phase": "New"}), Work::Start),
            (json!({}), json!({"phase": "Copy"}), Work::Start),
            (json!({}), json!({"phase": "InProgress"}), Work::GoOn),
            (json!({}), json!({"phase": "FailedValidation"}), Work::None),
            (json!({}), json!({"phase": "Failed"}), Work::Stamp),
            (stamp.clone(), json!({"phase": "Completed"}), Work::None),
            (stamp, json!({"phase": "InProgress"}), Work::GoOn),
        ] {
            let restore: Restore = serde_json::from_value(json!({
                "apiVersion": "ark.heptio.com/v1", "kind": "Restore",
                "metadata": {"name": "r", "uid": "u", "annotations": annotations},
                "spec": {"backupName": "b"}, "status": status,
            }))
            .unwrap();
            assert_eq!(of(&restore), wanted, "{restore:?}");
        }
    }
}
