//! What `ark engine` shows: tables and sentences for people here, JSON in [`json`], progress in
//! [`progress`]. Text that comes from a repository is escaped before people see it.

mod check;
pub(crate) mod diff;
pub(crate) mod find;
mod json;
pub(crate) mod progress;
pub(crate) mod repair;
pub(crate) mod stats;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ark_engine::archive::{CutFiles, Cuts, PageFormat, Reason};
use ark_engine::browse::Listed;
use ark_engine::maintain::{ForgetReport, PruneReport};
use ark_engine::{ArchiveReport, FileError, KeyInfo, RestoreReport, Snapshot};
use jiff::{Timestamp, tz::TimeZone};

pub(crate) use self::check::{check, check_json, finding, finding_json};
pub(crate) use self::json::{
    backup as backup_json, entry as entry_json, forget as forget_json, json_error, key as key_json,
    listing_head, prune as prune_json, restore as restore_json, row, snapshot as snapshot_json,
};
use super::Printer;
use super::human::span;
use super::table::{Table, one_line};

/// A number of bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    super::human::bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn count(number: u64, noun: &str) -> String {
    super::human::count(i64::try_from(number).unwrap_or(i64::MAX), noun)
}

/// The first digits of an id.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A path with everything escaped that is not text in one line.
pub(crate) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

fn local(time: Timestamp) -> String {
    let zoned = time.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Lines of a snapshot: one for each of its tags and paths, or of the reasons to keep it, whichever are most. All else is on
/// the first.
fn rows_of(snapshot: &Snapshot, reasons: &[String]) -> Vec<[String; 6]> {
    let lines = [&snapshot.tags[..], &snapshot.paths[..], reasons].map(<[String]>::len);
    let lines = lines.into_iter().max().unwrap_or_default().max(1);
    let cell = |texts: &[String], line: usize| {
        texts
            .get(line)
            .map_or_else(String::new, |text| one_line(text))
    };
    let first = [
        short(&snapshot.id).to_owned(),
        local(snapshot.time),
        one_line(&snapshot.hostname),
    ];
    let row = |line| {
        let [id, time, host] = if line == 0 {
            first.clone()
        } else {
            <[String; 3]>::default()
        };
        let path = cell(&snapshot.paths, line);
        [
            id,
            time,
            host,
            cell(&snapshot.tags, line),
            cell(reasons, line),
            path,
        ]
    };
    (0..lines).map(row).collect()
}

/// A table of snapshots, oldest first.
fn table_of<'s>(snapshots: impl IntoIterator<Item = &'s Snapshot>) -> Table {
    let mut table = Table::new(["ID", "TIME", "HOST", "TAGS", "PATHS"]);
    for snapshot in snapshots {
        for [id, time, host, tag, _, path] in rows_of(snapshot, &[]) {
            table.row([id, time, host, tag, path]);
        }
    }
    table
}

/// Snapshots, oldest first.
pub(crate) fn snapshots(snapshots: &[Snapshot]) -> String {
    let number = u64::try_from(snapshots.len()).unwrap_or(u64::MAX);
    let table = table_of(snapshots).render("");
    format!("{table}{}\n", count(number, "snapshot"))
}

/// Key files.
pub(crate) fn keys(keys: &[KeyInfo]) -> String {
    let mut table = Table::new(["", "ID", "USER", "HOST", "CREATED"]);
    for key in keys {
        table.row([
            if key.current { "*" } else { "" }.to_owned(),
            short(&key.id).to_owned(),
            one_line(&key.user_name),
            one_line(&key.host_name),
            key.created.map_or_else(|| "unknown".to_owned(), local),
        ]);
    }
    table.render("")
}

/// An entry of a snapshot with all that matters.
pub(crate) fn entry_long(entry: &Listed) -> String {
    let path = shown(&entry.path);
    let Some(info) = &entry.info else {
        return format!("??????????                                            {path}");
    };
    let time = info.modified.map_or_else(|| "unknown".to_owned(), local);
    let link = info
        .link_target
        .as_ref()
        .map_or_else(String::new, |to| format!(" -> {}", shown(to)));
    format!(
        "{} {:>5} {:>5} {:>12} {time:<19} {path}{link}",
        permissions(info.go_mode),
        info.uid,
        info.gid,
        info.size,
    )
}

/// Mode bits in letters, as restic writes them.
fn permissions(go_mode: u32) -> String {
    let mut text = String::new();
    for (at, letter) in (0..).zip("dalTLDpSugct?".chars()) {
        if go_mode & (1 << (31 - at)) != 0 {
            text.push(letter);
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in (0..).zip("rwxrwxrwx".chars()) {
        text.push(if go_mode & (1 << (8 - at)) == 0 {
            '-'
        } else {
            letter
        });
    }
    text
}

/// Says that rows were too many to be kept.
pub(crate) fn rows_dropped(printer: Printer, dropped: u64) {
    if dropped > 0 {
        printer.warn(&format!(
            "{dropped} more files could not be read; they are not listed"
        ));
    }
}

/// What a backup did.
pub(crate) fn backup(report: &ArchiveReport, snapshot: &Snapshot) -> String {
    let mut text = String::new();
    if let Some(summary) = &snapshot.summary {
        text += &format!(
            "Files:  {:>8} new, {:>8} changed, {:>8} unmodified\n\
             Dirs:   {:>8} new, {:>8} changed, {:>8} unmodified\n\
             Added to the repository: {} ({} stored)\n\n",
            summary.files_new,
            summary.files_changed,
            summary.files_unmodified,
            summary.dirs_new,
            summary.dirs_changed,
            summary.dirs_unmodified,
            bytes(summary.data_added),
            bytes(summary.data_added_packed),
        );
    }
    for files in &report.cut {
        text += &cut(files);
    }
    if let Some(state) = &report.state {
        text += &format!(
            "Unchanged by their fingerprint: {}, {}\n",
            count(state.blocks, "block"),
            bytes(state.bytes),
        );
    }
    if !report.cut.is_empty() || report.state.is_some() {
        text.push('\n');
    }
    text += &format!(
        "processed {}, {} in {}\nsnapshot {} saved\n",
        count(report.files, "file"),
        bytes(report.bytes_total),
        span(report.duration),
        short(&report.snapshot_id),
    );
    let failed = rows(&report.errors, report.errors_dropped);
    if failed > 0 {
        text += &format!(
            "warning: {} could not be read as they are\n",
            count(failed, "file")
        );
    }
    text
}

/// How files were cut, why, and the largest of them.
fn cut(files: &CutFiles) -> String {
    let way = match files.cuts {
        Cuts::Rabin => "by content".to_owned(),
        Cuts::Fixed(size) => format!("every {}", bytes(size)),
    };
    let why = match files.reason {
        Reason::Default => "the default",
        Reason::Asked => "asked for",
        Reason::Parent => "as in the snapshot before",
        Reason::Pages(PageFormat::PostgreSql) => "pages of PostgreSQL",
        Reason::Pages(PageFormat::PostgreSqlWal) => "write-ahead log of PostgreSQL",
        Reason::Pages(PageFormat::InnoDb) => "pages of InnoDB",
        Reason::Pages(PageFormat::Sqlite) => "pages of SQLite",
        Reason::Pages(PageFormat::Bbolt) => "pages of bbolt",
    };
    let named = files.largest.iter();
    let mut named: Vec<_> = named
        .map(|file| format!("{} ({})", file.path, bytes(file.bytes)))
        .collect();
    let unnamed = files.files.saturating_sub(named.len() as u64);
    if unnamed > 0 {
        named.push(format!("{unnamed} more"));
    }
    format!(
        "Cut {way} ({why}): {}, {}: {}\n",
        count(files.files, "file"),
        bytes(files.bytes),
        named.join(", "),
    )
}

/// What a restore did.
pub(crate) fn restore(report: &RestoreReport, dry_run: bool) -> String {
    let mut text = String::new();
    for change in &report.plan {
        text += &format!("{:<9} {}\n", change.action.as_str(), change.path);
    }
    if report.plan_dropped > 0 {
        text += &format!("and {} more\n", count(report.plan_dropped, "change"));
    }
    text += &format!(
        "{} {}, {} of them already right, {}, {} written, {} deleted, in {}\n",
        if dry_run { "would restore" } else { "restored" },
        count(report.files, "file"),
        report.files_unchanged,
        count(report.dirs, "directory").replace("directorys", "directories"),
        bytes(report.bytes_written),
        report.deleted,
        span(report.duration),
    );
    let failed = rows(&report.errors, report.errors_dropped);
    if failed > 0 {
        text += &format!(
            "warning: {} could not be restored as they were\n",
            count(failed, "file")
        );
    }
    text
}

fn rows(rows: &[FileError], dropped: u64) -> u64 {
    dropped.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}

/// What was forgotten, and why the rest was not.
pub(crate) fn forget(report: &ForgetReport, dry_run: bool) -> String {
    let mut text = String::new();
    for group in &report.groups {
        let mut table = Table::new(["ID", "TIME", "HOST", "TAGS", "REASONS", "PATHS"]);
        for kept in &group.decision.keep {
            for row in rows_of(&kept.snapshot, &kept.reasons) {
                table.row(row);
            }
        }
        let kept = u64::try_from(group.decision.keep.len()).unwrap_or(u64::MAX);
        text += &format!(
            "keep {}:\n{}\n",
            count(kept, "snapshot"),
            table.render("  ")
        );
    }
    let removed = u64::try_from(report.removed.len()).unwrap_or(u64::MAX);
    let verb = if dry_run { "would remove" } else { "removed" };
    for id in &report.removed_unreadable {
        text += &format!("{verb} the damaged snapshot file {}\n", short(id));
    }
    text += &format!("{verb} {}", count(removed, "snapshot"));
    if report.removed.is_empty() {
        return text + "\n";
    }
    let table = table_of(&report.removed);
    text + &format!(":\n{}", table.render("  "))
}

/// What a prune did.
pub(crate) fn prune(report: &PruneReport, dry_run: bool) -> String {
    let line = |what: &str, blobs: u64, size: u64| {
        format!("{what:<28} {blobs:>10} blobs, {}\n", bytes(size))
    };
    let mut text = if dry_run {
        "what a prune would do:\n".to_owned()
    } else {
        String::new()
    };
    text += &line(
        "in packs written anew:",
        report.repacked_blobs,
        report.repacked_bytes,
    );
    text += &line(
        "  of these left out:",
        report.repack_dropped_blobs,
        report.repack_dropped_bytes,
    );
    text += &line(
        "in packs removed:",
        report.deleted_blobs,
        report.deleted_bytes,
    );
    text += &line("remaining:", report.remaining_blobs, report.remaining_bytes);
    text += &format!(
        "unused in what remains:       {}\n",
        bytes(report.unused_bytes)
    );
    if report.unreferenced_packs > 0 {
        text += &format!(
            "packs in no index, removed:   {}, {}\n",
            report.unreferenced_packs,
            bytes(report.unreferenced_bytes)
        );
    }
    if report.unfinished_files > 0 {
        text += &format!(
            "unfinished uploads, removed:  {}, {}\n",
            report.unfinished_files,
            bytes(report.unfinished_bytes)
        );
    }
    if report.young_packs > 0 {
        text += &format!(
            "packs in no index, kept:      {}, {}, not a day old\n",
            report.young_packs,
            bytes(report.young_bytes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_in_letters() {
        assert_eq!(permissions(0o644), "-rw-r--r--");
        assert_eq!(permissions((1 << 31) | 0o755), "drwxr-xr-x");
        assert_eq!(permissions((1 << 31) | (1 << 20) | 0o777), "dtrwxrwxrwx");
        assert_eq!(permissions((1 << 27) | 0o777), "Lrwxrwxrwx");
    }

    #[test]
    fn cuts_with_their_reason_and_names() {
        use ark_engine::archive::CutFile;
        let named = |path: &str, bytes| CutFile {
            path: path.to_owned(),
            bytes,
        };
        let mut files = CutFiles {
            cuts: Cuts::Fixed(65536),
            reason: Reason::Pages(PageFormat::PostgreSql),
            files: 1,
            bytes: 1 << 20,
            largest: vec![named("base/1", 1 << 20)],
        };
        assert_eq!(
            cut(&files),
            "Cut every 64.0 KiB (pages of PostgreSQL): 1 file, 1.0 MiB: base/1 (1.0 MiB)\n"
        );
        (files.cuts, files.reason) = (Cuts::Rabin, Reason::Parent);
        (files.files, files.bytes) = (4, 5 << 20);
        files.largest.push(named("b", 1 << 20));
        assert_eq!(
            cut(&files),
            "Cut by content (as in the snapshot before): 4 files, 5.0 MiB: \
             base/1 (1.0 MiB), b (1.0 MiB), 2 more\n"
        );
    }

    #[test]
    fn paths_are_safe_to_show() {
        use std::ffi::OsStr;
        let path = Path::new(OsStr::from_bytes(b"/a\x1b[2J\n\xff\xc3\xa9"));
        assert_eq!(shown(path), "/a\\u{1b}[2J\\n\\xffé");
    }
}
