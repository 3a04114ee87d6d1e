//! The memory that each operation takes on a repository of many blobs, Ark's beside stock restic's.
//!
//! Each operation runs once with each program, one after another, for memory hardly scatters. Ark
//! is called with its own ceiling first. If that is too little, it has to say so and how much would
//! do, and is called with just that: then it must succeed. An operation that fails in any other way
//! ends it all.

mod operation;
mod outcome;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;

use self::{
    operation::{ALL, Operation, Places},
    outcome::{Ceiling, Outcome},
};
use crate::{
    crypto::Key,
    data::files,
    machine, measure,
    measure::Usage,
    print,
    program::{Ark, Place, Program, Restic},
    room, synthetic,
    work::Work,
};

/// Bytes that a blob takes in the file system: in lists of packs, index and directories.
const ROOM: u64 = 250;
/// Bytes of memory that a blob takes in restic, at most, beside that.
const MEMORY: u64 = 500;
/// Files of the small backup.
const FILES: u64 = 200;
/// How often Ark may name a number that is too small before that is an error.
const TRIES: usize = 3;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ark's command
    #[arg(long)]
    ark: PathBuf,
    /// restic
    #[arg(long)]
    restic: PathBuf,
    /// Blobs of file content
    #[arg(long, default_value_t = 10_000_000)]
    blobs: u64,
    /// Where to work: a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    work: PathBuf,
    /// Write the results as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this operation; may be repeated
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
}

/// What a run has.
struct Run {
    work: Work,
    ark: Ark,
    restic: Restic,
    /// The repository.
    repo: PathBuf,
    /// What is backed up.
    source: PathBuf,
}

/// Measures all, and shows what was measured before something went wrong.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = selected(&options.cases)?;
    let room = options.blobs * ROOM + (512 << 20);
    let memory = room + options.blobs * MEMORY;
    let packs = options.blobs.div_ceil(synthetic::PER_PACK) * 12 / 10;
    let less = "`--blobs` takes fewer";
    room::enough(&options.work, (room, memory), packs, less)?;
    let work = Work::new(&options.work)?;
    let run = Run {
        repo: work.path("repo"),
        source: work.folder("source")?,
        work,
        ark: Ark(options.ark.clone()),
        restic: Restic(options.restic.clone()),
    };
    let programs: [(_, &dyn Program); 2] = [("ark", &run.ark), ("restic", &run.restic)];
    let about = machine::about(&programs, false)?;
    for line in about.lines() {
        print::note(&line);
    }
    files::small(&run.source, FILES, 5)?;
    let made = run.make(options.blobs)?;
    let mut outcomes = Vec::new();
    let ended = wanted.into_iter().try_for_each(|operation| {
        outcomes.push(run.measure(operation)?);
        Ok(())
    });
    for line in about
        .lines()
        .into_iter()
        .chain(outcome::lines(&made, &outcomes))
    {
        print::data(&line);
    }
    if let Some(path) = &options.json {
        outcome::write(path, &about, &made, &outcomes)?;
    }
    ended
}

/// The operations asked for, or all.
fn selected(asked: &[String]) -> Result<Vec<&'static Operation>> {
    let names: Vec<&str> = ALL.iter().map(|operation| operation.name).collect();
    if let Some(unknown) = asked.iter().find(|one| !names.contains(&one.as_str())) {
        bail!(
            "there is no operation {unknown:?}: choose from {}",
            names.join(", ")
        );
    }
    let wanted =
        |operation: &&Operation| asked.is_empty() || asked.iter().any(|one| one == operation.name);
    Ok(ALL.iter().filter(wanted).collect())
}

impl Run {
    fn place(&self) -> Place {
        Place::Local(self.repo.clone())
    }

    /// Makes the repository, with a small backup in it for what restores.
    fn make(&self, blobs: u64) -> Result<synthetic::Made> {
        print::step(&format!("a repository of {blobs} blobs"));
        let init = self.ark.call(&self.place(), "init");
        measure::run(&self.work, &init.arg("--random-password"))?;
        let key = self.key()?;
        let made =
            synthetic::write(&self.repo, &key, blobs).context("cannot write a repository")?;
        // What is restored and copied has to be there, whatever operations were asked for.
        let enough = (512 << 20) + blobs * 64;
        let backup = self.ark.call(&self.place(), "backup").arg(&self.source);
        let backup = backup.args(["--memory".to_owned(), enough.to_string()]);
        measure::run(&self.work, &backup)?;
        for line in outcome::made(&made) {
            print::note(&line);
        }
        Ok(made)
    }

    /// The repository's key, as restic tells it.
    fn key(&self) -> Result<Key> {
        let call = self.restic.call(&self.place(), "cat").arg("masterkey");
        let json: serde_json::Value =
            serde_json::from_str(&call.output()?).context("restic does not tell the key")?;
        let mut bytes = Vec::new();
        for part in ["/encrypt", "/mac/k", "/mac/r"] {
            let text = json.pointer(part).and_then(|part| part.as_str());
            let text = text.context("the key lacks a part")?;
            bytes.extend(STANDARD.decode(text).context("the key is no base64")?);
        }
        let bytes: [u8; 64] = bytes
            .try_into()
            .map_err(|_| anyhow::anyhow!("the key has another length"))?;
        Ok(Key::from_bytes(&bytes))
    }

    fn measure(&self, operation: &'static Operation) -> Result<Outcome> {
        print::step(&format!("{}: {}", operation.name, operation.title));
        let (ark, ceiling) = self.ark(operation)?;
        print::note(&format!("ark     {}", outcome::shown(&ark)));
        let places = self.places(&self.restic, operation)?;
        let call = operation.restic(&self.restic, &places);
        let restic = measure::run(&self.work, &call)?;
        print::note(&format!("restic  {}", outcome::shown(&restic)));
        Ok(Outcome {
            operation,
            ceiling,
            ark,
            restic,
        })
    }

    /// Runs Ark's, with as much memory as it says it needs.
    fn ark(&self, operation: &Operation) -> Result<(Usage, Ceiling)> {
        let mut ceiling = Ceiling::default();
        loop {
            let places = self.places(&self.ark, operation)?;
            let call = operation.ark(&self.ark, &places, ceiling.named());
            let attempt = measure::attempt(&self.work, &call)?;
            if !attempt.succeeded()
                && let Some(needed) = needed(&attempt.said)
            {
                print::note(&format!("ark     needs {} MiB", needed >> 20));
                ceiling.add(needed, attempt.usage);
                ensure!(
                    ceiling.tries() <= TRIES,
                    "ark named too little memory {TRIES} times for {}: {}",
                    operation.name,
                    attempt.said
                );
                continue;
            }
            return Ok((measure::expect(&call, attempt)?, ceiling));
        }
    }

    /// Places as an operation finds them: an empty target, and another, empty repository if it
    /// needs one.
    fn places(&self, program: &dyn Program, operation: &Operation) -> Result<Places> {
        let target = self.work.folder("target")?;
        self.work.remove("other")?;
        let other = Place::Local(self.work.path("other"));
        if operation.needs_other() {
            measure::run(&self.work, &program.init(&other))?;
        }
        Ok(Places {
            repo: self.place(),
            source: self.source.clone(),
            target,
            other,
        })
    }
}

/// The number in what Ark says when memory does not suffice.
fn needed(said: &str) -> Option<u64> {
    let (before, _) = said.split_once(" bytes of memory in all")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_operation_is_refused_with_the_known_ones() {
        let error = selected(&["nothing".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("repair-index"), "{error}");
        assert_eq!(selected(&["find".to_owned()]).unwrap().len(), 1);
        assert_eq!(selected(&[]).unwrap().len(), ALL.len());
    }

    #[test]
    fn the_memory_needed_is_read_from_the_error() {
        let said = "error: the index of the repository /r needs 501234567 bytes of memory in all, 268435456 are allowed\n";
        assert_eq!(needed(said), Some(501_234_567));
        assert_eq!(needed("error: no such repository"), None);
    }
}
