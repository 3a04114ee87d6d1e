//! The engine's parsers and what must hold of them, for the fuzz targets.
//!
//! Does: hand an input to a target within the memory that the target may take for it. What takes
//! more aborts, as what panics does, and the fuzzer keeps the input.

#![forbid(unsafe_code)]
#![allow(dead_code, unfulfilled_lint_expectations)] // most of what is included is not called from here

mod archive;
#[path = "../../src/chunk/mod.rs"]
mod chunk;
#[path = "../../src/crypto.rs"]
mod crypto;
#[path = "../../src/format/mod.rs"]
mod format;
#[path = "../../src/fuzzing/mod.rs"]
mod fuzzing;
mod index;

use std::{alloc::System, panic, sync::Once};

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs the target of this name.
///
/// # Panics
/// If there is none, and if something does not hold.
pub fn check(name: &str, data: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // What is printed about a panic is not the target's memory.
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            limit(usize::MAX);
            print(what);
        }));
    });
    let target = fuzzing::TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("the targets are named as in the engine");
    let memory = fuzzing::BASE_MEMORY + data.len() * target.memory_per_byte;
    limit(ALLOCATOR.allocated() + memory);
    (target.check)(data);
    limit(usize::MAX);
}

fn limit(bytes: usize) {
    ALLOCATOR
        .set_limit(bytes)
        .expect("more is allowed than is taken");
}
