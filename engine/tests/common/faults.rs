//! What goes wrong in a store, as a function of a seed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ark_engine::storage::fault::{Call, Fault, Operation};

/// A number that follows from the seed alone.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What goes wrong at a point, beginning with one of `calls` requests after the first `from`: one
/// fault, several faults, or everything from then on.
pub fn plan(
    seed: u64,
    from: u64,
    calls: u64,
) -> impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static {
    let at = from + mix(seed) % calls + 1;
    let kind = seed % 9;
    let dead = AtomicBool::new(false);
    move |call| {
        let now = call.number == at;
        let hit = call.number >= at && mix(seed ^ call.number << 20).is_multiple_of(4);
        match kind {
            0 if now => Fault::Fail,
            1 if now => Fault::Refuse,
            2 if now => Fault::Lost,
            3 if now => Fault::Truncate,
            4 if now => Fault::Slow(Duration::from_millis(400)),
            5 if now => Fault::Hang,
            6 if call.operation == Operation::List => Fault::Twice,
            // A quarter of all requests, each in its own way.
            7 if hit => match mix(seed + call.number) % 4 {
                0 => Fault::Fail,
                1 => Fault::Lost,
                2 => Fault::Truncate,
                _ => Fault::Slow(Duration::from_millis(50)),
            },
            // The connection is gone, for good; the last request may or may not have been carried
            // out.
            8 if now => {
                dead.store(true, Ordering::Relaxed);
                if mix(!seed).is_multiple_of(2) {
                    Fault::Lost
                } else {
                    Fault::Fail
                }
            }
            8 if dead.load(Ordering::Relaxed) => Fault::Fail,
            _ => Fault::None,
        }
    }
}
