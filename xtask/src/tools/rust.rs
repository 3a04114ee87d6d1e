//! Programs of Rust crates, built from source into the tool cache.

use anyhow::Result;

use super::cached::into_cache;
use super::versions::{Source, Tool};
use crate::{exec, place};

/// Builds the programs of crates among `missing`. The caller holds the cache's lock.
pub(super) fn build(missing: &[Tool]) -> Result<()> {
    for &tool in missing {
        if let Source::Crate {
            name,
            version,
            flags,
        } = tool.source()
        {
            build_crate(tool, name, version, flags)?;
        }
    }
    Ok(())
}

fn build_crate(tool: Tool, name: &str, version: &str, flags: &[&str]) -> Result<()> {
    let label = format!("building {} {version} (many minutes, once)", tool.name());
    let target = place::cache()?.join(tool.name()).join("target");
    into_cache(tool, &label, |to| {
        let mut command = exec::cargo();
        command
            .args(["install", name, "--version", version, "--locked"])
            .args(flags)
            .args(["--no-track", "--root"])
            .arg(to)
            .env("CARGO_TARGET_DIR", &target);
        command
    })?;
    // Gigabytes that nobody needs again; if they stay, that is all there is to it.
    drop(std::fs::remove_dir_all(target));
    Ok(())
}
