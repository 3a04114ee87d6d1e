//! The part of a prune that nobody may work beside: look again, decide for good, prove, remove.
//!
//! Everything is decided by what the store holds now. A pack that was to go, and that a snapshot
//! made meanwhile needs, stays; so does one whose copy is not there. If index files that were read
//! are gone, somebody else has pruned or repaired, and all is looked at anew.
//!
//! Order: clocks compared; snapshots, index files and packs listed; new ones read; the index files
//! found that have to be replaced; all that while the lock settles. Then snapshots and index files
//! listed again: if they are others, all is decided anew. New index files written; proof from the
//! store alone ([`proof`](super::proof)); old index files removed; packs removed; unfinished
//! uploads removed. Whatever ends it earlier leaves index files that repeat what others say, or
//! packs that no index file names: the next prune removes them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::{
    PruneReport, clock,
    later::Later,
    plan::{self, Fate, Limits},
    proof::{self, Going},
    strays::Strays,
    survey::{self, Survey},
};
use crate::{
    Cancel,
    crypto::Id,
    error::{Error, Result},
    format::pack,
    index::{Bits, Record},
    maintain::{
        lists::{Lists, Stale},
        packing::Allowed,
        unfinished::Unfinished,
    },
    repo::{Repository, lock::Guard},
    storage::Store,
};

/// Files removed at the same time.
const PARALLEL: usize = 8;

/// What the first part found and did.
pub(super) struct Planned {
    pub(super) survey: Survey,
    pub(super) fates: Vec<Fate>,
    /// Numbers of the packs that were copied.
    pub(super) copied: BTreeSet<u32>,
    /// What the survey found to be needed; deciding marks there what newer snapshots need.
    needed: Bits,
    /// The survey counts what they need.
    later: bool,
    /// What no index file names; only for a dry run.
    pub(super) strays: Option<Strays>,
}

impl Planned {
    pub(super) fn new(survey: Survey, fates: Vec<Fate>) -> Self {
        Self {
            needed: survey.used.clone(),
            survey,
            fates,
            copied: BTreeSet::new(),
            later: false,
            strays: None,
        }
    }

    /// What a run would report.
    pub(super) fn would_do(&self) -> PruneReport {
        let mut report = plan::report(&self.survey.packs, &self.fates);
        if let Some(strays) = &self.strays {
            strays.count(&mut report);
        }
        report
    }
}

/// The second part.
pub(super) struct Commit<'a> {
    pub(super) repo: &'a Repository,
    pub(super) store: &'a Store,
    pub(super) limits: Limits,
    /// Of what no index file names.
    pub(super) strays_older_than: Duration,
    /// Bytes.
    pub(super) memory: u64,
    pub(super) allowed: Allowed<'a>,
    pub(super) cancel: &'a Cancel,
    pub(super) lock: &'a Guard,
}

/// Snapshots and index files as the store lists them.
#[derive(PartialEq, Eq)]
struct Look {
    snapshots: BTreeMap<String, Id>,
    files: BTreeMap<Id, u64>,
    file_times: BTreeMap<Id, Option<Timestamp>>,
}

/// What is to be done.
struct Decided {
    later: Later,
    /// Packs that index files shall not name any more.
    going: HashSet<Id>,
    /// Index files that name them.
    stale: Stale,
    /// Packs to be removed.
    packs: BTreeSet<Id>,
    /// Unfinished uploads to be removed.
    unfinished: Vec<Unfinished>,
    report: PruneReport,
}

impl Commit<'_> {
    /// Removes what is not needed. Decides while the lock settles, and anew if somebody was there
    /// in between.
    pub(super) fn run(&self, planned: Planned) -> Result<PruneReport> {
        let mut planned = Some(planned);
        let since = clock::since(self.repo, self.lock)?;
        let early = self.look().and_then(|look| {
            let decided = self.decide(&mut planned, &look, since)?;
            Ok((look, decided))
        });
        self.repo.block_on(self.lock.held())?;
        let look = self.look()?;
        let early = match early {
            Ok((early, decided)) => (early == look).then_some(decided),
            // What could not be read may have been somebody else's doing.
            Err(error) if error.is_content() => None,
            Err(error) => return Err(error),
        };
        let decided = match early {
            Some(decided) => decided,
            None => self.decide(&mut planned, &look, since)?,
        };
        let Decided {
            later,
            going,
            stale,
            packs,
            unfinished,
            report,
        } = decided;
        let survey = &planned.as_ref().ok_or_else(no_plan)?.survey;
        for id in &packs {
            let modified = survey.listed.get(id).and_then(|listed| listed.modified);
            clock::is_older(self.repo, &pack::path(id), modified, since)?;
        }
        let lists = Lists {
            repo: self.repo,
            store: self.store,
            allowed: self.allowed,
            going: &going,
        };
        let indexes = self.repo.block_on(lists.replace(stale))?;
        for id in &indexes {
            let modified = look.file_times.get(id).copied().flatten();
            clock::is_older(self.repo, &format!("index/{id}"), modified, since)?;
        }
        let uploads = || unfinished.iter().map(|one| one.path.clone());
        if indexes.is_empty() && packs.is_empty() {
            self.repo.block_on(self.delete(uploads()))?;
            return Ok(report);
        }
        let mut all = going;
        all.extend(&packs);
        let going = Going {
            indexes,
            packs: all,
        };
        proof::nothing_is_missed(self.repo, self.store, (survey, &later), &going)?;
        self.repo.block_on(self.remove(&going.indexes, &packs))?;
        self.repo.block_on(self.delete(uploads()))?;
        Ok(report)
    }

    fn look(&self) -> Result<Look> {
        let snapshots = survey::roots(self.repo, self.store, &BTreeSet::new())?;
        let (files, file_times) = self.files()?;
        Ok(Look {
            snapshots,
            files,
            file_times,
        })
    }

    /// Decides by what there is. Nothing is written.
    fn decide(
        &self,
        place: &mut Option<Planned>,
        look: &Look,
        since: Option<Timestamp>,
    ) -> Result<Decided> {
        let known = |id: &Id| look.files.contains_key(id);
        let valid = |planned: &Planned| planned.survey.index.files().iter().all(known);
        if let Some(planned) = place.as_mut().filter(|planned| valid(planned)) {
            planned.survey.listed = self.repo.block_on(survey::packs(self.store))?;
        } else {
            tracing::info!("the index was changed by somebody: looking at everything anew");
            // There is no memory for two.
            *place = None;
            *place = Some(self.anew()?);
        }
        let planned = place.as_mut().ok_or_else(no_plan)?;
        let Planned {
            survey,
            fates,
            copied,
            needed,
            later: counted,
            strays: _,
        } = planned;
        survey.used = needed.clone();
        let mut going: BTreeSet<u32> = (0..)
            .zip(&*fates)
            .filter(|(n, fate)| match fate {
                Fate::Stays => false,
                Fate::Goes => true,
                Fate::WrittenAnew => copied.contains(n),
            })
            .map(|(n, _)| n)
            .collect();
        let later = Later::look(
            (self.repo, self.store),
            survey,
            &look.snapshots,
            &look.files,
            self.memory,
            self.cancel,
        )?;
        if later.snapshots > 0 || *counted {
            survey.count(&self.limits);
            *counted = later.snapshots > 0;
        }
        self.keep_what_is_needed(survey, &later, &mut going)?;
        let stays = |n: &u32| !going.contains(n);
        let fates: Vec<Fate> = (0..)
            .zip(&*fates)
            .map(|(n, fate)| if stays(&n) { Fate::Stays } else { *fate })
            .collect();
        let mut report = plan::report(&survey.packs, &fates);
        let parts = (self.repo, self.store);
        let unnamed = Strays::find(parts, survey, Some(&later), since, self.strays_older_than)?;
        unnamed.count(&mut report);

        let going: HashSet<Id> = going.iter().map(|n| survey.index.pack(*n).0).collect();
        let there = |id: &&Id| survey.listed.contains_key(*id);
        let packs: BTreeSet<Id> = going
            .iter()
            .filter(there)
            .chain(unnamed.packs.keys())
            .copied()
            .collect();
        let stale = Stale::find(parts, &look.files, &going);
        let stale = self.repo.block_on(stale)?;
        Ok(Decided {
            later,
            going,
            stale,
            packs,
            unfinished: unnamed.unfinished,
            report,
        })
    }

    /// Index files with their sizes, and when they were written.
    #[expect(clippy::type_complexity, reason = "two maps by the same ids")]
    fn files(&self) -> Result<(BTreeMap<Id, u64>, BTreeMap<Id, Option<Timestamp>>)> {
        let entries = self.repo.block_on(self.store.list("index"))?;
        let named = entries.iter().filter(|entry| !entry.is_dir);
        let named = named.filter_map(|entry| Some((Id::parse(&entry.name)?, entry)));
        Ok(named
            .map(|(id, entry)| ((id, entry.size), (id, entry.modified)))
            .unzip())
    }

    /// Only what nothing is used of goes: there is no time to copy anything now.
    fn anew(&self) -> Result<Planned> {
        let limits = Limits {
            max_repack: Some(0),
            ..self.limits
        };
        let survey = Survey::take(
            self.repo,
            self.store,
            &BTreeSet::new(),
            &limits,
            self.memory,
            self.cancel,
        )?;
        let fates = plan::decide(&survey.packs, &limits);
        Ok(Planned::new(survey, fates))
    }

    /// Takes back from what goes whatever holds the only copy of something needed.
    fn keep_what_is_needed(
        &self,
        survey: &Survey,
        later: &Later,
        going: &mut BTreeSet<u32>,
    ) -> Result<()> {
        let whole: Vec<bool> = (0..)
            .take(survey.packs.len())
            .map(|n| survey.is_whole(n))
            .collect();
        let is_whole = |record: &Record| whole[record.place.pack as usize];
        let is_later = |record: &Record| {
            let mut id = Id([0; 32]);
            id.0[..record.prefix.len()].copy_from_slice(&record.prefix);
            let position = later.index.position(record.kind, &id);
            position.is_some_and(|position| {
                later.index.places(position).any(|place| {
                    let (pack, end) = later.index.pack(place.pack);
                    survey::is_whole(survey.listed.get(&pack), end)
                })
            })
        };
        let mut lost = None;
        survey.blobs(|used, copies| {
            let stays = |record: &Record| !going.contains(&record.place.pack) && is_whole(record);
            if !used || copies.iter().any(stays) || is_later(&copies[0]) {
                return;
            }
            let whole: Vec<Record> = copies.iter().filter(|one| is_whole(one)).copied().collect();
            if whole.is_empty() {
                lost = Some(copies[0].place.pack);
            } else {
                going.remove(&whole[survey.chosen(&whole)].place.pack);
            }
        });
        match lost {
            Some(pack) => Err(survey::missing(self.repo, &survey.index.pack(pack).0)),
            None => Ok(()),
        }
    }

    /// Index files first: packs that are gone must not be named by any.
    async fn remove(&self, indexes: &BTreeSet<Id>, packs: &BTreeSet<Id>) -> Result<()> {
        let indexes = indexes.iter().map(|id| format!("index/{id}"));
        self.delete(indexes).await?;
        self.delete(packs.iter().map(pack::path)).await
    }

    async fn delete(&self, paths: impl Iterator<Item = String>) -> Result<()> {
        futures::stream::iter(paths)
            .map(|path| async move {
                (self.allowed)()?;
                self.store.delete(&path).await
            })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }
}

fn no_plan() -> Error {
    Error::Bug("a prune has nothing to decide by".to_owned())
}
