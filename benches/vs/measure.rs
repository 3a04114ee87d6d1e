//! Runs one program and says what it took: wall time, processor time, peak of resident memory.
//!
//! Each run goes through a process of its own (this program, `measure`), because the kernel tells
//! the memory of all ended children only as one peak. That process is small, so that what a child
//! has before it becomes the program measured does not count for it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::work::Work;

/// A program with its arguments and variables, not started yet.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    program: OsString,
    args: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
}

impl Call {
    /// Without arguments.
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// One argument more.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Some more.
    pub(crate) fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One variable more.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    /// The first line the program prints: its version, where that was asked for.
    pub(crate) fn first_line(&self) -> Result<String> {
        let text = self.output()?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    }

    /// What the program prints.
    pub(crate) fn output(&self) -> Result<String> {
        let output = Command::new(&self.program)
            .args(&self.args)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .with_context(|| format!("cannot start {}", self.shown()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of processors in the program.
    pub(crate) user: f64,
    /// Seconds of processors in the kernel for it.
    pub(crate) system: f64,
    /// The largest resident memory of any of its processes, in bytes.
    pub(crate) peak_rss: u64,
}

impl Usage {
    /// Seconds of processors.
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    usage: Usage,
    code: Option<i32>,
    signal: Option<i32>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What it took.
    pub(crate) usage: Usage,
    code: Option<i32>,
    signal: Option<i32>,
    /// The last it said.
    pub(crate) said: String,
}

impl Attempt {
    /// It succeeded.
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs a program and expects success. Its output goes to a log of the run, which a failure quotes.
pub(crate) fn run(work: &Work, call: &Call) -> Result<Usage> {
    expect(call, attempt(work, call)?)
}

/// What it took, if it succeeded.
pub(crate) fn expect(call: &Call, attempt: Attempt) -> Result<Usage> {
    if attempt.succeeded() {
        return Ok(attempt.usage);
    }
    let Attempt {
        code, signal, said, ..
    } = attempt;
    bail!(
        "`{}` failed (exit code {code:?}, signal {signal:?}): {said}",
        call.shown()
    )
}

/// Runs a program, whatever comes of it. Its output goes to a log of the run.
pub(crate) fn attempt(work: &Work, call: &Call) -> Result<Attempt> {
    let log = work.path("output.log");
    let answer = work.path("usage.json");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().context("cannot share a log")?;
    let this = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(this);
    command
        .arg("measure")
        .arg(&answer)
        .arg("--")
        .arg(&call.program)
        .args(&call.args);
    // The user's own settings must not decide a comparison.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    command
        .envs(call.variables.iter().map(|(name, value)| (name, value)))
        .env("HOME", work.path("home"))
        .env("XDG_CONFIG_HOME", work.path("home"))
        .env("XDG_CACHE_HOME", work.path("home/cache"))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let status = work.wait(&mut command)?;
    if !status.success() {
        bail!(
            "measuring `{}` failed: {status}; {}",
            call.shown(),
            tail(&log)
        );
    }
    let text = fs::read(&answer).with_context(|| format!("cannot read {}", answer.display()))?;
    let ended: Ended = serde_json::from_slice(&text).context("no usage was written")?;
    Ok(Attempt {
        usage: ended.usage,
        code: ended.code,
        signal: ended.signal,
        said: tail(&log),
    })
}

/// Whether a variable is one that some of the programs look at.
fn is_setting(name: &OsStr) -> bool {
    let prefixes = [
        "RESTIC_",
        "RUSTIC_",
        "OPENDAL_",
        "AWS_",
        "GOGC",
        "GOMAXPROCS",
        "GOMEMLIMIT",
        "ARK_",
    ];
    let name = name.as_encoded_bytes();
    prefixes
        .iter()
        .any(|prefix| name.starts_with(prefix.as_bytes()))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// The small process in between: runs a program and writes down what it took.
pub(crate) fn wrapper(answer: &Path, program: &[OsString]) -> Result<()> {
    let [program, args @ ..] = program else {
        bail!("nothing to measure");
    };
    let mut command = Command::new(program);
    command.args(args);
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("the kernel tells no usage")?;
    let kib = u64::try_from(usage.max_rss()).context("a negative size of memory")?;
    let ended = Ended {
        usage: Usage {
            wall,
            user: seconds(usage.user_time()),
            system: seconds(usage.system_time()),
            peak_rss: kib << 10,
        },
        code: status.code(),
        signal: status.signal(),
    };
    let text = serde_json::to_vec(&ended).context("a usage is no JSON")?;
    fs::write(answer, text).with_context(|| format!("cannot write {}", answer.display()))
}

fn seconds(time: TimeVal) -> f64 {
    let whole = Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0));
    let part = Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0));
    (whole + part).as_secs_f64()
}

/// A group of its own: what interrupts this program does not reach it, and all of it can be ended
/// at once.
pub(crate) fn own_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(script: &str) -> Ended {
        let dir = tempfile::tempdir().unwrap();
        let answer = dir.path().join("usage.json");
        let words = ["sh", "-c", script].map(OsString::from);
        wrapper(&answer, &words).unwrap();
        serde_json::from_slice(&fs::read(answer).unwrap()).unwrap()
    }

    #[test]
    fn settings_of_the_programs_are_known() {
        assert!(is_setting(OsStr::new("RESTIC_COMPRESSION")) && is_setting(OsStr::new("GOGC")));
        assert!(!is_setting(OsStr::new("PATH")) && !is_setting(OsStr::new("LANG")));
    }

    #[test]
    fn memory_and_time_of_the_program_are_told_and_how_it_ended() {
        // A shell that holds a string of 32 MiB: far more than this process's own peak in a test.
        let ended = measured("x=$(head -c 33554432 /dev/zero | tr '\\0' x); exit 3");
        assert_eq!((ended.code, ended.signal), (Some(3), None));
        assert!(ended.usage.peak_rss > 32 << 20, "{:?}", ended.usage);
        assert!(ended.usage.cpu() > 0.0 && ended.usage.wall > 0.0);
        assert_eq!(measured("kill -KILL $$").signal, Some(9));
    }
}
