//! Open repositories, shared by the volumes that use the same one.
//!
//! A volume that comes while another works on the same repository, or a moment later, finds it
//! open: with its key derived, with the index files and snapshots that were read before in memory,
//! and with a lock that all of them are under. What a repository is opened with (store,
//! credentials, key, place) is read anew for each volume, and only a repository that was opened
//! with exactly that is shared, so changed credentials are used by the next volume.
//!
//! No volume suffers from another's error: after any that the engine reports, the next volume opens
//! the repository for itself. The lock goes a moment after the last volume that needs it, the open
//! repository a little later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ark_engine::{Cancel, Hold, OpenOptions, Repository, Secret, Store, StoreConfig};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::thread;

/// How long the lock stays when no volume uses the repository. Who needs it alone has to wait for
/// so long.
const LOCK: Duration = Duration::from_millis(500);
/// How long an open repository stays when no volume uses it.
const OPEN: Duration = Duration::from_secs(15);
/// Bytes of index files and snapshots that an open repository remembers.
const REMEMBER: u64 = 8 << 20;

/// All that decides whether an open repository is the one that is needed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// Where the location is, with its credentials.
    pub(crate) config: StoreConfig,
    /// The repository's prefix in it.
    pub(crate) prefix: String,
    /// Uid of the location's object.
    pub(crate) location_uid: String,
    /// The repository's password.
    pub(crate) key: Secret,
}

/// The open repositories of this agent.
#[derive(Default)]
pub(crate) struct Repositories {
    sessions: Mutex<Vec<Arc<Session>>>,
}

/// One open repository.
struct Session {
    access: Access,
    repository: OnceCell<(Repository, u64)>,
    use_: Mutex<Use>,
}

/// Who uses it.
struct Use {
    volumes: usize,
    since: Instant,
    hold: Option<Hold>,
}

/// One volume's use of an open repository, which ends when it is dropped.
pub(crate) struct Lease {
    repositories: Arc<Repositories>,
    session: Arc<Session>,
    runtime: tokio::runtime::Handle,
}

impl Repositories {
    fn sessions(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository, opened now unless it is open.
    pub(crate) async fn open(
        self: &Arc<Self>,
        access: Access,
        options: OpenOptions,
        stop: &CancellationToken,
    ) -> Result<Lease> {
        let runtime = tokio::runtime::Handle::current();
        let lease = {
            let mut sessions = self.sessions();
            let found = sessions.iter().find(|session| session.access == access);
            let session = found.cloned().unwrap_or_else(|| {
                let session = Arc::new(Session {
                    access,
                    repository: OnceCell::new(),
                    use_: Mutex::new(Use {
                        volumes: 0,
                        since: Instant::now(),
                        hold: None,
                    }),
                });
                sessions.push(Arc::clone(&session));
                session
            });
            session.use_().volumes += 1;
            Lease {
                repositories: Arc::clone(self),
                session,
                runtime: runtime.clone(),
            }
        };
        let access = lease.session.access.clone();
        let options = OpenOptions {
            remember: REMEMBER,
            ..options
        };
        // Whoever waits for another's attempt that fails makes one of its own.
        let opening = lease.session.repository.get_or_try_init(|| {
            thread::run("open", move || {
                let store = Store::open(&access.config)?.child(&access.prefix);
                let repository = Repository::open(store, &[access.key], options, runtime)?;
                let index = repository.index_bytes()?;
                tracing::debug!(location = repository.location(), "repository opened");
                Ok((repository, index))
            })
        });
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Cancelled),
            opened = opening => match opened {
                Ok(_) => {}
                Err(error) => return Err(lease.failed(error)),
            },
        }
        Ok(lease)
    }

    /// Lets go of what nobody uses: locks after a moment, repositories after a while.
    async fn tidy(self: &Arc<Self>) {
        let mut holds = Vec::new();
        {
            let mut sessions = self.sessions();
            sessions.retain(|session| {
                let mut used = session.use_();
                let idle = used.since.elapsed();
                if used.volumes == 0 && idle >= LOCK {
                    holds.extend(used.hold.take());
                }
                used.volumes > 0 || idle < OPEN
            });
        }
        release(holds).await;
    }

    /// Lets go of everything and waits until the locks are removed.
    pub(crate) async fn close(&self) {
        let sessions = std::mem::take(&mut *self.sessions());
        let holds = sessions
            .iter()
            .filter_map(|session| session.use_().hold.take());
        release(holds.collect()).await;
    }
}

/// Removes locks, beside each other.
async fn release(holds: Vec<Hold>) {
    let each = holds.into_iter().map(|hold| {
        thread::run("unlock", move || {
            hold.release();
            Ok(())
        })
    });
    for released in futures::future::join_all(each).await {
        if let Err(error) = released {
            tracing::warn!(%error, "a lock stays until it goes by itself");
        }
    }
}

impl Session {
    fn use_(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Bytes of the index files when the repository was opened.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.session.repository.get().map_or(0, |opened| opened.1)
    }

    /// The repository, to be looked at without a lock. Blocking calls only on a thread of its own.
    pub(crate) fn repository(&self) -> Result<&Repository> {
        let opened = self.session.repository.get();
        opened
            .map(|opened| &opened.0)
            .ok_or_else(|| Error::Bug("a repository is used before it is open".to_owned()))
    }

    /// Does something with the repository under the lock that its volumes share. Blocks: only on a
    /// thread that is no worker of a runtime.
    pub(crate) fn work<T>(
        &self,
        cancel: &Cancel,
        work: impl FnOnce(&Repository) -> Result<T>,
    ) -> Result<T> {
        let repository = self.repository()?;
        let hold = repository
            .hold(cancel)
            .map_err(|error| self.failed(error.into()))?;
        // For whoever comes next; one that was lost is replaced here.
        let before = self.session.use_().hold.replace(hold.clone());
        drop(before);
        let done = work(repository);
        drop(hold);
        done.map_err(|error| self.failed(error))
    }

    /// Passes the error on. After one that may have to do with how the repository was opened nobody
    /// else gets it.
    fn failed(&self, error: Error) -> Error {
        use ark_engine::Error as Engine;
        let known = matches!(
            error,
            Error::Engine(Engine::Cancelled | Engine::Locked { .. })
        );
        if !known && matches!(error, Error::Engine(_)) {
            let mut sessions = self.repositories.sessions();
            sessions.retain(|session| !Arc::ptr_eq(session, &self.session));
        }
        error
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut used = self.session.use_();
            used.volumes -= 1;
            if used.volumes > 0 {
                return;
            }
            used.since = Instant::now();
        }
        let repositories = Arc::clone(&self.repositories);
        drop(self.runtime.spawn(async move {
            for pause in [LOCK, OPEN] {
                tokio::time::sleep(pause).await;
                repositories.tidy().await;
            }
        }));
    }
}
