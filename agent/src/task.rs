//! One volume object from the first look at it to its last status.
//!
//! The story, the same for backups and restores: read the object anew; wait for what must be true
//! before (a gate); wait for a slot, with its place in the status; count the attempt in the status,
//! with the time of the first one, from which deadlines count; transfer on a thread of its own,
//! saying how far it is; after a passing error wait and try again, a bounded number of times; while
//! something is locked wait as long as it takes, visibly; conclude; write how it ended.
//!
//! When the process ends, the object is left as it is, and whoever starts next takes it up again: a
//! status says `InProgress` and nobody works on it. When the object is gone, nobody is told.

use std::sync::Arc;
use std::time::Duration;

use ark_api::condition::reason;
use ark_engine::{Cancel, Class, Progress};
use kube::ResourceExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Running};
use crate::error::{Error, Result};
use crate::object::{VolumeObject, VolumeStatus as _};
use crate::queue::{Slot, Weight};
use crate::report::Finish;
use crate::reporter::Reporter;
use crate::{thread, writes};

/// Starts of one object after which it is given up: each ended in a passing error or with the
/// agent.
const MAX_ATTEMPTS: i32 = 10;
/// How long finding out how large a volume is may take; what is not known by then is large.
const WEIGH: Duration = Duration::from_secs(10);
/// A slot that is free by then is waited for without a word.
const SOON: Duration = Duration::from_secs(1);
/// Time between two looks at the place in the queue.
const PLACE: Duration = Duration::from_secs(15);
/// First and longest wait after a passing error.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));
/// First and longest wait for somebody else's lock.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Work on one object.
pub(crate) struct Task<K: VolumeObject> {
    pub(crate) ctx: Arc<Context>,
    pub(crate) object: K,
    pub(crate) reporter: Reporter<K>,
    /// Ends the work, for whatever reason.
    pub(crate) stop: CancellationToken,
    gone: CancellationToken,
}

/// Starts the work on `object`, unless it is none of ours, done, or under way. A wish to cancel is
/// passed on.
pub(crate) fn consider<K: VolumeObject>(ctx: &Arc<Context>, object: &K) {
    let (Some(name), Some(uid)) = (object.meta().name.clone(), object.meta().uid.clone()) else {
        return;
    };
    if !is_ours(ctx, object) {
        return;
    }
    let Some(entry) = ctx.begin(K::KIND, &uid) else {
        if object.cancel() {
            ctx.cancel(&uid);
        }
        return;
    };
    let context = Arc::clone(ctx);
    ctx.tracker.spawn(async move {
        run::<K>(&context, &name, &uid, entry.running.clone()).await;
        drop(entry);
    });
}

/// Whether the object orders work of this node that is not done. One that came from elsewhere never
/// orders anything.
fn is_ours<K: VolumeObject>(ctx: &Context, object: &K) -> bool {
    object.origin().is_none()
        && object.node() == ctx.settings.node
        && object.meta().deletion_timestamp.is_none()
        && !object.status().is_some_and(|s| s.phase().is_terminal())
}

async fn run<K: VolumeObject>(ctx: &Arc<Context>, name: &str, uid: &str, running: Running) {
    let object = match reread::<K>(ctx, name, uid, &running.stop).await {
        Some(object) if is_ours(ctx, &object) => object,
        _ => return,
    };
    if object.cancel() {
        running.stop.cancel();
    }
    let writes = Arc::clone(&ctx.writes);
    let reporter = Reporter::new(ctx.own::<K>(), &object, writes, ctx.shutdown.clone());
    let mut task = Task {
        ctx: Arc::clone(ctx),
        object,
        reporter,
        stop: running.stop,
        gone: running.gone,
    };
    match task.drive().await {
        Ok(finish) => task.log(&finish),
        Err(Error::ObjectGone) => tracing::info!(kind = K::KIND, name, "deleted while at work"),
        Err(Error::Cancelled) => {
            tracing::info!(
                kind = K::KIND,
                name,
                "left where it is; the next start takes it up"
            );
        }
        Err(error) => tracing::error!(kind = K::KIND, name, "{}", error.told()),
    }
}

/// The object as it is now. What started this task may be a moment old, from before the end of an
/// earlier task.
async fn reread<K: VolumeObject>(
    ctx: &Context,
    name: &str,
    uid: &str,
    stop: &CancellationToken,
) -> Option<K> {
    let api = ctx.own::<K>();
    let mut pause = BACKOFF.0;
    loop {
        match api.get_opt(name).await {
            Ok(found) => return found.filter(|o| o.meta().uid.as_deref() == Some(uid)),
            Err(error) => {
                tracing::warn!(kind = K::KIND, name, %error, "cannot read the object; trying again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
        }
    }
}

impl<K: VolumeObject> Task<K> {
    /// `namespace/pod/volume`, for logs.
    fn what(&self) -> String {
        let pod = self.object.pod();
        format!("{}/{}/{}", pod.namespace, pod.name, self.object.volume())
    }

    /// Whether the work ends without an outcome: the process stops, or nobody is left to tell.
    fn left(&self) -> Option<Error> {
        if self.gone.is_cancelled() {
            Some(Error::ObjectGone)
        } else if self.ctx.shutdown.is_cancelled() {
            Some(Error::Cancelled)
        } else {
            None
        }
    }

    async fn drive(&mut self) -> Result<Finish> {
        let mut finish = match self.attempts().await {
            Ok(finish) => finish,
            Err(error) => self.outcome(error)?,
        };
        if let Err(error) = K::conclude(self, &mut finish).await {
            finish = self.outcome(error)?;
        }
        self.reporter.finished(&finish).await?;
        Ok(finish)
    }

    /// How the work ends with `error`, unless it only stops for now.
    fn outcome(&self, error: Error) -> Result<Finish> {
        match (self.left(), error) {
            (Some(left), _) => Err(left),
            (None, Error::ObjectGone) => Err(Error::ObjectGone),
            // Requests fail in their own ways when they are cut short.
            (None, _) if self.stop.is_cancelled() => Ok(Finish::of_error(&Error::Cancelled)),
            (None, error) => Ok(Finish::of_error(&error)),
        }
    }

    async fn attempts(&mut self) -> Result<Finish> {
        let (mut backoff, mut poll) = (BACKOFF.0, POLL.0);
        loop {
            let error = match self.attempt().await {
                Ok(finish) => return Ok(finish),
                Err(error) => error,
            };
            if self.stop.is_cancelled() {
                return Err(error);
            }
            let attempt = self.reporter.status.attempt();
            let pause = match error.class() {
                Class::Transient if attempt < MAX_ATTEMPTS => {
                    let pause = backoff;
                    backoff = (backoff * 2).min(BACKOFF.1);
                    let message = format!(
                        "attempt {attempt} of {MAX_ATTEMPTS} failed, the next is in {} s: {}",
                        pause.as_secs(),
                        error.told()
                    );
                    self.reporter.waiting(reason::RETRYING, &message).await?;
                    K::metrics(&self.ctx.metrics).retry();
                    pause
                }
                Class::Waiting => {
                    let pause = poll;
                    poll = (poll * 2).min(POLL.1);
                    // It was no attempt: nothing failed.
                    *self.reporter.status.common().attempt = Some(attempt - 1).filter(|n| *n > 0);
                    self.reporter.waiting(error.reason(), &error.told()).await?;
                    pause
                }
                _ => return Err(error),
            };
            tracing::warn!(
                kind = K::KIND,
                name = self.object.name_any(),
                volume = self.what(),
                reason = error.reason(),
                "{error}"
            );
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn attempt(&mut self) -> Result<Finish> {
        if self.stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // Without the pods of this node nothing can be told about its directories.
        tokio::select! {
            () = self.stop.cancelled() => return Err(Error::Cancelled),
            ready = self.ctx.pods.ready() => if !ready {
                return Err(Error::Bug("the watch of this node's pods ended".to_owned()));
            },
        }
        if let Some(finish) = K::prepare(self).await? {
            return Ok(finish);
        }
        let _slot = self.slot().await?;
        let before = self.reporter.status.attempt();
        if before >= MAX_ATTEMPTS {
            let last = self.reporter.status.common().message.clone();
            let last = last.unwrap_or_else(|| "it was in progress when the agent ended".to_owned());
            return Err(Error::TooManyAttempts(before, last));
        }
        self.reporter.started(before + 1).await?;
        tracing::info!(
            kind = K::KIND,
            name = self.object.name_any(),
            volume = self.what(),
            attempt = before + 1,
            "started"
        );
        K::transfer(self).await
    }

    /// Waits for a slot, in turn, and says so when it takes long.
    async fn slot(&mut self) -> Result<Slot> {
        let weight = self.weight().await?;
        let mut place = self.ctx.queue.place(weight);
        let mut patience = SOON;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::Cancelled),
                slot = place.slot() => return slot,
                () = tokio::time::sleep(patience) => patience = self.reporter.tell_every(PLACE),
            }
            self.reporter.queued(&place.words()).await?;
        }
    }

    /// How much of a slot's means the volume takes. What cannot be found out now is large; the
    /// transfer says why.
    async fn weight(&mut self) -> Result<Weight> {
        let stop = self.stop.clone();
        let weighed = tokio::select! {
            () = stop.cancelled() => return Err(Error::Cancelled),
            weighed = tokio::time::timeout(WEIGH, K::weigh(self)) => weighed,
        };
        Ok(match weighed {
            Ok(Ok(weight)) => weight,
            Ok(Err(error)) => {
                tracing::debug!(kind = K::KIND, name = self.object.name_any(), %error, "its size is not known");
                Weight::Large
            }
            Err(_elapsed) => Weight::Large,
        })
    }

    /// Runs `work` on a thread of its own and says how far it is meanwhile.
    pub(crate) async fn on_thread<T: Send + 'static>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Progress, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let progress = Progress::new();
        let (counters, stop) = (progress.clone(), self.stop.clone());
        let mut result = std::pin::pin!(thread::run(name, move || work(&counters, &stop)));
        let begun = Instant::now();
        let mut canceling = false;
        let result = loop {
            let pause = self.reporter.tell_every(writes::pause(begun.elapsed()));
            tokio::select! {
                biased;
                result = &mut result => break result,
                () = self.stop.cancelled(), if !canceling => {
                    canceling = true;
                    if self.left().is_none() && self.reporter.canceling().await.is_err() {
                        self.gone.cancel();
                    }
                }
                () = tokio::time::sleep(pause), if !canceling => {
                    if let Err(Error::ObjectGone) = self.reporter.progress(progress.snapshot()).await {
                        self.gone.cancel();
                        self.stop.cancel();
                    }
                }
            }
        };
        let counts = progress.snapshot();
        self.reporter.note(counts);
        K::metrics(&self.ctx.metrics).bytes(counts.bytes_done);
        result
    }

    fn log(&self, finish: &Finish) {
        K::metrics(&self.ctx.metrics).finished(finish.phase);
        tracing::info!(
            kind = K::KIND,
            name = self.object.name_any(),
            volume = self.what(),
            phase = ?finish.phase,
            reason = finish.reason,
            message = finish.message.as_deref().unwrap_or_default(),
            "ended"
        );
    }
}
