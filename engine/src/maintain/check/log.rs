//! The findings of a check, from several threads, each with what tells later whom it affects.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{CheckReport, Finding, Object, Problem, Severity};
use crate::{crypto::Id, format::index::BlobKind};

/// Findings kept; more are counted.
const MOST: usize = 10_000;
/// Missing blobs of which it is known that they were found out.
const MISSING: usize = 100_000;

/// Why a snapshot is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// It is no content of snapshots.
    Nothing,
    /// All blobs of a pack are lost, of which this is the number.
    Pack(u32),
    /// The blob whose record in the index has this position is lost.
    Record(u32),
    /// A blob that is in no index.
    Missing(BlobKind, Id),
    /// Something in the directory at this position.
    Inside(u32),
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    found: Vec<(Finding, Cause)>,
    missing: HashSet<(BlobKind, Id)>,
    damage_dropped: u64,
    oddities_dropped: u64,
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, object: Object, problem: Problem, cause: Cause) {
        let mut state = self.state();
        if state.found.len() < MOST {
            state.found.push((Finding::new(object, problem), cause));
        } else if problem.severity() == Severity::Damage {
            // Oddities give way.
            let odd = |(finding, _): &(Finding, Cause)| finding.severity() == Severity::Oddity;
            match state.found.iter().rposition(odd) {
                Some(at) => {
                    state.found[at] = (Finding::new(object, problem), cause);
                    state.oddities_dropped += 1;
                }
                None => state.damage_dropped += 1,
            }
        } else {
            state.oddities_dropped += 1;
        }
    }

    /// A blob that is needed is in no index. Found out once, however many need it.
    pub(super) fn missing(&self, kind: BlobKind, id: Id) {
        let mut state = self.state();
        if state.missing.contains(&(kind, id)) {
            return;
        }
        if state.missing.len() < MISSING {
            state.missing.insert((kind, id));
        }
        drop(state);
        let object = match kind {
            BlobKind::Data => Object::Data(id.to_string()),
            BlobKind::Tree => Object::Tree(id.to_string()),
        };
        self.add(object, Problem::BlobMissing, Cause::Missing(kind, id));
    }

    /// The causes of damage that snapshots may have, each with the number of its finding.
    pub(super) fn causes(&self) -> Vec<(usize, Cause)> {
        let state = self.state();
        let all = state.found.iter().map(|(_, cause)| *cause).enumerate();
        let mut causes: Vec<_> = all.collect();
        causes.retain(|(at, cause)| {
            *cause != Cause::Nothing && state.found[*at].0.severity() == Severity::Damage
        });
        causes
    }

    /// Changes a finding.
    pub(super) fn change(&self, number: usize, change: impl FnOnce(&mut Finding)) {
        if let Some((finding, _)) = self.state().found.get_mut(number) {
            change(finding);
        }
    }

    /// Puts all findings into a report, the worst first, in an order that does not depend on
    /// threads.
    pub(super) fn report(&self, report: &mut CheckReport) {
        let mut state = self.state();
        report.findings = state.found.drain(..).map(|(finding, _)| finding).collect();
        report.findings.sort_by(|a, b| {
            b.severity()
                .cmp(&a.severity())
                .then_with(|| a.object.cmp(&b.object))
                .then_with(|| a.problem.code().cmp(b.problem.code()))
        });
        (report.damage_dropped, report.oddities_dropped) =
            (state.damage_dropped, state.oddities_dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_kept_before_oddities_and_all_is_counted() {
        let log = Log::default();
        let id = |n: usize| Object::Pack(format!("{n:064}"));
        for n in 0..MOST {
            log.add(id(n), Problem::PackMixed, Cause::Nothing);
        }
        log.add(id(1), Problem::PackMixed, Cause::Nothing);
        for n in 0..=MOST {
            log.add(id(n), Problem::PackMissing, Cause::Nothing);
        }
        let mut report = CheckReport::default();
        log.report(&mut report);
        assert_eq!(report.findings.len(), MOST);
        assert_eq!(report.of(Severity::Damage).count(), MOST);
        assert_eq!(
            (report.damage_dropped, report.oddities_dropped),
            (1, MOST as u64 + 1)
        );
    }

    #[test]
    fn a_missing_blob_is_found_once() {
        let log = Log::default();
        for _ in 0..3 {
            log.missing(BlobKind::Data, Id::of(b"a"));
            log.missing(BlobKind::Tree, Id::of(b"a"));
        }
        assert_eq!(log.causes().len(), 2);
    }
}
