//! Forgetting snapshots: by a policy, by their ids, or by their tags.
//!
//! Does: decide ([`policy`], a function of data) and remove snapshot files, under the lock that excludes everybody
//! else from reading the list to the last removal, as restic does. Does not: free space; that is
//! [`mod@super::prune`]. The data of a forgotten snapshot stays until then.
//!
//! Snapshot files that cannot be read: a policy does not count them and leaves them alone; by its
//! id one is removed if it is damaged for certain, or this repository's key wrote it.
//!
//! Order: lock; read all snapshots; decide; remove one by one, as long as the lock is held; unlock.
//! A run that ends in between has removed some of them.

mod group;
mod policy;
mod span;

use jiff::Timestamp;

pub use self::{
    group::{GroupBy, GroupKey},
    policy::{Counts, Decision, Keep, KeepPolicy, Kept, apply as apply_policy},
    span::CalendarSpan,
};
use crate::{
    Cancel, Repository,
    crypto::Id,
    error::{Error, Result},
    repo::{
        Locked, Snapshot, SnapshotFilter,
        proof::{self, Proof},
        snapshots::LIMIT,
    },
};

/// What to forget.
#[derive(Debug, Clone)]
pub enum Forget {
    /// These, each the beginning of an id.
    Ids(Vec<String>),
    /// All that have one of these tags; there may be none.
    Tagged(Vec<String>),
    /// What a policy does not keep.
    Policy {
        /// The rules.
        policy: Box<KeepPolicy>,
        /// How snapshots are grouped before.
        group_by: GroupBy,
        /// Which snapshots count at all; others are left alone.
        filter: SnapshotFilter,
        /// Whether a group may lose all its snapshots.
        allow_remove_all: bool,
    },
}

/// What a policy made of one group.
#[derive(Debug, Clone)]
pub struct ForgetGroup {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// What is kept and what is not.
    pub decision: Decision,
}

/// What was forgotten, or would be.
#[derive(Debug, Clone, Default)]
pub struct ForgetReport {
    /// What the policy made of each group; empty for ids and tags.
    pub groups: Vec<ForgetGroup>,
    /// The snapshots removed.
    pub removed: Vec<Snapshot>,
    /// Ids of the snapshot files removed that could not be read.
    pub removed_unreadable: Vec<String>,
}

/// Forgets snapshots; with `dry_run` only says which. Blocks: call it on a thread of its own.
///
/// # Errors
/// `InvalidConfig` for a policy without rules; `Refused` if a group would lose all its snapshots, and that is
/// not allowed; `SnapshotNotFound`, `SnapshotAmbiguous`, `Locked`, `LockLost`, `Cancelled`, `Damaged`, and what
/// the store says.
pub fn forget(
    repo: &Repository,
    what: &Forget,
    dry_run: bool,
    cancel: &Cancel,
) -> Result<ForgetReport> {
    if let Forget::Policy { policy, .. } = what
        && policy.is_empty()
    {
        return Err(Error::InvalidConfig {
            what: "policy",
            message: "no rule says what to keep".to_owned(),
        });
    }
    let kind = if dry_run {
        Locked::Shared
    } else {
        Locked::Exclusive
    };
    let lock = repo.block_on(repo.lock(kind, cancel))?;
    let allowed = lock.checker();
    let done = decide(repo, what).and_then(|report| {
        if !dry_run {
            let ids = report.removed.iter().map(|snapshot| &snapshot.id);
            for id in ids.chain(&report.removed_unreadable) {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                allowed()?;
                repo.block_on(repo.store().delete(&format!("snapshots/{id}")))?;
            }
        }
        Ok(report)
    });
    repo.runtime().block_on(lock.release(cancel));
    done
}

fn decide(repo: &Repository, what: &Forget) -> Result<ForgetReport> {
    match what {
        Forget::Ids(ids) => {
            let mut report = ForgetReport::default();
            for id in ids {
                match repo.find_snapshot(id) {
                    Ok(snapshot) => {
                        if report.removed.iter().all(|other| other.id != snapshot.id) {
                            report.removed.push(snapshot);
                        }
                    }
                    Err(error @ (Error::Damaged { .. } | Error::ObjectTooLarge { .. })) => {
                        let id = repo.snapshot_id_in(repo.store(), id)?;
                        may_go(repo, &id, error)?;
                        let id = id.to_string();
                        if !report.removed_unreadable.contains(&id) {
                            report.removed_unreadable.push(id);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(report)
        }
        Forget::Tagged(tags) => {
            let mut removed = repo.snapshots()?;
            removed.retain(|snapshot| snapshot.tags.iter().any(|tag| tags.contains(tag)));
            Ok(ForgetReport {
                removed,
                ..ForgetReport::default()
            })
        }
        Forget::Policy {
            policy,
            group_by,
            filter,
            allow_remove_all,
        } => {
            let mut snapshots = repo.snapshots()?;
            snapshots.retain(|snapshot| filter.matches(snapshot));
            let mut report = ForgetReport::default();
            let now = Timestamp::now();
            for (key, snapshots) in group::group(snapshots, *group_by) {
                let decision = apply_policy(policy, &snapshots, now);
                if decision.keep.is_empty() && !allow_remove_all {
                    return Err(Error::Refused {
                        location: repo.location(),
                        what: "forget",
                        message: format!(
                            "it would remove all {} snapshots of {}",
                            snapshots.len(),
                            shown(&key)
                        ),
                        hint: "add a rule that keeps some, or allow that all are removed",
                    });
                }
                report.removed.extend(decision.remove.iter().cloned());
                report.groups.push(ForgetGroup { key, decision });
            }
            Ok(report)
        }
    }
}

/// Whether a snapshot file that cannot be read may be removed because somebody names it.
fn may_go(repo: &Repository, id: &Id, error: Error) -> Result<()> {
    let look = proof::look(repo, repo.store(), ("snapshots", id), LIMIT);
    match repo.block_on(look)? {
        Proof::Damaged | Proof::Ours => Ok(()),
        Proof::Gone => Err(error),
        Proof::Unknown => Err(Error::Refused {
            location: repo.location(),
            what: "forget",
            message: format!(
                "snapshot {id} cannot be read, and is as somebody wrote it: it may be one of another key"
            ),
            hint: "open the repository with the key it was made with",
        }),
    }
}

fn shown(key: &GroupKey) -> String {
    let mut parts = Vec::new();
    if !key.host.is_empty() {
        parts.push(format!("host {}", key.host.escape_debug()));
    }
    if !key.paths.is_empty() {
        parts.push(format!("paths {}", key.paths.join(", ").escape_debug()));
    }
    if !key.tags.is_empty() {
        parts.push(format!("tags {}", key.tags.join(", ").escape_debug()));
    }
    if parts.is_empty() {
        "the only group".to_owned()
    } else {
        parts.join(", ")
    }
}
