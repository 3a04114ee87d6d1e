//! Cancelling: one token, shared by everything an operation starts.

/// Ends an operation. Cancelling is final; an operation that has ended ignores it.
pub type Cancel = tokio_util::sync::CancellationToken;
