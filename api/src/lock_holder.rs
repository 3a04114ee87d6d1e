//! The names under which Ark's processes hold locks of repositories.
//!
//! A name is `<component>.<pod>@<start>.<location uid>`: the start of the process in seconds of
//! Unix time (locks of earlier releases name none), and the uid of the location in the cluster that
//! the process belongs to, since clusters that share a bucket know nothing of each other's pods.

/// Component of an agent.
pub const AGENT: &str = "ark-agent";
/// Component of an operator.
pub const OPERATOR: &str = "ark-operator";

/// A process that holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder<'a> {
    /// [`AGENT`] or [`OPERATOR`].
    pub component: &'a str,
    /// Name of its pod.
    pub pod: &'a str,
    /// Start of the process, in seconds of Unix time.
    pub started: Option<i64>,
}

impl<'a> LockHolder<'a> {
    /// The holder's name at the location with this uid.
    pub fn name(&self, location_uid: &str) -> String {
        let Self { component, pod, .. } = self;
        let start = self.started.map(|at| format!("@{at}")).unwrap_or_default();
        format!("{component}.{pod}{start}.{location_uid}")
    }

    /// Who is behind a name. `None` for every name that is not one of Ark's processes at the
    /// location with this uid, also for one that nobody knows to be a pod's.
    pub fn parse(name: &'a str, location_uid: &str) -> Option<Self> {
        let (component, rest) = name.split_once('.')?;
        let process = rest.strip_suffix(location_uid)?.strip_suffix('.')?;
        let (pod, started) = match process.split_once('@') {
            Some((pod, started)) => (pod, Some(started.parse().ok()?)),
            None => (process, None),
        };
        let named = !location_uid.is_empty() && !pod.is_empty() && !pod.contains(['/', '%', '?']);
        (named && matches!(component, AGENT | OPERATOR)).then_some(Self {
            component,
            pod,
            started,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ark_s_own_names_at_this_location_are_understood() {
        let holder = LockHolder {
            component: AGENT,
            pod: "agent-x1",
            started: Some(7),
        };
        let name = holder.name("uid-1");
        assert_eq!(name, "ark-agent.agent-x1@7.uid-1");
        assert_eq!(LockHolder::parse(&name, "uid-1"), Some(holder));
        assert_eq!(LockHolder::parse(&name, "uid-2"), None);
        let earlier = LockHolder {
            component: OPERATOR,
            pod: "op.0",
            started: None,
        };
        let name = earlier.name("uid-1");
        assert_eq!(
            name, "ark-operator.op.0.uid-1",
            "as locks were written before"
        );
        assert_eq!(LockHolder::parse(&name, "uid-1"), Some(earlier));
        for foreign in [
            "somebody.agent-x1.uid-1",
            "ark-agent.uid-1",
            "ark-agent..uid-1",
            "ark-agent.a/b.uid-1",
            "ark-agent.a@soon.uid-1",
            "ark-agent.a@1@2.uid-1",
            "laptop",
            "",
        ] {
            assert_eq!(LockHolder::parse(foreign, "uid-1"), None, "{foreign}");
        }
        assert_eq!(LockHolder::parse("ark-agent.x.", ""), None);
    }
}
