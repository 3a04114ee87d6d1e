//! Stores that misbehave on purpose, for tests of what is built on stores.
//!
//! [`Store::with_faults`](super::Store::with_faults) puts a plan before a real store: the plan sees every attempt at a
//! request and says what goes wrong with it. It lies below the limits on time and repetition, so a passing fault is
//! met by them as a real one would be. Stores without a plan do not pass through here.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{Entry, ObjectMeta, Policy, backend::Shared, retry::Request};
use crate::error::Error;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    List,
    Stat,
    Read,
    Write,
    Delete,
}

/// One attempt at a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// Counts all attempts, from 1.
    pub number: u64,
    /// What is asked.
    pub operation: Operation,
    /// The object, from the root of the store.
    pub path: &'a str,
}

/// What goes wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is not done, and may work when tried again.
    Fail,
    /// It is not done, and the store will not do it.
    Refuse,
    /// It is done, and the answer is lost.
    Lost,
    /// Of what is read or written, only the first half arrives. A broken write leaves nothing and
    /// fails; a broken read of a range fails; a whole object is handed on as if it were complete.
    Truncate,
    /// It takes so long.
    Slow(Duration),
    /// There is never an answer.
    Hang,
    /// A listing names everything twice.
    Twice,
}

/// Decides what goes wrong. Clones share the count of calls.
#[derive(Clone)]
pub struct Faults {
    decide: Arc<dyn Fn(&Call<'_>) -> Fault + Send + Sync>,
    calls: Arc<AtomicU64>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faults").field(&self.calls()).finish()
    }
}

impl Faults {
    /// A plan.
    pub fn new(decide: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static) -> Self {
        Self {
            decide: Arc::new(decide),
            calls: Arc::default(),
        }
    }

    /// Attempts so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn next(&self, operation: Operation, path: &str) -> Fault {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        (self.decide)(&Call {
            number,
            operation,
            path,
        })
    }
}

pub(super) struct Faulty {
    inner: Shared,
    faults: Faults,
}

impl Faulty {
    pub(super) fn new(inner: Shared, faults: Faults) -> Self {
        Self { inner, faults }
    }

    pub(super) fn inner(&self) -> &Shared {
        &self.inner
    }

    fn error(&self, operation: Operation, path: &str, temporary: bool) -> Error {
        let operation = match operation {
            Operation::List => "list",
            Operation::Stat => "stat",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Delete => "delete",
        };
        Error::Store {
            location: self.inner.location(""),
            operation,
            path: path.to_owned(),
            message: "a fault injected by a test".to_owned(),
            temporary,
        }
    }

    /// Makes the request, or not, and changes its answer. `half` changes the answer to a truncated
    /// one; `None`: such an attempt fails.
    fn around<T: Send + 'static>(
        &self,
        operation: Operation,
        path: &str,
        request: impl FnOnce() -> Request<'static, T>,
        change: impl FnOnce(Fault, T) -> Option<T> + Send + 'static,
    ) -> Request<'static, T> {
        let fault = self.faults.next(operation, path);
        let error = self.error(operation, path, fault != Fault::Refuse);
        let unasked = matches!(fault, Fault::Fail | Fault::Refuse)
            || (fault == Fault::Truncate && operation == Operation::Write);
        let request = (!unasked && fault != Fault::Hang).then(request);
        Box::pin(async move {
            let Some(request) = request else {
                return match fault {
                    Fault::Hang => std::future::pending().await,
                    _ => Err(error),
                };
            };
            if let Fault::Slow(time) = fault {
                tokio::time::sleep(time).await;
            }
            let answer = request.await?;
            match fault {
                Fault::Lost => Err(error),
                Fault::Truncate | Fault::Twice => change(fault, answer).ok_or(error),
                _ => Ok(answer),
            }
        })
    }

    pub(super) fn list(
        &self,
        path: &str,
        recursive: bool,
        policy: Policy,
    ) -> Request<'static, Vec<Entry>> {
        let twice = |fault, mut entries: Vec<Entry>| {
            if fault == Fault::Twice {
                entries.extend(entries.clone());
                return Some(entries);
            }
            // A page that is missing is an error of the listing.
            None
        };
        let inner = Arc::clone(&self.inner);
        let request = || inner.list(path, recursive, policy);
        self.around(Operation::List, path, request, twice)
    }

    pub(super) fn stat(&self, path: &str) -> Request<'static, Option<ObjectMeta>> {
        let request = || self.inner.stat(path);
        self.around(Operation::Stat, path, request, |_, meta| Some(meta))
    }

    pub(super) fn read(
        &self,
        path: &str,
        limit: u64,
        policy: Policy,
    ) -> Request<'static, Option<Bytes>> {
        let half = |fault, data: Option<Bytes>| {
            Some(data.map(|data| match fault {
                Fault::Truncate => data.slice(..data.len() / 2),
                _ => data,
            }))
        };
        let request = || self.inner.read(path, limit, policy);
        self.around(Operation::Read, path, request, half)
    }

    pub(super) fn read_range(
        &self,
        path: &str,
        offset: u64,
        len: u64,
        buffer: Vec<u8>,
    ) -> Request<'static, Vec<u8>> {
        let whole = |fault, data| (fault != Fault::Truncate).then_some(data);
        let request = || self.inner.read_range(path, offset, len, buffer);
        self.around(Operation::Read, path, request, whole)
    }

    pub(super) fn write(&self, path: &str, data: Bytes) -> Request<'static, ()> {
        let request = || self.inner.write(path, data);
        self.around(Operation::Write, path, request, |_, ()| Some(()))
    }

    pub(super) fn write_file(
        &self,
        path: &str,
        file: PathBuf,
        policy: Policy,
    ) -> Request<'static, ()> {
        let request = || self.inner.write_file(path, file, policy);
        self.around(Operation::Write, path, request, |_, ()| Some(()))
    }

    pub(super) fn write_if_absent(&self, path: &str, data: Bytes) -> Request<'static, bool> {
        let request = || self.inner.write_if_absent(path, data);
        self.around(Operation::Write, path, request, |_, new| Some(new))
    }

    pub(super) fn delete(&self, path: &str) -> Request<'static, ()> {
        let request = || self.inner.delete(path);
        self.around(Operation::Delete, path, request, |_, ()| Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreConfig};

    async fn with(fault: Fault) -> (Store, Store, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Local {
            root: dir.path().to_owned(),
        })
        .unwrap();
        store
            .write("there", Bytes::from_static(b"four"))
            .await
            .unwrap();
        let policy = Policy {
            attempts: 1,
            timeout: Duration::from_millis(200),
            ..Policy::default()
        };
        let faulty = store
            .with_faults(&Faults::new(move |_| fault))
            .with_policy(policy);
        (store, faulty, dir)
    }

    #[tokio::test]
    async fn each_fault_is_what_it_says() {
        let new = || Bytes::from_static(b"new");
        let (real, faulty, _dir) = with(Fault::Fail).await;
        assert!(matches!(
            faulty.write("a", new()).await,
            Err(Error::Store {
                temporary: true,
                ..
            })
        ));
        assert!(real.stat("a").await.unwrap().is_none());
        let (real, faulty, _dir) = with(Fault::Refuse).await;
        assert!(matches!(
            faulty.delete("there").await,
            Err(Error::Store {
                temporary: false,
                ..
            })
        ));
        assert!(real.stat("there").await.unwrap().is_some());
        let (real, faulty, _dir) = with(Fault::Lost).await;
        assert!(faulty.write("a", new()).await.is_err());
        assert!(real.stat("a").await.unwrap().is_some());
        let (real, faulty, _dir) = with(Fault::Truncate).await;
        assert_eq!(faulty.read("there", 9).await.unwrap().unwrap(), "fo");
        assert!(faulty.read_range("there", 0, 4).await.is_err());
        assert!(faulty.write("a", new()).await.is_err());
        assert!(real.stat("a").await.unwrap().is_none());
        let (_real, faulty, _dir) = with(Fault::Hang).await;
        assert!(matches!(
            faulty.stat("there").await,
            Err(Error::Timeout { .. })
        ));
        let (_real, faulty, _dir) = with(Fault::Twice).await;
        assert_eq!(faulty.list("").await.unwrap().len(), 1, "seen once");
        let (_real, faulty, _dir) = with(Fault::Slow(Duration::from_millis(1))).await;
        assert!(faulty.stat("there").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn calls_are_counted_and_shown() {
        let (real, _, _dir) = with(Fault::None).await;
        let faults = Faults::new(|call| {
            assert_eq!((call.operation, call.path), (Operation::Stat, "x/there"));
            if call.number == 1 {
                Fault::Fail
            } else {
                Fault::None
            }
        });
        let policy = Policy {
            first_wait: Duration::from_millis(1),
            ..Policy::default()
        };
        let store = real.child("x").with_faults(&faults).with_policy(policy);
        assert!(store.stat("there").await.unwrap().is_none());
        assert_eq!(faults.calls(), 2, "it was tried again");
    }
}
