//! Everything that goes to the terminal: progress to standard error, results to standard output.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one module that prints"
)]

/// A step.
pub(crate) fn step(text: &str) {
    eprintln!("==> {text}");
}

/// A detail of a step.
pub(crate) fn note(text: &str) {
    eprintln!("    {text}");
}

/// What ended the run.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// A line of the result.
pub(crate) fn data(text: &str) {
    println!("{text}");
}
