//! Whether operator and agents see the same directory: the handshake of `local` locations.
//!
//! The operator writes a token into the directory and into the location's status; each agent that
//! finds the token answers with a file of its own. An agent that does not answer refuses every
//! volume by itself, so all that happens here is to say so.
//!
//! Order: the file first, the status after it (by the caller), so that no agent ever looks for a
//! token that was never written. A directory that already carries the token of another location is
//! taken over only by a location that has none yet; a location that had its own and lost it says
//! so.

use std::collections::BTreeSet;
use std::time::Duration;

use ark_api::condition::reason;
use ark_api::label;
use ark_api::layout;
use ark_engine::Store;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::list;
use crate::repository_key::Says;

/// How long an agent may take to answer before it counts as seeing another directory.
const PATIENCE: Duration = Duration::from_mins(1);
/// Largest handshake file that is read.
const MAX_FILE: u64 = 64 << 10;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    location: String,
    uid: String,
    token: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    token: String,
    node: String,
}

/// Makes sure that the directory carries this location's token, and returns it. `known` is the
/// token in the location's status.
pub(super) async fn mark(
    store: &Store,
    location: &str,
    uid: &str,
    known: Option<&str>,
) -> Result<String> {
    let found: Option<Mark> = match store.read(layout::HANDSHAKE, MAX_FILE).await? {
        None => None,
        // A damaged file is replaced; it proves nothing to anybody.
        Some(bytes) => serde_json::from_slice(&bytes).ok(),
    };
    match (found, known) {
        (Some(mark), Some(known)) if mark.uid == uid && mark.token == known => {
            return Ok(mark.token);
        }
        // Written by an earlier attempt that could not write the status.
        (Some(mark), None) if mark.uid == uid && !mark.token.is_empty() => return Ok(mark.token),
        (Some(mark), Some(_)) if mark.uid != uid => {
            return Err(Error::Store {
                message: format!(
                    "directory {} was taken over by another location ({}, uid {})",
                    store.location(),
                    mark.location,
                    mark.uid
                ),
                hint: "give every location a directory of its own; two clusters cannot share one by provider local"
                    .to_owned(),
                class: Class::Waiting,
                reason: reason::DIRECTORY_NOT_SHARED,
            });
        }
        _ => {}
    }
    let mark = Mark {
        location: location.to_owned(),
        uid: uid.to_owned(),
        token: known.map_or_else(|| hex::encode(rand::random::<[u8; 16]>()), str::to_owned),
    };
    let bytes = serde_json::to_vec(&mark).map_err(|error| Error::Bug(error.to_string()))?;
    store.write(layout::HANDSHAKE, bytes.into()).await?;
    Ok(mark.token)
}

/// A running agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    node: String,
    since: Option<Timestamp>,
}

/// Agents that are running, by node.
pub(super) async fn agents(context: &Context) -> Result<Vec<Agent>> {
    let selector = format!("{}={}", label::COMPONENT, label::COMPONENT_AGENT);
    let params = ListParams::default().labels(&selector);
    let pods = list::all(&context.api::<Pod>(), &params, "the agents' pods").await?;
    Ok(pods.iter().filter_map(agent).collect())
}

fn agent(pod: &Pod) -> Option<Agent> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Agent {
        node: pod.spec.as_ref()?.node_name.clone()?,
        since: status.start_time.as_ref().map(|time| time.0),
    })
}

/// Nodes whose agents answered with `token`.
pub(super) async fn answers(store: &Store, token: &str) -> Result<BTreeSet<String>> {
    let mut nodes = BTreeSet::new();
    for entry in store.list("metadata/agents").await? {
        let is_answer = std::path::Path::new(&entry.name)
            .extension()
            .is_some_and(|e| e == "json");
        if entry.is_dir || !is_answer {
            continue;
        }
        let path = format!("metadata/agents/{}", entry.name);
        let Some(bytes) = store.read(&path, MAX_FILE).await? else {
            continue;
        };
        match serde_json::from_slice::<Answer>(&bytes) {
            Ok(answer) if answer.token == token => {
                nodes.insert(answer.node);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(path, %error, "an agent's answer cannot be read"),
        }
    }
    Ok(nodes)
}

/// Condition `SharedDirectory`, and whether it is worth looking again soon. Pure.
pub(super) fn judge(agents: &[Agent], answers: &BTreeSet<String>, now: Timestamp) -> (Says, bool) {
    if agents.is_empty() {
        let says = Says {
            status: false,
            reason: reason::AGENTS_PENDING,
            message: "no agent is running yet".to_owned(),
        };
        return (says, true);
    }
    let silent: Vec<&Agent> = agents
        .iter()
        .filter(|a| !answers.contains(&a.node))
        .collect();
    if silent.is_empty() {
        let says = Says {
            status: true,
            reason: reason::OK,
            message: format!("{} agents see the same directory", agents.len()),
        };
        return (says, false);
    }
    let names = |agents: &[&Agent]| {
        let mut nodes: Vec<&str> = agents.iter().map(|a| a.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let more = nodes.len().saturating_sub(5);
        nodes.truncate(5);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{}{more}", nodes.join(", "))
    };
    let late: Vec<&Agent> = silent
        .iter()
        .copied()
        .filter(|a| {
            a.since
                .is_some_and(|since| now.duration_since(since).unsigned_abs() > PATIENCE)
        })
        .collect();
    let says = if late.is_empty() {
        Says {
            status: false,
            reason: reason::AGENTS_PENDING,
            message: format!("waiting for the agents of {}", names(&silent)),
        }
    } else {
        Says {
            status: false,
            reason: reason::DIRECTORY_NOT_SHARED,
            message: format!(
                "the agents of {} do not see the operator's directory and refuse this location's volumes; \
                 mount the same shared directory everywhere (chart value localStore)",
                names(&late)
            ),
        }
    };
    (says, true)
}

#[cfg(test)]
mod tests {
    use ark_engine::StoreConfig;

    use super::*;

    fn agent_on(node: &str, since: &str) -> Agent {
        Agent {
            node: node.to_owned(),
            since: Some(since.parse().unwrap()),
        }
    }

    #[test]
    fn silence_is_pending_at_first_and_then_a_fault() {
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        let old = agent_on("n1", "2026-01-01T00:00:00Z");
        let young = agent_on("n2", "2026-01-01T00:01:50Z");
        let answered: BTreeSet<String> = ["n1".to_owned()].into();
        let (says, again) = judge(&[old.clone(), young.clone()], &answered, now);
        assert_eq!((says.reason, again), (reason::AGENTS_PENDING, true));
        let (says, _) = judge(&[old.clone(), young.clone()], &BTreeSet::new(), now);
        assert_eq!(says.reason, reason::DIRECTORY_NOT_SHARED);
        assert!(says.message.contains("n1") && !says.message.contains("n2"));
        let (says, again) = judge(&[old], &answered, now);
        assert_eq!((says.status, again), (true, false));
        assert_eq!(judge(&[], &answered, now).0.reason, reason::AGENTS_PENDING);
    }

    #[tokio::test]
    async fn token_survives_and_is_not_taken_from_a_living_location() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig::Local {
            root: dir.path().to_owned(),
        };
        let store = Store::open(&config).unwrap();
        let token = mark(&store, "default", "u1", None).await.unwrap();
        assert_eq!(mark(&store, "default", "u1", None).await.unwrap(), token);
        assert_eq!(
            mark(&store, "default", "u1", Some(&token)).await.unwrap(),
            token
        );
        // A new location in an old directory takes it over; the old one then says so.
        let other = mark(&store, "default", "u2", None).await.unwrap();
        assert_ne!(other, token);
        let error = mark(&store, "default", "u1", Some(&token))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), reason::DIRECTORY_NOT_SHARED);
        // A lost file is written again with the same token.
        std::fs::remove_file(dir.path().join(layout::HANDSHAKE)).unwrap();
        assert_eq!(
            mark(&store, "default", "u1", Some(&token)).await.unwrap(),
            token
        );
    }

    #[tokio::test]
    async fn only_answers_with_the_token_count() {
        let dir = tempfile::tempdir().unwrap();
        let agents = dir.path().join("metadata/agents");
        std::fs::create_dir_all(&agents).unwrap();
        std::fs::write(agents.join("a.json"), r#"{"token":"t","node":"a"}"#).unwrap();
        std::fs::write(agents.join("b.json"), r#"{"token":"old","node":"b"}"#).unwrap();
        std::fs::write(agents.join("c.json"), "garbage").unwrap();
        let config = StoreConfig::Local {
            root: dir.path().to_owned(),
        };
        let store = Store::open(&config).unwrap();
        assert_eq!(answers(&store, "t").await.unwrap(), ["a".to_owned()].into());
    }
}
