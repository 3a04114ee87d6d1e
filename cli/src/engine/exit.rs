//! The exit codes of `ark engine`: restic's, so that scripts made for it work. The only place that gives them
//! numbers; documented for users in `docs/reference/exit-codes.md`.

use std::process::ExitCode;

use crate::error::Error;

/// How a command of `ark engine` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EngineExit {
    /// What was asked for is done.
    Done = 0,
    /// It could not be done, or a check found damage.
    Error = 1,
    /// `backup`: there is a snapshot, and it lacks files that could not be read.
    Incomplete = 3,
    /// There is no repository.
    NoRepository = 10,
    /// Somebody holds a lock that stands in the way.
    Locked = 11,
    /// The password opens no key.
    WrongPassword = 12,
    /// Interrupted.
    Interrupted = 130,
    /// Whoever read the output stopped: what is missing of it was not written.
    CutOff = 141,
}

impl From<EngineExit> for ExitCode {
    fn from(exit: EngineExit) -> Self {
        Self::from(exit as u8)
    }
}

impl EngineExit {
    /// The code of an error.
    pub(crate) fn of(error: &Error) -> Self {
        use ark_engine::Error as Engine;
        match error {
            Error::Engine(Engine::NoRepository { .. } | Engine::NoStore { .. }) => {
                Self::NoRepository
            }
            Error::Engine(Engine::Locked { .. }) => Self::Locked,
            Error::Engine(Engine::WrongPassword { .. }) => Self::WrongPassword,
            Error::Engine(Engine::Cancelled) => Self::Interrupted,
            _ => Self::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let documented = include_str!("../../../docs/reference/exit-codes.md");
        let (_, documented) = documented.split_once("## `ark engine`").unwrap();
        for (exit, word) in [
            (EngineExit::Done, "done"),
            (EngineExit::Error, "error"),
            (EngineExit::Incomplete, "incomplete"),
            (EngineExit::NoRepository, "no repository"),
            (EngineExit::Locked, "locked"),
            (EngineExit::WrongPassword, "wrong password"),
            (EngineExit::Interrupted, "interrupted"),
            (EngineExit::CutOff, "cut off"),
        ] {
            let row = format!("| {} | {word} |", exit as u8);
            assert!(documented.contains(&row), "no row {row:?}");
        }
    }

    #[test]
    fn errors_that_scripts_tell_apart() {
        let location = || "/r".to_owned();
        let of = |error| EngineExit::of(&Error::Engine(error));
        let none = ark_engine::Error::NoRepository {
            location: location(),
        };
        assert_eq!(of(none), EngineExit::NoRepository);
        let locked = ark_engine::Error::Locked {
            location: location(),
            holder: String::new(),
            since: String::new(),
        };
        assert_eq!(of(locked), EngineExit::Locked);
        let wrong = ark_engine::Error::WrongPassword {
            location: location(),
            tried: 1,
        };
        assert_eq!(of(wrong), EngineExit::WrongPassword);
        assert_eq!(of(ark_engine::Error::Cancelled), EngineExit::Interrupted);
        assert_eq!(EngineExit::of(&Error::usage("x")), EngineExit::Error);
    }
}
