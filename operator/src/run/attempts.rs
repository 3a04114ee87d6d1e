//! Counting attempts. An attempt is counted in the status before it begins, so one that ends with
//! the process is counted, too; why each earlier one ended is kept beside the count. After [`MAX`]
//! the work is given up. Pure.

use ark_api::attempt::FailedAttempt;

/// Attempts at one backup or restore, after which it is given up.
pub(crate) const MAX: i32 = 10;
/// What is said of an attempt that left no word.
const INTERRUPTED: &str = "the operator stopped, or lost its process, during the attempt";
/// Longest cause kept, in bytes.
const MAX_CAUSE: usize = 512;

/// Keeps why attempt number `attempt` ended. The first word stands.
pub(crate) fn note(failed: &mut Vec<FailedAttempt>, attempt: i32, cause: Option<&str>) {
    if attempt < 1 || failed.iter().any(|known| known.attempt == attempt) {
        return;
    }
    failed.push(FailedAttempt {
        attempt,
        message: crate::error::shorten(cause.unwrap_or(INTERRUPTED), MAX_CAUSE),
    });
}

/// Why no attempt is made any more after number `attempt`; nothing if there is one left.
pub(crate) fn exhausted(attempt: i32, failed: &[FailedAttempt]) -> Option<String> {
    if attempt < MAX {
        return None;
    }
    let last = failed.last().map_or(INTERRUPTED, |last| &last.message);
    Some(format!(
        "given up after {attempt} attempts; the last one ended because: {last}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_one_cause_and_the_first_word_stands() {
        let mut failed = Vec::new();
        note(&mut failed, 0, Some("before the first"));
        note(&mut failed, 1, Some("the API server"));
        note(&mut failed, 1, None);
        note(&mut failed, 2, None);
        let said: Vec<_> = failed
            .iter()
            .map(|f| (f.attempt, f.message.as_str()))
            .collect();
        assert_eq!(said, [(1, "the API server"), (2, INTERRUPTED)]);
    }

    #[test]
    fn there_is_an_end_and_it_says_why() {
        let mut failed = Vec::new();
        assert_eq!(exhausted(MAX - 1, &failed), None);
        note(&mut failed, MAX, Some("the bundle is too large"));
        let why = exhausted(MAX, &failed).unwrap();
        assert!(
            why.contains("10 attempts") && why.contains("too large"),
            "{why}"
        );
    }
}
