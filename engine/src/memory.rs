//! Settings of the memory allocator, for long-running programs that use the engine.
//!
//! Deriving a repository's key takes 16 MiB for a moment, archiving takes buffers of that size. By
//! default glibc learns from the first such piece to keep later ones in the arena of the thread
//! that asked, and never gives them back: eight repositories leave 200 MiB in use for ever. With a
//! fixed threshold large pieces go back to the system at once. The threshold is read only when a
//! process starts, and cannot be set later without unsafe code, so the program replaces itself by
//! itself, once, with the variable set. Whoever starts it with the variable set (to any value)
//! saves that step.
//!
//! A piece that goes back at once is made of new pages, one fault each, when it is taken again. So
//! what a run takes again and again must not be one: buffers of a megabyte and more are kept for as
//! long as the run lasts by who uses them (the packs of an archive, what a restore reads), and
//! freed with it. What is smaller, like the buffers of a connection, stays below the threshold.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// glibc's name of the threshold.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// Pieces of this size and more are given back.
const BYTES: &str = "1048576";

/// Starts the program anew with the threshold fixed, unless it is. To be called first in `main`,
/// before any thread. Returns only when nothing needs to be done (`None`), or with the reason why
/// it could not be done.
pub fn give_back_large_pieces() -> Option<io::Error> {
    if std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    // Same process id, same arguments, same environment.
    match std::env::current_exe() {
        Ok(program) => Some(
            Command::new(program)
                .args(std::env::args_os().skip(1))
                .env(VARIABLE, BYTES)
                .exec(),
        ),
        Err(error) => Some(error),
    }
}
