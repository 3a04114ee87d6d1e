//! Restores: which of them are work, whose turn it is, and the run that brings one back ([`act`]).
//!
//! A reconcile is short: read, decide, write, return. The work is a run in the registry of runs,
//! which also watches for deletion and `spec.cancel`; its end is a reason to look at all restores
//! again.
//!
//! A restore
//! that is deleted stops at once; one that is cancelled keeps what it made ([`cancel`]).
//! One with an origin is a record and never executed, nor is a copy of one that was: the stamp that
//! tells ([`work`]) is written before anything is restored.

mod account;
mod act;
mod before;
mod cancel;
mod choose;
mod collisions;
mod disks;
mod earlier;
mod fill;
mod gates;
mod lacking;
mod needs;
mod plan;
mod pods;
mod report;
mod run;
mod settle;
mod source;
mod status;
mod turn;
mod validate;
mod volumes;
mod words;
mod work;
mod world;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ark_api::Restore;
use ark_api::restore::RestorePhase;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;

use self::status::{Verdict, Writer};
use self::work::Work;
use super::{ControllerOf, Reconciler};
use crate::context::Context;
use crate::copies;
use crate::error::{Error, Result};
use crate::run::queue::{self, Scope, Turn};
use crate::run::registry::Kind;
use crate::run::{Activity, Subject};

pub(crate) use self::gates::sweep as sweep_gates;

/// Longest pause between two looks at whose turn it is. The end of a run is looked at at once.
const TURN_PAUSE: Duration = Duration::from_secs(5);

/// The controller of Restores.
#[derive(Default)]
pub(crate) struct RestoreReconciler {
    /// All Restores, as the watch shows them.
    known: OnceLock<Store<DeserializeGuard<Restore>>>,
}

impl Reconciler for RestoreReconciler {
    type Kind = Restore;

    fn phase_of(restore: &Restore) -> Option<String> {
        let phase = restore.status.as_ref().and_then(|status| status.phase);
        Some(format!("{:?}", phase.unwrap_or_default()))
    }

    async fn reconcile(&self, object: &Restore, context: &Arc<Context>) -> Result<Action> {
        if work::of(object) == Work::None {
            return Ok(Action::await_change());
        }
        match context.runs.activity(&object.uid().unwrap_or_default()) {
            Activity::Running => return Ok(Action::await_change()),
            Activity::Resting(left) => return Ok(Action::requeue(left)),
            Activity::None => {}
        }
        let name = object.name_any();
        // What was handed over may be a moment old, and a restore must not run twice.
        let found = context
            .api::<Restore>()
            .get_opt(&name)
            .await
            .map_err(Error::kube(format!("get Restore {name}")))?;
        let Some(restore) = found else {
            return Ok(Action::await_change());
        };
        match work::of(&restore) {
            Work::None => return Ok(Action::await_change()),
            Work::Stamp => {
                copies::stamp(&context.api(), &restore).await?;
                return Ok(Action::await_change());
            }
            Work::Start => {
                if copies::mark_copy(context, &restore, status::copy).await? {
                    return Ok(Action::await_change());
                }
            }
            Work::GoOn => {}
        }
        if restore.spec.cancel == Some(true) && !has_begun(&restore) {
            let what = "cancelled before it began; nothing was restored";
            act::end(context, &restore, &Verdict::cancelled(None, what)).await?;
            return Ok(Action::await_change());
        }
        if let Err(errors) = validate::check(&restore.spec)
            && !has_begun(&restore)
        {
            act::end(context, &restore, &Verdict::invalid(errors)).await?;
            return Ok(Action::await_change());
        }
        let backup = turn::backup(context, &restore).await?;
        if let Some(why) = turn::waits_for(&restore, backup.as_ref()) {
            Writer::new(context, &restore).queue(&why).await?;
            return Ok(Action::requeue(TURN_PAUSE));
        }
        let scope = turn::scope(&restore.spec, backup.as_ref());
        let deciding = context.runs.decide().await;
        if let Turn::Wait { why, .. } = self.turn(context, &restore, scope.clone()) {
            drop(deciding);
            Writer::new(context, &restore).queue(&why).await?;
            return Ok(Action::requeue(TURN_PAUSE));
        }
        let subject = Subject {
            kind: Kind::Restore,
            name,
            uid: restore.uid().unwrap_or_default(),
            scope,
        };
        let shared = Arc::clone(context);
        context.runs.start(subject, move |stop| async move {
            Box::pin(act::act(&shared, &restore, &stop)).await
        });
        Ok(Action::await_change())
    }

    fn triggers(
        &self,
        controller: ControllerOf<Restore>,
        context: &Context,
    ) -> ControllerOf<Restore> {
        // Set once: a controller is started once.
        drop(self.known.set(controller.store()));
        controller.reconcile_all_on(context.runs.changes())
    }
}

impl RestoreReconciler {
    /// The turn of `restore` among all there are.
    fn turn(&self, context: &Context, restore: &Restore, scope: Scope) -> Turn {
        if has_begun(restore) {
            return Turn::Now;
        }
        let known = self.known.get().map(Store::state).unwrap_or_default();
        let known = known.iter().filter_map(|restore| restore.0.as_ref().ok());
        let running = context.runs.running(Kind::Restore);
        let work = turn::work(restore, scope, known, &running);
        let uid = restore.uid().unwrap_or_default();
        queue::turn(&work, &uid, usize::MAX, "restore")
    }
}

/// The phase a Restore is in.
fn phase(restore: &Restore) -> RestorePhase {
    let status = restore.status.as_ref();
    status.and_then(|status| status.phase).unwrap_or_default()
}

/// Whether a run of it has begun, perhaps in an earlier process.
fn has_begun(restore: &Restore) -> bool {
    !matches!(phase(restore), RestorePhase::New | RestorePhase::Copy)
}
