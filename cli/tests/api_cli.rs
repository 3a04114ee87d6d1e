//! The command against a real API server: objects, errors, waiting.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Command;

use harness::{Ark, LIMIT, PLANE, Ran, kubectl};
use serde_json::{Value, json};
use xtask::cluster::ControlPlane;
use xtask::exec;
use xtask::wait::{self, Look};

#[test]
fn a_cluster_without_ark_is_named_so() {
    let plane = ControlPlane::start().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ark"));
    command
        .env("KUBECONFIG", plane.kubeconfig())
        .args(["backup", "get"]);
    let ran = Ran::of(command.output().unwrap()).ends(1);

    assert!(
        ran.err.contains("the cluster does not know this kind"),
        "{}",
        ran.err
    );
    assert!(
        ran.err
            .contains("hint: Ark is not installed in this cluster"),
        "{}",
        ran.err
    );
    assert!(ran.out.is_empty());
}

#[test]
fn a_cluster_that_cannot_be_reached_is_named_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    // A port that nobody listens on any more.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {}}],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let ark = Ark {
        namespace: "nowhere",
    };
    let ran = ark
        .run(&format!("backup get --kubeconfig {}", file.display()))
        .ends(1);
    assert!(
        ran.err.contains("the cluster cannot be reached"),
        "{}",
        ran.err
    );
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);

    let ran = ark.run("backup get --kubeconfig /does/not/exist").ends(1);
    assert!(
        ran.err.starts_with("error: cannot use the kubeconfig: "),
        "{}",
        ran.err
    );
    let ran = ark.run("backup get --kubecontext other").ends(1);
    assert!(ran.err.contains("other"), "{}", ran.err);
}

#[test]
fn without_rights_the_refusal_is_shown() {
    let ark = Ark::new("forbidden");
    let config = PLANE
        .service_account_kubeconfig("forbidden", "default")
        .unwrap();
    let ran = ark
        .run(&format!("backup get --kubeconfig {}", config.display()))
        .ends(1);
    assert!(ran.err.contains("forbidden"), "{}", ran.err);
    assert!(ran.err.contains("hint: ask for a role"), "{}", ran.err);
    let create = format!("backup create x --wait --kubeconfig {}", config.display());
    assert!(
        ark.run(&create)
            .ends(1)
            .err
            .contains("cannot create Backup \"x\"")
    );
}

#[test]
fn created_objects_are_listed_and_described() {
    let ark = Ark::new("listed");
    let ran = ark
        .run("backup create one --selector app=nginx --labels team=a")
        .ends(0);
    assert!(
        ran.out.contains("Run `ark backup describe one`"),
        "{}",
        ran.out
    );
    assert!(
        ark.run("backup create one")
            .ends(1)
            .err
            .contains("it exists already")
    );
    ark.run("create backup two --include-namespaces a,b")
        .ends(0);

    let table = ark.run("get backups -L team").ends(0).out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("NAME   STATUS   ERRORS   WARNINGS   UNPROTECTED"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("one    New ") && lines[1].ends_with(" a"),
        "{table}"
    );
    assert!(lines[2].starts_with("two    New "), "{table}");

    let one: Value = serde_json::from_str(&ark.run("backup get one -o json").ends(0).out).unwrap();
    assert_eq!(one["kind"], "Backup");
    assert_eq!(one["metadata"].get("managedFields"), None);
    let all: Value = serde_json::from_str(&ark.run("backups get -o json").ends(0).out).unwrap();
    assert_eq!(all["kind"], "BackupList");
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    let some = ark.run("backup get -l team=a -o yaml").ends(0).out;
    assert!(
        some.contains("\n  name: one\n") && !some.contains("name: two"),
        "{some}"
    );

    let text = ark.run("backup describe two").ends(0).out;
    assert!(text.contains("Included:  a, b\n"), "{text}");
    let missing = ark.run("backup describe three").ends(1);
    assert!(
        missing
            .err
            .contains("\"three\" in namespace listed: it does not exist"),
        "{}",
        missing.err
    );
    let none = ark.run("restore get").ends(0);
    assert!(
        none.out.is_empty() && none.err.contains("There is no Restore"),
        "{}",
        none.err
    );
}

#[test]
fn a_dry_run_creates_nothing() {
    let ark = Ark::new("dry");
    let printed = ark.run("backup create x -o yaml").ends(0).out;
    assert!(printed.contains("namespace: dry\n"), "{printed}");
    ark.run("restore create --from-backup x -o json").ends(0);
    ark.run("backup-location create x --provider aws --bucket b -o json")
        .ends(0);
    assert!(ark.run("backup get").ends(0).out.is_empty());
    // What is printed is what would be created.
    kubectl(&["apply", "-f", "-"], &printed);
    assert!(ark.run("backup get x").ends(0).out.contains("New"));
}

#[test]
fn a_schedule_is_a_template() {
    let ark = Ark::new("template");
    ark.apply(&json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "Schedule", "metadata": {"name": "daily"},
        "spec": {"schedule": "0 1 * * *", "template": {"includedNamespaces": ["shop"]}},
    }));
    ark.run("backup create --from-schedule daily").ends(0);
    let backup = ark.appears("backups");
    assert!(
        backup["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("daily-2")
    );
    assert_eq!(backup["spec"]["includedNamespaces"], json!(["shop"]));

    let ran = ark.run("restore create --from-schedule daily").ends(1);
    assert!(
        ran.err
            .contains("no backup of schedule \"daily\" can be restored"),
        "{}",
        ran.err
    );
    let name = backup["metadata"]["name"].as_str().unwrap();
    ark.set_status("backup", name, &json!({"phase": "PartiallyFailed"}));
    ark.run("restore create --from-schedule daily").ends(1);
    ark.run("restore create r --from-schedule daily --allow-partially-failed")
        .ends(0);
    let spec = &ark.appears("restores")["spec"];
    assert_eq!(spec["scheduleName"], "daily");
    assert_eq!(spec["allowPartiallyFailed"], true);
}

#[test]
fn the_old_form_of_restore_names_the_backup() {
    let ark = Ark::new("old-form");
    let ran = ark.run("restore create lost").ends(1);
    assert!(
        ran.err.contains("cannot read Backup \"lost\""),
        "{}",
        ran.err
    );
    ark.run("backup create nginx-backup").ends(0);
    ark.run("restore create nginx-backup").ends(0);
    let restore = ark.appears("restores");
    assert_eq!(restore["spec"]["backupName"], "nginx-backup");
    assert!(
        restore["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("nginx-backup-2")
    );
}

#[test]
fn waiting_ends_with_the_code_of_the_phase() {
    let ark = Ark::new("waiting");
    for (phase, code) in [
        ("Completed", 0),
        ("PartiallyFailed", 3),
        ("Failed", 4),
        ("FailedValidation", 5),
    ] {
        let name = phase.to_lowercase();
        let waiting = ark.start(&format!("backup create {name} --wait"));
        until_shown(&ark, &name);
        ark.set_status("backup", &name, &json!({"phase": "InProgress"}));
        ark.set_status(
            "backup",
            &name,
            &json!({"phase": phase, "unprotectedVolumes": 2}),
        );
        let ran = Ran::of(waiting.wait_with_output().unwrap()).ends(code);
        assert!(
            ran.out.starts_with(&format!("Backup {name}: {phase}")),
            "{}",
            ran.out
        );
        assert!(ran.out.contains("UNPROTECTED: 2 volumes"), "{}", ran.out);
        assert!(
            ran.err.contains(&format!("Backup {name}: New\n")),
            "{}",
            ran.err
        );
    }
    ark.run("backup create source").ends(0);
    let waiting = ark.start("restore create back --from-backup source --wait");
    ark.appears("restores");
    ark.set_status("restore", "back", &json!({"phase": "Completed"}));
    Ran::of(waiting.wait_with_output().unwrap()).ends(0);
}

fn until_shown(ark: &Ark, name: &str) {
    wait::until(name, LIMIT, || {
        let ran = ark.run(&format!("backup get {name}"));
        Ok(if ran.code == 0 {
            Look::Ready(())
        } else {
            Look::NotYet(ran.err)
        })
    })
    .unwrap();
}

#[test]
fn a_wait_that_is_given_up_leaves_the_backup_alone() {
    let ark = Ark::new("given-up");
    let ran = ark.run("backup create slow --wait --timeout 1s").ends(6);
    assert!(
        ran.err.contains("hint: it goes on in the cluster"),
        "{}",
        ran.err
    );

    for (signal, name) in [("-INT", "interrupted"), ("-TERM", "terminated")] {
        let mut waiting = ark.start(&format!("backup create {name} --wait"));
        let mut err = BufReader::new(waiting.stderr.take().unwrap());
        let mut line = String::new();
        err.read_line(&mut line).unwrap();
        assert_eq!(line, format!("Backup {name}: New\n"));
        exec::run(Command::new("kill").args([signal, &waiting.id().to_string()])).unwrap();
        assert_eq!(waiting.wait().unwrap().code(), Some(7));
        let mut rest = String::new();
        err.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("it goes on in the cluster"), "{rest}");
    }
    ark.run("backup get slow interrupted terminated").ends(0);

    let waiting = ark.start("backup create deleted --wait");
    until_shown(&ark, "deleted");
    kubectl(&["-n", "given-up", "delete", "backup", "deleted"], "");
    let ran = Ran::of(waiting.wait_with_output().unwrap()).ends(7);
    assert!(
        ran.err.contains("was deleted while it was waited for"),
        "{}",
        ran.err
    );
}

#[test]
fn locations_are_changed_and_there_is_one_default() {
    let ark = Ark::new("locations");
    ark.run("backup-location create a --provider local --bucket a --default")
        .ends(0);
    let second = ark
        .run("backup-location create b --provider local --bucket b --default")
        .ends(1);
    assert!(
        second.err.contains("location a is the default already"),
        "{}",
        second.err
    );
    ark.run("backup-location create b --provider local --bucket b --config region=x,profile=y")
        .ends(0);
    let ran = ark
        .run("backup-location set b --default --access-mode ReadOnly --backup-sync-period 5m --credential s=k -o json")
        .ends(0);
    assert!(
        ran.err.contains("Location a is not the default any more"),
        "{}",
        ran.err
    );
    let changed: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(changed["spec"]["accessMode"], "ReadOnly");
    assert_eq!(changed["spec"]["credential"]["key"], "k");
    assert_eq!(changed["spec"]["objectStorage"]["bucket"], "b");
    let defaults: Value =
        serde_json::from_str(&ark.run("backup-location get -o json").ends(0).out).unwrap();
    let defaults: Vec<&Value> = defaults["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|location| location["spec"]["default"] == true)
        .map(|location| &location["metadata"]["name"])
        .collect();
    assert_eq!(defaults, ["b"]);

    ark.run("backup-location set b --config profile=,region=z")
        .ends(0);
    let text = ark.run("backup-location get b -o yaml").ends(0).out;
    assert!(
        text.contains("region: z") && !text.contains("profile"),
        "{text}"
    );
    let none = ark.run("backup-location set b --default=false").ends(0);
    assert!(
        none.err.contains("no location is the default"),
        "{}",
        none.err
    );

    let missing = ark.run("backup-location set c --default").ends(1);
    assert!(
        missing
            .err
            .contains("cannot read BackupStorageLocation \"c\""),
        "{}",
        missing.err
    );
    ark.run("backup-location set b --credential k").ends(2);
    ark.run("backup-location set b --cacert /does/not/exist")
        .ends(1);
}

#[test]
fn a_location_is_deleted_with_the_records_of_its_backups() {
    let ark = Ark::new("location-delete");
    for name in ["a", "b"] {
        ark.run(&format!(
            "backup-location create {name} --provider local --bucket {name}"
        ))
        .ends(0);
        ark.run(&format!(
            "backup create of-{name} --storage-location {name}"
        ))
        .ends(0);
    }
    let busy = ark.run("backup-location delete a --confirm").ends(1);
    assert!(
        busy.err.contains("work goes on: backup of-a (New)"),
        "{}",
        busy.err
    );
    ark.set_status("backup", "of-a", &json!({"phase": "Completed"}));
    ark.run("restore create r --from-backup of-a").ends(0);
    let busy = ark.run("backup-location delete a --confirm").ends(1);
    assert!(busy.err.contains("restore r reads"), "{}", busy.err);
    ark.set_status("restore", "r", &json!({"phase": "Completed"}));

    ark.run("schedule create s --schedule @daily --storage-location a")
        .ends(0);
    let asked = ark.run("backup-location delete a").ends(2);
    for words in ["a holds 1 backup: of-a", "make no more backups: s"] {
        assert!(asked.err.contains(words), "{}", asked.err);
    }
    ark.run("backup get of-a").ends(0);
    let ran = ark.run("backup-location delete a --confirm").ends(0);
    assert!(
        ran.out.contains("What is stored there stays") && ran.out.contains("ark-repository-key-a"),
        "{}",
        ran.out
    );
    ark.run("backup get of-a").ends(1);
    ark.run("backup get of-b").ends(0);
    ark.run("backup-location get a").ends(1);
    ark.run("backup-location delete a --confirm").ends(1);
}
