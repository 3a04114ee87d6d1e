//! What a repair of snapshots did.

use ark_engine::maintain::{Loss, LostPath, Mending, RepairSnapshotsReport, RepairedSnapshot};
use serde_json::{Value, json};

use super::{bytes, count, local, short, shown};
use crate::print::table::{Table, one_line};

/// In words, with what each snapshot lost.
pub(crate) fn text(report: &RepairSnapshotsReport, dry_run: bool) -> String {
    let mut text = String::new();
    for one in &report.snapshots {
        text += &snapshot(one, dry_run);
        text.push('\n');
    }
    for one in &report.unreadable {
        let fate = match (one.removed, dry_run, one.damaged) {
            (true, true, _) => "it would be removed",
            (true, false, _) => "it was removed",
            (false, _, true) => "--forget removes it",
            (false, _, false) => "it stays, for it may be one of another key",
        };
        text += &format!(
            "snapshot file {}: {}; {fate}\n",
            short(&one.id),
            one.message
        );
    }
    let sound = count(report.sound, "snapshot");
    if report.snapshots.is_empty() && report.unreadable.is_empty() {
        return format!("{sound}, nothing to repair");
    }
    let number = |which: fn(&RepairedSnapshot) -> bool| {
        let number = report.snapshots.iter().filter(|one| which(one)).count();
        number as u64
    };
    let mended = number(|one| matches!(one.mending, Mending::Mended { .. }));
    let lost = number(|one| one.mending == Mending::RootLost);
    let would = if dry_run {
        " (nothing was changed)"
    } else {
        ""
    };
    text + &format!("{sound} whole, {mended} mended, {lost} lost{would}")
}

fn snapshot(one: &RepairedSnapshot, dry_run: bool) -> String {
    let snapshot = &one.snapshot;
    let mut text = format!(
        "snapshot {} of {}, {}, {}\n",
        short(&snapshot.id),
        local(snapshot.time),
        one_line(&snapshot.hostname),
        one_line(&snapshot.paths.join(", ")),
    );
    if !one.lost.is_empty() {
        let mut table = Table::new(["LOST", "LEFT", "PATH"]);
        for lost in &one.lost {
            table.row(row(lost));
        }
        text += &table.render("  ");
    }
    let more = one.lost_paths.saturating_sub(one.lost.len() as u64);
    if more > 0 {
        text += &format!("  and {}\n", count(more, "more path"));
    }
    let mending = match &one.mending {
        Mending::RootLost => "its root directory cannot be read: nothing of it is left".to_owned(),
        Mending::Mended { id: None, .. } => "a mended one would be saved".to_owned(),
        Mending::Mended {
            id: Some(id),
            was_there: true,
        } => format!("mended before as {}", short(id)),
        Mending::Mended { id: Some(id), .. } => format!("mended as {}", short(id)),
    };
    let forgotten = match (one.forgotten, dry_run) {
        (false, _) => "",
        (true, true) => "; it would be removed",
        (true, false) => "; it was removed",
    };
    text + &format!("  {mending}{forgotten}\n")
}

fn row(lost: &LostPath) -> [String; 3] {
    let path = shown(&lost.path);
    match lost.loss {
        Loss::Content { lost, left } => [bytes(lost), bytes(left), path],
        Loss::Size { content, .. } => ["wrong size".to_owned(), bytes(content), path],
        Loss::Directory => ["all in it".to_owned(), "-".to_owned(), path + "/"],
        Loss::Entry => ["entry".to_owned(), "-".to_owned(), path],
    }
}

/// One snapshot.
pub(crate) fn snapshot_json(one: &RepairedSnapshot) -> Value {
    let (mended, was_there) = match &one.mending {
        Mending::Mended { id, was_there } => (id.as_ref(), *was_there),
        Mending::RootLost => (None, false),
    };
    let lost: Vec<Value> = one.lost.iter().map(lost_json).collect();
    json!({
        "message_type": "snapshot",
        "id": one.snapshot.id,
        "time": one.snapshot.time.to_string(),
        "root_lost": one.mending == Mending::RootLost,
        "mended": mended,
        "was_there": was_there,
        "forgotten": one.forgotten,
        "lost_paths": one.lost_paths,
        "lost_bytes": one.lost_bytes,
        "lost": lost,
    })
}

fn lost_json(lost: &LostPath) -> Value {
    let path = lost.path.to_string_lossy();
    match lost.loss {
        Loss::Content { lost, left } => {
            json!({"path": path, "what": "content", "lost": lost, "left": left})
        }
        Loss::Size { stated, content } => {
            json!({"path": path, "what": "size", "stated": stated, "left": content})
        }
        Loss::Directory => json!({"path": path, "what": "directory"}),
        Loss::Entry => json!({"path": path, "what": "entry"}),
    }
}

/// All of it in numbers.
pub(crate) fn summary_json(report: &RepairSnapshotsReport, dry_run: bool) -> Value {
    let of = |which: fn(&RepairedSnapshot) -> bool| {
        report.snapshots.iter().filter(|one| which(one)).count()
    };
    json!({
        "message_type": "summary",
        "dry_run": dry_run,
        "sound": report.sound,
        "mended": of(|one| matches!(one.mending, Mending::Mended { .. })),
        "root_lost": of(|one| one.mending == Mending::RootLost),
        "forgotten": of(|one| one.forgotten),
        "unreadable": report.unreadable.iter().map(|one| json!({
            "id": one.id,
            "message": one.message,
            "damaged": one.damaged,
            "removed": one.removed,
        })).collect::<Vec<_>>(),
        "directories": report.directories,
    })
}
