//! `cargo xtask generate`: files of the repository that are made from other files.
//!
//! - `charts/ark/crds/` from the types of `ark-api`;
//! - `charts/ark/tests/golden/` from the chart, one render for each file of `tests/values`;
//! - `docs/reference/cli.md` from the command line of `ark`.
//!
//! With `--check` nothing is written: a file that differs, is missing or should not be there is
//! named, and the task fails. CI runs that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, KUBERNETES, Tool};
use crate::{exec, place, print, programs};

const HEADER: &str = "# Generated from the types of ark-api by `cargo xtask generate`.\n";
/// The release that golden renders show.
const RELEASE: &str = "ark";
const NAMESPACE: &str = "heptio-ark";

/// Generated files in one folder.
struct Folder {
    path: PathBuf,
    files: BTreeMap<String, String>,
    /// Whether nothing else may be there.
    whole: bool,
}

/// Writes the generated files, or with `check` only says which are not as they should be.
pub fn run(check: bool) -> Result<()> {
    let root = place::workspace();
    let mut stale = Vec::new();
    // The chart is rendered with the definitions in it, so these come first.
    for folder in [crds, renders, reference] {
        let folder = folder(&root)?;
        let wrong = folder.differences()?;
        if !check {
            folder.write(&wrong)?;
        }
        stale.extend(wrong.into_iter().map(|name| folder.path.join(name)));
    }
    for path in &stale {
        let verb = if check { "differs" } else { "written" };
        let shown = path.strip_prefix(&root).unwrap_or(path);
        print::note(&format!("{verb}: {}", shown.display()));
    }
    if check && !stale.is_empty() {
        bail!(
            "generated files are not up to date: run `cargo xtask generate` and commit the result"
        );
    }
    Ok(())
}

fn crds(root: &Path) -> Result<Folder> {
    let mut files = BTreeMap::new();
    for crd in ark_api::crds() {
        let yaml = serde_saphyr::to_string(&crd).context("a CRD cannot be written as YAML")?;
        files.insert(
            format!("{}.yaml", crd.spec.names.plural),
            format!("{HEADER}{yaml}"),
        );
    }
    Ok(Folder {
        path: root.join("charts/ark/crds"),
        files,
        whole: true,
    })
}

fn renders(root: &Path) -> Result<Folder> {
    let chart = root.join("charts/ark");
    let mut files = BTreeMap::new();
    for (name, _) in read(&chart.join("tests/values"))? {
        let values = chart.join("tests/values").join(&name);
        tools::ensure(&[Tool::Helm])?;
        let mut helm = Command::new(tools::path(Tool::Helm)?);
        helm.args(["template", RELEASE])
            .arg(&chart)
            .args(["--namespace", NAMESPACE, "--kube-version", KUBERNETES])
            .arg("--values")
            .arg(values);
        files.insert(name, exec::output(&mut helm)?);
    }
    Ok(Folder {
        path: chart.join("tests/golden"),
        files,
        whole: true,
    })
}

fn reference(root: &Path) -> Result<Folder> {
    let mut ark = Command::new(programs::build()?.join("ark"));
    ark.arg("generate-docs");
    Ok(Folder {
        path: root.join("docs/reference"),
        files: [("cli.md".to_owned(), exec::output(&mut ark)?)].into(),
        whole: false,
    })
}

impl Folder {
    /// Names of files that are missing, differ, or should not be there.
    fn differences(&self) -> Result<Vec<String>> {
        let present = read(&self.path)?;
        let wrong = self
            .files
            .iter()
            .filter(|(name, text)| present.get(*name) != Some(text));
        let extra = present
            .keys()
            .filter(|name| self.whole && !self.files.contains_key(*name));
        Ok(wrong.map(|(name, _)| name).chain(extra).cloned().collect())
    }

    fn write(&self, names: &[String]) -> Result<()> {
        std::fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make {}", self.path.display()))?;
        for name in names {
            let path = self.path.join(name);
            let done = match self.files.get(name) {
                Some(text) => std::fs::write(&path, text),
                None => std::fs::remove_file(&path),
            };
            done.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The files of a folder by name; none if there is no such folder.
fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        other => other.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        files.insert(name, text);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_changed_and_left_over_files_are_all_differences() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("changed"), "old").unwrap();
        std::fs::write(dir.path().join("left-over"), "x").unwrap();
        std::fs::write(dir.path().join("same"), "same").unwrap();
        let folder = Folder {
            path: dir.path().to_path_buf(),
            files: [("changed", "new"), ("missing", "m"), ("same", "same")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into(),
            whole: true,
        };
        let wrong = folder.differences().unwrap();
        assert_eq!(wrong, ["changed", "missing", "left-over"]);
        folder.write(&wrong).unwrap();
        assert!(folder.differences().unwrap().is_empty());
    }
}
