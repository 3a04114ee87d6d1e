//! The node's network: a bridge that pods are joined to, and its CNI configuration.
//!
//! The bridge's name is made from the cluster's folder, so that it can be found and removed without
//! any record. Pods reach the node's address; nothing else is routed or translated.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::machine::{self, MachineLock};
use super::state::Network;
use super::supervisor::Supervisor;
use crate::exec;
use crate::tools::{self, Tool};

/// Eight characters that stand for the cluster's folder in names outside it.
pub(super) fn short_name(dir: &Path) -> String {
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    hex::encode(&digest[..4])
}

/// The name of the cluster's bridge (an interface name has at most 15 characters).
pub(super) fn bridge_name(dir: &Path) -> String {
    format!("ark{}", short_name(dir))
}

/// Makes the bridge if it is not there.
pub(super) fn ensure(supervisor: &Supervisor) -> Result<Network> {
    // One run at a time chooses addresses on this machine.
    let _lock = MachineLock::take()?;
    let network = match supervisor.state()?.network {
        Some(network) if exists(&network.bridge) => return Ok(network),
        Some(network) => network,
        None => choose(supervisor.dir())?,
    };
    machine::remember_forwarding(supervisor)?;
    supervisor.update(|state| state.network = Some(network.clone()))?;
    ip(&["link", "add", &network.bridge, "type", "bridge"])?;
    let address = format!("{}/24", network.address);
    ip(&["address", "add", &address, "dev", &network.bridge])?;
    ip(&["link", "set", &network.bridge, "up"])?;
    Ok(network)
}

/// Whether an interface exists.
pub(super) fn exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

/// Removes the bridge.
pub(super) fn remove(dir: &Path) -> Result<()> {
    let bridge = bridge_name(dir);
    if exists(&bridge) {
        ip(&["link", "delete", &bridge])?;
    }
    Ok(())
}

/// Writes the configuration of the pod network and returns its folder.
pub(super) fn write_cni(dir: &Path, network: &Network) -> Result<PathBuf> {
    let folder = dir.join("cni");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let config = json!({
        "cniVersion": "0.4.0",
        "name": "ark",
        "plugins": [{
            "type": "bridge",
            "bridge": network.bridge,
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": dir.join("cni-addresses"),
                "ranges": [[{"subnet": network.subnet, "gateway": network.address}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    let path = folder.join("10-ark.conflist");
    std::fs::write(&path, format!("{config:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(folder)
}

/// The first of 200 small networks that no interface and no route of this machine touches.
fn choose(dir: &Path) -> Result<Network> {
    let used = exec::output(
        Command::new(tools::path(Tool::Ip)?).args(["-4", "route", "show", "table", "all"]),
    )? + &exec::output(Command::new(tools::path(Tool::Ip)?).args(["-4", "address"]))?;
    for third in 0..200_u8 {
        let prefix = format!("10.88.{third}.");
        if !used.contains(&prefix) {
            return Ok(Network {
                bridge: bridge_name(dir),
                address: Ipv4Addr::new(10, 88, third, 1),
                subnet: format!("{prefix}0/24"),
            });
        }
    }
    bail!("all networks of 10.88.0.0/16 are in use on this machine")
}

fn ip(args: &[&str]) -> Result<()> {
    exec::output(Command::new(tools::path(Tool::Ip)?).args(args)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_name_fits_and_is_its_folders_own() {
        let one = bridge_name(Path::new("/a"));
        assert!(one.len() <= 15, "{one}");
        assert_ne!(one, bridge_name(Path::new("/b")));
        assert_eq!(one, bridge_name(Path::new("/a")));
    }
}
