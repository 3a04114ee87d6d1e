//! The operations that are measured, as each program takes them.

use std::path::PathBuf;

use crate::{
    measure::Call,
    program::{Ark, PASSWORD, Place, Restic},
};

/// What an operation works on.
pub(super) struct Places {
    /// The repository.
    pub(super) repo: Place,
    /// A folder to be backed up.
    pub(super) source: PathBuf,
    /// An empty folder.
    pub(super) target: PathBuf,
    /// An empty repository.
    pub(super) other: Place,
}

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) title: &'static str,
    /// The command and its arguments.
    ark: &'static [&'static str],
    /// The same for restic.
    restic: &'static [&'static str],
    /// Whether Ark's takes `--memory`.
    has_ceiling: bool,
}

const fn operation(
    name: &'static str,
    title: &'static str,
    ark: &'static [&'static str],
    restic: &'static [&'static str],
) -> Operation {
    Operation {
        name,
        title,
        ark,
        restic,
        has_ceiling: true,
    }
}

/// All, in the order in which they run: the small backup is there before it is restored and copied,
/// and what changes the index comes last.
pub(super) const ALL: &[Operation] = &[
    Operation {
        has_ceiling: false,
        ..operation(
            "forget",
            "planning which snapshots stay",
            &["forget", "--keep-last", "10", "--dry-run"],
            &["forget", "--keep-last", "10", "--dry-run"],
        )
    },
    operation("check", "check of the structure", &["check"], &["check"]),
    operation(
        "prune",
        "planning of a prune",
        &["prune", "--dry-run", "--max-unused", "5%"],
        &["prune", "--dry-run", "--max-unused", "5%"],
    ),
    operation("stats", "statistics", &["stats"], &["stats"]),
    operation(
        "stats-raw",
        "statistics of what is stored",
        &["stats", "--mode", "raw-data"],
        &["stats", "--mode", "raw-data"],
    ),
    operation(
        "find",
        "a name in all snapshots",
        &["find", "file-000000001024"],
        &["find", "file-000000001024"],
    ),
    operation(
        "ls",
        "listing a snapshot",
        &["ls", "latest"],
        &["ls", "latest"],
    ),
    operation(
        "backup",
        "backup of 200 small files",
        &["backup", "{source}"],
        &["backup", "{source}"],
    ),
    operation(
        "restore",
        "restore of 200 small files",
        &["restore", "latest", "--target", "{target}"],
        &["restore", "latest", "--target", "{target}"],
    ),
    operation(
        "dump",
        "200 small files as an archive",
        &["dump", "latest", "/"],
        &["dump", "latest", "/"],
    ),
    operation(
        "copy",
        "copy of a snapshot of 200 small files",
        &["copy", "latest"],
        &["copy", "latest"],
    ),
    operation(
        "repair-index",
        "repair of an index that is whole",
        &["repair", "index"],
        &["repair", "index"],
    ),
    operation(
        "repair-index-all",
        "index made anew from all packs",
        &["repair", "index", "--read-all-packs"],
        &["repair", "index", "--read-all-packs"],
    ),
];

impl Operation {
    /// The call of Ark, with a ceiling of its own or with this one.
    pub(super) fn ark(&self, ark: &Ark, places: &Places, memory: Option<u64>) -> Call {
        let call = self.call(self.ark, places, |place, verb| ark.call(place, verb));
        match memory {
            Some(bytes) if self.has_ceiling => {
                call.args(["--memory".to_owned(), bytes.to_string()])
            }
            _ => call,
        }
    }

    /// The call of restic.
    pub(super) fn restic(&self, restic: &Restic, places: &Places) -> Call {
        self.call(self.restic, places, |place, verb| restic.call(place, verb))
    }

    /// Whether it needs another repository.
    pub(super) fn needs_other(&self) -> bool {
        self.ark.first() == Some(&"copy")
    }

    fn call(&self, words: &[&str], places: &Places, of: impl Fn(&Place, &str) -> Call) -> Call {
        let (verb, rest) = words.split_first().unwrap_or((&"", &[]));
        let mut call = if self.needs_other() {
            let call = of(&places.other, verb).variable("RESTIC_FROM_PASSWORD", PASSWORD);
            match &places.repo {
                Place::Local(repo) => call.arg("--from-repo").arg(repo),
                Place::S3 { .. } => call,
            }
        } else {
            of(&places.repo, verb)
        };
        for word in rest {
            call = match *word {
                "{source}" => call.arg(&places.source),
                "{target}" => call.arg(&places.target),
                word => call.arg(word),
            };
        }
        call
    }
}
