//! What nobody needs and no index file names: packs, and unfinished uploads.
//!
//! A program that backs up without a lock writes packs before the index file that names them. So a
//! stray stays until it is old, by the store's clock; one whose age is not known stays. Does: find
//! them, and tell the old from the young. Does not: remove them. An unfinished upload is known by
//! the name that writing it in a directory gives it; a bucket shows none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    PruneReport,
    later::Later,
    survey::{Listed, Survey},
};
use crate::crypto::Id;
use crate::{
    error::Result,
    maintain::unfinished::{self, Unfinished},
    repo::Repository,
    storage::Store,
};

/// What nobody needs and no index file names.
#[derive(Default)]
pub(super) struct Strays {
    /// Packs that are old enough to go.
    pub(super) packs: BTreeMap<Id, Listed>,
    /// Packs that stay for now.
    pub(super) young: BTreeMap<Id, Listed>,
    /// Unfinished uploads that are old enough to go.
    pub(super) unfinished: Vec<Unfinished>,
}

impl Strays {
    /// Finds them. `now` is the store's time; `None`: it tells none, and nothing is old.
    pub(super) fn find(
        (repo, store): (&Repository, &Store),
        survey: &Survey,
        later: Option<&Later>,
        now: Option<Timestamp>,
        age: Duration,
    ) -> Result<Self> {
        let is_old = |modified| is_old(modified, now, age);
        let later = later.into_iter().flat_map(|later| later.index.pack_ids());
        let named: BTreeSet<Id> = survey.index.pack_ids().chain(later).collect();
        let strays = survey.listed.iter().filter(|(id, _)| !named.contains(*id));
        let strays = strays.map(|(id, listed)| (*id, *listed));
        let (packs, young) = strays.partition(|(_, listed): &(Id, Listed)| is_old(listed.modified));
        let mut unfinished = repo.block_on(unfinished::list(store))?;
        unfinished.retain(|one| is_old(one.modified));
        Ok(Self {
            packs,
            young,
            unfinished,
        })
    }

    /// Adds them to a report.
    pub(super) fn count(&self, report: &mut PruneReport) {
        let bytes =
            |packs: &BTreeMap<Id, Listed>| packs.values().map(|pack| pack.size).sum::<u64>();
        report.unreferenced_packs += self.packs.len() as u64;
        report.unreferenced_bytes += bytes(&self.packs);
        report.young_packs = self.young.len() as u64;
        report.young_bytes = bytes(&self.young);
        report.unfinished_files = self.unfinished.len() as u64;
        report.unfinished_bytes = self.unfinished.iter().map(|one| one.size).sum();
    }
}

/// Whether something that the store saw written then is old enough now.
fn is_old(modified: Option<Timestamp>, now: Option<Timestamp>, age: Duration) -> bool {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let written = modified.zip(now);
    written.is_some_and(|(modified, now)| now.duration_since(modified) >= age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_young_or_of_unknown_age_stays() {
        let day = Duration::from_hours(24);
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert!(is_old(at(0), at(86_400), day));
        assert!(!is_old(at(1), at(86_400), day));
        assert!(!is_old(at(90_000), at(86_400), day), "of the future");
        assert!(!is_old(None, at(86_400), day));
        assert!(!is_old(at(0), None, day));
        assert!(is_old(at(5), at(5), Duration::ZERO));
    }
}
