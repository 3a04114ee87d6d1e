//! The clock, as a trait, so that what depends on time is tested without waiting.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Tells the time. The only home of "now" in this crate, timeouts aside.
pub(crate) trait Clock: Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> Timestamp;

    /// The time now as the API writes it: whole seconds.
    fn time(&self) -> Time {
        let now = self.now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }
}

/// The machine's clock.
#[derive(Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The clock of this process: the machine's, unless it was built for tests and these set it.
pub(crate) fn of_process() -> std::sync::Arc<dyn Clock> {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os(ark_api::env::TEST_CLOCK) {
        tracing::warn!("the clock is set by a test");
        return std::sync::Arc::new(ShiftedClock(file.into()));
    }
    std::sync::Arc::new(SystemClock)
}

/// The machine's clock, and as many seconds as a file says. Not part of programs built for use.
#[cfg(debug_assertions)]
struct ShiftedClock(std::path::PathBuf);

#[cfg(debug_assertions)]
impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let seconds: i64 = text.trim().parse().unwrap_or_default();
        let shift = jiff::SignedDuration::from_secs(seconds);
        let now = Timestamp::now();
        now.checked_add(shift).unwrap_or(now)
    }
}

/// A clock that stands still, for tests.
#[cfg(test)]
pub(crate) struct FixedClock(pub(crate) Timestamp);

#[cfg(test)]
impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}
