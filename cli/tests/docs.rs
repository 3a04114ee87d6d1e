//! The documentation against the code: names it must list, and links that must lead somewhere.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Values of the string constants in a source file.
fn constants(source: &str) -> Vec<String> {
    source
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("pub const ")?
                .split_once(": &str = \"")
        })
        .filter_map(|(_, rest)| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_condition_and_reason_is_documented() {
    let documented = read("docs/reference/conditions.md");
    let names = constants(&read("api/src/condition.rs"));
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(
            documented.contains(&format!("| `{name}` | ")),
            "conditions.md lacks {name}"
        );
    }
}

#[test]
fn every_reason_of_a_volume_is_documented() {
    let documented = read("docs/reference/conditions.md");
    let source = read("api/src/volume.rs");
    let body = source
        .split("pub enum VolumeReason {")
        .nth(1)
        .unwrap()
        .split('}')
        .next()
        .unwrap();
    let names: Vec<&str> = body
        .lines()
        .map(|line| line.trim().trim_end_matches(','))
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(
            documented.contains(&format!("| `{name}` | ")),
            "conditions.md lacks {name}"
        );
    }
}

#[test]
fn every_environment_variable_is_documented() {
    let documented = read("docs/reference/environment.md");
    let names: Vec<String> = constants(&read("api/src/env.rs"))
        .into_iter()
        .filter(|name| name.starts_with("ARK_"))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            documented.contains(&format!("| `{name}` | ")),
            "environment.md lacks {name}"
        );
    }
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut files = Vec::new();
    markdown(&root().join("docs"), &mut files);
    files.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|f| root().join(f)));
    let mut checked = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            checked += 1;
            let path = file.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {link} leads nowhere", file.display());
        }
    }
    assert!(checked > 20, "{checked}");
}
