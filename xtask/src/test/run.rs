//! Test programs: built by one call of cargo, then run a few at a time.
//!
//! `cargo test` runs one test program after the other. Most tests of controllers wait for a server, so that
//! two processors idle. Here several programs of a tier run side by side, each with its output kept until it
//! ends and then printed whole.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Count;
use crate::{exec, print};

/// A built test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The target's name, or the package's for tests beside the code.
    pub name: String,
    executable: PathBuf,
    /// The package's folder, in which cargo would run it.
    folder: PathBuf,
}

/// Builds the test programs that `arguments` of `cargo test` choose.
///
/// # Errors
///
/// When cargo fails, whose own words are on the terminal.
pub(super) fn build(arguments: &[&str]) -> Result<Vec<Program>> {
    let mut command = exec::cargo();
    command
        .args(["test", "--no-run", "--workspace"])
        .args(arguments)
        .arg("--message-format=json-render-diagnostics");
    print::command(&command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests could not be built, see above");
    }
    let mut programs = programs_in(&String::from_utf8_lossy(&output.stdout));
    // Cargo names them in the order in which they were built.
    programs.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(programs)
}

/// The test programs among cargo's messages, a JSON object a line.
fn programs_in(messages: &str) -> Vec<Program> {
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message["profile"]["test"].as_bool()?;
        let executable = message["executable"].as_str()?;
        let manifest = PathBuf::from(message["manifest_path"].as_str()?);
        is_test.then_some(Program {
            name: message["target"]["name"].as_str()?.to_owned(),
            executable: executable.into(),
            folder: manifest.parent()?.to_path_buf(),
        })
    });
    programs.collect()
}

/// How test programs are run.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    /// How many at once.
    pub side_by_side: usize,
    /// What follows the program's name.
    pub arguments: &'a [String],
    /// How many tests of a program run at once, by its name; by default as many as there are
    /// processors.
    pub threads: Option<fn(&str) -> usize>,
    /// Variables beside those of the caller.
    pub variables: &'a [(&'static str, OsString)],
}

/// What a test program said, and how long it took.
struct Outcome {
    name: String,
    output: Result<Said>,
    took: Duration,
}

struct Said {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs the programs, prints what each says when it ends, and counts tests. A program that ends
/// badly without naming a test that failed counts as one failure.
pub(super) fn run(programs: &[Program], setup: &Setup<'_>) -> Count {
    let waiting: Mutex<VecDeque<&Program>> = Mutex::new(programs.iter().collect());
    let (send, outcomes) = mpsc::channel();
    let mut count = Count::default();
    std::thread::scope(|scope| {
        for _ in 0..setup.side_by_side {
            let (send, waiting) = (send.clone(), &waiting);
            scope.spawn(move || {
                let next = || waiting.lock().ok()?.pop_front();
                while let Some(program) = next() {
                    // The receiver lives as long as this scope.
                    if send.send(run_one(program, setup)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        for outcome in outcomes {
            count.add(report(&outcome));
        }
    });
    count
}

fn run_one(program: &Program, setup: &Setup<'_>) -> Outcome {
    let since = Instant::now();
    Outcome {
        name: program.name.clone(),
        output: said(program, setup),
        took: since.elapsed(),
    }
}

/// The output goes to files: a process that a test left behind would keep a pipe open for ever.
fn said(program: &Program, setup: &Setup<'_>) -> Result<Said> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let threads = setup.threads.map(|threads| threads(&program.name));
    let status = Command::new(&program.executable)
        .args(setup.arguments)
        .args(threads.map(|threads| format!("--test-threads={threads}")))
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .envs(setup.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .status()
        .context("it could not be started")?;
    let text = |file: &mut File| -> Result<String> {
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Said {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    })
}

fn report(outcome: &Outcome) -> Count {
    let Outcome { name, output, took } = outcome;
    let mut count = Count::default();
    let ended = match output {
        Ok(said) => {
            print::note(&said.stderr);
            for line in said.stdout.lines() {
                if let Some(one) = parse(line) {
                    count.add(one);
                }
                count.failures.extend(failed_test(line));
            }
            print::data(&said.stdout);
            (!said.status.success()).then(|| said.status.to_string())
        }
        Err(error) => Some(format!("{error:#}")),
    };
    print::note(&format!("{name}: {}", print::seconds(*took)));
    if let Some(how) = ended
        && count.failed == 0
    {
        count.failed = 1;
        count.failures.push(format!("{name} as a whole: {how}"));
    }
    count
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn parse(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let part = rest
            .split(['.', ';'])
            .find_map(|part| part.trim().strip_suffix(word));
        part.and_then(|text| text.trim().parse().ok())
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        ignored: number("ignored")?,
        failures: Vec::new(),
    })
}

/// The name in a line such as `test restore::a_name ... FAILED`.
fn failed_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s";
        let count = Count {
            passed: 3,
            failed: 1,
            ignored: 2,
            failures: Vec::new(),
        };
        assert_eq!(parse(line), Some(count));
        assert_eq!(parse("test a ... ok"), None);
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b".to_owned()));
        assert_eq!(failed_test("test a::b ... ok"), None);
    }

    #[test]
    fn only_test_programs_are_taken_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":"#,
            r#"{"name":"api_backup"},"profile":{"test":true},"executable":"/t/api_backup-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/cli/Cargo.toml","target":"#,
            r#"{"name":"ark"},"profile":{"test":false},"executable":"/t/ark"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let program = Program {
            name: "api_backup".to_owned(),
            executable: "/t/api_backup-1".into(),
            folder: "/w/tests".into(),
        };
        assert_eq!(programs_in(messages), [program]);
    }

    #[test]
    fn a_program_that_breaks_off_is_a_failure_with_its_name() {
        let program = |script: &str| Program {
            name: script.to_owned(),
            executable: "/bin/sh".into(),
            folder: "/".into(),
        };
        let run_script = |script: &str| {
            let arguments = ["-c".to_owned(), script.to_owned()];
            let setup = Setup {
                side_by_side: 2,
                arguments: &arguments,
                threads: None,
                variables: &[],
            };
            run(&[program("first"), program("second")], &setup)
        };
        let broken = run_script("exit 3");
        assert_eq!(broken.failed, 2);
        assert!(
            broken
                .failures
                .iter()
                .any(|name| name.contains("second as a whole"))
        );
        let passed = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'";
        assert_eq!(run_script(passed).passed, 4);
    }
}
