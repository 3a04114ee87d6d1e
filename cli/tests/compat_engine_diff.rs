//! `ark engine diff` beside stock restic: the same lines and the same numbers, in repositories that both wrote to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{
    collections::BTreeSet,
    fs::{self, FileTimes, OpenOptions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use engine_harness::{Place, files, ids, noise};
use serde_json::Value;

/// Four states of a directory in which everything happens that restic tells, by both programs.
fn states(version: &str) -> (Place, Vec<String>) {
    let place = Place::new();
    place.restic(&["init", "--repository-version", version]);
    place.fill(1);
    let source = place.at("source");
    let at = |name: &str| source.join(name);
    let text = place.text("source");
    for dir in [
        "gone/with/much",
        "stays/below",
        "dir becomes file",
        "copied",
    ] {
        fs::create_dir_all(at(dir)).unwrap();
        for n in 0..3 {
            let seed = u8::try_from(dir.len()).unwrap();
            fs::write(at(dir).join(format!("f{n}")), noise(seed, n, 3000)).unwrap();
        }
    }
    for name in [
        "file becomes link",
        "link's",
        "mode",
        "time",
        "content",
        "same content elsewhere",
        "a.b",
        "a-b",
    ] {
        fs::write(at(name), noise(3, u8::try_from(name.len()).unwrap(), 9000)).unwrap();
    }
    symlink("link's", at("moves")).unwrap();
    place.ark(&["backup", "--host", "h", &text]).ends(0);

    fs::remove_dir_all(at("gone")).unwrap();
    fs::remove_dir_all(at("dir becomes file")).unwrap();
    fs::write(at("dir becomes file"), "now a file").unwrap();
    fs::remove_file(at("file becomes link")).unwrap();
    symlink("a.b", at("file becomes link")).unwrap();
    fs::remove_file(at("moves")).unwrap();
    symlink("a-b", at("moves")).unwrap();
    fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = OpenOptions::new().write(true).open(at("time")).unwrap();
    file.set_times(FileTimes::new().set_modified(old)).unwrap();
    fs::write(at("content"), noise(4, 4, 9001)).unwrap();
    // Content that is shared with what did not change, and with what went.
    fs::create_dir_all(at("new/inside")).unwrap();
    fs::copy(at("stays/below/f1"), at("new/inside/copy of f1")).unwrap();
    fs::copy(at("a.b"), at("new/a.b")).unwrap();
    fs::write(at("new/\u{e9} and more"), noise(5, 5, 2 << 20)).unwrap();
    place.restic(&["backup", "--quiet", "--host", "h", &text]);

    place.fill(2);
    fs::rename(at("copied"), at("stays/moved")).unwrap();
    place.ark(&["backup", "--host", "h", &text]).ends(0);
    fs::remove_dir_all(at("new")).unwrap();
    place.restic(&["backup", "--quiet", "--host", "h", &text]);
    let listed = place.restic(&["snapshots", "--json"]).json();
    let list = listed.as_array().unwrap();
    let ids = list.iter().map(|s| s["id"].as_str().unwrap().to_owned());
    (place, ids.collect())
}

/// Lines of changes and the numbers, of restic's text.
fn told(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("comparing"));
    let lines = lines.filter(|line| !line.trim().is_empty() && !line.contains("repository"));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

fn same_lines(place: &Place, args: &[&str]) {
    let theirs = place.newest_restic(args);
    let ours = place.ark(args).ends(0);
    // We show a line break in a name as such.
    let shown = theirs.out.replace("\u{fc} \n x", "\u{fc} \\n x");
    assert_eq!(told(&ours.out), told(&shown), "{args:?}");
}

/// The same in JSON; which letters there are.
fn same_json(place: &Place, args: &[&str]) -> BTreeSet<String> {
    let args = [args, &["--json"]].concat();
    let theirs = place.newest_restic(&args).lines();
    let ours = place.ark(&args).ends(0).lines();
    assert_eq!(ours, theirs, "{args:?}");
    let letters = ours.iter().filter_map(|line| line["modifier"].as_str());
    letters.map(str::to_owned).collect()
}

#[test]
fn changes_are_told_as_restic_tells_them() {
    let (place, all) = states("2");
    let mut letters = BTreeSet::new();
    for (before, after, metadata) in [
        (0, 1, false),
        (0, 1, true),
        (1, 2, true),
        (2, 3, true),
        (3, 0, true),
        (1, 1, true),
    ] {
        let args = ["diff", &all[before], &all[after], "--metadata"];
        letters.extend(same_json(&place, &args[..3 + usize::from(metadata)]));
    }
    for letter in ["+", "-", "M", "T", "U", "TU"] {
        assert!(letters.contains(letter), "{letter}: {letters:?}");
    }
    same_lines(&place, &["diff", &all[0], &all[2], "--metadata"]);
    // Directories in them.
    let below = |id: &str, dir: &str| format!("{id}:{}/{dir}", place.text("source"));
    let (before, after) = (below(&all[0], "stays"), below(&all[2], "stays"));
    let args = ["diff", "--json", &before, &after];
    assert_eq!(
        place.ark(&args).ends(0).lines(),
        place.newest_restic(&args).lines()
    );
    let missing = below(&all[0], "nowhere");
    place.ark(&["diff", &missing, &after]).ends(1);
    // Nobody changed anything.
    assert_eq!(ids(&place.restic(&["snapshots", "--json"]).json()).len(), 4);
    assert!(place.locks().is_empty());
}

#[test]
fn and_in_old_repositories() {
    let (place, all) = states("1");
    same_lines(&place, &["diff", &all[0], &all[3], "--metadata"]);
}

/// A directory that cannot be read is told, and the rest is compared.
#[test]
fn what_cannot_be_read_is_told() {
    let place = Place::with_repository();
    place.fill(1);
    let first = place.backup();
    let before = files(&place.at("repo/data"));
    fs::write(place.at("source").join("sub/deeper/new"), "new").unwrap();
    let second = place.backup();
    let args = ["diff", "--json", &first, &second];
    let whole = place.ark(&args).ends(0).lines();
    let new: Vec<_> = files(&place.at("repo/data"))
        .into_iter()
        .filter(|pack| !before.contains(pack))
        .collect();
    // Somewhere in a directory.
    let pack = new
        .iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len());
    damage(pack.unwrap());
    let ran = place.ark(&args).ends(1);
    assert!(ran.err.contains("error"), "{}", ran.err);
    assert!(ran.out.lines().count() <= whole.len());
    let last: Value =
        serde_json::from_str(ran.out.lines().last().unwrap_or("{}")).unwrap_or_default();
    assert!(
        last.is_null() || last["message_type"] != "change",
        "{}",
        ran.out
    );
}

fn damage(pack: &Path) {
    let mut bytes = fs::read(pack).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
}
