//! What changed between two snapshots, as it is found: in restic's lines, or its JSON.

use std::io::{self, BufWriter, Stdout, Write};

use ark_engine::Snapshot;
use ark_engine::browse::{Compared, DiffCounts, DiffReport};
use serde_json::{Value, json};

use super::{short, shown};
use crate::print::Printer;

/// Writes differences.
pub(crate) struct Differences {
    out: BufWriter<Stdout>,
    json: bool,
    quiet: bool,
}

impl Differences {
    pub(crate) fn new(printer: Printer, json: bool, quiet: bool) -> Self {
        Self {
            out: printer.writer(),
            json,
            quiet,
        }
    }

    /// Says what is compared.
    pub(crate) fn begin(&mut self, before: &Snapshot, after: &Snapshot) -> io::Result<()> {
        if self.json || self.quiet {
            return Ok(());
        }
        let (before, after) = (short(&before.id), short(&after.id));
        writeln!(self.out, "comparing snapshot {before} to {after}:\n")
    }

    /// One more.
    pub(crate) fn changed(&mut self, compared: &Compared) -> io::Result<()> {
        let Compared::Changed {
            path,
            is_dir,
            change,
        } = compared
        else {
            return Ok(());
        };
        if self.quiet {
            return Ok(());
        }
        let end = if *is_dir { "/" } else { "" };
        let marker = change.marker();
        if self.json {
            let path = format!("{}{end}", path.to_string_lossy());
            let line = json!({"message_type": "change", "path": path, "modifier": marker});
            writeln!(self.out, "{line}")
        } else {
            writeln!(self.out, "{marker:<5}{}{end}", shown(path))
        }
    }

    /// The numbers.
    pub(crate) fn finish(
        mut self,
        (before, after): (&str, &str),
        report: &DiffReport,
    ) -> io::Result<()> {
        let text = if self.json {
            json!({
                "message_type": "statistics",
                "source_snapshot": before,
                "target_snapshot": after,
                "changed_files": report.changed_files,
                "added": counts(&report.added),
                "removed": counts(&report.removed),
            })
            .to_string()
        } else {
            numbers(report)
        };
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

fn counts(counts: &DiffCounts) -> Value {
    json!({
        "files": counts.files,
        "dirs": counts.dirs,
        "others": counts.others,
        "data_blobs": counts.data_blobs,
        "tree_blobs": counts.tree_blobs,
        "bytes": counts.bytes,
    })
}

fn numbers(report: &DiffReport) -> String {
    let (added, removed) = (&report.added, &report.removed);
    let both = |what: &str, added: u64, removed: u64| {
        format!(
            "{:<12} {added:5} new, {removed:5} removed",
            format!("{what}:")
        )
    };
    [
        String::new(),
        format!(
            "{}, {:5} changed",
            both("Files", added.files, removed.files),
            report.changed_files
        ),
        both("Dirs", added.dirs, removed.dirs),
        both("Others", added.others, removed.others),
        both("Data Blobs", added.data_blobs, removed.data_blobs),
        both("Tree Blobs", added.tree_blobs, removed.tree_blobs),
        format!("  Added:   {:<5}", size(added.bytes)),
        format!("  Removed: {:<5}", size(removed.bytes)),
    ]
    .join("\n")
}

/// Bytes as restic writes them here.
fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.into_iter().find(|(bits, _)| bytes >> bits > 0);
    let Some((bits, unit)) = fits else {
        return format!("{bytes} B");
    };
    // In thousandths, rounded.
    let thousandths = (u128::from(bytes) * 1000 + (1 << (bits - 1))) >> bits;
    format!("{}.{:03} {unit}", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.500 KiB");
        assert_eq!(size((5 << 20) + 1234), "5.001 MiB");
        assert_eq!(size(u64::MAX), "16777216.000 TiB");
        let report = DiffReport {
            changed_files: 3,
            added: DiffCounts {
                files: 12,
                bytes: 7,
                ..DiffCounts::default()
            },
            ..DiffReport::default()
        };
        let text = numbers(&report);
        assert!(
            text.contains("\nFiles:          12 new,     0 removed,     3 changed\n"),
            "{text}"
        );
        assert!(
            text.contains("\nData Blobs:      0 new,     0 removed\n"),
            "{text}"
        );
        assert!(
            text.ends_with("  Added:   7 B  \n  Removed: 0 B  "),
            "{text}"
        );
    }
}
