//! How far an operation of the engine is: a bar on a terminal, else a line every now and then; lines of
//! JSON where those are wanted. A thread of its own looks at the counters.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ark_engine::{Progress, ProgressCounts};
use serde_json::json;

use super::{bytes, count};
use crate::print::{Printer, err, human::span};

/// Width of the bar.
const BAR: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A bar, rewritten.
    Live,
    /// A line for a log.
    Log,
    /// A line of JSON on standard output.
    Json,
}

impl Form {
    fn interval(self) -> Duration {
        match self {
            Self::Live => Duration::from_millis(200),
            Self::Log => Duration::from_secs(10),
            Self::Json => Duration::from_secs(1),
        }
    }
}

/// What the counters count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Files and their bytes, of which the number becomes known.
    Moved,
    /// Bytes written to the store, of which it does not.
    Written,
    /// Directories that were gone through, and bytes of packs to be read.
    Checked,
}

/// Shows progress until it is stopped.
#[derive(Debug)]
pub(crate) struct Reporter {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Reporter {
    /// Of an operation that moves files.
    pub(crate) fn moving(printer: Printer, quiet: bool, json: bool, progress: &Progress) -> Self {
        let form = match (json, printer.live) {
            (true, _) => Form::Json,
            (false, true) => Form::Live,
            (false, false) => Form::Log,
        };
        Self::start(printer, form, What::Moved, quiet, progress)
    }

    /// Of an operation that rewrites part of a repository.
    pub(crate) fn written(printer: Printer, quiet: bool, progress: &Progress) -> Self {
        let form = if printer.live { Form::Live } else { Form::Log };
        Self::start(printer, form, What::Written, quiet, progress)
    }

    /// Of an operation that looks at a repository.
    pub(crate) fn checking(printer: Printer, quiet: bool, progress: &Progress) -> Self {
        let form = if printer.live { Form::Live } else { Form::Log };
        Self::start(printer, form, What::Checked, quiet, progress)
    }

    fn start(printer: Printer, form: Form, what: What, quiet: bool, progress: &Progress) -> Self {
        if quiet {
            return Self { running: None };
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let progress = progress.clone();
        let thread = std::thread::Builder::new().name("progress".to_owned());
        let started = Instant::now();
        let thread = thread.spawn(move || {
            if form == Form::Json {
                show(printer, form, what, &progress.snapshot(), started.elapsed());
            }
            while stopped.recv_timeout(form.interval()) == Err(RecvTimeoutError::Timeout) {
                show(printer, form, what, &progress.snapshot(), started.elapsed());
            }
            if form == Form::Live {
                draw("");
            }
        });
        // Without a thread it is not shown; the operation goes on.
        Self {
            running: thread.ok().map(|thread| (stop, thread)),
        }
    }

    /// Takes a bar away, and waits until nothing more is written.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // It has nothing to tell.
            drop(thread.join());
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end();
    }
}

fn show(printer: Printer, form: Form, what: What, counts: &ProgressCounts, elapsed: Duration) {
    match form {
        Form::Live => draw(&line(what, counts, elapsed)),
        Form::Log => err(&format!("{}\n", line(what, counts, elapsed))),
        Form::Json => {
            let value = status(counts, elapsed);
            // The result will tell if nobody listens any more.
            drop(printer.out(&value.to_string()));
        }
    }
}

fn line(what: What, counts: &ProgressCounts, elapsed: Duration) -> String {
    let elapsed = span(elapsed);
    if what == What::Written {
        return format!("[{elapsed}] {} written", bytes(counts.bytes_uploaded));
    }
    if what == What::Checked {
        return format!(
            "[{elapsed}] {} directories, {} of {} read",
            counts.files_done,
            bytes(counts.bytes_done),
            bytes(counts.bytes_total)
        );
    }
    let share = share(counts);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the bar's width"
    )]
    let full = (share * BAR as f64) as usize;
    format!(
        "[{elapsed}] [{}{}] {:>5.1}%  {} of {}, {} of {}",
        "#".repeat(full),
        "-".repeat(BAR - full.min(BAR)),
        share * 100.0,
        counts.files_done,
        count(counts.files_total, "file"),
        bytes(counts.bytes_done),
        bytes(counts.bytes_total),
    )
}

/// How much is done, from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn share(counts: &ProgressCounts) -> f64 {
    if counts.bytes_total == 0 {
        return 0.0;
    }
    (counts.bytes_done as f64 / counts.bytes_total as f64).min(1.0)
}

fn status(counts: &ProgressCounts, elapsed: Duration) -> serde_json::Value {
    json!({
        "message_type": "status",
        "seconds_elapsed": elapsed.as_secs(),
        "percent_done": share(counts),
        "total_files": counts.files_total,
        "files_done": counts.files_done,
        "total_bytes": counts.bytes_total,
        "bytes_done": counts.bytes_done,
    })
}

fn draw(line: &str) {
    // Longer lines would wrap and could not be rewritten.
    let line: String = line.chars().take(118).collect();
    let mut out = std::io::stderr().lock();
    let drawn = write!(out, "\r\u{1b}[2K{line}").and_then(|()| out.flush());
    if drawn.is_err() {
        // Nobody watches any more.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_known() {
        let mut counts = ProgressCounts::default();
        let seconds = Duration::from_secs;
        assert_eq!(
            line(What::Moved, &counts, seconds(0)),
            "[0s] [------------------------]   0.0%  0 of 0 files, 0 B of 0 B"
        );
        counts = ProgressCounts {
            files_done: 1,
            files_total: 2,
            bytes_done: 1024,
            bytes_total: 2048,
            bytes_uploaded: 7,
        };
        assert_eq!(
            line(What::Moved, &counts, seconds(61)),
            "[1m1s] [############------------]  50.0%  1 of 2 files, 1.0 KiB of 2.0 KiB"
        );
        assert_eq!(line(What::Written, &counts, seconds(1)), "[1s] 7 B written");
        assert_eq!(
            line(What::Checked, &counts, seconds(1)),
            "[1s] 1 directories, 1.0 KiB of 2.0 KiB read"
        );
        let status = status(&counts, seconds(2));
        assert_eq!(status["percent_done"], 0.5);
        assert_eq!(status["files_done"], 1);
    }
}
