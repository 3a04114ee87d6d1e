//! Counters and their text form for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use ark_api::pod_volume_backup::VolumePhase;
use ark_engine::archive::StateReport;

/// Terminal phases, in the order they are shown.
const PHASES: [(VolumePhase, &str); 4] = [
    (VolumePhase::Completed, "Completed"),
    (VolumePhase::PartiallyFailed, "PartiallyFailed"),
    (VolumePhase::Failed, "Failed"),
    (VolumePhase::Canceled, "Canceled"),
];

/// Counters of one kind of work.
#[derive(Debug, Default)]
pub(crate) struct WorkMetrics {
    finished: [AtomicU64; PHASES.len()],
    /// Times a try failed and another followed.
    retries: AtomicU64,
    /// Bytes of file content dealt with.
    bytes: AtomicU64,
}

impl WorkMetrics {
    /// Counts one that reached a terminal phase.
    pub(crate) fn finished(&self, phase: VolumePhase) {
        for (counter, (counted, _)) in self.finished.iter().zip(PHASES) {
            if counted == phase {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a try that is repeated.
    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of file content dealt with.
    pub(crate) fn bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// All counters of the agent.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) backup: WorkMetrics,
    pub(crate) restore: WorkMetrics,
    /// Bytes that fingerprints showed to be unchanged.
    pub(crate) fingerprint_bytes: AtomicU64,
    /// Backups whose fingerprints were not used, not written, or not for everything.
    pub(crate) fingerprint_problems: AtomicU64,
    /// Objects in a watch that could not be read.
    pub(crate) malformed: AtomicU64,
    /// Times a watch broke.
    pub(crate) watch_errors: AtomicU64,
}

impl Metrics {
    /// Counts what fingerprints were good for.
    pub(crate) fn fingerprints(&self, report: &StateReport) {
        let problems = u64::from(report.problem.is_some());
        let counts = [
            (&self.fingerprint_bytes, report.bytes),
            (&self.fingerprint_problems, problems),
        ];
        for (counter, more) in counts {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// The text form. `running` and `waiting` are gauges of the queue, `ready` is the readiness.
    pub(crate) fn render(&self, running: usize, waiting: usize, ready: bool) -> String {
        let mut out = String::new();
        let works = [("backup", &self.backup), ("restore", &self.restore)];
        let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, u64)]| {
            let name = format!("ark_agent_{name}");
            // Writing to a string cannot fail.
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
            for (labels, value) in lines {
                writeln!(out, "{name}{labels} {value}").unwrap_or_default();
            }
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let finished: Vec<_> = works
            .iter()
            .flat_map(|(kind, work)| {
                work.finished
                    .iter()
                    .zip(PHASES)
                    .map(move |(counter, (_, phase))| {
                        (
                            format!("{{kind=\"{kind}\",phase=\"{phase}\"}}"),
                            load(counter),
                        )
                    })
            })
            .collect();
        let by_kind = |get: fn(&WorkMetrics) -> &AtomicU64| -> Vec<_> {
            works
                .iter()
                .map(|(kind, work)| (format!("{{kind=\"{kind}\"}}"), load(get(work))))
                .collect()
        };
        let plain = |value: u64| vec![(String::new(), value)];
        family("volumes_total", "counter", "Volumes by outcome.", &finished);
        family(
            "retries_total",
            "counter",
            "Tries that were repeated.",
            &by_kind(|w| &w.retries),
        );
        family(
            "bytes_total",
            "counter",
            "Bytes of file content dealt with.",
            &by_kind(|w| &w.bytes),
        );
        family(
            "fingerprint_bytes_total",
            "counter",
            "Bytes that fingerprints showed to be unchanged.",
            &plain(load(&self.fingerprint_bytes)),
        );
        family(
            "fingerprint_problems_total",
            "counter",
            "Backups whose fingerprints were not used, not written, or not for everything.",
            &plain(load(&self.fingerprint_problems)),
        );
        family(
            "running",
            "gauge",
            "Volumes being worked on.",
            &plain(running as u64),
        );
        family(
            "waiting",
            "gauge",
            "Volumes waiting for a slot.",
            &plain(waiting as u64),
        );
        family(
            "ready",
            "gauge",
            "Whether the agent takes work.",
            &plain(u64::from(ready)),
        );
        family(
            "malformed_objects_total",
            "counter",
            "Objects that could not be read.",
            &plain(load(&self.malformed)),
        );
        family(
            "watch_errors_total",
            "counter",
            "Watches of the API server that broke.",
            &plain(load(&self.watch_errors)),
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let metrics = Metrics::default();
        metrics.backup.finished(VolumePhase::Completed);
        metrics.restore.retry();
        let text = metrics.render(1, 2, true);
        for line in [
            "ark_agent_volumes_total{kind=\"backup\",phase=\"Completed\"} 1",
            "ark_agent_volumes_total{kind=\"restore\",phase=\"Failed\"} 0",
            "ark_agent_retries_total{kind=\"restore\"} 1",
            "ark_agent_running 1",
            "ark_agent_waiting 2",
            "ark_agent_ready 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in:\n{text}");
        }
    }
}
