//! Ceilings of memory, and the errors that name how much would do.

use ark_engine::{Error, Result};

/// What can be done in so many bytes.
pub type Operation<'a> = (&'a str, Box<dyn Fn(u64) -> Result<()> + 'a>);

/// With `little` bytes each is an error that names more, less than `most`, and with what it names each succeeds at once.
pub fn what_is_named_suffices(operations: Vec<Operation<'_>>, little: u64, most: u64) {
    for (name, run) in operations {
        let needed = match run(little) {
            Err(Error::MemoryLimit { needed, limit, .. }) => {
                assert_eq!(limit, little, "{name}");
                needed
            }
            other => panic!("{name} with {little} bytes: {other:?}"),
        };
        assert!(needed > little && needed < most, "{name} named {needed}");
        run(needed).unwrap_or_else(|error| panic!("{name} with {needed} bytes: {error}"));
    }
}
