//! Whether a restore may begin: its own backup must have ended, and no restore into the same
//! namespaces may run or wait before it. The rule is [`crate::run::queue`]; here is what it depends
//! on. Pure but for [`backup`].

use std::collections::{BTreeMap, BTreeSet};

use ark_api::condition::{self, kind};
use ark_api::restore::RestoreSpec;
use ark_api::{Backup, Restore};
use kube::ResourceExt;

use super::has_begun;
use super::work;
use crate::collect::namespaces::is_pattern;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::Subject;
use crate::run::queue::{self, Scope, Work};

/// The backup that a restore names; `None` if it names a schedule, or there is no such backup.
pub(super) async fn backup(context: &Context, restore: &Restore) -> Result<Option<Backup>> {
    let resolved = restore
        .status
        .as_ref()
        .and_then(|status| status.backup_name.clone());
    let named = resolved.or_else(|| restore.spec.backup_name.clone());
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    context
        .api::<Backup>()
        .get_opt(&name)
        .await
        .map_err(Error::kube(format!("get Backup {name}")))
}

/// What a restore waits for before anything else, in words: a backup of its own that still runs.
pub(super) fn waits_for(restore: &Restore, backup: Option<&Backup>) -> Option<String> {
    let backup = backup.filter(|_| !has_begun(restore))?;
    let status = backup.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    // One that came from elsewhere is never run here, so there is nothing to wait for.
    let runs = !phase.is_terminal()
        && phase != ark_api::backup::BackupPhase::Deleting
        && backup.spec.origin.is_none()
        && backup.metadata.deletion_timestamp.is_none();
    runs.then(|| format!("backup {} has not ended ({phase:?})", backup.name_any()))
}

/// Namespaces that a restore writes into. What is not named by the restore is what its backup
/// names; what neither names may be any.
pub(super) fn scope(spec: &RestoreSpec, backup: Option<&Backup>) -> Scope {
    let named = |names: &[String]| {
        let plain = !names.is_empty() && names.iter().all(|name| !is_pattern(name));
        plain.then(|| names.iter().cloned().collect::<BTreeSet<String>>())
    };
    let namespaces =
        named(&spec.included_namespaces).or_else(|| named(&backup?.spec.included_namespaces));
    let mapping: &BTreeMap<String, String> = &spec.namespace_mapping;
    namespaces.map_or(Scope::All, |names| {
        let kept = names
            .into_iter()
            .filter(|name| !spec.excluded_namespaces.contains(name));
        Scope::Of(
            kept.map(|name| mapping.get(&name).cloned().unwrap_or(name))
                .collect(),
        )
    })
}

/// Whether a restore has not ended, and is to be executed here.
fn is_open(restore: &Restore) -> bool {
    let status = restore.status.as_ref();
    let phase = status.and_then(|status| status.phase).unwrap_or_default();
    !phase.is_terminal() && work::of(restore) != work::Work::None
}

/// All work that `restore`, which works in `scope`, has to do with. One that nobody has judged yet
/// does not count.
pub(super) fn work<'a>(
    restore: &Restore,
    own: Scope,
    known: impl Iterator<Item = &'a Restore>,
    running: &[Subject],
) -> Vec<Work> {
    let make = |restore: &Restore, scope: Scope, running: bool| Work {
        uid: restore.uid().unwrap_or_default(),
        name: restore.name_any(),
        created: restore
            .creation_timestamp()
            .map_or(jiff::Timestamp::MAX, |time| time.0),
        scope,
        running,
    };
    let queued = |restore: &Restore| {
        let status = restore.status.as_ref();
        status.is_some_and(|status| condition::is_true(&status.conditions, kind::WAITING))
    };
    let others = known
        .filter(|other| is_open(other))
        .filter(|other| has_begun(other) || queued(other))
        .map(|other| make(other, scope(&other.spec, None), has_begun(other)));
    queue::gather(make(restore, own, false), others, running)
}

#[cfg(test)]
mod tests {
    use ark_api::backup::{BackupPhase, BackupSpec, BackupStatus};
    use ark_api::origin::Origin;

    use super::*;

    fn spec(include: &[&str], exclude: &[&str], mapping: &[(&str, &str)]) -> RestoreSpec {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        RestoreSpec {
            included_namespaces: own(include),
            excluded_namespaces: own(exclude),
            namespace_mapping: mapping
                .iter()
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect(),
            ..RestoreSpec::default()
        }
    }

    fn backup_of(include: &[&str], phase: Option<BackupPhase>) -> Backup {
        let spec = BackupSpec {
            included_namespaces: include.iter().map(|name| (*name).to_owned()).collect(),
            ..BackupSpec::default()
        };
        let mut backup = Backup::new("b", spec);
        backup.status = phase.map(|phase| BackupStatus {
            phase: Some(phase),
            ..BackupStatus::default()
        });
        backup
    }

    fn of(names: &[&str]) -> Scope {
        Scope::Of(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_scope_is_where_objects_go() {
        let shop = backup_of(&["shop", "web"], None);
        let everything = backup_of(&["*"], None);
        for (spec, backup, want) in [
            (spec(&["shop"], &[], &[]), None, of(&["shop"])),
            (
                spec(&["shop"], &[], &[("shop", "copy")]),
                None,
                of(&["copy"]),
            ),
            (spec(&[], &[], &[]), Some(&shop), of(&["shop", "web"])),
            (
                spec(&[], &["web"], &[("shop", "x")]),
                Some(&shop),
                of(&["x"]),
            ),
            (spec(&[], &[], &[]), Some(&everything), Scope::All),
            (spec(&["*"], &[], &[]), None, Scope::All),
            (spec(&[], &[], &[]), None, Scope::All),
        ] {
            assert_eq!(scope(&spec, backup), want, "{spec:?}");
        }
    }

    #[test]
    fn only_an_own_backup_that_runs_is_waited_for() {
        let restore = Restore::new("r", RestoreSpec::default());
        let waits = |backup: &Backup| waits_for(&restore, Some(backup)).is_some();
        assert!(waits(&backup_of(&[], None)));
        assert!(waits(&backup_of(&[], Some(BackupPhase::InProgress))));
        assert!(!waits(&backup_of(&[], Some(BackupPhase::Completed))));
        assert!(!waits(&backup_of(&[], Some(BackupPhase::Deleting))));
        let mut imported = backup_of(&[], None);
        imported.spec.origin = Some(Origin::default());
        assert!(!waits(&imported));
        assert_eq!(waits_for(&restore, None), None);
    }
}
