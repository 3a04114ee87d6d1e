//! Logs: one line an event, to standard output, as text or JSON.

use ark_api::env;
use tracing_subscriber::EnvFilter;

/// Sets up logging. Fails if the filter or the format does not make sense.
pub(crate) fn init(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let filter = match get(env::LOG).filter(|v| !v.is_empty()) {
        Some(text) => EnvFilter::try_new(&text)
            .map_err(|error| anyhow::anyhow!("{} {text:?}: {error}", env::LOG))?,
        None => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match get(env::LOG_FORMAT).as_deref() {
        None | Some("" | "text") => builder.with_ansi(false).init(),
        Some("json") => builder.json().init(),
        Some(other) => anyhow::bail!("{} must be text or json, not {other:?}", env::LOG_FORMAT),
    }
    Ok(())
}
