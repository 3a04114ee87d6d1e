//! Removing locks whose holders are gone, when somebody asks for it.
//!
//! A lock goes if its holder is known to be dead, if it was not refreshed for half an hour by the **store's
//! clock**, if it names this machine and a process that does not exist, or if its file is damaged for certain and stays so. To learn the store's clock a lock file of our own
//! is written and removed again. With `all` every lock goes: only for who knows that nobody works on the repository.

use std::time::Duration;

use rustix::process::Pid;

use super::{
    Locked, held,
    judge::{LIMIT, Verdict},
    path,
};
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::lock::Lock,
    host::host_name,
    repo::{Repository, proof},
};

/// A lock file has a few hundred bytes; whoever writes one without a rename has written all of it
/// within this time.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

impl Repository {
    /// Removes stale locks, or all, and returns how many. Blocks; see the module of [`Repository`].
    ///
    /// # Errors
    /// `Cancelled`, and what the store says.
    pub fn unlock(&self, all: bool, cancel: &Cancel) -> Result<u64> {
        self.block_on(async {
            // Without anything to judge nothing is written.
            if self.store().list("locks").await?.is_empty() {
                return Ok(0);
            }
            let (probe, sealed) = self.new_lock(Locked::Shared)?;
            held().insert(probe);
            let done = match self.store().write(&path(probe), sealed.into()).await {
                Ok(()) => self.remove_locks(probe, all, cancel).await,
                Err(error) => Err(error),
            };
            let removed = self.store().delete(&path(probe)).await;
            held().remove(&probe);
            done.and_then(|count| removed.map(|()| count))
        })
    }

    async fn remove_locks(&self, probe: Id, all: bool, cancel: &Cancel) -> Result<u64> {
        let entries = self.store().list("locks").await?;
        let named = |id: Id| entries.iter().find(|entry| entry.name == id.to_string());
        let now = named(probe).and_then(|entry| entry.modified);
        let host = host_name();
        let mut removed = 0;
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let Some(id) = Id::parse(&entry.name).filter(|id| *id != probe) else {
                continue;
            };
            if !all {
                let read = self.read_lock(self.store(), id).await?;
                let lock = read.as_ref().and_then(|lock| lock.as_ref().ok());
                let dead = matches!(self.judge(id, entry, lock, now), Verdict::Dead)
                    || match lock {
                        Some(lock) => {
                            self.is_predecessors(id, lock)
                                || is_of_dead_process(lock, host.as_deref())
                        }
                        None => self.stays_damaged(id).await?,
                    };
                if !dead {
                    continue;
                }
            }
            self.store().delete(&path(id)).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Whether a lock file is damaged for certain, and not one that is just being written.
    async fn stays_damaged(&self, id: Id) -> Result<bool> {
        for last in [false, true] {
            match proof::look(self, self.store(), ("locks", &id), LIMIT).await {
                Ok(look) if !look.is_damage() => return Ok(false),
                // It became longer while it was read.
                Err(Error::Store {
                    temporary: true, ..
                }) => return Ok(false),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
            if !last {
                tokio::time::sleep(WRITTEN_WITHIN).await;
            }
        }
        Ok(true)
    }
}

/// Whether a lock names this machine and a process that does not exist.
fn is_of_dead_process(lock: &Lock, this_host: Option<&str>) -> bool {
    let pid = i32::try_from(lock.pid).ok().filter(|pid| *pid > 0);
    let pid = pid.and_then(Pid::from_raw);
    // A lock that names no process could be anybody's.
    let (Some(host), Some(pid)) = (this_host, pid) else {
        return false;
    };
    let gone = || rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    host == lock.hostname && gone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(hostname: &str, pid: i64) -> Lock {
        Lock {
            time: String::new(),
            exclusive: true,
            hostname: hostname.to_owned(),
            username: String::new(),
            pid,
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn only_a_process_of_this_machine_can_be_seen_to_be_dead() {
        let own = i64::from(std::process::id());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = i64::from(child.id());
        child.wait().unwrap();
        assert!(is_of_dead_process(&lock("here", dead), Some("here")));
        assert!(!is_of_dead_process(&lock("here", own), Some("here")));
        assert!(!is_of_dead_process(&lock("there", dead), Some("here")));
        assert!(!is_of_dead_process(&lock("here", dead), None));
        for pid in [0, -1, i64::MAX] {
            assert!(!is_of_dead_process(&lock("here", pid), Some("here")));
        }
    }
}
