//! Every request that this process makes of the API server passes here: it is counted, and in
//! programs built for tests a write may be the one at which the process ends ([`ends`]).
//!
//! Does not: change a request, or tell which of them failed.

use axum::http::{Method, Request};

use crate::metrics::{Metrics, RequestLabels};

/// Counts a request that is about to be made.
pub(crate) fn seen<B>(request: &Request<B>, metrics: &Metrics) {
    let verb = verb(request.method(), request.uri().query().unwrap_or_default());
    let labels = RequestLabels { verb };
    metrics.api_requests.get_or_create(&labels).inc();
    #[cfg(debug_assertions)]
    if ends::is_state(request.method(), request.uri().path()) {
        ends::before_write(&format!("{} {}", request.method(), request.uri().path()));
    }
}

/// The word for a request, as the API server's own metrics have it.
fn verb(method: &Method, query: &str) -> &'static str {
    let watches = query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1"));
    match method.as_str() {
        "GET" if watches => "watch",
        "GET" => "get",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// The store as it is, or one whose writes count among those at which a test ends the process.
pub(crate) fn store(store: ark_engine::Store) -> ark_engine::Store {
    #[cfg(debug_assertions)]
    if std::env::var_os(ark_api::env::TEST_END_AT_WRITE).is_some() {
        return store.with_faults(&ends::faults());
    }
    store
}

/// The end of the process at a chosen write. Not part of programs built for use.
///
/// A file of the test's holds the number of writes until then, and is removed with the end: so the
/// process that comes next lives on, and a test may choose again without starting anew.
#[cfg(debug_assertions)]
mod ends {
    use std::sync::{Mutex, PoisonError};

    use ark_engine::storage::fault::{Fault, Faults, Operation};
    use axum::http::Method;

    /// Writes that come and go by themselves and hold nothing that a later process goes by.
    const NO_STATE: [&str; 4] = ["/leases", "/events", "reviews", "/token"];

    /// Whether a request changes what a later process finds.
    pub(super) fn is_state(method: &Method, path: &str) -> bool {
        *method != Method::GET && !NO_STATE.iter().any(|part| path.contains(part))
    }

    /// What sees the writes of a store.
    pub(super) fn faults() -> Faults {
        Faults::new(|call| {
            if matches!(call.operation, Operation::Write | Operation::Delete) {
                before_write(&format!("{:?} {}", call.operation, call.path));
            }
            Fault::None
        })
    }

    /// Counts a write, and ends the process in place of the chosen one.
    pub(super) fn before_write(what: &str) {
        static COUNTING: Mutex<()> = Mutex::new(());
        let Some(file) = std::env::var_os(ark_api::env::TEST_END_AT_WRITE) else {
            return;
        };
        let counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
        else {
            return;
        };
        if left > 1 {
            tracing::debug!(left, what, "a write that a test counts");
            if let Err(error) = std::fs::write(&file, (left - 1).to_string()) {
                tracing::error!(%error, "a test's count of writes cannot be written");
            }
            drop(counting);
            return;
        }
        tracing::warn!(what, "ended by a test in place of this write");
        if let Err(error) = std::fs::remove_file(&file) {
            tracing::error!(%error, "a test's count of writes cannot be removed");
        }
        std::process::abort();
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_changes_nothing_is_not_counted() {
            let base = "/apis/ark.heptio.com/v1/namespaces/a";
            for (method, path, counts) in [
                (Method::PATCH, format!("{base}/backups/b/status"), true),
                (Method::DELETE, format!("{base}/backups/b"), true),
                (Method::GET, format!("{base}/backups/b"), false),
                (Method::PUT, "/x/leases/ark-operator".to_owned(), false),
                (Method::POST, "/x/namespaces/a/events".to_owned(), false),
            ] {
                assert_eq!(is_state(&method, &path), counts, "{method} {path}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_as_the_api_server_does() {
        assert_eq!(verb(&Method::GET, "limit=5"), "get");
        assert_eq!(verb(&Method::GET, "a=b&watch=true"), "watch");
        assert_eq!(verb(&Method::PATCH, ""), "patch");
    }
}
