//! The chart on a real API server: it installs, upgrades and uninstalls, its roles allow what they
//! should and nothing else, and the roles documented for people suffice for the command.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests use the rest")]
mod harness;

use std::path::PathBuf;
use std::process::Command;

use harness::{Ark, PLANE, kubectl};
use serde_json::{Value, json};
use xtask::tools::{self, Tool};
use xtask::{exec, place};

fn helm(args: &[&str]) -> String {
    tools::ensure(&[Tool::Helm]).unwrap();
    let mut command = Command::new(tools::path(Tool::Helm).unwrap());
    command.env("KUBECONFIG", PLANE.kubeconfig()).args(args);
    exec::output(&mut command).unwrap()
}

fn chart() -> String {
    place::workspace()
        .join("charts/ark")
        .to_str()
        .unwrap()
        .to_owned()
}

fn values(name: &str) -> String {
    let path: PathBuf = place::workspace()
        .join("charts/ark/tests/values")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// Whether a service account of the namespace may do it.
fn may(namespace: &str, account: &str, question: &str) -> bool {
    let user = format!("--as=system:serviceaccount:{namespace}:{account}");
    let mut command = PLANE.kubectl().unwrap();
    let output = command
        .args(["auth", "can-i", &user])
        .args(question.split_whitespace())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let answered = said.contains("yes") || said.contains("no");
    assert!(
        answered,
        "{question}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.trim() == "yes"
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of rights")]
fn roles_allow_what_they_should_and_nothing_else() {
    let namespace = "chart-default";
    helm(&[
        "install",
        "ark",
        &chart(),
        "--namespace",
        namespace,
        "--create-namespace",
    ]);
    let own = format!("-n {namespace}");
    for (account, question, allowed) in [
        (
            "ark-operator",
            format!("update backups --subresource=status {own}"),
            true,
        ),
        (
            "ark-operator",
            format!("delete downloadrequests {own}"),
            true,
        ),
        ("ark-operator", format!("create secrets {own}"), true),
        ("ark-operator", format!("update leases {own}"), true),
        (
            "ark-operator",
            "list widgets.example.com -A".to_owned(),
            true,
        ),
        (
            "ark-operator",
            "create deployments -n shop".to_owned(),
            true,
        ),
        ("ark-operator", "patch persistentvolumes".to_owned(), true),
        ("ark-operator", "escalate clusterroles".to_owned(), true),
        // What an earlier restore held is taken out of the way; data never is.
        ("ark-operator", "delete pods -n shop".to_owned(), true),
        (
            "ark-operator",
            "delete deployments.apps -n shop".to_owned(),
            true,
        ),
        ("ark-operator", "delete jobs.batch -n shop".to_owned(), true),
        (
            "ark-operator",
            "delete daemonsets.apps -n shop".to_owned(),
            false,
        ),
        (
            "ark-operator",
            "delete persistentvolumeclaims -n shop".to_owned(),
            false,
        ),
        ("ark-operator", "delete persistentvolumes".to_owned(), false),
        (
            "ark-operator",
            "delete configmaps -n shop".to_owned(),
            false,
        ),
        ("ark-operator", "delete namespaces".to_owned(), false),
        ("ark-operator", format!("delete secrets {own}"), false),
        ("ark-operator", "update clusterroles".to_owned(), false),
        ("ark-operator", "impersonate users".to_owned(), false),
        ("ark-agent", format!("watch podvolumebackups {own}"), true),
        (
            "ark-agent",
            format!("patch podvolumerestores --subresource=status {own}"),
            true,
        ),
        ("ark-agent", format!("get secrets {own}"), true),
        ("ark-agent", "watch pods -A".to_owned(), true),
        ("ark-agent", format!("list secrets {own}"), false),
        ("ark-agent", "get secrets -n shop".to_owned(), false),
        ("ark-agent", "create pods -n shop".to_owned(), false),
        ("ark-agent", format!("patch podvolumebackups {own}"), false),
        ("ark-agent", format!("create podvolumebackups {own}"), false),
        (
            "ark-agent",
            "get persistentvolumeclaims -n shop".to_owned(),
            false,
        ),
        ("ark-agent", "get nodes".to_owned(), false),
    ] {
        assert_eq!(
            may(namespace, account, &question),
            allowed,
            "{account}: {question}"
        );
    }

    // The same release without the optional binding.
    helm(&[
        "upgrade",
        "ark",
        &chart(),
        "--namespace",
        namespace,
        "--set",
        "rbac.restoreRoles=false",
    ]);
    assert!(!may(namespace, "ark-operator", "escalate clusterroles"));
    assert!(!may(namespace, "ark-operator", "bind roles -n shop"));
    assert!(may(namespace, "ark-operator", "create roles -n shop"));

    // Uninstalling leaves the definitions, and with them everybody's backups.
    Ark { namespace }.run("backup create kept").ends(0);
    helm(&["uninstall", "ark", "--namespace", namespace]);
    Ark { namespace }.run("backup get kept").ends(0);
    assert!(!may(namespace, "ark-operator", "list pods -n shop"));
}

#[test]
fn locations_and_secrets_are_what_the_values_say() {
    let namespace = "chart-s3";
    let install = [
        "install",
        "ark",
        &chart(),
        "--namespace",
        namespace,
        "--create-namespace",
    ];
    helm(&[&install[..], &["--values", &values("s3.yaml")]].concat());
    let ark = Ark { namespace };
    let listed: Value =
        serde_json::from_str(&ark.run("backup-location get -o json").ends(0).out).unwrap();
    assert_eq!(
        listed["items"][1]["spec"],
        json!({
            "provider": "aws",
            "objectStorage": {"bucket": "backups", "prefix": "cluster-a", "caCert": "LS0tLS1CRUdJTg=="},
            "default": true,
            "validationFrequency": "5m0s",
            "config": {
                "region": "eu-central-1",
                "s3ForcePathStyle": "true",
                "s3Url": "https://minio.example.com:9000",
            },
            "credential": {"name": "ark-cloud-credentials", "key": "cloud"},
        })
    );
    assert_eq!(listed["items"][0]["spec"]["accessMode"], "ReadOnly");
    // A password from values is the user's own, and can be exported like any other.
    assert_eq!(
        ark.run("restic repo key export").ends(0).out,
        "from-values\n"
    );
    helm(&["uninstall", "ark", "--namespace", namespace]);
    kubectl(
        &["-n", namespace, "get", "secret", "ark-repository-key-main"],
        "",
    );
}

#[test]
fn a_user_with_the_documented_rights_can_use_the_command() {
    let ark = Ark::new("people");
    let rules = documented_rules();
    assert!(rules.len() >= 6, "{rules:?}");
    ark.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "ark-user"}, "rules": rules,
    }));
    ark.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "ark-user"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ark-user"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "people"}],
    }));
    ark.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ark-repository-key-l"},
        "stringData": {"repository-password": "p"},
    }));
    let config = PLANE
        .service_account_kubeconfig("people", "default")
        .unwrap();
    let run = |line: &str| ark.run(&format!("{line} --kubeconfig {}", config.display()));
    run("backup-location create l --provider local --bucket l").ends(0);
    run("backup create b").ends(0);
    run("restore create r --from-backup b").ends(0);
    // Nobody plays the operator here: what is waited for does not come, but nothing is forbidden.
    run("backup create waited --wait --timeout 1s").ends(6);
    run("version --timeout 1s").ends(6);
    ark.set_status("backup", "b", &json!({"phase": "Completed"}));
    run("backup logs b --timeout 1s").ends(6);
    for line in [
        "backup get",
        "backup describe waited",
        "restore get",
        "restore describe r",
        "backup-location get",
        "restic repo get",
        "restic repo key export",
    ] {
        run(line).ends(0);
    }
}

/// The rules in the section for people of the documentation.
fn documented_rules() -> Vec<Value> {
    let path = place::workspace().join("docs/operations/rbac.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("\n## People\n").nth(1).unwrap();
    let words = |cell: &str| -> Vec<String> {
        cell.split(',')
            .filter_map(|word| word.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    };
    section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| For "))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let group = if cells[1] == "core" { "" } else { cells[1] };
            json!({"apiGroups": [group], "resources": words(cells[2]), "verbs": words(cells[3])})
        })
        .collect()
}
