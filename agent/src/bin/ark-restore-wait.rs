//! The gate of a restored pod: an init container that ends when the agent has put the pod's volumes
//! back.
//!
//! `ark-restore-wait --volumes a,b --deadline-seconds N --dir /ark-restore-gate [--told FILE] [--refuse TEXT]`
//!
//! Does: look into the gate's directory five times a second for `<volume>.done` and
//! `<volume>.failed`. Does not: touch any volume, talk to anything, or remove a file, so that it
//! gives the same answer when it is run again.
//!
//! Exit code 0 when every volume is done. Exit code 1, with the reason on the termination message,
//! when one failed, when the deadline passed, when the file `--told` holds a reason (somebody gave
//! up), or when its arguments make no sense. With `--refuse` it ends with that text once every
//! volume is done: the data is there as far as it can be, and the application must not start with
//! it. A volume with both files is done: a later restore succeeded. Being told to end ends it: as
//! the first process of its container it would not be ended by SIGTERM otherwise, and the pod's
//! deletion would take 30 seconds.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

/// Where the kubelet reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Overrides it, for tests.
const TERMINATION_LOG_ENV: &str = "ARK_TERMINATION_LOG";
/// Time between two looks.
const POLL: Duration = Duration::from_millis(200);
/// Time between two lines saying what is waited for.
const REPEAT: Duration = Duration::from_secs(30);
/// Longest reason read from a `.failed` file; the kubelet keeps 4 KiB of a termination message.
const MAX_REASON: u64 = 3 * 1024;

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    volumes: Vec<String>,
    deadline: Duration,
    dir: PathBuf,
    /// File that holds a reason once somebody gave up.
    told: Option<PathBuf>,
    /// Why the pod must not start even then.
    refuse: Option<String>,
}

enum State {
    Done,
    Waiting(Vec<String>),
    Failed { volume: String, reason: String },
}

fn main() -> ExitCode {
    let result = parse(env::args().skip(1)).and_then(|arguments| run(&arguments));
    match result {
        Ok(()) => {
            say("every volume is restored");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            say(&reason);
            let path = env::var_os(TERMINATION_LOG_ENV)
                .map_or_else(|| PathBuf::from(TERMINATION_LOG), PathBuf::from);
            if let Err(error) = File::create(&path).and_then(|mut f| f.write_all(reason.as_bytes()))
            {
                say(&format!("cannot write {}: {error}", path.display()));
            }
            ExitCode::FAILURE
        }
    }
}

/// Writes one line for `kubectl logs`; there is nobody to tell when that fails.
fn say(line: &str) {
    let mut out = io::stderr().lock();
    writeln!(out, "ark-restore-wait: {line}").unwrap_or_default();
}

fn parse(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut volumes, mut deadline, mut dir) = (None, None, None);
    let (mut told, mut refuse) = (None, None);
    while let Some(argument) = given.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, given.next()),
        };
        let value = value.ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--volumes" => volumes = Some(parse_volumes(&value)?),
            "--deadline-seconds" => {
                let seconds = value.parse().ok().filter(|s| *s > 0_u64);
                let seconds =
                    seconds.ok_or("--deadline-seconds must be a whole number above zero")?;
                deadline = Some(Duration::from_secs(seconds));
            }
            "--dir" => dir = Some(PathBuf::from(value)),
            "--told" => told = Some(PathBuf::from(value)),
            "--refuse" => refuse = Some(value),
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    Ok(Arguments {
        volumes: volumes.ok_or("--volumes is missing")?,
        deadline: deadline.ok_or("--deadline-seconds is missing")?,
        dir: dir.ok_or("--dir is missing")?,
        told,
        refuse,
    })
}

fn parse_volumes(value: &str) -> Result<Vec<String>, String> {
    value
        .split(',')
        .map(|name| {
            if is_volume_name(name) {
                Ok(name.to_owned())
            } else {
                Err(format!("{name:?} is not the name of a volume"))
            }
        })
        .collect()
}

/// Whether `name` is a DNS label, which is what the API server accepts as a volume's name. Nothing
/// else may become part of a path.
fn is_volume_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate())
            .map_err(|error| format!("cannot listen for SIGTERM: {error}"))?;
        tokio::select! {
            result = wait(arguments) => result,
            _ = end.recv() => Err("told to end before every volume was restored".to_owned()),
        }
    })
}

async fn wait(arguments: &Arguments) -> Result<(), String> {
    let started = Instant::now();
    let mut said: Option<(Instant, usize)> = None;
    loop {
        let missing = match look(&arguments.dir, &arguments.volumes)? {
            State::Done => return arguments.refuse.clone().map_or(Ok(()), Err),
            State::Failed { volume, reason } => {
                return Err(format!("volume {volume} was not restored: {reason}"));
            }
            State::Waiting(missing) => missing,
        };
        if let Some(reason) = arguments.told.as_deref().and_then(told) {
            return Err(format!("not restored: {}: {reason}", missing.join(", ")));
        }
        if started.elapsed() >= arguments.deadline {
            return Err(format!(
                "gave up after {} seconds; not restored yet: {}",
                arguments.deadline.as_secs(),
                missing.join(", ")
            ));
        }
        if said.is_none_or(|(at, count)| at.elapsed() >= REPEAT || count != missing.len()) {
            say(&format!("waiting for: {}", missing.join(", ")));
            said = Some((Instant::now(), missing.len()));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn look(dir: &Path, volumes: &[String]) -> Result<State, String> {
    let mut waiting = Vec::new();
    for volume in volumes {
        if is_file(&dir.join(format!("{volume}.done")))? {
            continue;
        }
        let failed = dir.join(format!("{volume}.failed"));
        if is_file(&failed)? {
            let reason = read_reason(&failed)
                .map_err(|error| format!("cannot read {}: {error}", failed.display()))?;
            return Ok(State::Failed {
                volume: volume.clone(),
                reason,
            });
        }
        waiting.push(volume.clone());
    }
    Ok(if waiting.is_empty() {
        State::Done
    } else {
        State::Waiting(waiting)
    })
}

/// The reason somebody gave for giving up. A file that cannot be read says nothing: the deadline
/// still holds.
fn told(path: &Path) -> Option<String> {
    let reason = fs::read(path).ok()?;
    let reason = String::from_utf8_lossy(&reason).trim().to_owned();
    (!reason.is_empty()).then_some(reason)
}

fn is_file(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot look at {}: {error}", path.display())),
    }
}

fn read_reason(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_REASON).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(if text.is_empty() {
        "no reason was given".to_owned()
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(given: &[&str]) -> Result<Arguments, String> {
        parse(given.iter().map(|s| (*s).to_owned()))
    }

    #[test]
    fn both_spellings_of_arguments() {
        let spaced = arguments(&[
            "--volumes",
            "a,b-1",
            "--deadline-seconds",
            "5",
            "--dir",
            "/g",
        ])
        .unwrap();
        let equals = arguments(&["--volumes=a,b-1", "--deadline-seconds=5", "--dir=/g"]).unwrap();
        assert_eq!(spaced, equals);
        assert_eq!(spaced.volumes, ["a", "b-1"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for volumes in ["", "a,", "../x", "a/b", ".", "A", "-a", "a-"] {
            let given = [
                "--volumes",
                volumes,
                "--deadline-seconds",
                "5",
                "--dir",
                "/g",
            ];
            assert!(arguments(&given).is_err(), "{volumes:?}");
        }
        assert!(arguments(&["--volumes", "a", "--deadline-seconds", "0", "--dir", "/g"]).is_err());
        assert!(arguments(&["--volumes", "a", "--dir", "/g"]).is_err());
        assert!(arguments(&["--volumes"]).is_err());
        assert!(arguments(&["--verbose", "1"]).is_err());
    }
}
