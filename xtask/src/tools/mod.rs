//! The programs that the tasks need, built or installed when they are missing.
//!
//! Go and Rust programs are built once into the tool cache, in a folder named by their version;
//! Debian's are installed with `apt-get`. A folder appears in the cache by a rename, so an
//! interrupt leaves nothing half built, and a lock file makes a second run wait for the first
//! instead of building the same thing beside it. `KUBEBUILDER_ASSETS`, if set, is asked first for
//! what it holds.
//!
//! Fails when a program cannot be had, and says which, why, and the log of the build.

mod cached;
mod debian;
mod go;
mod lock;
mod rust;
mod versions;

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use debian::{missing_packages, static_busybox};
pub use lock::Lock;
pub use versions::{KUBERNETES, Source, Tool};

use crate::place;

/// Where a tool is now, if it is there.
pub fn find(tool: Tool) -> Result<Option<PathBuf>> {
    if let Some(path) = asset(tool) {
        return Ok(Some(path));
    }
    match tool.source() {
        Source::Kubernetes | Source::Go { .. } | Source::Wrapped { .. } => {
            let path = folder(tool)?.join(tool.name());
            Ok(path.is_file().then_some(path))
        }
        Source::Crate { .. } => {
            let path = folder(tool)?.join("bin").join(tool.name());
            Ok(path.is_file().then_some(path))
        }
        Source::Debian { paths, .. } => Ok(debian::find(tool, paths)),
    }
}

/// Where a tool is; an error that says how to get it if it is not there.
pub fn path(tool: Tool) -> Result<PathBuf> {
    find(tool)?.with_context(|| {
        format!(
            "{} is not there yet: `cargo xtask tools` builds or installs it",
            tool.name()
        )
    })
}

/// The tools of `wanted` that are not there.
pub fn missing(wanted: &[Tool]) -> Result<Vec<Tool>> {
    let mut missing = Vec::new();
    for &tool in wanted {
        if find(tool)?.is_none() {
            missing.push(tool);
        }
    }
    Ok(missing)
}

/// Builds or installs what is missing of `wanted`. Does nothing, fast, when nothing is.
pub fn ensure(wanted: &[Tool]) -> Result<()> {
    if missing(wanted)?.is_empty() {
        return Ok(());
    }
    let cache = place::cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let _lock = Lock::take(&cache.join("lock"), "another run is building tools")?;
    // Again, under the lock: the run that held it may have built everything.
    let missing = missing(wanted)?;
    debian::install(&missing)?;
    go::build(&missing)?;
    rust::build(&missing)
}

/// The folder of a built tool in the cache.
fn folder(tool: Tool) -> Result<PathBuf> {
    let cache = place::cache()?;
    Ok(match tool.source() {
        Source::Kubernetes => cache.join("kubernetes").join(KUBERNETES),
        Source::Go { version, .. }
        | Source::Wrapped { version, .. }
        | Source::Crate { version, .. } => cache.join(tool.name()).join(version),
        Source::Debian { .. } => cache.join("debian"),
    })
}

/// The tool in a developer's own folder of test binaries.
fn asset(tool: Tool) -> Option<PathBuf> {
    if !matches!(tool, Tool::Etcd | Tool::KubeApiserver | Tool::Kubectl) {
        return None;
    }
    let folder = env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty())?;
    let path = PathBuf::from(folder).join(tool.name());
    path.is_file().then_some(path)
}
