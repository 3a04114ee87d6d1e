//! The Helm chart: lint, renders of several values against stored ones, refusal of values that
//! cannot work, and roles that have a reason in the documentation.
//!
//! `cargo xtask generate` writes the stored renders anew.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::path::PathBuf;
use std::process::{Command, Output};

use xtask::tools::{self, KUBERNETES, Tool};
use xtask::{generate, place};

fn chart() -> PathBuf {
    place::workspace().join("charts/ark")
}

fn helm(args: &[&str]) -> Output {
    tools::ensure(&[Tool::Helm]).unwrap();
    Command::new(tools::path(Tool::Helm).unwrap())
        .args(args)
        .args(["--kube-version", KUBERNETES])
        .current_dir(chart())
        .output()
        .unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(place::workspace().join(path)).unwrap()
}

#[test]
fn generated_files_are_up_to_date() {
    generate::run(true).unwrap();
}

#[test]
fn lint_is_clean_with_all_values() {
    for values in std::fs::read_dir(chart().join("tests/values")).unwrap() {
        let values = values.unwrap().path();
        let output = helm(&[
            "lint",
            "--strict",
            ".",
            "--values",
            values.to_str().unwrap(),
        ]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", values.display());
    }
}

#[test]
fn values_that_cannot_work_are_refused_with_the_reason() {
    let location = |rest: &str| {
        format!(
            r#"configuration.backupStorageLocations=[{{"name":"a","provider":"aws","bucket":"b"{rest}}}]"#
        )
    };
    let cases = [
        ("unknown=1".to_owned(), "'unknown' not allowed"),
        ("operator.replica=2".to_owned(), "'replica' not allowed"),
        ("operator.replicas=-1".to_owned(), "replicas"),
        ("agent.kubeletRoot=\"var/lib/kubelet\"".to_owned(), "kubeletRoot"),
        ("agent.concurrency=0".to_owned(), "concurrency"),
        (location(r#","provider":"azure""#), "provider"),
        (location(r#","prefix":"/x""#), "prefix"),
        (location(r#","config":{"regoin":"x"}"#), "regoin"),
        (location(r#","validationFrequency":"1d""#), "validationFrequency"),
        (
            r#"configuration.backupStorageLocations=[{"name":"a","provider":"aws","bucket":"b","default":true},{"name":"c","provider":"aws","bucket":"b","default":true}]"#.to_owned(),
            "only one location can be the default, not a and c",
        ),
        (
            r#"configuration.backupStorageLocations=[{"name":"a","provider":"aws","bucket":"b"},{"name":"a","provider":"aws","bucket":"c"}]"#.to_owned(),
            "two locations named \"a\"",
        ),
        (
            r#"localStore={"enabled":false}"#.to_owned(),
            "location \"default\" has provider local, which needs localStore.enabled=true",
        ),
        (
            r#"serviceAccount.agent={"create":false}"#.to_owned(),
            "serviceAccount.agent.name is needed",
        ),
    ];
    for (value, reason) in cases {
        let output = helm(&["template", "ark", ".", "--set-json", &value]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} is accepted");
        assert!(said.contains(reason), "{value}: {said}");
    }
}

#[test]
fn chart_and_workspace_have_one_version() {
    let chart = read("charts/ark/Chart.yaml");
    for line in [
        format!("version: {}", place::version()),
        format!("appVersion: {}", place::version()),
    ] {
        assert!(chart.lines().any(|l| l == line), "no line {line:?}");
    }
}

#[test]
fn every_rule_and_capability_has_a_reason_in_the_documentation() {
    let render = read("charts/ark/tests/golden/default.yaml");
    let documented = read("docs/operations/rbac.md");
    let lines: Vec<&str> = render.lines().map(str::trim).collect();
    let list = |line: &str, key: &str| {
        line.strip_prefix(key)
            .map(|l| l.trim_matches(['[', ']']).replace('"', ""))
    };
    let mut rules = 0;
    for rule in lines.windows(3) {
        let (Some(groups), Some(resources), Some(verbs)) = (
            list(rule[0], "- apiGroups: "),
            list(rule[1], "resources: "),
            list(rule[2], "verbs: "),
        ) else {
            continue;
        };
        rules += 1;
        let groups = if groups.is_empty() {
            "core".to_owned()
        } else {
            groups
        };
        let row = format!("| {groups} | {resources} | {verbs} | ");
        assert!(
            documented.contains(&row),
            "docs/operations/rbac.md has no row {row:?}"
        );
    }
    // What an admission policy matches names API groups as well, and is no right.
    let rights = lines.windows(2).filter(|pair| {
        pair[0].starts_with("- apiGroups: ") && !pair[1].starts_with("apiVersions: ")
    });
    assert_eq!(rules, rights.count());
    assert!(rules > 5);
    let added = lines.iter().find_map(|l| list(l, "add: ")).unwrap();
    for capability in added.split(", ") {
        assert!(
            documented.contains(&format!("| {capability} | ")),
            "no row for {capability}"
        );
    }
}
