//! `cargo xtask quickstart`: an application is lost and comes back, on a real cluster.
//!
//! From nothing to a restored application in one command: checks the machine, builds everything,
//! starts a cluster, installs Ark with its chart, deploys the example, backs it up, deletes it,
//! restores it, and compares every file with what was written. Each step first looks at what is
//! there, so that a second run reuses it and an interrupted one is picked up.
//!
//! Fails at the first step that does not do what it should, and says what was expected.

mod app;
pub mod files;
mod preflight;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::install::{self, BUCKET, NAMESPACE, Storage};
use crate::print;
use crate::tools::{self, Tool};
use crate::{exec, image};
use anyhow::{Context, Result};

use app::App;

/// The backup's name; a later run takes the next free one after it.
const BACKUP: &str = "nginx-backup";
/// What each step took.
#[derive(Default)]
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn step<T>(&mut self, label: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work().with_context(|| format!("step \"{label}\""))?;
        self.0.push((label, start.elapsed()));
        Ok(result)
    }

    fn of(&self, label: &str) -> Duration {
        let found = self.0.iter().find(|(known, _)| *known == label);
        found.map_or(Duration::ZERO, |(_, time)| *time)
    }
}

/// What a run leaves behind, for whoever looks further.
pub struct Outcome {
    /// The cluster, still up.
    pub cluster: Cluster,
    /// The backup that the application came back from.
    pub backup: String,
    /// The application's namespace.
    pub namespace: &'static str,
    /// The restored volumes: name, and where the node sees it.
    pub volumes: Vec<(&'static str, PathBuf)>,
    /// How long the backup took, as its user saw it.
    pub backup_time: Duration,
    /// How long the restore took, as its user saw it.
    pub restore_time: Duration,
}

/// Runs the whole of it.
pub fn run(storage: Storage) -> Result<Outcome> {
    let start = Instant::now();
    let mut times = Times::default();
    times.step("check the machine", || preflight::check(storage))?;
    times.step("tools", || ensure_tools(storage))?;
    let images = times.step("programs and images", image::ark_images)?;
    let cluster = times.step("cluster", Cluster::up)?;
    times.step("install Ark", || install::run(&cluster, &images, storage))?;

    let app = times.step("deploy the application", || App::deploy(&cluster))?;
    let before = times.step("write content", || app.write_content())?;
    let backup = free_name(&cluster)?;
    times.step("backup", || back_up(&cluster, &backup))?;
    times.step("delete the namespace", || app.delete())?;
    times.step("restore", || restore(&cluster, &backup))?;
    let restored = times.step("application ready", || App::wait_ready(&cluster))?;
    times.step("compare", || restored.compare(&app, &before))?;
    show(&cluster, &backup)?;
    summary(&times, start.elapsed(), &cluster, &before, &backup);
    let volumes = restored.volumes().into();
    drop(app);
    Ok(Outcome {
        volumes,
        backup,
        namespace: app::NAMESPACE,
        backup_time: times.of("backup"),
        restore_time: times.of("restore"),
        cluster,
    })
}

fn ensure_tools(storage: Storage) -> Result<()> {
    tools::ensure(&Tool::CLUSTER)?;
    match storage {
        Storage::Local => Ok(()),
        Storage::Minio => tools::ensure(&[Tool::Minio]),
    }
}

/// The first name that neither the cluster nor a store knows: a backup's name has one writer, and
/// an earlier run's backups stay.
fn free_name(cluster: &Cluster) -> Result<String> {
    let mut known = cluster.kubectl()?;
    known.args(["get", "backups.ark.heptio.com", "--namespace", NAMESPACE]);
    known.args(["--output", "jsonpath={.items[*].metadata.name}"]);
    let known = exec::output(&mut known)?;
    let known: Vec<&str> = known.split_whitespace().collect();
    let stores: Vec<PathBuf> = ["store", "minio"]
        .map(|store| cluster.dir().join(store).join(BUCKET).join("backups"))
        .into();
    let taken =
        |name: &str| known.contains(&name) || stores.iter().any(|store| store.join(name).exists());
    let numbered = (2..).map(|number| format!("{BACKUP}-{number}"));
    let name = std::iter::once(BACKUP.to_owned())
        .chain(numbered)
        .find(|name| !taken(name))
        .context("no free name for a backup")?;
    if name != BACKUP {
        print::note(&format!(
            "{BACKUP} is there from an earlier run: this one is {name}"
        ));
    }
    Ok(name)
}

fn back_up(cluster: &Cluster, backup: &str) -> Result<()> {
    print::step(&format!(
        "backing up everything labelled app=nginx as {backup}"
    ));
    let mut ark = cluster.program("ark")?;
    ark.args([
        "backup",
        "create",
        backup,
        "--selector",
        "app=nginx",
        "--wait",
    ]);
    exec::run(&mut ark).with_context(|| describe(cluster, "backup", backup))
}

fn restore(cluster: &Cluster, backup: &str) -> Result<()> {
    print::step("restoring it");
    let mut ark = cluster.program("ark")?;
    ark.args(["restore", "create", "--from-backup", backup, "--wait"]);
    exec::run(&mut ark).with_context(|| describe(cluster, "backup", backup))
}

/// What to look at after a failure.
fn describe(cluster: &Cluster, noun: &str, name: &str) -> String {
    let mut ark = match cluster.program("ark") {
        Ok(ark) => ark,
        Err(error) => return format!("{error:#}"),
    };
    match exec::output(ark.args([noun, "describe", name])) {
        Ok(text) => text,
        Err(error) => format!("(no description: {error:#})"),
    }
}

fn show(cluster: &Cluster, backup: &str) -> Result<()> {
    print::step("what Ark knows about it");
    exec::run(cluster.program("ark")?.args(["backup", "describe", backup]))?;
    exec::run(cluster.program("ark")?.args(["restic", "repo", "get"]))
}

fn summary(times: &Times, whole: Duration, cluster: &Cluster, before: &app::Content, backup: &str) {
    let line = |label: &str, time: Duration| {
        print::data(&format!("  {label:<28} {:>12}", print::seconds(time)));
    };
    print::data("\nsteps:");
    for (label, time) in &times.0 {
        line(label, *time);
    }
    line("all", whole);
    print::data(&format!(
        "\nThe application was lost and came back from {backup}: {} entries of 2 volumes are as they \
         were written\n(content, kind, mode, owner, links, time of change to the nanosecond), the \
         claim is on a new volume,\nand the page is served again.",
        before.entries()
    ));
    print::data(&format!(
        "\nThe cluster is still there. In your shell:\n\n  \
         eval \"$(cargo xtask cluster env)\"      # or: export KUBECONFIG={}; PATH={}:$PATH\n  \
         kubectl get pods --namespace {}\n  \
         ark backup get\n  \
         ark restore create --from-backup {backup} --namespace-mappings {}:copy --wait\n\n\
         Remove every trace of it:\n\n  cargo xtask cluster down",
        cluster.kubeconfig().display(),
        cluster.programs().display(),
        app::NAMESPACE,
        app::NAMESPACE,
    ));
}
