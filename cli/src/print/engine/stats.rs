//! Statistics: tables for people; JSON with the names restic uses, where it has one.

use ark_engine::stats::{SnapshotStats, StatsReport, Stored, Totals, VolumeStats};
use serde_json::{Map, Value, json};

use super::{bytes, count, local, short};
use crate::print::Printer;
use crate::print::table::{Table, one_line};

/// What one of restic's modes counts.
pub(crate) fn totals(totals: &Totals) -> String {
    let mut text = format!("snapshots:     {}\n", totals.snapshots);
    if totals.files > 0 {
        text += &format!("files:         {}\n", totals.files);
    }
    if totals.blobs > 0 {
        text += &format!("blobs:         {}\n", totals.blobs);
    }
    text += &format!("size:          {}\n", bytes(totals.bytes));
    if totals.uncompressed > 0 {
        text += &format!("uncompressed:  {}\n", bytes(totals.uncompressed));
        text += &format!(
            "compression:   {:.2}\n",
            ratio(totals.compressed_plain, totals.compressed)
        );
    }
    text
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with two digits after the point"
)]
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// The same in JSON, with restic's names and, as there, without what is 0.
pub(crate) fn totals_json(totals: &Totals) -> Value {
    let mut map = Map::new();
    map.insert("total_size".to_owned(), totals.bytes.into());
    let mut put = |name: &str, value: Value, is_zero: bool| {
        if !is_zero {
            map.insert(name.to_owned(), value);
        }
    };
    let plain = totals.uncompressed;
    put("total_uncompressed_size", plain.into(), plain == 0);
    if totals.compressed > 0 {
        let compression = ratio(totals.compressed_plain, totals.compressed);
        put("compression_ratio", compression.into(), compression == 0.0);
    }
    if plain > 0 {
        let progress = ratio(totals.compressed_plain, plain) * 100.0;
        put("compression_progress", progress.into(), progress == 0.0);
        let saving = (1.0 - ratio(totals.bytes, plain)) * 100.0;
        put("compression_space_saving", saving.into(), saving == 0.0);
    }
    put("total_file_count", totals.files.into(), totals.files == 0);
    put("total_blob_count", totals.blobs.into(), totals.blobs == 0);
    put("snapshots_count", totals.snapshots.into(), false);
    Value::Object(map)
}

fn stored(stored: &Stored) -> Value {
    json!({"blobs": stored.blobs, "bytes": stored.bytes, "uncompressed_bytes": stored.plain})
}

/// Everything in JSON. The numbers that restic prints without a mode stand beside ours, under its names.
pub(crate) fn report_json(report: &StatsReport) -> Value {
    let repository = &report.repository;
    let snapshots = || report.volumes.iter().flat_map(|volume| &volume.snapshots);
    let entries = snapshots().fold(0_u64, |sum, snapshot| sum.saturating_add(snapshot.entries));
    json!({
        "total_size": report.restored(),
        "total_file_count": entries,
        "snapshots_count": snapshots().count(),
        "repository": {
            "packs": repository.packs,
            "pack_bytes": repository.pack_bytes,
            "indexed": stored(&repository.indexed),
            "trees": stored(&repository.trees),
            "needed": stored(&repository.needed),
            "unused": stored(&repository.unused),
            "duplicates": stored(&repository.duplicates),
            "compression_ratio": repository.needed.compression(),
            "deduplication_ratio": ratio(report.restored(), repository.needed.plain),
        },
        "volumes": report.volumes.iter().map(volume_json).collect::<Vec<_>>(),
        "problems": report.problems,
    })
}

fn volume_json(volume: &VolumeStats) -> Value {
    json!({
        "host": volume.key.host,
        "paths": volume.key.paths,
        "tags": volume.key.tags,
        "added": stored(&volume.added),
        "unique": stored(&volume.unique),
        "snapshots": volume.snapshots.iter().map(snapshot_json).collect::<Vec<_>>(),
    })
}

fn snapshot_json(stats: &SnapshotStats) -> Value {
    json!({
        "id": stats.snapshot.id,
        "short_id": short(&stats.snapshot.id),
        "time": super::json::time(stats.snapshot.time, stats.snapshot.offset),
        "entries": stats.entries,
        "files": stats.files,
        "restore_size": stats.restored,
        "added": stored(&stats.added),
        "unique": stored(&stats.unique),
    })
}

/// Everything for people.
pub(crate) fn report(report: &StatsReport) -> String {
    let mut text = String::new();
    for volume in &report.volumes {
        text += &format!("{}\n", name(volume));
        let mut table = Table::new(["ID", "TIME", "FILES", "SIZE", "ADDED", "UNIQUE"]);
        for stats in &volume.snapshots {
            table.row([
                short(&stats.snapshot.id).to_owned(),
                local(stats.snapshot.time),
                stats.files.to_string(),
                bytes(stats.restored),
                bytes(stats.added.bytes),
                bytes(stats.unique.bytes),
            ]);
        }
        table.row([
            "all".to_owned(),
            count(volume.snapshots.len() as u64, "snapshot"),
            String::new(),
            String::new(),
            bytes(volume.added.bytes),
            bytes(volume.unique.bytes),
        ]);
        text += &table.render("  ");
        text.push('\n');
    }
    let repository = &report.repository;
    let mut table = Table::new(["REPOSITORY", "BLOBS", "STORED", "UNCOMPRESSED"]);
    let mut row = |what: &str, stored: &Stored| {
        table.row([
            what.to_owned(),
            stored.blobs.to_string(),
            bytes(stored.bytes),
            bytes(stored.plain),
        ]);
    };
    row("needed", &repository.needed);
    row("unused", &repository.unused);
    row("duplicates", &repository.duplicates);
    text += &table.render("");
    text += &format!(
        "{} in {}; compressed {:.2} times, deduplicated {:.2} times\n",
        bytes(repository.pack_bytes),
        count(repository.packs, "pack"),
        repository.needed.compression(),
        ratio(report.restored(), repository.needed.plain),
    );
    text
}

/// What the snapshots of a volume have in common.
fn name(volume: &VolumeStats) -> String {
    let key = &volume.key;
    let mut parts = Vec::new();
    if !key.host.is_empty() {
        parts.push(key.host.clone());
    }
    if !key.paths.is_empty() {
        parts.push(key.paths.join(", "));
    }
    if !key.tags.is_empty() {
        parts.push(format!("[{}]", key.tags.join(",")));
    }
    if parts.is_empty() {
        return "all snapshots".to_owned();
    }
    one_line(&parts.join(" "))
}

/// Writes what could not be counted to standard error.
pub(crate) fn problems(printer: Printer, problems: &[String], dropped: u64) {
    for problem in problems {
        printer.note(&format!("error: {}", one_line(problem)));
    }
    if dropped > 0 {
        printer.note(&format!(
            "error: {dropped} more of these; they are not listed"
        ));
    }
}
