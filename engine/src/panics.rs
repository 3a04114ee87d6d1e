//! Panics as errors: whoever waits for what another thread does must hear that it will not be done.
//!
//! Does: end a panic where an operation's part begins, and make it an [`Error::Bug`] with the
//! panic's message. Does not: keep the panic's own message from standard error, or repair what the
//! part was working on. Locks of what threads share are taken whether they are poisoned or not,
//! because the operation only ends after that.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::error::{Error, Result};

/// Characters of a panic's message.
const SHOWN: usize = 200;

/// Runs `work`; a panic is the error `Bug`, which names `what` was being done.
pub(crate) fn caught<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(error(what, panic.as_ref())))
}

/// The error for a panic of `what`, wherever it was caught.
pub(crate) fn error(what: &str, panic: &(dyn Any + Send)) -> Error {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message");
    // Some show all the data that they hold.
    let said: String = said.chars().take(SHOWN).collect();
    Error::Bug(format!("{what} panicked: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let text = |result: Result<()>| result.unwrap_err().to_string();
        let n = 7;
        assert_eq!(
            text(caught("adding", || panic!("it is {n}"))),
            "internal error: adding panicked: it is 7"
        );
        assert!(text(caught("adding", || panic!("plain"))).ends_with("adding panicked: plain"));
        let odd = caught("adding", || std::panic::panic_any(n));
        assert!(text(odd).ends_with("panicked: without a message"));
        assert!(matches!(caught("adding", || Ok(n)), Ok(7)));
        let failed = caught("adding", || Err::<(), _>(Error::Cancelled));
        assert!(matches!(failed, Err(Error::Cancelled)));
    }
}
