//! What was measured, as a table and as JSON.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::operation::Operation;
use crate::{
    measure::Usage,
    report::{self, About},
    synthetic::Made,
};

const MIB: f64 = 1024.0 * 1024.0;

/// What Ark said it needs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ceiling {
    /// Bytes, each time that what it had did not suffice, and what it took to find that out.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    needed: u64,
    usage: Usage,
}

impl Ceiling {
    /// It did not suffice.
    pub(super) fn add(&mut self, needed: u64, usage: Usage) {
        self.refused.push(Refused { needed, usage });
    }

    /// The last number that was named.
    pub(super) fn named(&self) -> Option<u64> {
        self.refused.last().map(|refused| refused.needed)
    }

    /// How often it did not suffice.
    pub(super) fn tries(&self) -> usize {
        self.refused.len()
    }
}

/// One operation.
pub(super) struct Outcome {
    pub(super) operation: &'static Operation,
    pub(super) ceiling: Ceiling,
    pub(super) ark: Usage,
    pub(super) restic: Usage,
}

/// A usage in words.
pub(super) fn shown(usage: &Usage) -> String {
    format!("{:.0} MiB, {:.2} s", mib(usage.peak_rss), usage.wall)
}

/// What the repository is.
pub(super) fn made(made: &Made) -> Vec<String> {
    let Made {
        data,
        used,
        trees,
        packs,
        indexes,
        snapshots,
        bytes,
    } = made;
    vec![
        format!(
            "blobs     {data} of file content, of which {used} are used; {trees} of directories"
        ),
        format!(
            "packs     {packs}, {} GiB with what is left out",
            bytes >> 30
        ),
        format!("index     {indexes} files"),
        format!("snapshots {snapshots}"),
    ]
}

/// The table.
pub(super) fn lines(of: &Made, outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = made(of);
    lines.push(String::new());
    lines.push(format!(
        "{:<18}{:>9}{:>10}{:>9}{:>11}{:>12}{:>9}{:>10}{:>9}",
        "peak RSS, MiB",
        "ark",
        "restic",
        "ark/",
        "per blob",
        "ceiling",
        "ark s",
        "restic s",
        "ark/"
    ));
    for outcome in outcomes {
        let (ark, restic) = (&outcome.ark, &outcome.restic);
        let ceiling = match outcome.ceiling.named() {
            Some(bytes) => format!("{:.0}", mib(bytes)),
            None => "default".to_owned(),
        };
        let again = match outcome.ceiling.tries() {
            0 | 1 => String::new(),
            tries => format!("  named {tries} times"),
        };
        lines.push(format!(
            "{:<18}{:>9.0}{:>10.0}{:>9.2}{:>11}{:>12}{:>9.2}{:>10.2}{:>9.2}{again}",
            outcome.operation.name,
            mib(ark.peak_rss),
            mib(restic.peak_rss),
            mib(ark.peak_rss) / mib(restic.peak_rss),
            format!("{} / {}", per_blob(ark, of), per_blob(restic, of)),
            ceiling,
            ark.wall,
            restic.wall,
            ark.wall / restic.wall,
        ));
    }
    lines.push(
        "ceiling: what Ark named when its default of 256 MiB did not suffice, and then got"
            .to_owned(),
    );
    lines
}

fn per_blob(usage: &Usage, of: &Made) -> u64 {
    usage.peak_rss / (of.data + of.trees).max(1)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure shown needs no more than the 52 bits a float has"
)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// Writes everything as JSON.
pub(super) fn write(path: &Path, about: &About, of: &Made, outcomes: &[Outcome]) -> Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        about: &'a About,
        blobs: u64,
        operations: Vec<Row<'a>>,
    }
    #[derive(Serialize)]
    struct Row<'a> {
        name: &'a str,
        ark: &'a Usage,
        restic: &'a Usage,
        ceiling: &'a Ceiling,
    }
    let document = Document {
        about,
        blobs: of.data + of.trees,
        operations: outcomes
            .iter()
            .map(|outcome| Row {
                name: outcome.operation.name,
                ark: &outcome.ark,
                restic: &outcome.restic,
                ceiling: &outcome.ceiling,
            })
            .collect(),
    };
    report::document(path, &document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::operation::ALL;

    #[test]
    fn the_table_tells_memory_ratio_and_what_was_named() {
        let usage = |mib: u64| Usage {
            wall: 2.0,
            user: 1.0,
            system: 0.5,
            peak_rss: mib << 20,
        };
        let mut ceiling = Ceiling::default();
        ceiling.add(500 << 20, usage(80));
        let of = Made {
            data: 1 << 20,
            ..Made::default()
        };
        let outcome = Outcome {
            operation: &ALL[1],
            ceiling,
            ark: usage(450),
            restic: usage(900),
        };
        let lines = lines(&of, &[outcome]);
        let row = lines.iter().find(|line| line.starts_with("check")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "check", "450", "900", "0.50", "450", "/", "900", "500", "2.00", "2.00", "1.00"
            ]
        );
    }
}
