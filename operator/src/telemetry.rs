//! Logging of the process: one line an event to standard error, as text or JSON.
//!
//! Secrets never reach it: they live in types whose text is redacted, and errors carry none.

use std::io::Write as _;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::LogFormat;

/// What is logged when the user asks for nothing else.
const DEFAULT_FILTER: &str =
    "info,kube_client=warn,kube_runtime=warn,opendal=warn,rustic_core=warn";

/// Starts logging. A filter that makes no sense is said so and replaced by the default.
pub(crate) fn start(filter: Option<&str>, format: LogFormat) {
    let (parsed, complaint) = match filter.map(EnvFilter::try_new) {
        None => (EnvFilter::new(DEFAULT_FILTER), None),
        Some(Ok(parsed)) => (parsed, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    // Whatever the user asks for: this target logs whole answers of the API server that it cannot
    // parse, Secrets included.
    let parsed = match "kube_client::client=error".parse() {
        Ok(directive) => parsed.add_directive(directive),
        Err(_) => parsed,
    };
    let registry = tracing_subscriber::registry().with(parsed);
    let started = match format {
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(false),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    if let Err(error) = started {
        tracing::warn!(%error, "logging was already started");
    }
    if let Some(error) = complaint {
        tracing::warn!(%error, variable = ark_api::env::LOG, "log filter not understood; using the default");
    }
}

/// Writes the version to standard output.
pub(crate) fn version() -> ExitCode {
    match writeln!(
        std::io::stdout(),
        "ark-operator {}",
        env!("CARGO_PKG_VERSION")
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
