//! Settings of the process, read once from the environment. All names are in [`ark_api::env`].
//!
//! Fails with every wrong setting at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ark_api::env;

use crate::maintain::Rules;

/// How long restored pods may take to be scheduled and their claims to be bound, unless told
/// otherwise.
const DEFAULT_BIND_TIMEOUT: Duration = Duration::from_mins(10);
/// Backups that run at the same time unless the environment says otherwise.
const CONCURRENT_BACKUPS: usize = 8;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What the environment says.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Ark's namespace.
    pub(crate) namespace: String,
    /// Pod the operator runs in; also its identity in the leader's lease.
    pub(crate) pod: String,
    /// Directory below which `local` locations live, if the chart mounts one.
    pub(crate) local_store_root: Option<PathBuf>,
    /// Name of the default location, if given.
    pub(crate) default_location: Option<String>,
    /// Secret with cloud credentials of locations that name none.
    pub(crate) default_credentials_secret: Option<String>,
    /// Image of the init container of restored pods.
    pub(crate) restore_wait_image: Option<String>,
    /// How long restored pods may take to be scheduled and their claims to be bound.
    pub(crate) restore_bind_timeout: Duration,
    /// Expired backups of one location that are deleted at once without an acknowledgement.
    pub(crate) expiry_limit: usize,
    /// Only restores are done, and locations read; see [`RESTORE_ONLY`].
    pub(crate) restore_only: bool,
    /// Backups that run at the same time, at most.
    pub(crate) concurrent_backups: usize,
    /// Directory for spool files; every run makes its own inside and removes it.
    pub(crate) spool: PathBuf,
    /// Where `/healthz`, `/readyz` and `/metrics` answer.
    pub(crate) http_address: SocketAddr,
    /// Where artefacts are handed out: a loopback address.
    pub(crate) artefact_address: SocketAddr,
    /// Node the operator runs on, if known.
    pub(crate) node: Option<String>,
    /// How repositories are maintained, if they are.
    pub(crate) maintenance: Option<Rules>,
    /// Log filter.
    pub(crate) log: Option<String>,
    /// Log format.
    pub(crate) log_format: LogFormat,
}

/// Why something is not done in restore-only mode, for statuses.
pub(crate) const RESTORE_ONLY: &str = "the operator is in restore-only mode (operator.restoreOnly in the chart's values): it makes, deletes, expires and maintains nothing";

/// Value of [`Settings::expiry_limit`] when nothing is said.
const EXPIRY_LIMIT: usize = 100;

impl Settings {
    /// Reads the settings through `get`, which looks a variable up.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut wrong = Vec::new();
        let mut address = |name: &str, default: SocketAddr| match get(name) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| {
                wrong.push(format!("{name}={text:?} is not an address and port"));
                default
            }),
        };
        let http_address = address(
            env::HTTP_ADDRESS,
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), env::HTTP_PORT),
        );
        let artefact_address = address(
            env::ARTEFACT_ADDRESS,
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), env::ARTEFACT_PORT),
        );
        if !artefact_address.ip().is_loopback() {
            wrong.push(format!(
                "{}={artefact_address} is not a loopback address; artefacts are only handed out over a port-forward",
                env::ARTEFACT_ADDRESS
            ));
        }
        let restore_bind_timeout = match get(env::RESTORE_BIND_TIMEOUT) {
            None => DEFAULT_BIND_TIMEOUT,
            Some(text) => match text.parse::<ark_api::duration::Duration>() {
                Ok(timeout) if !timeout.0.is_zero() => timeout.0,
                _ => {
                    wrong.push(format!(
                        "{}={text:?} is not a duration such as 30m",
                        env::RESTORE_BIND_TIMEOUT
                    ));
                    DEFAULT_BIND_TIMEOUT
                }
            },
        };
        let log_format = log_format(get, &mut wrong);
        let concurrent_backups = match get(env::CONCURRENT_BACKUPS) {
            None => CONCURRENT_BACKUPS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .unwrap_or_else(|| {
                    wrong.push(format!(
                        "{}={text:?} is not a number of backups, which is at least 1",
                        env::CONCURRENT_BACKUPS
                    ));
                    CONCURRENT_BACKUPS
                }),
        };
        let local_store_root = get(env::LOCAL_STORE_ROOT).map(PathBuf::from);
        if local_store_root
            .as_ref()
            .is_some_and(|root| !root.is_absolute())
        {
            wrong.push(format!("{} is not an absolute path", env::LOCAL_STORE_ROOT));
        }
        let expiry_limit = match get(env::EXPIRY_LIMIT) {
            None => EXPIRY_LIMIT,
            Some(text) => text.parse().unwrap_or_else(|_| {
                wrong.push(format!("{}={text:?} is not a number", env::EXPIRY_LIMIT));
                EXPIRY_LIMIT
            }),
        };
        let restore_only = restore_only(get, &mut wrong);
        let maintenance = maintenance(get, &mut wrong).filter(|_| !restore_only);
        let settings = Self {
            expiry_limit,
            restore_only,
            namespace: get(env::NAMESPACE).unwrap_or_else(|| ark_api::DEFAULT_NAMESPACE.to_owned()),
            pod: get(env::POD_NAME).unwrap_or_else(|| format!("process-{}", std::process::id())),
            local_store_root,
            default_location: get(env::DEFAULT_LOCATION),
            default_credentials_secret: get(env::DEFAULT_CREDENTIALS_SECRET),
            restore_wait_image: get(env::RESTORE_WAIT_IMAGE),
            restore_bind_timeout,
            concurrent_backups,
            spool: std::env::temp_dir(),
            http_address,
            artefact_address,
            node: get(env::NODE_NAME),
            maintenance,
            log: get(env::LOG),
            log_format,
        };
        if wrong.is_empty() {
            Ok(settings)
        } else {
            Err(wrong)
        }
    }
}

/// How log lines are written.
fn log_format(get: impl Fn(&str) -> Option<String>, wrong: &mut Vec<String>) -> LogFormat {
    match get(env::LOG_FORMAT).as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            let name = env::LOG_FORMAT;
            wrong.push(format!("{name}={other:?} is neither text nor json"));
            LogFormat::Text
        }
    }
}

/// Whether the operator is in restore-only mode.
fn restore_only(get: impl Fn(&str) -> Option<String>, wrong: &mut Vec<String>) -> bool {
    match get(env::RESTORE_ONLY).as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let name = env::RESTORE_ONLY;
            wrong.push(format!("{name}={other:?} is neither true nor false"));
            false
        }
    }
}

/// How repositories are maintained; `None` without a template for the Jobs.
fn maintenance(get: impl Fn(&str) -> Option<String>, wrong: &mut Vec<String>) -> Option<Rules> {
    let mut time = |name: &str, default: Duration| match get(name) {
        None => default,
        Some(text) => match text.parse::<ark_api::duration::Duration>() {
            Ok(time) if time.0 >= Duration::from_mins(1) => time.0,
            Ok(_) => {
                wrong.push(format!("{name}={text:?} is less than a minute"));
                default
            }
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                default
            }
        },
    };
    let frequency = time(env::MAINTENANCE_FREQUENCY, Duration::from_hours(24));
    let verify_within = time(env::MAINTENANCE_VERIFY_WITHIN, Duration::from_hours(720));
    let deadline = time(env::MAINTENANCE_DEADLINE, Duration::from_hours(4));
    let mut number = |name: &str, default: usize| match get(name).map(|text| (text.parse(), text)) {
        None => default,
        Some((Ok(number @ 1..=1000), _)) => number,
        Some((_, text)) => {
            wrong.push(format!("{name}={text:?} is not a number from 1 to 1000"));
            default
        }
    };
    let jobs = number(env::MAINTENANCE_JOBS, 1);
    let job_repositories = number(env::MAINTENANCE_JOB_REPOSITORIES, 10);
    Some(Rules {
        template: get(env::MAINTENANCE_TEMPLATE)?,
        frequency,
        jobs,
        job_repositories,
        verify_within,
        deadline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        Settings::read(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_need_nothing() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.namespace, "heptio-ark");
        assert_eq!(settings.http_address.port(), env::HTTP_PORT);
        assert!(settings.artefact_address.ip().is_loopback());
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let wrong = read(&[
            (env::HTTP_ADDRESS, "nowhere"),
            (env::ARTEFACT_ADDRESS, "0.0.0.0:1"),
            (env::LOG_FORMAT, "xml"),
            (env::LOCAL_STORE_ROOT, "relative"),
            (env::RESTORE_BIND_TIMEOUT, "soon"),
            (env::EXPIRY_LIMIT, "many"),
            (env::RESTORE_ONLY, "perhaps"),
            (env::CONCURRENT_BACKUPS, "0"),
            (env::MAINTENANCE_FREQUENCY, "1s"),
            (env::MAINTENANCE_JOBS, "0"),
        ])
        .unwrap_err();
        assert_eq!(wrong.len(), 10, "{wrong:?}");
    }
}
