//! Running other programs: shown before they run, and a failure says which one and why.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{place, print};

/// How much of a log's end is looked at to quote its last lines.
const TAIL_BYTES: u64 = 16 * 1024;

/// What cargo tells the programs it runs, about themselves. Build scripts of dependencies look at
/// some of it, so if it were passed on, a build started by a test would compile anew what one
/// started by hand has.
const OF_THE_CALLER: [&str; 6] = [
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_RUSTC_",
];

/// cargo, in the workspace, as if it were called from a shell.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(place::workspace());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if OF_THE_CALLER.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Shows the command and runs it with its output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    print::command(command);
    let name = print::render(command);
    // Standard output is for results of the task itself.
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed: {status}");
    }
    Ok(())
}

/// Shows the command and runs it with its output in a log file, which a failure quotes.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    print::command(command);
    let name = print::render(command);
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = file
        .try_clone()
        .with_context(|| format!("cannot write {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed: {status}; {}", quote_log(log, 20));
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = print::render(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !output.status.success() {
        bail!(
            "`{name}` failed: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` answered with no text"))
}

/// Runs a command quietly, giving it `input`, and returns its standard output.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write as _;

    let name = print::render(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .with_context(|| format!("`{name}` did not take its input"))?;
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("`{name}`"))?;
    if !output.status.success() {
        bail!(
            "`{name}` failed: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` answered with no text"))
}

/// The name of a log and its last lines, for an error message.
pub fn quote_log(log: &Path, lines: usize) -> String {
    let tail = tail(log, lines).unwrap_or_else(|error| format!("(unreadable: {error})"));
    format!("log {}, last lines:\n{tail}", log.display())
}

fn tail(log: &Path, lines: usize) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_quotes_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let error = run_logged(
            Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]),
            &log,
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("one\ntwo"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = output(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program`");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(
            output_with_input(&mut Command::new("cat"), "hello").unwrap(),
            "hello"
        );
    }
}
