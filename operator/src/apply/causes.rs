//! What a restore has waited for in vain: a webhook or an API that does not answer is waited for
//! once, not once for each object.
//!
//! A cause that has not been met for a while counts as new when it is met again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::discover::Target;

/// A cause that was not met for so long has passed.
const PASSED: Duration = Duration::from_mins(2);

/// When each cause was met first and last.
#[derive(Default)]
pub(crate) struct Causes(Mutex<HashMap<String, (Instant, Instant)>>);

impl Causes {
    /// Since when what `message` says about an object of `target` is being waited for; `started` if
    /// it concerns this object alone.
    pub(crate) fn since(&self, message: &str, target: &Target, started: Instant) -> Instant {
        let Some(cause) = shared(message, target) else {
            return started;
        };
        self.met(cause, started, Instant::now())
    }

    fn met(&self, cause: String, started: Instant, now: Instant) -> Instant {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = causes.entry(cause).or_insert((started, now));
        if now.duration_since(times.1) > PASSED {
            *times = (started, now);
        }
        times.1 = now;
        times.0
    }
}

/// The cause in a message, if other objects meet it as well.
fn shared(message: &str, target: &Target) -> Option<String> {
    const WEBHOOK: &str = "failed calling webhook \"";
    if let Some((_, rest)) = message.split_once(WEBHOOK) {
        return rest.split_once('"').map(|(name, _)| name.to_owned());
    }
    // An API that another server answers for.
    let aggregated = target.resource.group.contains('.')
        && message.contains("the server is currently unable to handle the request");
    aggregated.then(|| target.resource.api_version.clone())
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;

    use super::*;

    fn target(group: &str) -> Target {
        let api_version = format!("{group}/v1");
        Target {
            resource: ApiResource {
                group: group.to_owned(),
                version: "v1".to_owned(),
                api_version,
                kind: "X".to_owned(),
                plural: "xs".to_owned(),
            },
            namespaced: true,
            has_status: true,
        }
    }

    #[test]
    fn causes_that_objects_share() {
        let hook = "Internal error occurred: failed calling webhook \"check.example.org\": failed to call webhook: Post \"https://x\": dial tcp: connection refused";
        assert_eq!(
            shared(hook, &target("apps")).as_deref(),
            Some("check.example.org")
        );
        let down = "the server is currently unable to handle the request";
        assert_eq!(
            shared(down, &target("x.example.org")).as_deref(),
            Some("x.example.org/v1")
        );
        assert_eq!(shared(down, &target("apps")), None);
        assert_eq!(
            shared("the object has been modified", &target("apps")),
            None
        );
    }

    #[test]
    fn a_cause_is_waited_for_once() {
        let causes = Causes::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(causes.met("hook".into(), start, at(1)), start);
        // The next object begins later and does not wait anew.
        assert_eq!(causes.met("hook".into(), at(40), at(40)), start);
        assert_eq!(causes.met("other".into(), at(40), at(41)), at(40));
        assert_eq!(causes.met("hook".into(), at(300), at(300)), at(300));
    }
}
