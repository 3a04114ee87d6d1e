//! `cargo xtask test`: the tiers of the project's tests, each with what it needs.
//!
//! A test target belongs to the tier its name starts with (`engine_`, `compat_`, `api_`, `fault_`,
//! `e2e_`); all others, and the tests beside the code, are `unit`. The targets are asked from cargo,
//! so none can be forgotten. A tier that cannot run is a failure with the reason, never a pass.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::cluster::Cluster;
use crate::print::{self, Progress};
use crate::tools::{self, Tool};
use crate::{exec, image, programs};

/// A group of tests that need the same things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Rules, formats, help texts: need nothing
    Unit,
    /// The engine on real files: need a disk
    Engine,
    /// Both ways with stock restic
    Compat,
    /// Controllers on a real API server, without a node
    Api,
    /// The same, with stores and processes that fail
    Fault,
    /// Everything on a real node with real pods
    E2e,
}

impl Tier {
    const ALL: [Self; 6] = [
        Self::Unit,
        Self::Engine,
        Self::Compat,
        Self::Api,
        Self::Fault,
        Self::E2e,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Engine => "engine",
            Self::Compat => "compat",
            Self::Api => "api",
            Self::Fault => "fault",
            Self::E2e => "e2e",
        }
    }

    fn of(target: &str) -> Self {
        let fits = |tier: &Self| {
            target
                .strip_prefix(tier.name())
                .is_some_and(|rest| rest.starts_with('_'))
        };
        Self::ALL.into_iter().find(fits).unwrap_or(Self::Unit)
    }
}

/// Counted tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// The names of the tests that failed, so that the end of a long log names them.
    failures: Vec<String>,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
    }
}

/// Runs the wanted tiers, or all that have tests, and ends with a line that counts them.
pub fn run(wanted: &[Tier], filter: &[String]) -> Result<()> {
    let targets = targets()?;
    let tiers = if wanted.is_empty() {
        &Tier::ALL[..]
    } else {
        wanted
    };
    let mut total = Count::default();
    let mut reasons = Vec::new();
    for &tier in tiers {
        let mine: Vec<&String> = targets
            .iter()
            .filter(|name| Tier::of(name) == tier)
            .collect();
        if mine.is_empty() && tier != Tier::Unit {
            if wanted.contains(&tier) {
                reasons.push(format!("{}: there are no tests of this tier", tier.name()));
                total.failed += 1;
            } else {
                print::note(&format!("tier {}: no tests yet", tier.name()));
            }
            continue;
        }
        match run_tier(tier, &mine, filter) {
            Ok(count) => total.add(count),
            Err((count, error)) => {
                total.add(count);
                // What failed outside a test counts too: nothing ran that could have passed.
                if count.failed == 0 {
                    total.failed += 1;
                }
                reasons.push(format!("{}: {error:#}", tier.name()));
            }
        }
    }
    if total.ignored > 0 {
        print::warning(&format!(
            "{} tests are switched off in the code",
            total.ignored
        ));
    }
    for reason in &reasons {
        print::note(&format!("failed: {reason}"));
    }
    for name in &total.failures {
        print::note(&format!("failed test: {name}"));
    }
    print::data(&format!("{} passed, {} failed", total.passed, total.failed));
    if reasons.is_empty() {
        Ok(())
    } else {
        bail!("not all tests passed")
    }
}

fn run_tier(
    tier: Tier,
    targets: &[&String],
    filter: &[String],
) -> Result<Count, (Count, anyhow::Error)> {
    let nothing = |error| (Count::default(), error);
    let progress = Progress::start(&format!("tests: {}", tier.name()));
    prepare(tier).map_err(nothing)?;
    let mut command = exec::cargo();
    command.args(["test", "--no-fail-fast", "--workspace"]);
    if tier == Tier::Unit {
        command.args(["--lib", "--bins"]);
    }
    for target in targets {
        command.args(["--test", target]);
    }
    command.arg("--").args(filter);
    if tier == Tier::E2e {
        // One cluster, and times that mean something.
        command.arg("--test-threads=1");
    }
    command.env("PATH", path().map_err(nothing)?);
    if let Some(restic) = tools::find(Tool::NewestRestic).map_err(nothing)? {
        command.env("ARK_TEST_RESTIC", restic);
    }
    let (count, success) = counted(&mut command).map_err(nothing)?;
    progress.done();
    if success {
        return Ok(count);
    }
    let reason = match count.failed {
        0 => anyhow!("the tests could not be built or broke off, see above"),
        failed => anyhow!("{failed} tests failed, see above"),
    };
    Err((count, reason))
}

/// Builds and installs what a tier needs.
fn prepare(tier: Tier) -> Result<()> {
    match tier {
        // The chart is rendered and linted.
        Tier::Unit => tools::ensure(&[Tool::Helm]),
        Tier::Engine => {
            tools::ensure(&[Tool::Minio, Tool::Restic, Tool::Strace])?;
            tools::ensure(&Tool::FILE_SYSTEMS)
        }
        Tier::Compat => tools::ensure(&[Tool::Minio, Tool::Restic, Tool::NewestRestic]),
        Tier::Api | Tier::Fault => {
            tools::ensure(&Tool::CONTROL_PLANE)?;
            tools::ensure(&[Tool::Helm, Tool::Minio, Tool::Restic])?;
            programs::build().map(drop)
        }
        Tier::E2e => {
            tools::ensure(&Tool::ALL)?;
            let images = image::ark_images()?;
            Cluster::up()?.import(&images).map(drop)
        }
    }
}

/// PATH with this workspace's own kubectl and helm first, as far as they are built.
fn path() -> Result<std::ffi::OsString> {
    let mut folders = Vec::new();
    for tool in [Tool::Kubectl, Tool::Helm] {
        let found = tools::find(tool)?;
        folders.extend(found.and_then(|path| Some(path.parent()?.to_path_buf())));
    }
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&inherited));
    std::env::join_paths(folders).context("PATH cannot be extended")
}

/// Runs cargo test, passing its output on, and counts what it reports.
fn counted(command: &mut Command) -> Result<(Count, bool)> {
    print::command(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        if let Some(one) = parse(&line) {
            count.add(one);
        }
        count.failures.extend(failed_test(&line));
        print::data(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok((count, status.success()))
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

/// The names of all integration test targets of the workspace.
fn targets() -> Result<Vec<String>> {
    let mut command = exec::cargo();
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let metadata: serde_json::Value =
        serde_json::from_str(&exec::output(&mut command)?).context("cargo metadata is not JSON")?;
    Ok(targets_in(&metadata))
}

fn targets_in(metadata: &serde_json::Value) -> Vec<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut targets = Vec::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            if list(&target["kind"]).iter().any(|kind| kind == "test") {
                targets.push(target["name"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    targets.sort();
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_belongs_to_the_tier_its_name_starts_with() {
        assert_eq!(Tier::of("api_backup"), Tier::Api);
        assert_eq!(Tier::of("e2e_quickstart"), Tier::E2e);
        assert_eq!(Tier::of("golden_help"), Tier::Unit);
        assert_eq!(Tier::of("apiary"), Tier::Unit);
    }

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
    fn only_test_targets_are_taken_from_the_metadata() {
        let metadata = serde_json::json!({"packages": [{"name": "ark-tests", "targets": [
            {"name": "ark_tests", "kind": ["lib"]},
            {"name": "e2e_restore", "kind": ["test"]},
        ]}]});
        assert_eq!(targets_in(&metadata), ["e2e_restore"]);
    }
}
