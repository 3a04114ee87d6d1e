//! What a check found.

use ark_engine::maintain::{CheckReport, Finding, Problem, Severity};
use serde_json::{Value, json};

use super::{bytes, count, short, shown};

/// Snapshots named of those that a finding affects.
const NAMED: usize = 8;

/// A finding for people.
pub(crate) fn finding(finding: &Finding) -> String {
    let mut text = match finding.severity() {
        Severity::Damage => format!("error: {finding}"),
        Severity::Oddity => finding.to_string(),
    };
    if finding.severity() == Severity::Oddity {
        return text;
    }
    let affected = &finding.snapshots;
    if !affected.is_empty() {
        let named: Vec<_> = affected.iter().take(NAMED).map(|id| short(id)).collect();
        let more = match affected.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        text += &format!("\n  affects: snapshots {}{more}", named.join(", "));
    }
    if let Some(at) = &finding.path {
        text += &format!(
            "\n  such as: {} in {}",
            shown(&at.path),
            short(&at.snapshot)
        );
    }
    text + &format!("\n  what to do: {}", finding.problem.hint())
}

/// The same for programs.
pub(crate) fn finding_json(finding: &Finding) -> Value {
    let path = finding.path.as_ref();
    let mut value = json!({
        "message_type": match finding.severity() {
            Severity::Damage => "error",
            Severity::Oddity => "warning",
        },
        "message": finding.to_string(),
        "severity": finding.severity().as_str(),
        "code": finding.problem.code(),
        "object": {"type": finding.object.kind(), "id": finding.object.id()},
        "hint": finding.problem.hint(),
        "snapshots": finding.snapshots,
    });
    if let Some(at) = path {
        value["path"] = json!({"snapshot": at.snapshot, "path": shown(&at.path)});
    }
    value
}

/// All in numbers, with the names restic has for some.
pub(crate) fn check_json(report: &CheckReport) -> Value {
    let damage = report.of(Severity::Damage).count() as u64 + report.damage_dropped;
    let oddities = report.of(Severity::Oddity).count() as u64 + report.oddities_dropped;
    let mut broken: Vec<&str> = report
        .of(Severity::Damage)
        .filter_map(|finding| match &finding.problem {
            Problem::BlobContent { pack, .. } => Some(pack.as_str()),
            Problem::PackContent | Problem::PackHeader { .. } | Problem::PackUnreadable { .. } => {
                Some(finding.object.id())
            }
            _ => None,
        })
        .collect();
    broken.sort_unstable();
    broken.dedup();
    let of = |problem: fn(&Problem) -> bool| report.findings.iter().any(|f| problem(&f.problem));
    json!({
        "message_type": "summary",
        "num_errors": damage,
        "num_warnings": oddities,
        "broken_packs": broken,
        "suggest_repair_index": of(|p| matches!(p, Problem::IndexDiffers { .. } | Problem::PackMissing | Problem::BlobMissing)),
        "suggest_prune": of(|p| matches!(p, Problem::PackUnreferenced { .. })),
        "affected_unknown": report.affected_unknown,
        "snapshots": report.snapshots,
        "trees": report.trees,
        "packs": report.packs,
        "blobs": report.blobs,
        "duplicate_blobs": report.duplicate_blobs,
        "duplicate_bytes": report.duplicate_bytes,
        "unused_blobs": report.unused_blobs,
        "unused_bytes": report.unused_bytes,
        "unfinished_files": report.unfinished_files,
        "unfinished_bytes": report.unfinished_bytes,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
    })
}

/// All in sentences.
pub(crate) fn check(report: &CheckReport) -> String {
    let damage = report.of(Severity::Damage).count() as u64 + report.damage_dropped;
    let mut lines = vec![format!(
        "checked {}, {}, {} and {}; read {} of {}",
        count(report.snapshots, "snapshot"),
        several(report.trees, "directory", "directories"),
        count(report.packs, "pack"),
        count(report.blobs, "blob"),
        bytes(report.bytes_read),
        count(report.packs_read, "pack"),
    )];
    if report.duplicate_blobs > 0 {
        lines.push(format!(
            "{} stored more than once, {} too many",
            several(report.duplicate_blobs, "blob is", "blobs are"),
            bytes(report.duplicate_bytes)
        ));
    }
    if report.unused_blobs > 0 {
        lines.push(format!(
            "{} needed by no snapshot, {}",
            several(report.unused_blobs, "blob is", "blobs are"),
            bytes(report.unused_bytes)
        ));
    }
    if report.unfinished_files > 0 {
        lines.push(format!(
            "{}, {}; prune removes those of killed backups after a day",
            count(report.unfinished_files, "unfinished upload"),
            bytes(report.unfinished_bytes)
        ));
    }
    if report.affected_unknown {
        lines.push("which snapshots are affected could not be told in this memory".to_owned());
    }
    let dropped = report.damage_dropped + report.oddities_dropped;
    if dropped > 0 {
        lines.push(format!("{dropped} more findings are not shown"));
    }
    lines.push(match damage {
        0 => "no errors were found".to_owned(),
        1 => "1 error was found".to_owned(),
        more => format!("{more} errors were found"),
    });
    lines.join("\n")
}

fn several(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let report = CheckReport {
            snapshots: 1,
            trees: 1,
            packs: 2,
            blobs: 5,
            unused_blobs: 1,
            unused_bytes: 1024,
            packs_read: 2,
            bytes_read: 2048,
            ..CheckReport::default()
        };
        assert_eq!(
            check(&report),
            "checked 1 snapshot, 1 directory, 2 packs and 5 blobs; read 2.0 KiB of 2 packs\n1 blob is needed by no snapshot, 1.0 KiB\nno errors were found"
        );
        let summary = check_json(&report);
        assert_eq!(
            (&summary["num_errors"], &summary["unused_blobs"]),
            (&json!(0), &json!(1))
        );
    }
}
