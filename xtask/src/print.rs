//! Everything a task writes to the terminal goes through here.
//!
//! Progress and commands go to standard error, so that standard output holds only what was asked
//! for (`cluster env`, `cluster status`, the summary of a test run) and can be piped or evaluated.
//! Nothing here fails: a closed terminal does not stop a task.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one module that prints"
)]

use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a long step says that it is still at work.
const BEAT: Duration = Duration::from_secs(15);

/// Variables that are not worth showing with each command: `cluster env` sets them once.
const IMPLIED: [&str; 3] = ["PATH", "KUBECONFIG", "HELM_"];

/// Announces a step of a task.
pub fn step(text: &str) {
    eprintln!("==> {text}");
}

/// One line of detail below a step.
pub fn note(text: &str) {
    eprintln!("    {text}");
}

/// Something that did not stop the task but that its user should know.
pub fn warning(text: &str) {
    eprintln!("warning: {text}");
}

/// An error with its whole chain of causes.
pub fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// The command that is about to run, as one could type it.
pub fn command(command: &Command) {
    eprintln!("  + {}", render(command));
}

/// A result that was asked for: to standard output, and nothing added but the line's end.
pub fn data(text: &str) {
    println!("{text}");
}

/// A command as one could type it in a shell, with the variables it is given.
pub fn render(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value.filter(|_| {
            !IMPLIED
                .iter()
                .any(|one| name.as_encoded_bytes().starts_with(one.as_bytes()))
        }) {
            words.push(format!(
                "{}={}",
                name.to_string_lossy(),
                quote(&value.to_string_lossy())
            ));
        }
    }
    words.push(quote(&command.get_program().to_string_lossy()));
    words.extend(command.get_args().map(|arg| quote(&arg.to_string_lossy())));
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A step that may take minutes: says now and then that it is still at work, and at the end how
/// long it took.
pub struct Progress {
    label: String,
    since: Instant,
    beat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Announces `label` and starts the clock.
    pub fn start(label: &str) -> Self {
        step(label);
        let (stop, stopped) = mpsc::channel();
        let since = Instant::now();
        let name = label.to_owned();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                note(&format!("{name}: {} so far", seconds(since.elapsed())));
            }
        });
        Self {
            label: label.to_owned(),
            since,
            beat: Some((stop, thread)),
        }
    }

    /// Ends the step, says how long it took and returns that.
    pub fn done(mut self) -> Duration {
        self.stop();
        let took = self.since.elapsed();
        note(&format!("{}: done in {}", self.label, seconds(took)));
        took
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.beat.take() {
            drop(stop);
            // A panic of the beat has nothing to say about the step.
            drop(thread.join());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A duration as a person reads it: `4.2 s`, `3 min 07 s`.
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_mins(1) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    let whole = time.as_secs();
    format!("{} min {:02} s", whole / 60, whole % 60)
}

/// A size as a person reads it: `9.4 MiB`.
#[expect(
    clippy::cast_precision_loss,
    reason = "one decimal of a size needs no more than the 52 bits a float has"
)]
pub fn size(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let bytes = bytes as f64;
    if bytes < MIB {
        return format!("{:.1} KiB", bytes / 1024.0);
    }
    format!("{:.1} MiB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_can_be_typed() {
        let mut command = Command::new("ctr");
        command.args(["images", "import", "a b.tar", "it's"]);
        command.env("HOME", "/x");
        assert_eq!(
            render(&command),
            r"HOME=/x ctr images import 'a b.tar' 'it'\''s'"
        );
    }

    #[test]
    fn durations_and_sizes_are_short() {
        assert_eq!(seconds(Duration::from_millis(4210)), "4.2 s");
        assert_eq!(seconds(Duration::from_secs(187)), "3 min 07 s");
        assert_eq!(size(9_856_614), "9.4 MiB");
        assert_eq!(size(512), "0.5 KiB");
    }
}
