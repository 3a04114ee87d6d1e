//! One run: its folder, its programs, its sizes and what came of each case; and the three ways of
//! measuring: first backups, later backups, restores.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bound::{Bound, Load, Speeds},
    case::{ALL, Case},
    data::tree::{self, Listing},
    measure::{self, Call},
    print,
    program::{Ark, Backup, Place, Program, Restic, Rustic, Who},
    report::Outcome,
    room::Sizes,
    rounds::{Rounds, Sample, Samples},
    statistics::median,
    work::Work,
};

/// Bytes that a run which writes little takes at most, its own memory included.
const LITTLE: u64 = 1 << 30;

/// What a run has.
pub(crate) struct Run {
    /// Its folder.
    pub(crate) work: Work,
    /// The programs.
    pub(crate) ark: Ark,
    /// See above.
    pub(crate) restic: Restic,
    /// See above.
    pub(crate) rustic: Rustic,
    /// How much data.
    pub(crate) sizes: Sizes,
    /// How often.
    pub(crate) rounds: Rounds,
    /// The cases asked for; all if empty.
    pub(crate) wanted: Vec<String>,
    /// What came of those that are done.
    pub(crate) outcomes: Vec<Outcome>,
}

/// A repository of each program with one snapshot, and what it consists of.
pub(crate) struct Bases(BTreeMap<Who, (PathBuf, Listing)>);

impl Run {
    /// The case of this name, if it was asked for.
    pub(crate) fn case(&self, name: &str) -> Option<Case> {
        let asked = self.wanted.is_empty() || self.wanted.iter().any(|one| one == name);
        let case = ALL.iter().find(|case| case.name == name).copied();
        case.filter(|_| asked)
    }

    /// Whether any of these was asked for.
    pub(crate) fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.case(name).is_some())
    }

    /// A program.
    pub(crate) fn program(&self, who: Who) -> &dyn Program {
        match who {
            Who::Ark => &self.ark,
            Who::Restic => &self.restic,
            Who::Rustic => &self.rustic,
        }
    }

    /// A new repository in a directory.
    fn fresh(&self, who: Who) -> Result<(PathBuf, Place)> {
        let dir = self.work.folder(&format!("repository-{}", who.name()))?;
        let place = Place::Local(dir.clone());
        measure::run(&self.work, &self.program(who).init(&place))?;
        Ok((dir, place))
    }

    /// A case of first backups: each into a new repository.
    pub(crate) fn first(&mut self, case: Case, backup: &Backup<'_>, chunk: usize) -> Result<()> {
        print::step(&format!("{}: {}", case.name, case.title));
        let bytes = Listing::of(backup.source)?.bytes();
        let samples = self.rounds.run(|who, round| {
            let (dir, place) = self.fresh(who)?;
            let before = Listing::of(&dir)?.bytes();
            self.work.warm(bytes)?;
            let usage = measure::run(&self.work, &self.program(who).backup(&place, backup))?;
            let added = Listing::of(&dir)?.bytes() - before;
            if who == Who::Ark && round == 0 {
                measure::run(&self.work, &self.restic.check(&place))
                    .context("restic finds Ark's repository damaged")?;
            }
            self.work.remove(&format!("repository-{}", who.name()))?;
            Ok(Sample {
                usage,
                added,
                requests: None,
            })
        })?;
        let speeds = self.speeds(backup.source, chunk)?;
        let bound = speeds.map(|speeds| bound_of_backup(&speeds, backup.source, &samples));
        self.done(case, samples, bound.transpose()?);
        Ok(())
    }

    /// A repository of each program with one backup in it.
    pub(crate) fn bases(&self, backup: &Backup<'_>, whose: &[Who]) -> Result<Bases> {
        let mut bases = BTreeMap::new();
        for &who in whose {
            print::note(&format!("a repository of {} to start from", who.name()));
            let (dir, place) = self.fresh(who)?;
            measure::run(&self.work, &self.program(who).backup(&place, backup))?;
            let listing = Listing::of(&dir)?;
            bases.insert(who, (dir, listing));
        }
        Ok(Bases(bases))
    }

    /// A case of later backups. Each starts from the same repository: what a run adds is removed again.
    /// `all_read` is the length of chunks where all content is read again; what is read is not known otherwise.
    pub(crate) fn later(
        &mut self,
        case: Case,
        backup: &Backup<'_>,
        bases: &Bases,
        all_read: Option<usize>,
        before: impl Fn() -> Result<()>,
    ) -> Result<()> {
        print::step(&format!("{}: {}", case.name, case.title));
        let samples = self.rounds.run(|who, _| {
            let (dir, listing) = bases.of(who)?;
            before()?;
            let place = Place::Local(dir.to_owned());
            self.work.warm(LITTLE)?;
            let usage = measure::run(&self.work, &self.program(who).backup(&place, backup))?;
            let added = Listing::of(dir)?.bytes() - listing.bytes();
            listing
                .roll_back(dir)
                .with_context(|| format!("{} cannot be run again", who.name()))?;
            Ok(Sample {
                usage,
                added,
                requests: None,
            })
        })?;
        let speeds = match all_read {
            Some(chunk) => self.speeds(backup.source, chunk)?,
            None => None,
        };
        let bound = speeds.map(|speeds| bound_of_backup(&speeds, backup.source, &samples));
        self.done(case, samples, bound.transpose()?);
        Ok(())
    }

    /// A case of restores. The first of each program is compared with the source.
    pub(crate) fn restores(&mut self, case: Case, source: &Path, bases: &Bases) -> Result<()> {
        print::step(&format!("{}: {}", case.name, case.title));
        let bytes = Listing::of(source)?.bytes();
        let samples = self.rounds.run(|who, round| {
            let target = self.work.folder("target")?;
            let (dir, _) = bases.of(who)?;
            let place = Place::Local(dir.to_owned());
            let call = self.program(who).restore(&place, &target);
            self.work.warm(bytes)?;
            let usage = measure::run(&self.work, &call)?;
            if round == 0 {
                let inside = target.join(source.strip_prefix("/").unwrap_or(source));
                let copy = if inside.is_dir() { inside } else { target };
                tree::same(source, &copy)
                    .with_context(|| format!("what {} restored is not the source", who.name()))?;
            }
            self.work.remove("target")?;
            Ok(Sample {
                usage,
                added: 0,
                requests: None,
            })
        })?;
        let (bytes, stored) = (float(bytes), float(bases.of(Who::Ark)?.1.bytes()));
        let speeds = self.speeds(source, 1 << 20)?;
        let bound = speeds.map(|speeds| Bound::restore(&speeds, Load::restore(bytes, stored)));
        self.done(case, samples, bound);
        Ok(())
    }

    /// A case of prunes: each of a copy of its program's repository. The space freed counts as
    /// nothing added.
    pub(crate) fn prunes(&mut self, case: Case, bases: &Bases) -> Result<()> {
        print::step(&format!("{}: {}", case.name, case.title));
        let samples = self.rounds.run(|who, round| {
            let dir = self.work.path("pruned");
            self.work.remove("pruned")?;
            // Objects are never changed, so the copy can share them.
            let copied = Command::new("cp")
                .arg("-al")
                .args([bases.of(who)?.0, &dir])
                .status()
                .context("cannot start cp")?;
            ensure!(copied.success(), "the repository could not be copied");
            let before = Listing::of(&dir)?.bytes();
            let place = Place::Local(dir.clone());
            self.work.warm(LITTLE)?;
            let usage = measure::run(&self.work, &self.program(who).prune(&place))?;
            let after = Listing::of(&dir)?.bytes();
            if round == 0 {
                ensure!(after < before, "{} freed nothing", who.name());
                print::note(&format!(
                    "{}: {} MiB of {} MiB are left",
                    who.name(),
                    after >> 20,
                    before >> 20
                ));
                if who == Who::Ark {
                    measure::run(&self.work, &self.restic.check(&place))
                        .context("restic finds what Ark pruned damaged")?;
                }
            }
            self.work.remove("pruned")?;
            Ok(Sample {
                usage,
                added: 0,
                requests: None,
            })
        })?;
        self.done(case, samples, None);
        Ok(())
    }

    /// A repository of each program with several backups in it, of which all but the first come
    /// after a change.
    pub(crate) fn series(
        &self,
        backup: &Backup<'_>,
        count: u64,
        change: impl Fn(u64) -> Result<()>,
    ) -> Result<Bases> {
        let mut places = Vec::new();
        for who in Who::ALL {
            let (dir, place) = self.fresh(who)?;
            places.push((who, dir, place));
        }
        for number in 0..count {
            if number > 0 {
                change(number)?;
            }
            for (who, _, place) in &places {
                measure::run(&self.work, &self.program(*who).backup(place, backup))?;
            }
        }
        let mut bases = BTreeMap::new();
        for (who, dir, place) in places {
            if who == Who::Ark {
                measure::run(&self.work, &self.restic.check(&place))
                    .context("restic finds Ark's repository damaged")?;
            }
            let listing = Listing::of(&dir)?;
            bases.insert(who, (dir, listing));
        }
        Ok(Bases(bases))
    }

    /// A case of commands that only read. What they leave behind, were it a lock, is an error.
    pub(crate) fn reads(
        &mut self,
        case: Case,
        bases: &Bases,
        call: impl Fn(&Self, Who, &Place) -> Call,
    ) -> Result<()> {
        print::step(&format!("{}: {}", case.name, case.title));
        let samples = self.rounds.run(|who, _| {
            let (dir, listing) = bases.of(who)?;
            let place = Place::Local(dir.to_owned());
            self.work.warm(LITTLE)?;
            let usage = measure::run(&self.work, &call(self, who, &place))?;
            let now = Listing::of(dir)?;
            ensure!(
                now.len() == listing.len() && now.bytes() == listing.bytes(),
                "{} changed its repository by reading it",
                who.name()
            );
            Ok(Sample {
                usage,
                added: 0,
                requests: None,
            })
        })?;
        self.done(case, samples, None);
        Ok(())
    }

    /// A case of checks that read all data. Each finds that its repository is whole, or the case
    /// fails.
    pub(crate) fn checks(&mut self, case: Case, source: &Path, bases: &Bases) -> Result<()> {
        print::step(&format!("{}: {}", case.name, case.title));
        let samples = self.rounds.run(|who, _| {
            let (dir, _) = bases.of(who)?;
            let place = Place::Local(dir.to_owned());
            self.work.warm(LITTLE)?;
            let usage = measure::run(&self.work, &self.program(who).check_data(&place))?;
            Ok(Sample {
                usage,
                added: 0,
                requests: None,
            })
        })?;
        let bytes = float(Listing::of(source)?.bytes());
        let stored = float(bases.of(Who::Ark)?.1.bytes());
        let speeds = self.speeds(source, 1 << 20)?;
        let bound = speeds.map(|speeds| Bound::restore(&speeds, Load::check(bytes, stored)));
        self.done(case, samples, bound);
        Ok(())
    }

    /// Removes the repositories.
    pub(crate) fn forget(&self, bases: Bases) -> Result<()> {
        for who in bases.0.into_keys() {
            self.work.remove(&format!("repository-{}", who.name()))?;
        }
        Ok(())
    }

    /// Notes what came of a case, and prints it.
    pub(crate) fn done(&mut self, case: Case, samples: Samples, bound: Option<Bound>) {
        let outcome = Outcome {
            case,
            samples,
            bound,
        };
        for line in outcome.lines() {
            print::note(&line);
        }
        self.outcomes.push(outcome);
    }

    /// How fast the steps are on this data.
    pub(crate) fn speeds(&self, source: &Path, chunk: usize) -> Result<Option<Speeds>> {
        let scratch = self.work.folder("scratch")?;
        let speeds = Speeds::measure(source, chunk, &scratch)?;
        self.work.remove("scratch")?;
        Ok(speeds)
    }
}

/// What bounds a backup that reads all of the source.
pub(crate) fn bound_of_backup(speeds: &Speeds, source: &Path, samples: &Samples) -> Result<Bound> {
    let added: Vec<f64> = samples
        .get(&Who::Ark)
        .into_iter()
        .flatten()
        .map(|sample| float(sample.added))
        .collect();
    let read = float(Listing::of(source)?.bytes());
    let added = median(&added).unwrap_or(0.0);
    Ok(Bound::backup(
        speeds,
        Load::backup(read, added, speeds.ratio),
    ))
}

impl Bases {
    fn of(&self, who: Who) -> Result<(&Path, &Listing)> {
        let (dir, listing) = self.0.get(&who).context("there is no such repository")?;
        Ok((dir, listing))
    }

    /// Where the repository of one of the programs is.
    pub(crate) fn place(&self, who: Who) -> Result<Place> {
        Ok(Place::Local(self.of(who)?.0.to_owned()))
    }

    /// Takes another repository for one of the programs.
    pub(crate) fn replace(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more than the 52 bits a float has"
)]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
