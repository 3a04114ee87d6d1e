//! Blocking work on threads of its own, never on those that drive requests.

use std::any::Any;

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Runs `work` on a new thread. A panic in it is an error of class bug.
pub(crate) async fn run<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody is told when the waiting side was dropped.
            drop(tell.send(work()));
        })
        .map_err(|error| Error::Bug(format!("cannot start a thread: {error}")))?;
    match told.await {
        Ok(result) => result,
        // The channel was dropped without an answer, so the thread is unwinding or has ended.
        Err(_) => Err(Error::Bug(match thread.join() {
            Ok(()) => format!("thread {name} ended without a result"),
            Err(panic) => format!("thread {name} panicked: {}", panic_text(&*panic)),
        })),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_and_panics_come_back() {
        assert_eq!(run("test", || Ok(5)).await.unwrap(), 5);
        let error = run::<()>("test", || panic!("on purpose"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("on purpose"), "{error}");
    }
}
