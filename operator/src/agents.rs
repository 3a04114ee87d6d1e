//! Nodes with a running agent.

use std::collections::BTreeSet;

use ark_api::label;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use crate::context::Context;
use crate::error::Result;
use crate::list;

/// Nodes whose agent runs and is ready.
pub(crate) async fn ready_nodes(context: &Context) -> Result<BTreeSet<String>> {
    let selector = format!("{}={}", label::COMPONENT, label::COMPONENT_AGENT);
    let params = ListParams::default().labels(&selector);
    let pods = list::all(&context.api::<Pod>(), &params, "the agents' pods").await?;
    Ok(pods.iter().filter_map(ready_node).collect())
}

fn ready_node(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let runs =
        status.phase.as_deref() == Some("Running") && pod.metadata.deletion_timestamp.is_none();
    (ready && runs)
        .then(|| pod.spec.as_ref()?.node_name.clone())
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn running_and_ready_is_needed() {
        let pod = |phase: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "spec": {"nodeName": "n1", "containers": []},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap()
        };
        assert_eq!(ready_node(&pod("Running", "True")).as_deref(), Some("n1"));
        assert_eq!(ready_node(&pod("Running", "False")), None);
        assert_eq!(ready_node(&pod("Pending", "True")), None);
    }
}
