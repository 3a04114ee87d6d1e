//! Room for the states of a directory.
//!
//! Does: remove what killed runs left, and, when a state was published, those used longest ago
//! until all of them take no more than was asked for. Whether one was used is told by its
//! modification time, which a run sets also when it has nothing to write. Does not: touch files
//! that are not named as states and temporary files are, or anything that is not a regular file;
//! follow links. A state may go while another run reads it: that run has it open, and publishes
//! another.

use std::{
    fs::{DirEntry, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::SystemTime,
};

use rustix::fs::OFlags;

/// What the names of states begin with; 32 hexadecimal digits follow.
pub(super) const PREFIX: &str = "prints-";
/// Digits behind it.
const DIGITS: usize = 32;
/// Digits of the random part of a temporary file's name.
const RANDOM: usize = 16;

/// A state as the directory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    name: String,
    bytes: u64,
    used: SystemTime,
}

/// Removes the states used longest ago, but never the one named `keep`, until all take at most so
/// many bytes.
pub(in crate::archive) fn make(dir: &Path, keep: &str, most: u64) -> io::Result<()> {
    for name in surplus(states(dir)?, keep, most) {
        tracing::debug!(state = name, "removed for others");
        unless_gone(std::fs::remove_file(dir.join(name)))?;
    }
    Ok(())
}

/// Removes what runs that were killed have left. One that was just made and is not locked yet may
/// go, too: that run then writes no state.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(is_temporary) {
            continue;
        }
        let file = File::options()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(entry.path());
        if file.is_ok_and(|file| file.try_lock().is_ok()) {
            unless_gone(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// What somebody else removed at the same time is gone as well.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn states(dir: &Path) -> io::Result<Vec<State>> {
    let mut states = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        match state(&entry?) {
            Ok(found) => states.extend(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

/// The state, if the entry is one.
fn state(entry: &DirEntry) -> io::Result<Option<State>> {
    let name = entry.file_name();
    let Some(name) = name.to_str().filter(|name| is_state(name)) else {
        return Ok(None);
    };
    let meta = entry.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    Ok(Some(State {
        name: name.to_owned(),
        bytes: meta.len(),
        // A clock that was wrong once is not to keep it for ever.
        used: meta.modified()?.min(SystemTime::now()),
    }))
}

/// Which states go.
fn surplus(mut states: Vec<State>, keep: &str, most: u64) -> Vec<String> {
    // The newest first; the one to keep before all.
    states.sort_by(|a, b| {
        let of = |state: &State| (state.name == keep, state.used);
        of(b).cmp(&of(a)).then_with(|| a.name.cmp(&b.name))
    });
    let mut sum = 0_u64;
    states.retain(|state| {
        sum = sum.saturating_add(state.bytes);
        sum > most && state.name != keep
    });
    states.into_iter().map(|state| state.name).collect()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_state(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| is_hex(rest, DIGITS))
}

fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp")
        .and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(state, random)| is_state(state) && is_hex(random, RANDOM))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state(name: &str, bytes: u64, used: u64) -> State {
        State {
            name: name.to_owned(),
            bytes,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
        }
    }

    #[test]
    fn the_oldest_go_first_and_the_one_just_written_stays() {
        let states = || vec![state("a", 10, 1), state("b", 10, 3), state("c", 10, 2)];
        assert_eq!(surplus(states(), "a", 30), Vec::<String>::new());
        assert_eq!(surplus(states(), "b", 29), ["a"]);
        assert_eq!(surplus(states(), "a", 29), ["c"]);
        assert_eq!(surplus(states(), "a", 5), ["b", "c"]);
        assert_eq!(surplus(states(), "gone", 0), ["b", "c", "a"]);
    }

    #[test]
    fn only_what_is_named_as_a_state_is_one() {
        let name = format!("{PREFIX}{}", "0a".repeat(16));
        assert!(is_state(&name) && !is_temporary(&name));
        let temporary = format!("{name}.{}.tmp", "1".repeat(16));
        assert!(is_temporary(&temporary) && !is_state(&temporary));
        for other in ["prints-", "notes", "prints-photos", "prints-1.tmp", ".tmp"] {
            assert!(!is_state(other) && !is_temporary(other), "{other}");
        }
    }

    #[test]
    fn other_files_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let named = |digit: &str| dir.path().join(format!("{PREFIX}{}", digit.repeat(32)));
        std::fs::write(named("1"), [0; 100]).unwrap();
        std::fs::write(dir.path().join("mine"), [0; 100]).unwrap();
        std::os::unix::fs::symlink(dir.path().join("mine"), named("2")).unwrap();
        std::fs::create_dir(named("3")).unwrap();
        make(dir.path(), "", 0).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        left.sort();
        assert_eq!(left, [dir.path().join("mine"), named("2"), named("3")]);
    }
}
