//! What a backup's turn depends on: which backups run or wait, and where they work. Pure; the rule is
//! [`crate::run::queue`].

use ark_api::Backup;
use ark_api::backup::{BackupPhase, BackupSpec};
use kube::ResourceExt;
use serde_json::Value;

use super::{has_begun, is_work, phase};
use crate::collect::namespaces::choose;
use crate::run::Subject;
use crate::run::queue::{self, Scope, Work};

/// The namespaces that a backup takes, of all `namespaces` there are. `own` is Ark's.
pub(super) fn scope(spec: &BackupSpec, namespaces: &[Value], own: &str) -> Scope {
    let chosen = choose(
        &spec.included_namespaces,
        &spec.excluded_namespaces,
        namespaces.to_vec(),
        own,
    );
    Scope::Of(chosen.objects.into_keys().collect())
}

/// All work that `backup` has to do with: what the registry says runs, what has begun and is to be
/// taken up again, and what waits. A backup that nobody has judged yet does not count.
pub(super) fn work<'a>(
    backup: &Backup,
    known: impl Iterator<Item = &'a Backup>,
    running: &[Subject],
    scope: impl Fn(&Backup) -> Scope,
) -> Vec<Work> {
    let make = |backup: &Backup, running: bool| Work {
        uid: backup.uid().unwrap_or_default(),
        name: backup.name_any(),
        created: backup
            .creation_timestamp()
            .map_or(jiff::Timestamp::MAX, |time| time.0),
        scope: scope(backup),
        running,
    };
    let others = known
        .filter(|other| is_work(other))
        .filter(|other| has_begun(other) || phase(other) == BackupPhase::Queued)
        .map(|other| make(other, has_begun(other)));
    queue::gather(make(backup, false), others, running)
}

#[cfg(test)]
mod tests {
    use ark_api::backup::BackupStatus;
    use serde_json::json;

    use super::*;
    use crate::run::queue::{Turn, turn};
    use crate::run::registry::Kind;

    fn backup(name: &str, namespace: &str, phase: Option<BackupPhase>) -> Backup {
        let spec = BackupSpec {
            included_namespaces: vec![namespace.to_owned()],
            ..BackupSpec::default()
        };
        let mut backup = Backup::new(name, spec);
        backup.metadata.uid = Some(name.to_owned());
        backup.status = phase.map(|phase| BackupStatus {
            phase: Some(phase),
            ..BackupStatus::default()
        });
        backup
    }

    fn namespaces() -> Vec<Value> {
        ["a", "b", "ark"]
            .map(|name| json!({"metadata": {"name": name}}))
            .into()
    }

    fn of(names: &[&str]) -> Scope {
        Scope::Of(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_scope_is_what_the_words_mean_in_this_cluster() {
        let scope = |words: &str| {
            let backup = backup("x", words, None);
            scope(&backup.spec, &namespaces(), "ark")
        };
        assert_eq!(scope("a"), of(&["a"]));
        assert_eq!(scope("*"), of(&["a", "b"]));
        assert_eq!(scope("gone"), of(&[]));
    }

    #[test]
    fn begun_and_waiting_backups_count_and_others_do_not() {
        let own = backup("own", "a", None);
        let known = [
            backup("resumed", "b", Some(BackupPhase::InProgress)),
            backup("queued", "a", Some(BackupPhase::Queued)),
            backup("new", "a", None),
            backup("done", "a", Some(BackupPhase::Completed)),
            backup("run", "a", Some(BackupPhase::InProgress)),
            own.clone(),
        ];
        let running = [Subject {
            kind: Kind::Backup,
            name: "run".to_owned(),
            uid: "run".to_owned(),
            scope: of(&["a"]),
        }];
        let scope = |backup: &Backup| scope(&backup.spec, &namespaces(), "ark");
        let all = work(&own, known.iter(), &running, scope);
        let names: Vec<_> = all.iter().map(|w| (w.name.as_str(), w.running)).collect();
        assert_eq!(
            names,
            [
                ("run", true),
                ("resumed", true),
                ("queued", false),
                ("own", false)
            ]
        );
        assert!(matches!(turn(&all, "own", 8, "backup"), Turn::Wait { .. }));
    }
}
