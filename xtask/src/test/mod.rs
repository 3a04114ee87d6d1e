//! `cargo xtask test`: the tiers of the project's tests, each with what it needs.
//!
//! A test target belongs to the tier its name starts with (`engine_`, `compat_`, `api_`, `fault_`,
//! `e2e_`); all others, and the tests beside the code, are `unit`. The targets are asked from cargo,
//! so none can be forgotten. A tier that cannot run is a failure with the reason, never a pass.

mod run;

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

    /// How many test programs run at once. Controllers' tests wait more than they compute; the
    /// others keep both processors busy or share one cluster.
    fn side_by_side(self) -> usize {
        match self {
            Self::Unit | Self::Engine | Self::Compat | Self::E2e => 1,
            Self::Api | Self::Fault => 3,
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
    let mut early_images = None;
    for &tier in tiers {
        // Controllers' tests leave time to build what the node's tests need.
        if tier == Tier::Api && tiers.contains(&Tier::E2e) {
            early_images = Some(std::thread::spawn(image::build_programs));
        }
        if let Some(build) = early_images.take_if(|_| tier == Tier::E2e) {
            // A build that failed is tried again, and told, by the tier that needs it.
            drop(build.join());
        }
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
                // What failed outside a test counts too: nothing ran that could have passed.
                total.failed += u64::from(count.failed == 0);
                total.add(count);
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

/// How many scenarios of a target run at once on the one cluster. They wait for pods more than they
/// compute; the quickstart's times are to mean something.
fn scenarios_at_once(target: &str) -> usize {
    match target {
        "e2e_quickstart" => 1,
        _ => 8,
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
    let mut chosen = Vec::new();
    if tier == Tier::Unit {
        chosen.extend(["--lib", "--bins"]);
    }
    for target in targets {
        chosen.extend(["--test", target]);
    }
    let programs = run::build(&chosen).map_err(nothing)?;
    let mut variables = vec![("PATH", path().map_err(nothing)?)];
    if let Some(restic) = tools::find(Tool::NewestRestic).map_err(nothing)? {
        variables.push(("ARK_TEST_RESTIC", restic.into()));
    }
    let setup = run::Setup {
        side_by_side: tier.side_by_side(),
        arguments: filter,
        threads: (tier == Tier::E2e).then_some(scenarios_at_once),
        variables: &variables,
    };
    let count = run::run(&programs, &setup);
    progress.done();
    match count.failed {
        0 => Ok(count),
        failed => {
            let error = anyhow!("{failed} tests failed, see above");
            Err((count, error))
        }
    }
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
    fn only_test_targets_are_taken_from_the_metadata() {
        let metadata = serde_json::json!({"packages": [{"name": "ark-tests", "targets": [
            {"name": "ark_tests", "kind": ["lib"]},
            {"name": "e2e_restore", "kind": ["test"]},
        ]}]});
        assert_eq!(targets_in(&metadata), ["e2e_restore"]);
    }
}
