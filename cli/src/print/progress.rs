//! How far a backup or restore is: one line, rewritten on a terminal, else a new line whenever
//! something worth reading changed.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use ark_api::pod_volume_backup::{VolumePhase, VolumeProgress};

use super::Printer;
use super::human::{bytes, count, span};

/// What of a volume matters for progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeState {
    /// Its phase.
    pub(crate) phase: VolumePhase,
    /// Bytes dealt with.
    pub(crate) done: i64,
    /// Bytes in all, as known so far.
    pub(crate) total: i64,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The phase.
    pub(crate) phase: String,
    /// Items dealt with, and in all.
    pub(crate) items: (i32, i32),
    /// Volumes.
    pub(crate) volumes: Vec<VolumeState>,
    /// What is being waited for, in words.
    pub(crate) waiting: Option<String>,
}

impl Progress {
    /// The line.
    pub(crate) fn line(&self) -> String {
        let mut text = self.phase.clone();
        if self.items.1 > 0 {
            text += &format!(", {} of {}", self.items.0, count(self.items.1, "item"));
        }
        if !self.volumes.is_empty() {
            let done = self
                .volumes
                .iter()
                .filter(|v| v.phase.is_terminal())
                .count();
            let moved: i64 = self.volumes.iter().map(|v| v.done).sum();
            let total: i64 = self.volumes.iter().map(|v| v.total).sum();
            let volumes = i64::try_from(self.volumes.len()).unwrap_or(i64::MAX);
            text += &format!(", {done} of {}", count(volumes, "volume"));
            if total > 0 {
                text += &format!(" ({} of {})", bytes(moved), bytes(total));
            }
        }
        if let Some(waiting) = &self.waiting {
            text += &format!("; waiting: {}", super::table::one_line(waiting));
        }
        text
    }

    /// What is worth a line of its own in a log: not every byte.
    fn milestone(&self) -> (String, usize, Option<String>) {
        let done = self
            .volumes
            .iter()
            .filter(|v| v.phase.is_terminal())
            .count();
        (self.phase.clone(), done, self.waiting.clone())
    }
}

/// How much of a volume is done, for tables.
pub(crate) fn done(progress: Option<&VolumeProgress>) -> String {
    match progress {
        None => "-".to_owned(),
        Some(p) if p.total_bytes <= 0 => bytes(p.bytes_done),
        Some(p) => format!("{} of {}", bytes(p.bytes_done), bytes(p.total_bytes)),
    }
}

/// Shows progress on standard error.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    live: bool,
    label: String,
    started: Instant,
    milestone: Option<(String, usize, Option<String>)>,
    frame: usize,
}

impl ProgressLine {
    /// Progress of what `label` names.
    pub(crate) fn new(printer: Printer, label: String) -> Self {
        Self {
            live: printer.live,
            label,
            started: Instant::now(),
            milestone: None,
            frame: 0,
        }
    }

    /// How often a live line wants to be drawn, so that its clock runs.
    pub(crate) fn interval() -> Duration {
        Duration::from_millis(200)
    }

    /// Shows `progress`. Without a terminal only what is worth a line.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if self.live {
            const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
            self.frame = (self.frame + 1) % FRAMES.len();
            let elapsed = span(self.started.elapsed());
            Self::draw(&format!(
                "{} {}: {} ({elapsed})",
                FRAMES[self.frame],
                self.label,
                progress.line()
            ));
        } else if self.milestone.as_ref() != Some(&progress.milestone()) {
            self.milestone = Some(progress.milestone());
            super::err(&format!("{}: {}\n", self.label, progress.line()));
        }
    }

    /// Takes a live line away.
    pub(crate) fn clear(&mut self) {
        if self.live {
            Self::draw("");
        }
    }

    fn draw(line: &str) {
        // Longer lines would wrap and could not be rewritten.
        let line: String = line.chars().take(118).collect();
        let mut out = io::stderr().lock();
        let drawn = write!(out, "\r\u{1b}[2K{line}").and_then(|()| out.flush());
        if drawn.is_err() {
            // Nobody watches any more.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_is_known() {
        let mut progress = Progress {
            phase: "New".into(),
            ..Progress::default()
        };
        assert_eq!(progress.line(), "New");
        progress.phase = "InProgress".into();
        progress.items = (3, 40);
        progress.volumes = vec![
            VolumeState {
                phase: VolumePhase::Completed,
                done: 1024,
                total: 1024,
            },
            VolumeState {
                phase: VolumePhase::InProgress,
                done: 0,
                total: 2048,
            },
        ];
        assert_eq!(
            progress.line(),
            "InProgress, 3 of 40 items, 1 of 2 volumes (1.0 KiB of 3.0 KiB)"
        );
        progress.waiting = Some("claim data is not bound".into());
        assert!(
            progress
                .line()
                .ends_with("; waiting: claim data is not bound")
        );
    }

    #[test]
    fn bytes_alone_are_no_milestone() {
        let mut progress = Progress {
            phase: "InProgress".into(),
            ..Progress::default()
        };
        progress.volumes = vec![VolumeState {
            phase: VolumePhase::InProgress,
            done: 1,
            total: 9,
        }];
        let before = progress.milestone();
        progress.volumes[0].done = 5;
        assert_eq!(progress.milestone(), before);
        progress.volumes[0].phase = VolumePhase::Completed;
        assert_ne!(progress.milestone(), before);
    }
}
