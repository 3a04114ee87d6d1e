//! Ceilings of memory, and the errors that name how much would do.

use ark_engine::{
    Cancel, Error, Progress, Repository, Result, Snapshot,
    maintain::{self, RepairSnapshotsRequest},
    stats::{self, StatsMode, StatsRequest, Totals},
};

/// What can be done in so many bytes.
pub type Operation<'a> = (&'a str, Box<dyn Fn(u64) -> Result<()> + 'a>);

/// With `little` bytes each is an error that names more, less than `most`, and with what it names
/// each succeeds at once.
pub fn what_is_named_suffices(operations: Vec<Operation<'_>>, little: u64, most: u64) {
    for (name, run) in operations {
        let needed = match run(little) {
            Err(Error::MemoryLimit { needed, limit, .. }) => {
                assert_eq!(limit, little, "{name}");
                needed
            }
            other => panic!("{name} with {little} bytes: {other:?}"),
        };
        assert!(needed > little && needed < most, "{name} named {needed}");
        run(needed).unwrap_or_else(|error| panic!("{name} with {needed} bytes: {error}"));
    }
}

/// What to count in so many bytes.
pub fn statistics(memory: u64) -> StatsRequest {
    StatsRequest {
        memory,
        ..StatsRequest::default()
    }
}

/// Counts in one mode, with nothing left out.
pub fn count(repo: &Repository, memory: u64, mode: StatsMode) -> Result<Totals> {
    let totals = stats::count(repo, &statistics(memory), mode, &Cancel::new())?;
    assert_eq!(totals.problems, [""; 0]);
    Ok(totals)
}

/// Repairs a snapshot that needs none.
pub fn repair_snapshots<'a>(repo: &'a Repository, snapshot: &'a Snapshot) -> Operation<'a> {
    let run = |memory| {
        let request = RepairSnapshotsRequest {
            memory,
            ..RepairSnapshotsRequest::new(vec![snapshot.clone()])
        };
        let (progress, cancel) = (Progress::new(), Cancel::new());
        let report = maintain::repair_snapshots(repo, &request, &progress, &cancel)?;
        assert_eq!(report.sound, 1);
        Ok(())
    };
    ("repair snapshots", Box::new(run))
}
