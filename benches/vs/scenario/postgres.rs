//! A real PostgreSQL: pgbench's tables as its initialisation leaves them, and after it ran for a
//! while.
//!
//! The server is stopped whenever a backup is taken, so that all programs see the same files.

use std::{
    fs::{self, File},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{PAGES_CHUNK, Servers, settle, usual};
use crate::{print, program::Who, run::Run, work::Work};

const READY: Duration = Duration::from_mins(1);
const USER: &str = "postgres";

/// First backups, and backups after pgbench ran.
pub(super) fn cases(run: &mut Run, servers: &Servers) -> Result<()> {
    if !run.any(&["postgres-first", "postgres-later"]) {
        return Ok(());
    }
    let programs = servers
        .postgres
        .clone()
        .context("no PostgreSQL: name its programs' folder")?;
    let cluster = Cluster::make(&run.work, programs)?;
    print::step(&format!("PostgreSQL: pgbench -i -s {}", run.sizes.scale));
    cluster.running(&run.work, |cluster, work| {
        let scale = run.sizes.scale.to_string();
        cluster.pgbench(work, &["-i", "-q", "-s", &scale])
    })?;
    if let Some(case) = run.case("postgres-first") {
        run.first(case, &usual(&cluster.data), PAGES_CHUNK)?;
    }
    if let Some(case) = run.case("postgres-later") {
        settle();
        let bases = run.bases(&usual(&cluster.data), &Who::ALL)?;
        print::step(&format!("PostgreSQL: pgbench for {} s", run.sizes.seconds));
        cluster.running(&run.work, |cluster, work| {
            let seconds = run.sizes.seconds.to_string();
            cluster.pgbench(work, &["-c", "4", "-j", "2", "-T", &seconds])
        })?;
        settle();
        // Nearly every file changed: all is read.
        let chunk = Some(PAGES_CHUNK);
        run.later(case, &usual(&cluster.data), &bases, chunk, || Ok(()))?;
        run.forget(bases)?;
    }
    run.work.remove("postgres")
}

/// A database cluster in a folder; no server runs unless one was started.
struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    /// User and group the server runs as. It refuses to run as root.
    owner: Option<(u32, u32)>,
}

impl Cluster {
    fn make(work: &Work, programs: PathBuf) -> Result<Self> {
        let folder = work.folder("postgres")?;
        let owner = if rustix::process::geteuid().is_root() {
            let owner = account().with_context(|| format!("there is no user {USER}"))?;
            chown(&folder, Some(owner.0), Some(owner.1))
                .with_context(|| format!("cannot give {} away", folder.display()))?;
            Some(owner)
        } else {
            None
        };
        let cluster = Self {
            data: folder.join("data"),
            programs,
            folder,
            owner,
        };
        let mut initdb = cluster.command("initdb")?;
        initdb
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--username", USER, "--pgdata"])
            .arg(&cluster.data);
        cluster.expect(work, initdb)?;
        Ok(cluster)
    }

    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.programs.join(name));
        let log = self.folder.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let errors = log.try_clone().context("cannot share a log")?;
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        Ok(command)
    }

    fn expect(&self, work: &Work, mut command: Command) -> Result<()> {
        let status = work.wait(&mut command)?;
        if status.success() {
            return Ok(());
        }
        bail!(
            "{} failed: {status}: {}",
            command.get_program().display(),
            self.last_words()
        )
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn pgbench(&self, work: &Work, args: &[&str]) -> Result<()> {
        let mut pgbench = self.command("pgbench")?;
        pgbench
            .arg("-h")
            .arg(&self.folder)
            .args(["-U", USER])
            .args(args)
            .arg("postgres");
        self.expect(work, pgbench)
    }

    /// Does something while the server runs.
    fn running(&self, work: &Work, task: impl FnOnce(&Self, &Work) -> Result<()>) -> Result<()> {
        let mut server = self.command("postgres")?;
        server.arg("-D").arg(&self.data).arg("-k").arg(&self.folder);
        server.args(["-c", "listen_addresses="]);
        let mut server = work.start(&mut server)?;
        let done = self
            .wait_ready(work, &mut server)
            .and_then(|()| task(self, work));
        stop(&server)?;
        let status = work.ended(&mut server)?;
        done?;
        ensure!(
            status.success(),
            "PostgreSQL ended with {status}: {}",
            self.last_words()
        );
        Ok(())
    }

    fn wait_ready(&self, work: &Work, server: &mut Child) -> Result<()> {
        let start = Instant::now();
        loop {
            let mut look = self.command("pg_isready")?;
            look.arg("-q").arg("-h").arg(&self.folder);
            if work.wait(&mut look)?.success() {
                return Ok(());
            }
            let ended = server
                .try_wait()
                .context("cannot look at PostgreSQL")?
                .is_some();
            if ended || start.elapsed() > READY {
                bail!("PostgreSQL does not start: {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A fast shutdown: a checkpoint is written, so the files are as a cleanly stopped server leaves
/// them.
fn stop(server: &Child) -> Result<()> {
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    let pid = pid.context("a process without an id")?;
    match kill_process(pid, Signal::INT) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot stop PostgreSQL"),
    }
}

/// User and group id of PostgreSQL's account, as its package made it.
fn account() -> Option<(u32, u32)> {
    let text = fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(USER))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
