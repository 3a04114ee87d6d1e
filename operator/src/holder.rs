//! The operator as the holder of repository locks, and which locks of other operators are dead.
//!
//! A holder's name is `ark-operator.<pod>@<start>.<location uid>`, as agents' names are formed; the
//! start of the process is in seconds. Only the operator that leads works on repositories, and it
//! ends when it no longer leads. A lock at one of this cluster's locations under the name of
//! another operator, or of an earlier process of this pod, is therefore that of a process that has
//! ended. The uid of the location keeps operators of other clusters out, which share the bucket and
//! not the lease.

use std::sync::{Arc, LazyLock};

use ark_api::lock_holder::{LockHolder, OPERATOR};
use ark_engine::{Holder, HolderLiveness, OpenOptions};
use kube::ResourceExt as _;

use crate::context::Context;
use crate::store::OpenLocation;

/// When this process started, in seconds.
static STARTED: LazyLock<i64> = LazyLock::new(|| jiff::Timestamp::now().as_second());

/// How the leading operator opens a repository at `location` to work on it under a lock.
pub(crate) fn options(context: &Context, location: &OpenLocation) -> OpenOptions {
    let uid = location.location.uid().unwrap_or_default();
    let own = LockHolder {
        component: OPERATOR,
        pod: &context.settings.pod,
        started: Some(*STARTED),
    };
    let own = own.name(&uid);
    OpenOptions {
        holder: Holder {
            host_name: own.clone(),
            user_name: "ark".to_owned(),
            pid: std::process::id(),
        },
        liveness: (!uid.is_empty()).then(|| Arc::new(Leader { own, uid }) as _),
        ..OpenOptions::default()
    }
}

/// What the leader knows of other operators.
struct Leader {
    own: String,
    uid: String,
}

impl HolderLiveness for Leader {
    fn is_alive(&self, host_name: &str) -> Option<bool> {
        let holder = LockHolder::parse(host_name, &self.uid)?;
        (holder.component == OPERATOR).then_some(host_name == self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_that_no_longer_lead_are_dead_and_nobody_else_is_judged() {
        let leader = Leader {
            own: "ark-operator.a@7.u1".to_owned(),
            uid: "u1".to_owned(),
        };
        for (name, alive) in [
            ("ark-operator.a@7.u1", Some(true)),
            ("ark-operator.a@6.u1", Some(false)),
            ("ark-operator.b@9.u1", Some(false)),
            ("ark-operator.b@9.u2", None),
            ("ark-agent.b@9.u1", None),
            ("laptop", None),
        ] {
            assert_eq!(leader.is_alive(name), alive, "{name}");
        }
    }
}
