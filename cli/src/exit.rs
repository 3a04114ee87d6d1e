//! The exit codes of `ark`: the only place that gives them numbers. Documented for users in
//! `docs/reference/exit-codes.md`.

use std::process::ExitCode;

use ark_api::backup::BackupPhase;
use ark_api::restore::RestorePhase;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It could not be done.
    Error = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// `--wait`: the backup or restore ended as `PartiallyFailed`.
    PartiallyFailed = 3,
    /// `--wait`: it ended as `Failed`.
    Failed = 4,
    /// `--wait`: it ended as `FailedValidation`.
    FailedValidation = 5,
    /// A deadline passed.
    Timeout = 6,
    /// Interrupted, or deleted while being waited for; `--wait`: it ended as `Canceled`.
    Cancelled = 7,
    /// Whoever read the output stopped: what is missing of it was not written.
    CutOff = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code of two ends: the higher one.
    pub(crate) fn worse(self, other: Self) -> Self {
        if other as u8 > self as u8 {
            other
        } else {
            self
        }
    }

    /// The code of a backup that reached `phase`; nothing unless it is terminal.
    pub(crate) fn of_backup(phase: BackupPhase) -> Option<Self> {
        match phase {
            BackupPhase::Completed => Some(Self::Done),
            BackupPhase::PartiallyFailed => Some(Self::PartiallyFailed),
            BackupPhase::Failed => Some(Self::Failed),
            BackupPhase::FailedValidation | BackupPhase::Copy => Some(Self::FailedValidation),
            BackupPhase::Canceled => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// The code of a restore that reached `phase`; nothing unless it is terminal.
    pub(crate) fn of_restore(phase: RestorePhase) -> Option<Self> {
        match phase {
            RestorePhase::Completed => Some(Self::Done),
            RestorePhase::PartiallyFailed => Some(Self::PartiallyFailed),
            RestorePhase::Failed => Some(Self::Failed),
            RestorePhase::FailedValidation | RestorePhase::Copy => Some(Self::FailedValidation),
            RestorePhase::Canceled => Some(Self::Cancelled),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_terminal_phase_has_a_code_and_no_other() {
        for phase in [
            BackupPhase::New,
            BackupPhase::Queued,
            BackupPhase::ReadyToStart,
            BackupPhase::InProgress,
            BackupPhase::WaitingForPluginOperations,
            BackupPhase::WaitingForPluginOperationsPartiallyFailed,
            BackupPhase::Finalizing,
            BackupPhase::FinalizingPartiallyFailed,
            BackupPhase::Canceling,
            BackupPhase::Deleting,
            BackupPhase::Canceled,
            BackupPhase::FailedValidation,
            BackupPhase::Completed,
            BackupPhase::PartiallyFailed,
            BackupPhase::Failed,
            BackupPhase::Copy,
        ] {
            assert_eq!(
                Exit::of_backup(phase).is_some(),
                phase.is_terminal(),
                "{phase:?}"
            );
        }
    }

    #[test]
    fn codes_are_the_documented_ones() {
        let documented = include_str!("../../docs/reference/exit-codes.md");
        for (exit, word) in [
            (Exit::Done, "done"),
            (Exit::Error, "error"),
            (Exit::Usage, "usage"),
            (Exit::PartiallyFailed, "PartiallyFailed"),
            (Exit::Failed, "Failed"),
            (Exit::FailedValidation, "FailedValidation"),
            (Exit::Timeout, "timeout"),
            (Exit::Cancelled, "cancelled"),
            (Exit::CutOff, "cut off"),
        ] {
            let row = format!("| {} | {word} |", exit as u8);
            assert!(documented.contains(&row), "no row {row:?}");
        }
    }
}
