//! What a volume object's status says at each step. Pure: from a status to the next one.

use ark_api::condition::{self, kind, reason};
use ark_api::pod_volume_backup::{VolumePhase, VolumeProgress};
use ark_api::volume::FileError;
use ark_engine::ProgressCounts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::error::Error;
use crate::object::VolumeStatus;

/// File errors kept by name in a status; the rest is counted.
const MAX_FILE_ERRORS: usize = 100;
/// Longest message kept in a status.
const MAX_MESSAGE: usize = 4096;

/// How a volume ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finish {
    pub(crate) phase: VolumePhase,
    pub(crate) reason: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) file_errors: Vec<FileError>,
    /// All of them, also those not kept by name.
    pub(crate) file_error_count: u64,
    /// Whether the application may have the volume as it is now. Only of a restore.
    pub(crate) usable: bool,
}

impl Finish {
    /// All is done.
    pub(crate) fn completed() -> Self {
        Self {
            phase: VolumePhase::Completed,
            reason: reason::OK,
            message: None,
            file_errors: Vec::new(),
            file_error_count: 0,
            usable: true,
        }
    }

    /// The volume holds files of its own, `first` among them, and was left as it is.
    pub(crate) fn kept(first: &str) -> Self {
        Self {
            reason: reason::VOLUME_NOT_EMPTY,
            message: Some(format!(
                "the volume held files already ({first} among them) and was left as it is"
            )),
            ..Self::completed()
        }
    }

    /// Completed, or partially failed if there are file errors. `done` is the verb for the message:
    /// "stored" or "restored".
    pub(crate) fn with_file_errors(
        errors: &[ark_engine::FileError],
        dropped: u64,
        done: &str,
    ) -> Self {
        let Some(first) = errors.first() else {
            return Self::completed();
        };
        let count = errors.len() as u64 + dropped;
        let what = if count == 1 {
            format!("one entry was not {done} as it is")
        } else {
            format!("{count} entries were not {done} as they are")
        };
        Self {
            phase: VolumePhase::PartiallyFailed,
            reason: reason::FILE_ERRORS,
            message: Some(format!("{what}; the first: {first}")),
            file_errors: errors
                .iter()
                .take(MAX_FILE_ERRORS)
                .map(file_error)
                .collect(),
            file_error_count: count,
            usable: errors.iter().all(only_metadata) && dropped == 0,
        }
    }

    /// The same, with a word on what was left out on purpose.
    pub(crate) fn with_notes(mut self, notes: &[ark_engine::FileError]) -> Self {
        if let Some(first) = notes.first() {
            let note = format!("left out on purpose: {} (the first: {first})", notes.len());
            self.message = Some(match self.message.take() {
                Some(message) => format!("{message}; {note}"),
                None => note,
            });
        }
        self
    }

    /// It failed, or was cancelled.
    pub(crate) fn of_error(error: &Error) -> Self {
        let cancelled = matches!(
            error,
            Error::Cancelled | Error::Engine(ark_engine::Error::Cancelled)
        );
        Self {
            phase: if cancelled {
                VolumePhase::Canceled
            } else {
                VolumePhase::Failed
            },
            reason: error.reason(),
            message: Some(error.told()),
            file_errors: Vec::new(),
            file_error_count: 0,
            usable: false,
        }
    }
}

fn file_error(error: &ark_engine::FileError) -> FileError {
    FileError {
        path: error.path.clone(),
        operation: error.operation.to_string(),
        message: error.message.clone(),
    }
}

/// Whether the content is right and only something about the file is not: an owner that a network
/// file system refuses must not keep an application down.
fn only_metadata(error: &ark_engine::FileError) -> bool {
    use ark_engine::FileOperation as Operation;
    matches!(
        error.operation,
        Operation::Chown | Operation::Chmod | Operation::Times | Operation::Xattr
    )
}

/// The agent knows of it and waits for a slot; `place` says where it stands in the queue.
pub(crate) fn queued(
    status: &mut impl VolumeStatus,
    place: &str,
    generation: Option<i64>,
    now: &Time,
) {
    let common = status.common();
    *common.observed_generation = generation;
    common.accepted.get_or_insert_with(|| now.clone());
    waiting(status, reason::QUEUED, place, generation, now);
}

/// Something is waited for.
pub(crate) fn waiting(
    status: &mut impl VolumeStatus,
    why: &str,
    message: &str,
    generation: Option<i64>,
    now: &Time,
) {
    let status = status.common();
    *status.phase = Some(VolumePhase::Accepted);
    *status.reason = Some(why.to_owned());
    *status.message = Some(cut(message));
    condition::set(
        status.conditions,
        kind::WAITING,
        true,
        why,
        &cut(message),
        generation,
        now,
    );
}

/// The transfer begins, for the `attempt`th time.
pub(crate) fn started(
    status: &mut impl VolumeStatus,
    attempt: i32,
    generation: Option<i64>,
    now: &Time,
) {
    let status = status.common();
    *status.phase = Some(VolumePhase::InProgress);
    *status.reason = None;
    *status.message = None;
    *status.attempt = Some(attempt);
    *status.progress = None;
    status.started.get_or_insert_with(|| now.clone());
    not_waiting(status.conditions, generation, now);
}

/// The transfer goes on.
pub(crate) fn progress(status: &mut impl VolumeStatus, counts: ProgressCounts) {
    let status = status.common();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // The number of bytes known of never shrinks, also when files are found again.
    let known = status.progress.as_ref().map_or(0, |p| p.total_bytes);
    *status.progress = Some(VolumeProgress {
        total_bytes: number(counts.bytes_total)
            .max(number(counts.bytes_done))
            .max(known),
        bytes_done: number(counts.bytes_done),
        files_done: number(counts.files_done),
    });
}

/// It is being cancelled.
pub(crate) fn canceling(status: &mut impl VolumeStatus) {
    let status = status.common();
    *status.phase = Some(VolumePhase::Canceling);
}

/// It ended.
pub(crate) fn finished(
    status: &mut impl VolumeStatus,
    finish: &Finish,
    generation: Option<i64>,
    now: &Time,
) {
    let status = status.common();
    let Finish {
        phase,
        reason: why,
        message,
        file_errors,
        file_error_count,
        usable: _,
    } = finish;
    *status.phase = Some(*phase);
    // A volume that was left as it is has ended well, and says so.
    *status.reason = (*why != reason::OK).then(|| (*why).to_owned());
    *status.message = message.as_deref().map(cut);
    status.file_errors.clone_from(file_errors);
    *status.file_error_count = i64::try_from(*file_error_count).ok().filter(|n| *n > 0);
    *status.observed_generation = generation;
    *status.completed = Some(now.clone());
    not_waiting(status.conditions, generation, now);
}

fn not_waiting(
    conditions: &mut Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    generation: Option<i64>,
    now: &Time,
) {
    if condition::get(conditions, kind::WAITING).is_some() {
        condition::set(
            conditions,
            kind::WAITING,
            false,
            reason::OK,
            "",
            generation,
            now,
        );
    }
}

/// `text`, cut to what a status should hold.
fn cut(text: &str) -> String {
    if text.len() <= MAX_MESSAGE {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MAX_MESSAGE / 4).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use ark_api::pod_volume_backup::PodVolumeBackupStatus;
    use ark_engine::FileOperation;

    use super::*;

    fn now() -> Time {
        Time("2026-01-02T03:04:05Z".parse().unwrap())
    }

    fn error(operation: FileOperation) -> ark_engine::FileError {
        ark_engine::FileError {
            path: "a/b".to_owned(),
            operation,
            message: "no".to_owned(),
        }
    }

    #[test]
    fn a_life_of_a_status() {
        let mut status = PodVolumeBackupStatus::default();
        queued(&mut status, "place 3 of 7", Some(1), &now());
        assert_eq!(status.phase, Some(VolumePhase::Accepted));
        assert_eq!(status.reason.as_deref(), Some("Queued"));
        assert_eq!(status.message.as_deref(), Some("place 3 of 7"));
        assert_eq!(status.start_timestamp, None, "waiting is no work");
        assert!(condition::is_true(&status.conditions, kind::WAITING));
        started(&mut status, 1, Some(1), &now());
        assert_eq!(
            (status.phase, status.attempt),
            (Some(VolumePhase::InProgress), Some(1))
        );
        assert!(!condition::is_true(&status.conditions, kind::WAITING));
        assert_eq!(status.message, None);
        assert_eq!(status.start_timestamp, Some(now()));
        let finish = Finish::with_file_errors(&[error(FileOperation::Read)], 0, "stored");
        finished(&mut status, &finish, Some(1), &now());
        assert_eq!(status.phase, Some(VolumePhase::PartiallyFailed));
        assert_eq!(status.file_error_count, Some(1));
        assert!(status.message.unwrap().contains("a/b"));
        assert!(status.completion_timestamp.is_some());
    }

    #[test]
    fn errors_by_name_are_bounded_and_all_are_counted() {
        let errors = vec![error(FileOperation::Read); 250];
        let finish = Finish::with_file_errors(&errors, 7, "stored");
        assert_eq!(
            (finish.file_errors.len(), finish.file_error_count),
            (100, 257)
        );
    }

    #[test]
    fn only_wrong_content_keeps_a_volume_from_its_application() {
        let restored = |ops: &[FileOperation]| {
            let errors: Vec<_> = ops.iter().map(|o| error(*o)).collect();
            Finish::with_file_errors(&errors, 0, "restored").usable
        };
        assert!(restored(&[]));
        assert!(restored(&[FileOperation::Chown, FileOperation::Times]));
        assert!(!restored(&[FileOperation::Chown, FileOperation::Write]));
        let many = Finish::with_file_errors(&[error(FileOperation::Chown)], 1, "restored");
        assert!(!many.usable, "what was not listed may be anything");
    }

    #[test]
    fn a_volume_that_was_left_as_it_is_ends_well_and_says_why() {
        let said = |finish: &Finish| {
            let mut status = PodVolumeBackupStatus::default();
            finished(&mut status, finish, Some(1), &now());
            (status.phase.unwrap(), status.reason)
        };
        let kept = Finish::kept("file");
        assert!(kept.usable);
        let why = Some(reason::VOLUME_NOT_EMPTY.to_owned());
        assert_eq!(said(&kept), (VolumePhase::Completed, why));
        assert_eq!(said(&Finish::completed()), (VolumePhase::Completed, None));
    }

    #[test]
    fn a_cancel_is_no_failure() {
        let finish = Finish::of_error(&Error::Engine(ark_engine::Error::Cancelled));
        assert_eq!(
            (finish.phase, finish.reason),
            (VolumePhase::Canceled, "Cancelled")
        );
        let finish = Finish::of_error(&Error::ReadOnly("l".to_owned()));
        assert_eq!(finish.phase, VolumePhase::Failed);
        assert!(finish.message.unwrap().contains("ReadWrite"));
    }
}
