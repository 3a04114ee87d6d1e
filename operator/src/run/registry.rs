//! The registry of runs: one owner, one way to start, watch, cancel and count them.
//!
//! At most one run of an object exists at a time. A run that ends with an error rests for a while, longer after
//! each failure, and whoever reconciles the object then starts it again. Each start and end is a change that
//! [`Registry::changes`] tells, so that objects that wait for a run are judged again. A run that panics counts as
//! one that failed. Nothing here is written anywhere.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::queue::Scope;
use super::stop::Stop;
use crate::error::{Class, Error, Result};
use crate::metrics::{self, Metrics};

/// How long a run rests after its first failure.
const FIRST_REST: Duration = Duration::from_secs(1);
/// How long it rests at most.
const LAST_REST: Duration = Duration::from_mins(2);

/// Kind of the object that a run works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A Backup.
    Backup,
    /// A Restore.
    Restore,
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "Backup",
            Self::Restore => "Restore",
        })
    }
}

/// What a run works on.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Kind of the object.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Namespaces it works in.
    pub(crate) scope: Scope,
}

/// What an object's run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// There is none.
    None,
    /// It runs.
    Running,
    /// It failed, and may be started again after this time.
    Resting(Duration),
}

/// All runs of the process. Clones are the same registry.
#[derive(Clone)]
pub(crate) struct Registry(Arc<Shared>);

struct Shared {
    /// By uid of the object.
    runs: Mutex<HashMap<String, Entry>>,
    tasks: TaskTracker,
    changed: watch::Sender<u64>,
    /// Held while it is decided whose turn it is.
    deciding: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
    metrics: Metrics,
}

struct Entry {
    subject: Subject,
    failures: u32,
    /// Why the last run of the object failed.
    cause: Option<String>,
    state: State,
}

enum State {
    Running(Stop),
    /// It failed, and may be started again then.
    Resting(Instant),
}

impl Registry {
    /// An empty registry whose runs end when `shutdown` is cancelled.
    pub(crate) fn new(shutdown: CancellationToken, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            runs: Mutex::default(),
            tasks: TaskTracker::new(),
            changed: watch::Sender::new(0),
            deciding: tokio::sync::Mutex::default(),
            shutdown,
            metrics,
        }))
    }

    /// Starts a run, unless one of that object is there already or the process stops.
    pub(crate) fn start<F, W>(&self, subject: Subject, work: F)
    where
        F: FnOnce(Stop) -> W,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let stop = Stop::new(&self.0.shutdown);
        {
            let mut runs = self.0.runs();
            let before = runs.get(&subject.uid);
            let running = before.is_some_and(|entry| matches!(entry.state, State::Running(_)));
            if running || stop.now.is_cancelled() {
                return;
            }
            let (failures, cause) =
                before.map_or((0, None), |entry| (entry.failures, entry.cause.clone()));
            let entry = Entry {
                subject: subject.clone(),
                failures,
                cause,
                state: State::Running(stop.clone()),
            };
            runs.insert(subject.uid.clone(), entry);
        }
        self.0.gauge(subject.kind).inc();
        self.0.tell();
        // Ends the entry also if the work panics.
        let mut ending = Ending {
            shared: Arc::clone(&self.0),
            subject,
            result: Some(Err(Error::Bug("a run ended without a word".to_owned()))),
        };
        let work = work(stop);
        self.0.tasks.spawn(async move {
            ending.result = Some(work.await);
            drop(ending);
        });
    }

    /// What the run of the object with this uid does.
    pub(crate) fn activity(&self, uid: &str) -> Activity {
        match self.0.runs().get(uid).map(|entry| &entry.state) {
            None => Activity::None,
            Some(State::Running(_)) => Activity::Running,
            Some(State::Resting(until)) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    Activity::None
                } else {
                    Activity::Resting(left)
                }
            }
        }
    }

    /// Why the last run of the object failed, if this process knows.
    pub(crate) fn cause(&self, uid: &str) -> Option<String> {
        self.0.runs().get(uid)?.cause.clone()
    }

    /// What runs, of one kind.
    pub(crate) fn running(&self, kind: Kind) -> Vec<Subject> {
        self.0
            .runs()
            .values()
            .filter(|entry| entry.subject.kind == kind)
            .filter(|entry| matches!(entry.state, State::Running(_)))
            .map(|entry| entry.subject.clone())
            .collect()
    }

    /// The object with this uid is gone, or going: its run ends.
    pub(crate) fn delete(&self, uid: &str) {
        let mut runs = self.0.runs();
        match runs.get(uid).map(|entry| &entry.state) {
            Some(State::Running(stop)) => stop.delete(),
            Some(State::Resting(..)) => {
                runs.remove(uid);
            }
            None => {}
        }
    }

    /// The user wants the run of the object with this uid to end.
    pub(crate) fn cancel(&self, uid: &str) {
        if let Some(Entry {
            state: State::Running(stop),
            ..
        }) = self.0.runs().get(uid)
        {
            stop.wish.cancel();
        }
    }

    /// Held while it is decided whose turn it is, so that no two objects take one turn.
    pub(crate) async fn decide(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.deciding.lock().await
    }

    /// One item for each time that runs started or ended.
    pub(crate) fn changes(&self) -> impl Stream<Item = ()> + Send + 'static {
        let changed = self.0.changed.subscribe();
        futures::stream::unfold(changed, |mut changed| async move {
            changed.changed().await.ok()?;
            Some(((), changed))
        })
    }

    /// Waits until no run is left. None may be started meanwhile.
    pub(crate) async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Shared {
    fn runs(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauge(&self, kind: Kind) -> prometheus_client::metrics::gauge::Gauge {
        let kind = kind.to_string();
        let labels = metrics::Controller { kind };
        self.metrics.runs.get_or_create(&labels).clone()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Ends a run's entry when it is dropped.
struct Ending {
    shared: Arc<Shared>,
    subject: Subject,
    result: Option<Result<()>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Subject {
            kind, name, uid, ..
        } = &self.subject;
        {
            let mut runs = self.shared.runs();
            match self.result.take() {
                None | Some(Ok(()) | Err(Error::Stopping)) => {
                    runs.remove(uid);
                }
                Some(Err(error)) => {
                    let Some(entry) = runs.get_mut(uid) else {
                        return;
                    };
                    if matches!(&entry.state, State::Running(stop) if stop.is_deleted()) {
                        tracing::debug!(%kind, name, %error, "the run of a deleted object ended");
                        runs.remove(uid);
                    } else {
                        entry.failures += 1;
                        let rest = rest(entry.failures);
                        self.shared.log(*kind, name, &error, rest);
                        entry.cause = Some(error.sentence());
                        entry.state = State::Resting(Instant::now() + rest);
                    }
                }
            }
        }
        self.shared.gauge(*kind).dec();
        self.shared.tell();
    }
}

impl Shared {
    fn log(&self, kind: Kind, name: &str, error: &Error, rest: Duration) {
        let labels = metrics::Controller {
            kind: kind.to_string(),
        };
        self.metrics.reconcile_errors.get_or_create(&labels).inc();
        let (seconds, hint) = (rest.as_secs(), error.hint());
        if error.class() == Class::Bug {
            tracing::error!(%kind, name, %error, hint, seconds, "internal error; tried again");
        } else {
            tracing::warn!(%kind, name, %error, hint, seconds, "the run failed; tried again");
        }
    }
}

/// How long a run rests after its `failures`th failure in a row.
fn rest(failures: u32) -> Duration {
    FIRST_REST
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LAST_REST)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn subject(uid: &str) -> Subject {
        Subject {
            kind: Kind::Backup,
            name: uid.to_owned(),
            uid: uid.to_owned(),
            scope: Scope::All,
        }
    }

    fn registry() -> (Registry, CancellationToken) {
        let shutdown = CancellationToken::new();
        (Registry::new(shutdown.clone(), Metrics::new()), shutdown)
    }

    #[tokio::test]
    async fn an_object_has_one_run_and_its_end_is_told() {
        let (registry, _shutdown) = registry();
        let mut changes = registry.changes().boxed();
        registry.start(subject("a"), |stop| async move {
            stop.wish.cancelled().await;
            Ok(())
        });
        registry.start(subject("a"), |_| async { panic!("a second run") });
        assert_eq!(registry.activity("a"), Activity::Running);
        assert_eq!(registry.running(Kind::Backup).len(), 1);
        assert!(registry.running(Kind::Restore).is_empty());
        registry.cancel("a");
        registry.drained().await;
        assert_eq!(changes.next().await, Some(()));
        assert_eq!(registry.activity("a"), Activity::None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_run_rests_and_longer_each_time() {
        let (registry, _shutdown) = registry();
        for seconds in [1, 2, 4] {
            let told = registry.clone();
            registry.start(subject("a"), |_| async move {
                // The next run can say why the one before it failed.
                assert_eq!(told.cause("a").is_some(), seconds > 1);
                Err(Error::Waiting("the moon".to_owned()))
            });
            while registry.activity("a") == Activity::Running {
                tokio::task::yield_now().await;
            }
            let want = Activity::Resting(Duration::from_secs(seconds));
            assert_eq!(registry.activity("a"), want);
            assert!(registry.cause("a").unwrap().contains("the moon"));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(registry.activity("a"), Activity::None);
        }
    }

    #[tokio::test]
    async fn a_run_that_panics_ends_like_one_that_failed() {
        let (registry, _shutdown) = registry();
        registry.start(subject("a"), |_| async { panic!("on purpose") });
        registry.drained().await;
        assert!(matches!(registry.activity("a"), Activity::Resting(_)));
    }

    #[tokio::test]
    async fn a_deleted_object_and_a_shutdown_end_runs_and_leave_nothing() {
        let (registry, shutdown) = registry();
        for uid in ["a", "b"] {
            registry.start(subject(uid), |stop| async move {
                stop.now.cancelled().await;
                Err(if stop.is_deleted() {
                    Error::Waiting("its object was deleted".to_owned())
                } else {
                    Error::Stopping
                })
            });
        }
        registry.delete("a");
        shutdown.cancel();
        registry.drained().await;
        for uid in ["a", "b"] {
            assert_eq!(registry.activity(uid), Activity::None, "{uid}");
        }
        registry.start(subject("c"), |_| async { panic!("started after the end") });
        assert_eq!(registry.activity("c"), Activity::None);
    }
}
