//! A state that was written, and what may happen to it on disk.

use std::{fs, path::Path};

use super::{
    format::{GENERATION, HEADER, MAGIC, RECORDS, TAG, TRAILER},
    *,
};
use crate::crypto::Key;

const PLENTY: u64 = 1 << 30;
const SEALED: usize = SEGMENT + TAG;

fn keys_of(repository: &str, master: u8, path: &str) -> Keys {
    let paths = [path.to_owned()];
    let volume = Volume {
        repository,
        polynomial: "3da3358b4dc173",
        host: "host",
        paths: &paths,
    };
    Keys::new(&Key::from_bytes(&[master; 64]), &volume).unwrap()
}

fn keys() -> Keys {
    keys_of("repository", 1, "/volume")
}

/// The records of a file; different for each file and seed.
fn records(keys: &Keys, file: u64, seed: u64, count: u64) -> Vec<Record> {
    let record = |n: u64| Record {
        offset: n * 65536,
        length: 65536,
        cut: Cut::Arithmetic,
        print: keys.print(format!("{file} {seed} {n}").as_bytes()),
        id: crate::crypto::Id::of(format!("{file} {seed} {n}").as_bytes()).0,
    };
    (0..count).map(record).collect()
}

/// A state of three files, the second of which fills several segments. Returns all its records.
fn write(dir: &Path, keys: &Keys, seed: u64) -> Vec<Vec<Record>> {
    let mut writer = Writer::create(dir, keys, PLENTY).unwrap();
    let counts = [100, 3 * RECORDS as u64, 40];
    let files: Vec<_> = (0..)
        .zip(counts)
        .map(|(file, count)| records(keys, file, seed, count))
        .collect();
    for (file, records) in (0_u32..).zip(&files) {
        let key = key(keys, file);
        assert!(
            writer
                .add(key, records.len(), records.iter().copied())
                .unwrap()
        );
    }
    writer.publish().unwrap();
    files
}

fn key(keys: &Keys, file: u32) -> [u8; 16] {
    keys.path(Path::new(&file.to_string()))
}

/// What can be read of it.
fn read(dir: &Path, keys: &Keys) -> Result<Vec<Vec<Record>>, String> {
    let Some(reader) = Reader::open(dir, keys, PLENTY)? else {
        return Err("there is none".to_owned());
    };
    let all = |file| {
        reader
            .track(&key(keys, file))
            .map(|track| reader.rest(track).collect())
    };
    Ok((0..3).map(|file| all(file).unwrap_or_default()).collect())
}

fn path(dir: &Path, keys: &Keys) -> PathBuf {
    dir.join(keys.file_name())
}

#[test]
fn what_was_written_is_read() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let dir = dir.path().join("made/for it");
    assert!(Reader::open(&dir, &keys, PLENTY).unwrap().is_none());
    let files = write(&dir, &keys, 1);
    assert_eq!(read(&dir, &keys).unwrap(), files);
    let reader = Reader::open(&dir, &keys, PLENTY).unwrap().unwrap();
    let mut track = reader.track(&key(&keys, 1)).unwrap();
    let mut found = Vec::new();
    reader.take(&mut track, 65536 * 859, 65536 * 861, &mut found);
    assert_eq!(found, files[1][859..861]);
    let place = track.place();
    assert_eq!(reader.at(&mut track, 65536 * 1800), Some(files[1][1800]));
    assert_eq!(reader.at(&mut track, 65536 * 1800 + 1), None);
    track.go_back(place);
    assert_eq!(reader.at(&mut track, 65536 * 861), Some(files[1][861]));
    assert!(reader.track(&key(&keys, 3)).is_none());
    // Without memory for the table it is not used.
    assert!(Reader::open(&dir, &keys, 3).is_err());
}

#[test]
fn what_is_kept_is_told_in_the_order_of_the_state() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    write(dir.path(), &keys, 1);
    let reader = Reader::open(dir.path(), &keys, PLENTY).unwrap().unwrap();
    for file in [2, 0] {
        reader.keep(&reader.track(&key(&keys, file)).unwrap());
    }
    assert!(!reader.all_kept());
    let kept = reader
        .kept()
        .into_iter()
        .map(|file| reader.file(file).unwrap().0);
    assert_eq!(kept.collect::<Vec<_>>(), [key(&keys, 0), key(&keys, 2)]);
    reader.keep(&reader.track(&key(&keys, 1)).unwrap());
    assert!(reader.all_kept());
}

/// Nothing is read that was not written: each file's records are some of those it has.
fn assert_only(found: &[Vec<Record>], files: &[Vec<Record>]) {
    for (found, file) in found.iter().zip(files) {
        assert!(found.iter().all(|record| file.contains(record)));
    }
}

#[test]
fn a_bit_anywhere_costs_a_segment_or_all_and_tells_nothing_wrong() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let files = write(dir.path(), &keys, 1);
    let path = path(dir.path(), &keys);
    let good = fs::read(&path).unwrap();
    let total: usize = files.iter().map(Vec::len).sum();
    let segments = total.div_ceil(RECORDS);
    assert_eq!(good.len(), HEADER + (segments + 1) * SEALED + TRAILER + TAG);
    let start = |segment: usize| HEADER + segment * SEALED;
    let places = (0..=segments).flat_map(|n| {
        [
            start(n),
            start(n) + 33,
            start(n + 1) - TAG,
            start(n + 1) - 1,
        ]
    });
    let places = places.chain([
        0,
        MAGIC.len(),
        HEADER - 1,
        good.len() - TAG - TRAILER,
        good.len() - 1,
    ]);
    for (bit, at) in places.enumerate() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        match read(dir.path(), &keys) {
            Ok(found) => {
                assert!((HEADER..start(segments)).contains(&at), "{at}");
                assert_only(&found, &files);
                let left: usize = found.iter().map(Vec::len).sum();
                let lost = if at < start(segments - 1) {
                    RECORDS
                } else {
                    total % RECORDS
                };
                assert_eq!(left, total - lost, "{at}");
            }
            Err(_) => assert!(!(HEADER..start(segments)).contains(&at), "{at}"),
        }
    }
}

#[test]
fn segments_in_another_order_are_not_read() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let files = write(dir.path(), &keys, 1);
    let path = path(dir.path(), &keys);
    let good = fs::read(&path).unwrap();
    for (a, b) in [(0, 1), (1, 2), (0, 3)] {
        let mut bad = good.clone();
        let [a, b] = [a, b].map(|n| HEADER + n * SEALED);
        let (front, back) = bad.split_at_mut(b);
        front[a..a + SEALED].swap_with_slice(&mut back[..SEALED]);
        fs::write(&path, &bad).unwrap();
        let found = read(dir.path(), &keys).unwrap();
        assert_only(&found, &files);
        let left: usize = found.iter().map(Vec::len).sum();
        let total: usize = files.iter().map(Vec::len).sum();
        assert!(left < total - RECORDS, "{left} of {total}");
    }
    // One of records in the place of the table.
    let mut bad = good.clone();
    bad.copy_within(HEADER..HEADER + SEALED, HEADER + 4 * SEALED);
    fs::write(&path, &bad).unwrap();
    assert!(read(dir.path(), &keys).is_err());
}

#[test]
fn a_state_that_is_cut_off_or_longer_is_not_read() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    write(dir.path(), &keys, 1);
    let path = path(dir.path(), &keys);
    let good = fs::read(&path).unwrap();
    let boundaries = (0..=5).map(|n| HEADER + n * SEALED);
    let lengths = boundaries
        .flat_map(|at| [at.saturating_sub(1), at, at + 1, at + TRAILER + TAG])
        .chain([0, 1, TRAILER + TAG, HEADER, good.len() - 1]);
    for length in lengths.filter(|length| *length != good.len()) {
        let mut bad = good.clone();
        bad.resize(length, 0);
        fs::write(&path, &bad).unwrap();
        assert!(read(dir.path(), &keys).is_err(), "{length}");
        // With its own end put behind what is left.
        bad.extend_from_slice(&good[good.len() - TRAILER - TAG..]);
        if bad != good {
            fs::write(&path, &bad).unwrap();
            assert!(read(dir.path(), &keys).is_err(), "{length} and an end");
        }
    }
    let longer = [&good[..], &vec![0; SEALED]].concat();
    fs::write(&path, longer).unwrap();
    assert!(read(dir.path(), &keys).is_err());
}

#[test]
fn a_state_of_something_else_is_not_read() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let others = [
        keys_of("repository", 1, "/another"),
        keys_of("another", 1, "/volume"),
        keys_of("repository", 2, "/volume"),
    ];
    let files = write(dir.path(), &keys, 1);
    for other in &others {
        write(dir.path(), other, 2);
        assert_ne!(other.file_name(), keys.file_name());
        let foreign = fs::read(path(dir.path(), other)).unwrap();
        // All of it, and segments of it in a state of ours.
        let own = fs::read(path(dir.path(), &keys)).unwrap();
        fs::write(path(dir.path(), &keys), &foreign).unwrap();
        assert!(read(dir.path(), &keys).is_err());
        let mut mixed = own.clone();
        mixed[HEADER..HEADER + SEALED].copy_from_slice(&foreign[HEADER..HEADER + SEALED]);
        fs::write(path(dir.path(), &keys), &mixed).unwrap();
        assert_only(&read(dir.path(), &keys).unwrap(), &files);
        fs::write(path(dir.path(), &keys), &own).unwrap();
        assert_eq!(read(dir.path(), &keys).unwrap(), files);
    }
}

#[test]
fn segments_of_an_earlier_state_are_not_read() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    write(dir.path(), &keys, 1);
    let path = path(dir.path(), &keys);
    let old = fs::read(&path).unwrap();
    let files = write(dir.path(), &keys, 2);
    let mut mixed = fs::read(&path).unwrap();
    assert_ne!(
        mixed[MAGIC.len()..][..GENERATION],
        old[MAGIC.len()..][..GENERATION]
    );
    mixed[HEADER..HEADER + SEALED].copy_from_slice(&old[HEADER..HEADER + SEALED]);
    fs::write(&path, &mixed).unwrap();
    let found = read(dir.path(), &keys).unwrap();
    assert_only(&found, &files);
    assert_eq!(found[0], []);
}

#[test]
fn no_state_is_larger_than_allowed() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let fixed = HEADER + TRAILER + TAG;
    let most = (fixed + 3 * SEALED) as u64;
    let mut writer = Writer::create(dir.path(), &keys, most).unwrap();
    let mut add = |file: u32, count| {
        let records = records(&keys, u64::from(file), 1, count);
        writer
            .add(key(&keys, file), records.len(), records.into_iter())
            .unwrap()
    };
    assert!(!add(0, 2 * RECORDS as u64 + 1));
    assert!(add(1, 2 * RECORDS as u64 - 1));
    assert!(add(2, 1));
    assert!(!add(3, 1));
    assert_eq!(writer.publish().unwrap(), most);
    assert_eq!(fs::metadata(path(dir.path(), &keys)).unwrap().len(), most);
    let counts = read(dir.path(), &keys).unwrap();
    assert_eq!(
        counts.iter().map(Vec::len).collect::<Vec<_>>(),
        [0, 2 * RECORDS - 1, 1]
    );
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_not_finished_goes_and_what_lives_stays() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let dir = dir.path();
    let files = write(dir, &keys, 1);
    let state = keys.file_name();
    drop(Writer::create(dir, &keys, PLENTY).unwrap());
    assert_eq!(names(dir), [&*state]);
    // As a run leaves one that is killed.
    let random = "1".repeat(16);
    fs::write(dir.join(format!("{state}.{random}.tmp")), "half").unwrap();
    let other = keys_of("repository", 1, "/another").file_name();
    fs::write(dir.join(format!("{other}.{random}.tmp")), "half of another").unwrap();
    let foreign = "notes.1.tmp".to_owned();
    fs::write(dir.join(&foreign), "of somebody").unwrap();
    let one = Writer::create(dir, &keys, PLENTY).unwrap();
    let two = Writer::create(dir, &keys, PLENTY).unwrap();
    assert_eq!(names(dir).len(), 4, "{:?}", names(dir));
    assert_eq!(read(dir, &keys).unwrap(), files);
    // Of two the last to finish wins, and both are whole.
    one.publish().unwrap();
    assert_eq!(read(dir, &keys).unwrap(), [vec![], vec![], vec![]]);
    let mut two = two;
    let few = records(&keys, 0, 9, 5);
    two.add(key(&keys, 0), 5, few.iter().copied()).unwrap();
    two.publish().unwrap();
    assert_eq!(read(dir, &keys).unwrap(), [few, vec![], vec![]]);
    assert_eq!(names(dir), [foreign, state]);
}

#[test]
fn a_name_that_is_no_file_is_not_opened() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), keys());
    let (dir, path) = (dir.path(), path(dir.path(), &keys));
    write(dir, &keys, 1);
    fs::rename(&path, dir.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.join("elsewhere"), &path).unwrap();
    assert!(read(dir, &keys).is_err(), "a link");
    // It is replaced, not written through.
    let before = fs::read(dir.join("elsewhere")).unwrap();
    let files = write(dir, &keys, 2);
    assert_eq!(read(dir, &keys).unwrap(), files);
    assert_eq!(fs::read(dir.join("elsewhere")).unwrap(), before);
    fs::remove_file(&path).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, 0o600.into(), 0).unwrap();
    assert!(read(dir, &keys).is_err(), "a pipe, which nobody writes to");
}
