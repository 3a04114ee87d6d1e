//! Backups that the cluster knows and the bucket no longer holds. Only the object goes, and never
//! all at once.

use std::collections::HashSet;

use ark_api::backup::BackupPhase;
use ark_api::{Backup, layout};
use ark_engine::Store;
use kube::ResourceExt;

use crate::context::Context;
use crate::error::Result;
use crate::reconcile::deletion::delete_object;

/// With at least so many known, that all are gone at once is not believed.
const FEW: usize = 2;

/// What to do with Backups whose marker is gone.
pub(super) struct Decision<'a> {
    /// Delete these objects.
    pub(super) remove: Vec<&'a Backup>,
    /// So many are known, and not one is there: nothing is deleted.
    pub(super) held: Option<usize>,
}

/// Whether the bucket must hold a backup's marker.
fn has_marker(backup: &Backup) -> bool {
    let phase = backup.status.as_ref().and_then(|status| status.phase);
    backup.metadata.deletion_timestamp.is_none()
        && match phase {
            Some(BackupPhase::Completed | BackupPhase::PartiallyFailed) => true,
            // One of this cluster's has a request, which deletes the object in the end, or was
            // cancelled, perhaps before anything was stored. One that came from the bucket and has
            // no phase is an import that was interrupted.
            None | Some(BackupPhase::New | BackupPhase::Deleting | BackupPhase::Canceled) => {
                backup.spec.origin.is_some()
            }
            _ => false,
        }
}

/// Backups whose directory was not listed.
pub(super) fn candidates<'a>(known: &[&'a Backup], there: &HashSet<String>) -> Vec<&'a Backup> {
    known
        .iter()
        .copied()
        .filter(|backup| has_marker(backup) && !there.contains(&backup.name_any()))
        .collect()
}

/// Those of `candidates` whose marker is not there when it is asked for by its name either.
pub(super) async fn confirm<'a>(
    store: &Store,
    candidates: Vec<&'a Backup>,
) -> Result<Vec<&'a Backup>> {
    let mut gone = Vec::new();
    for backup in candidates {
        if store
            .stat(&layout::marker(&backup.name_any()))
            .await?
            .is_none()
        {
            gone.push(backup);
        }
    }
    Ok(gone)
}

/// Decides over those that are `gone`. `before`: uids of those that were gone at the last look. `is_bare`: there is
/// nothing at all at the location, so that it may not even be the directory it was.
pub(super) fn decide<'a>(
    known: &[&'a Backup],
    gone: &[&'a Backup],
    before: &HashSet<String>,
    is_bare: bool,
) -> Decision<'a> {
    let expected = known.iter().filter(|backup| has_marker(backup)).count();
    let all = !gone.is_empty() && gone.len() == expected;
    if all && (is_bare || gone.len() >= FEW) {
        return Decision {
            remove: Vec::new(),
            held: Some(expected),
        };
    }
    Decision {
        remove: gone
            .iter()
            .copied()
            .filter(|backup| backup.uid().is_some_and(|uid| before.contains(&uid)))
            .collect(),
        held: None,
    }
}

/// Deletes the object of a backup that is gone.
pub(super) async fn remove(context: &Context, backup: &Backup) -> Result<()> {
    tracing::warn!(
        backup = backup.name_any(),
        "its marker is gone from the bucket; the object goes as well"
    );
    delete_object(context, backup).await
}

#[cfg(test)]
mod tests {
    use ark_api::backup::BackupStatus;

    use super::*;

    fn backup(name: &str, phase: BackupPhase) -> Backup {
        let mut backup = Backup::new(name, ark_api::backup::BackupSpec::default());
        backup.metadata.uid = Some(name.to_owned());
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            ..BackupStatus::default()
        });
        backup
    }

    fn set(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn names(backups: &[&Backup]) -> Vec<String> {
        backups.iter().map(|backup| backup.name_any()).collect()
    }

    #[test]
    fn only_backups_that_must_have_a_marker_can_vanish() {
        let all = [
            backup("a", BackupPhase::Completed),
            backup("b", BackupPhase::PartiallyFailed),
            backup("c", BackupPhase::Failed),
            backup("d", BackupPhase::InProgress),
            backup("e", BackupPhase::Deleting),
            backup("f", BackupPhase::Completed),
        ];
        let known: Vec<&Backup> = all.iter().collect();
        assert_eq!(names(&candidates(&known, &set(&["f"]))), ["a", "b"]);
    }

    #[test]
    fn one_goes_on_the_second_look_and_all_never_go_at_once() {
        let all = [
            backup("a", BackupPhase::Completed),
            backup("b", BackupPhase::Completed),
            backup("c", BackupPhase::Failed),
        ];
        let known: Vec<&Backup> = all.iter().collect();
        let gone = [&all[0]];
        assert!(decide(&known, &gone, &set(&[]), false).remove.is_empty());
        let second = decide(&known, &gone, &set(&["a"]), false);
        assert_eq!(names(&second.remove), ["a"]);
        let both = [&all[0], &all[1]];
        let held = decide(&known, &both, &set(&["a", "b"]), false);
        assert!(held.remove.is_empty());
        assert_eq!(held.held, Some(2));
        // Of a single one, nothing can be told from its being all, unless nothing else is there
        // either.
        let single = [&all[0]];
        assert_eq!(decide(&single, &single, &set(&["a"]), true).held, Some(1));
        let alone = decide(&single, &single, &set(&["a"]), false);
        assert_eq!(names(&alone.remove), ["a"]);
    }
}
