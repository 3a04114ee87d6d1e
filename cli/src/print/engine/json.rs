//! JSON with the names restic uses, where it has one.

use ark_engine::archive::{CutFiles, Cuts, StateReport};
use ark_engine::browse::{EntryKind, Listed};
use ark_engine::maintain::{Counts, ForgetGroup, Keep, PruneReport};
use ark_engine::{ArchiveReport, FileError, KeyInfo, RestoreReport, Snapshot};
use jiff::{Timestamp, tz::Offset};
use serde_json::{Map, Value, json};

use super::{permissions, short};
use crate::error::Error;
use crate::print::{Printer, err};

/// A time as the machine's clock showed it.
pub(super) fn time(time: Timestamp, offset: Offset) -> String {
    if offset == Offset::UTC {
        time.to_string()
    } else {
        time.display_with_offset(offset).to_string()
    }
}

/// A snapshot without its id, as in reasons.
fn bare(snapshot: &Snapshot) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = match &value {
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Null => true,
            _ => false,
        };
        if !empty {
            map.insert(name.to_owned(), value);
        }
    };
    put("time", time(snapshot.time, snapshot.offset).into());
    put("parent", snapshot.parent.clone().into());
    put("tree", snapshot.tree.clone().into());
    put("paths", snapshot.paths.clone().into());
    put("hostname", snapshot.hostname.clone().into());
    put("username", snapshot.username.clone().into());
    if snapshot.uid != 0 {
        put("uid", snapshot.uid.into());
    }
    if snapshot.gid != 0 {
        put("gid", snapshot.gid.into());
    }
    put("excludes", snapshot.excludes.clone().into());
    put("tags", snapshot.tags.clone().into());
    put("original", snapshot.original.clone().into());
    put("program_version", snapshot.program_version.clone().into());
    if let Some(summary) = &snapshot.summary {
        put("summary", json!(summary));
    }
    map
}

/// A snapshot.
pub(crate) fn snapshot(snapshot: &Snapshot) -> Value {
    let mut map = bare(snapshot);
    map.insert("id".to_owned(), snapshot.id.clone().into());
    map.insert("short_id".to_owned(), short(&snapshot.id).into());
    Value::Object(map)
}

/// The line before a listing.
pub(crate) fn listing_head(of: &Snapshot) -> Value {
    with_kind(snapshot(of), "snapshot")
}

fn with_kind(mut value: Value, kind: &str) -> Value {
    if let Value::Object(map) = &mut value {
        for name in ["message_type", "struct_type"] {
            map.insert(name.to_owned(), kind.into());
        }
    }
    value
}

/// A line of a listing.
pub(crate) fn entry(entry: &Listed) -> Value {
    let path = entry.path.to_string_lossy();
    let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
    let Some(info) = &entry.info else {
        let value = json!({"name": name, "path": path, "problem": entry.problem});
        return with_kind(value, "node");
    };
    let mut value = json!({
        "name": name,
        "type": info.kind.as_str(),
        "path": path,
        "uid": info.uid,
        "gid": info.gid,
        "mode": info.go_mode,
        "permissions": permissions(info.go_mode),
    });
    if let Value::Object(map) = &mut value {
        let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
        if info.kind == EntryKind::File {
            put("size", info.size.into());
        }
        if let Some(modified) = info.modified {
            put("mtime", modified.to_string().into());
        }
        if info.inode != 0 {
            put("inode", info.inode.into());
        }
        if let Some(target) = &info.link_target {
            put("linktarget", target.to_string_lossy().into());
        }
        if let Some(problem) = &entry.problem {
            put("problem", problem.clone().into());
        }
    }
    with_kind(value, "node")
}

/// A key file.
pub(crate) fn key(key: &KeyInfo) -> Value {
    json!({
        "current": key.current,
        "id": short(&key.id),
        "userName": key.user_name,
        "hostName": key.host_name,
        "created": key.created.map(super::local),
    })
}

/// A path of a report, from the root on.
fn item(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

/// Writes a file that could not be dealt with to standard error.
pub(crate) fn row(printer: Printer, json: bool, during: &str, row: &FileError) {
    if json {
        let value = json!({
            "message_type": "error",
            "error": {"message": format!("{}: {}", row.operation, row.message)},
            "during": during,
            "item": item(&row.path),
        });
        printer.note(&value.to_string());
    } else {
        printer.note(&format!("error: {row}"));
    }
}

/// Writes the error that ended a command to standard error.
pub(crate) fn json_error(error: &Error, code: u8) {
    let value = json!({
        "message_type": "exit_error",
        "code": code,
        "message": error.to_string(),
        "hint": error.hint(),
    });
    err(&format!("{value}\n"));
}

/// What a backup did.
pub(crate) fn backup(report: &ArchiveReport, snapshot: &Snapshot) -> Value {
    let summary = snapshot.summary.clone().unwrap_or_default();
    json!({
        "message_type": "summary",
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "dirs_new": summary.dirs_new,
        "dirs_changed": summary.dirs_changed,
        "dirs_unmodified": summary.dirs_unmodified,
        "data_blobs": summary.data_blobs,
        "tree_blobs": summary.tree_blobs,
        "data_added": summary.data_added,
        "data_added_packed": summary.data_added_packed,
        "total_files_processed": summary.total_files_processed,
        "total_bytes_processed": summary.total_bytes_processed,
        "total_duration": report.duration.as_secs_f64(),
        "backup_start": summary.backup_start,
        "backup_end": summary.backup_end,
        "snapshot_id": report.snapshot_id,
        "error_count": super::rows(&report.errors, report.errors_dropped),
        "chunking": report.cut.iter().map(cut).collect::<Vec<_>>(),
        "fingerprints": report.state.as_ref().map(fingerprints),
    })
}

/// What fingerprints were good for.
fn fingerprints(state: &StateReport) -> Value {
    json!({
        "blocks": state.blocks,
        "bytes": state.bytes,
        "looked_up": state.looked_up,
        "state_written": state.written,
        "problem": state.problem,
    })
}

/// Files that were cut in one way for one reason.
fn cut(files: &CutFiles) -> Value {
    let (way, size) = match files.cuts {
        Cuts::Rabin => ("rabin", None),
        Cuts::Fixed(size) => ("fixed", Some(size)),
    };
    let largest = files.largest.iter();
    let largest = largest.map(|file| json!({"item": item(&file.path), "bytes": file.bytes}));
    json!({
        "cuts": way,
        "size": size,
        "reason": files.reason.as_str(),
        "files": files.files,
        "bytes": files.bytes,
        "largest": largest.collect::<Vec<_>>(),
    })
}

/// What a restore did.
pub(crate) fn restore(report: &RestoreReport, dry_run: bool) -> Value {
    let changes = report.plan.iter();
    let changes = changes.map(|c| json!({"action": c.action.as_str(), "item": c.path}));
    json!({
        "message_type": "summary",
        "dry_run": dry_run,
        "changes": dry_run.then(|| changes.collect::<Vec<_>>()),
        "seconds_elapsed": report.duration.as_secs(),
        "total_files": report.files,
        "files_restored": report.files_written,
        "files_skipped": report.files_unchanged,
        "files_deleted": report.deleted,
        "total_bytes": report.bytes,
        "bytes_restored": report.bytes_written,
        "bytes_skipped": report.bytes.saturating_sub(report.bytes_written),
        "snapshot_id": report.snapshot_id,
        "error_count": super::rows(&report.errors, report.errors_dropped),
    })
}

/// What a policy made of a group of snapshots.
pub(crate) fn forget(group: &ForgetGroup) -> Value {
    // restic's lists are null when they are empty.
    let list = |list: Vec<Value>| {
        if list.is_empty() {
            Value::Null
        } else {
            list.into()
        }
    };
    let texts = |texts: &[String]| list(texts.iter().cloned().map(Value::from).collect());
    let reason = |kept: &ark_engine::maintain::Kept| {
        json!({
            "snapshot": bare(&kept.snapshot),
            "matches": kept.reasons,
            "counters": counters(&kept.left),
        })
    };
    let keep = &group.decision.keep;
    json!({
        "tags": texts(&group.key.tags),
        "host": group.key.host,
        "paths": texts(&group.key.paths),
        "keep": list(keep.iter().map(|kept| snapshot(&kept.snapshot)).collect()),
        "remove": list(group.decision.remove.iter().map(snapshot).collect()),
        "reasons": list(keep.iter().map(reason).collect()),
    })
}

fn counters(left: &Counts<Keep>) -> Value {
    let mut map = Map::new();
    for (name, keep) in [
        ("last", left.last),
        ("hourly", left.hourly),
        ("daily", left.daily),
        ("weekly", left.weekly),
        ("monthly", left.monthly),
        ("yearly", left.yearly),
    ] {
        if keep.number() != 0 {
            map.insert(name.to_owned(), keep.number().into());
        }
    }
    Value::Object(map)
}

/// What a prune did.
pub(crate) fn prune(report: &PruneReport, dry_run: bool) -> Value {
    json!({
        "message_type": "summary",
        "dry_run": dry_run,
        "repacked_blobs": report.repacked_blobs,
        "repacked_bytes": report.repacked_bytes,
        "repack_dropped_blobs": report.repack_dropped_blobs,
        "repack_dropped_bytes": report.repack_dropped_bytes,
        "deleted_blobs": report.deleted_blobs,
        "deleted_bytes": report.deleted_bytes,
        "remaining_blobs": report.remaining_blobs,
        "remaining_bytes": report.remaining_bytes,
        "unused_bytes": report.unused_bytes,
        "unreferenced_packs": report.unreferenced_packs,
        "unreferenced_bytes": report.unreferenced_bytes,
        "young_packs": report.young_packs,
        "young_bytes": report.young_bytes,
        "unfinished_files": report.unfinished_files,
        "unfinished_bytes": report.unfinished_bytes,
    })
}
