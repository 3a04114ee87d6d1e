//! What is there is replaced only by what is complete.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use ark_engine::{FileOperation, Outcome, Repository, RestoreReport, RestoreRequest};

use super::{Bench, request, run};
use crate::common::{
    PASSWORD,
    compare::assert_same,
    files,
    killed::{self, Told},
    trees,
};

/// Bytes of a file of several blobs.
const LARGE: usize = 24 << 20;

/// A backup of one file of several blobs, of which the packs of content are damaged in their middle
/// when asked for.
fn prepared() -> (Bench, Repository, String) {
    let bench = Bench::new();
    fs::write(bench.source().join("file"), trees::noise(1, LARGE)).unwrap();
    let repo = bench.init();
    let id = bench.archive(&repo).snapshot_id;
    (bench, repo, id)
}

/// Makes the middle of the largest pack unreadable. Returns the pack, and what it was.
fn damage(bench: &Bench) -> (PathBuf, Vec<u8>) {
    let packs = files(&bench.repo_dir().join("data"));
    let size = |pack: &PathBuf| fs::metadata(pack).unwrap().len();
    let largest = packs.into_iter().max_by_key(size).unwrap();
    let whole = fs::read(&largest).unwrap();
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle..middle + 4096].fill(0x55);
    fs::write(&largest, damaged).unwrap();
    (largest, whole)
}

fn assert_one_row(report: &RestoreReport) {
    assert_eq!(report.outcome(), Outcome::Partial);
    let rows: Vec<_> = report
        .errors
        .iter()
        .map(|row| (row.path.as_str(), row.operation))
        .collect();
    assert_eq!(rows, [("file", FileOperation::Read)]);
    assert!(
        report.errors[0].message.contains("what was there stays"),
        "{:?}",
        report.errors
    );
}

/// Only what was there, and nothing of a restore.
fn names(dir: &Path) -> Vec<String> {
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_cannot_be_mended_whole_stays_as_it_was() {
    let (bench, repo, id) = prepared();
    bench.restore(&repo, &id);
    let file = bench.target().join("file");
    let mut old = fs::read(&file).unwrap();
    // Every blob differs.
    for at in (0..LARGE).step_by(100_000) {
        old[at] ^= 1;
    }
    fs::write(&file, &old).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    damage(&bench);
    let report = run(&repo, &request(&bench, &id)).unwrap();
    assert_one_row(&report);
    assert!(fs::read(&file).unwrap() == old, "it was written to");
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    assert_eq!(names(&bench.target()), ["file"]);
}

#[test]
fn a_file_that_can_be_mended_keeps_its_inode() {
    let (bench, repo, id) = prepared();
    bench.restore(&repo, &id);
    let file = bench.target().join("file");
    let inode = fs::metadata(&file).unwrap().ino();
    let to_write = fs::File::options().write(true).open(&file).unwrap();
    to_write.write_all_at(b"changed", 3_000_000).unwrap();
    to_write.set_len(LARGE as u64 + 5).unwrap();
    let report = run(&repo, &request(&bench, &id)).unwrap();
    assert_eq!(report.errors, []);
    assert!(
        report.bytes_written < LARGE as u64 / 2,
        "{}",
        report.bytes_written
    );
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    assert_same(&bench.source(), &bench.target());
}

/// A link, a file with names elsewhere, an empty directory: none of them is given up for a file
/// that does not come.
#[test]
fn what_a_file_would_replace_stays_until_the_file_is_complete() {
    for kind in ["link", "names", "directory"] {
        let (bench, repo, id) = prepared();
        let (file, other) = (bench.target().join("file"), bench.dir.path().join("other"));
        match kind {
            "link" => symlink("elsewhere", &file).unwrap(),
            "names" => {
                fs::write(&other, "only copy").unwrap();
                fs::hard_link(&other, &file).unwrap();
            }
            _ => fs::create_dir(&file).unwrap(),
        }
        let before = fs::symlink_metadata(&file).unwrap();
        let (pack, whole) = damage(&bench);
        let report = run(&repo, &request(&bench, &id)).unwrap();
        assert_one_row(&report);
        let after = fs::symlink_metadata(&file).unwrap();
        assert_eq!(
            (after.ino(), after.file_type()),
            (before.ino(), before.file_type()),
            "{kind}"
        );
        assert_eq!(names(&bench.target()), ["file"], "{kind}");
        fs::write(pack, whole).unwrap();
        let report = run(&repo, &request(&bench, &id)).unwrap();
        assert_eq!(report.errors, [], "{kind}");
        assert_same(&bench.source(), &bench.target());
    }
}

/// All names of a file wait for its content, and take the places of others with it.
#[test]
fn names_of_one_file_replace_others_together_or_not_at_all() {
    let (bench, repo, _) = prepared();
    let source = bench.source();
    fs::create_dir(source.join("dir")).unwrap();
    for name in ["also", "dir/also"] {
        fs::hard_link(source.join("file"), source.join(name)).unwrap();
    }
    let id = bench.archive(&repo).snapshot_id;
    let target = bench.target();
    fs::create_dir(target.join("dir")).unwrap();
    for name in ["also", "file", "dir/also"] {
        symlink("only copy", target.join(name)).unwrap();
    }
    let (pack, whole) = damage(&bench);
    let report = run(&repo, &request(&bench, &id)).unwrap();
    assert_eq!(report.errors.len(), 3, "{:?}", report.errors);
    for name in ["also", "file", "dir/also"] {
        let link = fs::read_link(target.join(name)).unwrap();
        assert_eq!(link, Path::new("only copy"), "{name}");
    }
    assert_eq!(names(&target), ["also", "dir", "file"]);
    assert_eq!(names(&target.join("dir")), ["also"]);
    fs::write(pack, whole).unwrap();
    let report = run(&repo, &request(&bench, &id)).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&bench.source(), &bench.target());
    assert_eq!(names(&target.join("dir")), ["also"]);
}

/// What is being made under another name is no extra: the files of a directory are complete after
/// it was gone through.
#[test]
fn a_restore_that_deletes_does_not_delete_what_it_makes() {
    let bench = Bench::new();
    let source = bench.source();
    for n in 0..40 {
        fs::write(source.join(format!("file {n}")), trees::noise(n, 300_000)).unwrap();
    }
    for name in ["name 1", "name 2"] {
        fs::hard_link(source.join("file 0"), source.join(name)).unwrap();
    }
    let repo = bench.init();
    let id = bench.archive(&repo).snapshot_id;
    for name in names(&source) {
        symlink("elsewhere", bench.target().join(name)).unwrap();
    }
    fs::write(bench.target().join("extra"), "x").unwrap();
    let deleting = RestoreRequest {
        delete_extra: true,
        ..request(&bench, &id)
    };
    let report = run(&repo, &deleting).unwrap();
    assert_eq!((&report.errors[..], report.deleted), (&[][..], 1));
    assert_same(&source, &bench.target());
    assert_eq!(names(&bench.target()), names(&source));
}

/// What a killed restore left is removed once it is old; what is young may be of one that goes on.
#[test]
fn what_killed_restores_left_goes_when_it_is_old() {
    let (bench, repo, id) = prepared();
    bench.restore(&repo, &id);
    let left = bench.target().join(".ark-restoring-0123456789abcdef-0");
    fs::write(&left, "a part").unwrap();
    run(&repo, &request(&bench, &id)).unwrap();
    assert!(left.exists(), "it is not old");
}

/// The child: restores, and is killed in the middle of it.
#[test]
#[ignore = "run and killed by another test"]
fn child_restores() {
    let told = Told::get();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = told.dir.join("repo");
    let repo = killed::open(&root, Some(&told.faults), PASSWORD, runtime.handle()).unwrap();
    let request = RestoreRequest {
        snapshot: repo.snapshots().unwrap().remove(0).id,
        target: told.dir.join("target"),
        restore_owner: true,
        ..RestoreRequest::default()
    };
    run(&repo, &request).unwrap();
    told.ended();
}

/// Whenever it is killed, every name has what was there, or all of what takes its place; the file
/// that is put right has nothing but bytes of the one or the other. The next restore makes it
/// whole.
#[test]
fn a_restore_that_is_killed_leaves_the_old_or_the_new() {
    use std::os::unix::process::ExitStatusExt as _;
    let bench = Bench::in_memory();
    let new = trees::noise(1, LARGE / 2);
    fs::write(bench.source().join("file"), &new).unwrap();
    for n in 0..20 {
        let content = trees::noise(n + 10, 200_000);
        fs::write(bench.source().join(format!("small {n}")), content).unwrap();
    }
    fs::hard_link(bench.source().join("small 3"), bench.source().join("name")).unwrap();
    let repo = bench.init();
    let id = bench.archive(&repo).snapshot_id;
    // Two thirds of it are to be put right.
    let mut old = new.clone();
    for byte in &mut old[LARGE / 6..] {
        *byte ^= 0x55;
    }
    let mut kills = 0;
    for point in 0..24_u64 {
        let target = bench.target();
        fs::remove_dir_all(&target).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("file"), &old).unwrap();
        let small = names(&bench.source());
        let small: Vec<_> = small.iter().filter(|name| *name != "file").collect();
        for name in &small {
            symlink("only copy", target.join(name)).unwrap();
        }
        let later = 1000 + point * 6000;
        let child = "successors::child_restores";
        let ended = killed::child(child, 0, bench.dir.path(), (1, later));
        kills += u32::from(ended.signal() == Some(9));
        for name in small {
            let (there, wanted) = (target.join(name), bench.source().join(name));
            if let Ok(link) = fs::read_link(&there) {
                assert_eq!(link, Path::new("only copy"), "{point}: {name}");
                continue;
            }
            let same = fs::read(&there).unwrap() == fs::read(wanted).unwrap();
            assert!(same, "{point}: {name} is neither the old nor the new");
        }
        let there = fs::read(target.join("file")).unwrap();
        assert_eq!(there.len(), new.len());
        let mut bytes = there.iter().zip(old.iter().zip(&new));
        assert!(
            bytes.all(|(byte, (old, new))| byte == old || byte == new),
            "{point}"
        );
        // With what it left of its own.
        let again = RestoreRequest {
            delete_extra: true,
            ..request(&bench, &id)
        };
        assert_eq!(run(&repo, &again).unwrap().errors, [], "{point}");
        assert_same(&bench.source(), &target);
    }
    assert!(kills > 0, "none was killed");
}
