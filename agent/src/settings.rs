//! What the agent is told by its environment; see [`ark_api::env`].
//!
//! Fails with everything that is missing or wrong at once.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ark_api::{env, size};
use ark_engine::archive::StateRequest;

/// Volumes worked on at the same time when nothing else is said.
const DEFAULT_CONCURRENCY: usize = 2;
/// More would only fight for the node's disk and memory.
const MAX_CONCURRENCY: usize = 64;

/// The agent's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Ark's namespace.
    pub(crate) namespace: String,
    /// This node.
    pub(crate) node: String,
    /// This pod.
    pub(crate) pod: String,
    /// The kubelet's `pods` directory, as mounted here.
    pub(crate) pods_dir: PathBuf,
    /// Where `local` locations live, if there are any.
    pub(crate) local_root: Option<PathBuf>,
    /// Where fingerprints of volumes are kept, if they are.
    pub(crate) state: Option<StateRequest>,
    /// Secret with credentials for locations that name none.
    pub(crate) default_secret: Option<String>,
    /// Volumes worked on at the same time.
    pub(crate) concurrency: usize,
    /// Address of health and metrics.
    pub(crate) http: SocketAddr,
}

impl Settings {
    /// Reads them through `get`, which answers for one variable.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut problems = Vec::new();
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut required = |name: &str| {
            get(name).unwrap_or_else(|| {
                problems.push(format!("{name} is not set"));
                String::new()
            })
        };
        let (namespace, node, pod) = (
            required(env::NAMESPACE),
            required(env::NODE_NAME),
            required(env::POD_NAME),
        );
        let concurrency = match get(env::AGENT_CONCURRENCY) {
            None => DEFAULT_CONCURRENCY,
            Some(text) => match text.parse() {
                Ok(n) if (1..=MAX_CONCURRENCY).contains(&n) => n,
                _ => {
                    problems.push(format!(
                        "{} must be a number from 1 to {MAX_CONCURRENCY}, not {text:?}",
                        env::AGENT_CONCURRENCY
                    ));
                    DEFAULT_CONCURRENCY
                }
            },
        };
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), env::HTTP_PORT);
        let http = match get(env::HTTP_ADDRESS) {
            None => everywhere,
            Some(text) => text.parse().unwrap_or_else(|_| {
                problems.push(format!(
                    "{} must be address:port, not {text:?}",
                    env::HTTP_ADDRESS
                ));
                everywhere
            }),
        };
        let mut state = get(env::STATE_DIR).map(StateRequest::new);
        match get(env::STATE_SIZE).map(|text| size::parse(&text)) {
            None => {}
            Some(Ok(bytes)) => {
                if let Some(state) = &mut state {
                    state.bytes = bytes;
                }
            }
            Some(Err(why)) => problems.push(format!("{}: {why}", env::STATE_SIZE)),
        }
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        Ok(Self {
            namespace,
            node,
            pod,
            pods_dir: get(env::HOST_PODS)
                .unwrap_or_else(|| env::DEFAULT_HOST_PODS.to_owned())
                .into(),
            local_root: get(env::LOCAL_STORE_ROOT).map(PathBuf::from),
            state,
            default_secret: get(env::DEFAULT_CREDENTIALS_SECRET),
            concurrency,
            http,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            pairs
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    const NEEDED: [(&str, &str); 3] = [
        ("ARK_NAMESPACE", "ark"),
        ("ARK_NODE_NAME", "n1"),
        ("ARK_POD_NAME", "agent-x"),
    ];

    #[test]
    fn defaults() {
        let settings = read(&NEEDED).unwrap();
        assert_eq!(settings.pods_dir, PathBuf::from("/host_pods"));
        assert_eq!(settings.concurrency, 2);
        assert_eq!(settings.http.port(), 8085);
        assert_eq!((settings.local_root, settings.state), (None, None));
    }

    #[test]
    fn fingerprints_are_kept_where_asked() {
        let mut pairs = [&NEEDED[..], &[("ARK_STATE_DIR", "/state")]].concat();
        let settings = read(&pairs).unwrap();
        assert_eq!(settings.state, Some(StateRequest::new("/state")));
        pairs.push(("ARK_STATE_SIZE", "3Gi"));
        let settings = read(&pairs).unwrap();
        assert_eq!(settings.state.map(|state| state.bytes), Some(3 << 30));
    }

    #[test]
    fn all_problems_at_once() {
        let error = read(&[
            ("ARK_AGENT_CONCURRENCY", "0"),
            ("ARK_HTTP_ADDRESS", "x"),
            ("ARK_STATE_SIZE", "much"),
        ])
        .unwrap_err();
        for name in [
            "ARK_NAMESPACE",
            "ARK_NODE_NAME",
            "ARK_POD_NAME",
            "ARK_AGENT_CONCURRENCY",
            "ARK_HTTP_ADDRESS",
            "ARK_STATE_SIZE",
        ] {
            assert!(error.contains(name), "{error}");
        }
    }
}
