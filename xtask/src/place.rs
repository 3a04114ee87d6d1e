//! Where things are: the workspace, the tool cache, the cluster's folder, and this machine's kind.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder cargo builds into.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// The folder of tools that are built once for a machine: `ARK_CACHE`, or `ark` in the user's
/// cache folder. It is outside `target/`, so that `cargo clean` does not cost five minutes.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = set("ARK_CACHE") {
        return absolute(Path::new(&dir));
    }
    if let Some(dir) = set("XDG_CACHE_HOME") {
        return absolute(&Path::new(&dir).join("ark"));
    }
    match set("HOME") {
        Some(home) => absolute(&Path::new(&home).join(".cache/ark")),
        None => bail!("no folder for built tools: set ARK_CACHE, XDG_CACHE_HOME or HOME"),
    }
}

/// The folder of the cluster: `ARK_CLUSTER_DIR`, or `cluster` in the build folder.
pub fn cluster() -> Result<PathBuf> {
    match env::var_os("ARK_CLUSTER_DIR").filter(|value| !value.is_empty()) {
        Some(dir) => absolute(Path::new(&dir)),
        None => absolute(&target().join("cluster")),
    }
}

/// The version all crates of the workspace share.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The Rust target whose binaries run in this machine's containers.
pub fn rust_target() -> Result<&'static str> {
    match env::consts::ARCH {
        "x86_64" => Ok("x86_64-unknown-linux-gnu"),
        "aarch64" => Ok("aarch64-unknown-linux-gnu"),
        other => bail!("no image can be built on {other}: x86_64 and aarch64 are known"),
    }
}

/// This machine's processor as container images call it.
pub fn image_architecture() -> &'static str {
    match env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))
}
