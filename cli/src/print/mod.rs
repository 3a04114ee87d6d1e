//! All that `ark` writes: results on standard output, everything else (progress, warnings, hints,
//! errors) on standard error. No other module writes.
//!
//! What is shown is made by functions from data to text in the modules below, so that tests
//! compare text. Writing fails only with [`Error::Output`]; a failure to write a warning or an error
//! is not reported, because there is nowhere left to report it.

#![expect(
    clippy::format_push_string,
    reason = "text is put together piece by piece; writing it this way cannot fail"
)]

pub(crate) mod backup;
pub(crate) mod describe;
pub(crate) mod engine;
pub(crate) mod human;
pub(crate) mod list;
pub(crate) mod location;
pub(crate) mod messages;
mod once;
pub(crate) mod progress;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod schedule;
pub(crate) mod structured;
pub(crate) mod table;
pub(crate) mod volumes;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crate::error::{Error, Result};

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Standard output is a terminal that takes colours.
    pub(crate) colour: bool,
    /// Standard error is a terminal, so that a line on it can be rewritten.
    pub(crate) live: bool,
}

impl Printer {
    /// A printer for this process.
    pub(crate) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            colour: io::stdout().is_terminal() && !plain,
            live: io::stderr().is_terminal(),
        }
    }

    /// Writes text to standard output, ended by a line break.
    #[expect(clippy::unused_self, reason = "whoever writes needs a printer")]
    pub(crate) fn out(self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') && !text.is_empty() {
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Writes bytes to standard output as they are.
    #[expect(clippy::unused_self, reason = "whoever writes needs a printer")]
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// Standard output, buffered: whoever writes to it flushes it in the end.
    #[expect(clippy::unused_self, reason = "whoever writes needs a printer")]
    pub(crate) fn writer(self) -> io::BufWriter<io::Stdout> {
        io::BufWriter::with_capacity(256 << 10, io::stdout())
    }

    /// Writes a line to standard error.
    #[expect(clippy::unused_self, reason = "whoever writes needs a printer")]
    pub(crate) fn note(self, text: &str) {
        err(&format!("{text}\n"));
    }

    /// Writes a warning to standard error.
    pub(crate) fn warn(self, text: &str) {
        self.note(&format!("warning: {text}"));
    }
}

/// Writes an error, with what to do about it, to standard error.
pub(crate) fn error(error: &Error) {
    err(&error_text(error));
}

/// An error as it is shown.
pub(crate) fn error_text(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    if let Some(hint) = error.hint() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// Writes what the command line parser has to say: help and version to standard output, the rest
/// to standard error.
pub(crate) fn parser(error: &clap::Error) {
    if error.print().is_err() {
        err("error: cannot write the help\n");
    }
}

fn err(text: &str) {
    let mut out = io::stderr().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        // Nowhere left to say so.
    }
}
