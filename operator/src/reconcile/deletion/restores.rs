//! Controller that deletes restores for which that was asked by an annotation: the log and results
//! in the bucket first, then the object. A restore that has not ended is waited for; so is a
//! location that is away, unless the annotation says `force`. What was restored is left as it is.

use std::sync::Arc;

use ark_api::{Restore, annotation};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::{bucket, work};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::reconcile::Reconciler;
use crate::store;

/// The controller.
#[derive(Debug, Default)]
pub(crate) struct RestoreDeletionReconciler;

/// How a restore is to be deleted, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Not, or not yet.
    None,
    /// With what it stored.
    Whole,
    /// With what it stored, as far as that can be.
    Force,
}

fn wish(restore: &Restore) -> Wish {
    let phase = restore.status.as_ref().and_then(|status| status.phase);
    let ended = restore.spec.origin.is_some() || phase.unwrap_or_default().is_terminal();
    if !ended || restore.metadata.deletion_timestamp.is_some() {
        return Wish::None;
    }
    match restore
        .annotations()
        .get(annotation::DELETE)
        .map(String::as_str)
    {
        None => Wish::None,
        Some(annotation::DELETE_FORCE) => Wish::Force,
        Some(_) => Wish::Whole,
    }
}

impl Reconciler for RestoreDeletionReconciler {
    type Kind = Restore;

    async fn reconcile(&self, object: &Restore, context: &Arc<Context>) -> Result<Action> {
        let wish = wish(object);
        if wish == Wish::None {
            return Ok(Action::await_change());
        }
        match (remove_stored(context, object).await, wish) {
            (Ok(()), _) => {}
            (Err(Error::Stopping), _) => return Err(Error::Stopping),
            (Err(error), Wish::Force) => {
                tracing::warn!(restore = object.name_any(), %error, "its log and results stay");
            }
            (Err(error), _) => return Err(error),
        }
        work::delete_object(context, object).await?;
        tracing::info!(restore = object.name_any(), "restore deleted");
        Ok(Action::await_change())
    }
}

async fn remove_stored(context: &Context, restore: &Restore) -> Result<()> {
    let location = restore
        .status
        .as_ref()
        .and_then(|status| status.backup_location.as_deref());
    let Some(location) = location else {
        // It was refused before anything was stored.
        return Ok(());
    };
    let location = store::connect(context, location).await?;
    // Nothing was stored where nothing may be written.
    if location.read_only() {
        return Ok(());
    }
    let location = store::open_available(context, &location.name()).await?;
    bucket::remove_restore(&location.store, &context.cluster, restore).await
}

#[cfg(test)]
mod tests {
    use ark_api::restore::{RestorePhase, RestoreStatus};

    use super::*;

    #[test]
    fn only_what_was_asked_for_and_has_ended_is_deleted() {
        let restore = |phase, value: Option<&str>| {
            let mut restore = Restore::new("r", ark_api::restore::RestoreSpec::default());
            restore.status = Some(RestoreStatus {
                phase,
                ..RestoreStatus::default()
            });
            if let Some(value) = value {
                restore
                    .annotations_mut()
                    .insert(annotation::DELETE.to_owned(), value.to_owned());
            }
            wish(&restore)
        };
        let ended = Some(RestorePhase::Completed);
        assert_eq!(restore(ended, None), Wish::None);
        assert_eq!(restore(ended, Some("true")), Wish::Whole);
        assert_eq!(restore(ended, Some("force")), Wish::Force);
        assert_eq!(
            restore(Some(RestorePhase::InProgress), Some("force")),
            Wish::None
        );
        assert_eq!(restore(None, Some("true")), Wish::None);
    }
}
