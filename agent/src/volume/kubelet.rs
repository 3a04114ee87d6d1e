//! Whether the directory the agent was given is the kubelet's `pods` directory.
//!
//! An agent that is pointed at another directory would find no volume at all, or the volumes of
//! another kubelet on the machine. So it looks for the directories of pods that run on its node.

use std::os::fd::OwnedFd;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::guard::{self, Step};
use super::rule;
use crate::error::{Error, Result};

/// Opens the directory, or says that it is the wrong one.
pub(super) fn open(pods_dir: &Path) -> Result<OwnedFd> {
    guard::root(pods_dir).map_err(|error| wrong(pods_dir, std::io::Error::from(error).to_string()))
}

/// Fails unless the directory exists and holds that of at least one pod that runs on this node.
/// With no running pod there is nothing to compare with, and an existing directory is enough.
pub(crate) fn check<'a>(pods_dir: &Path, pods: impl IntoIterator<Item = &'a Pod>) -> Result<()> {
    let root = open(pods_dir)?;
    let mut missing = Vec::new();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase != Some("Running") {
            continue;
        }
        let uid = rule::directory_uid(pod)?;
        match guard::step(&root, &uid) {
            Ok(Step::Directory(_)) => return Ok(()),
            Ok(_) => missing.push(rule::display_name(pod)),
            Err(error) => return Err(wrong(pods_dir, std::io::Error::from(error).to_string())),
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(wrong(
            pods_dir,
            format!(
                "none of the {} pods running on this node has a directory there (for one, {first})",
                missing.len()
            ),
        )),
    }
}

fn wrong(pods_dir: &Path, message: String) -> Error {
    Error::WrongKubeletRoot {
        dir: pods_dir.display().to_string(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "n", "name": uid, "uid": uid},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn one_running_pod_with_a_directory_proves_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("b")).unwrap();
        let pods = [pod("a", "Running"), pod("b", "Running")];
        check(root.path(), &pods).unwrap();
    }

    #[test]
    fn another_directory_is_told_with_the_value_to_set() {
        let root = tempfile::tempdir().unwrap();
        check(root.path(), &[pod("a", "Pending")]).unwrap();
        let error = check(root.path(), &[pod("a", "Running")]).unwrap_err();
        assert!(error.told().contains("agent.kubeletRoot"), "{error}");
        let error = check(&root.path().join("none"), &[]).unwrap_err();
        assert!(matches!(error, Error::WrongKubeletRoot { .. }), "{error}");
    }
}
