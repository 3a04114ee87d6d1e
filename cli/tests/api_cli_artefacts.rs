//! The command against a real API server: artefacts, keys and versions, with a played operator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use harness::{Ark, Ran, kubectl};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn location(name: &str, key_exported: &str) -> (Value, Value) {
    let object = json!({
        "apiVersion": "ark.heptio.com/v1", "kind": "BackupStorageLocation",
        "metadata": {"name": name},
        "spec": {"provider": "local", "objectStorage": {"bucket": name}, "default": true},
    });
    let status = json!({
        "phase": "Available",
        "conditions": [{
            "type": "KeyExported", "status": key_exported, "reason": "KeyOnlyInCluster",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    (object, status)
}

#[test]
fn the_operators_version_is_asked_for() {
    let ark = Ark::new("version");
    let ran = ark.run("version --timeout 1s").ends(6);
    assert!(ran.out.starts_with("Client:\n  Version: "), "{}", ran.out);
    kubectl(
        &["-n", "version", "delete", "serverstatusrequests", "--all"],
        "",
    );
    let asking = ark.start("version --timeout 30s");
    let request = ark.appears("serverstatusrequests");
    let name = request["metadata"]["name"].as_str().unwrap();
    ark.set_status(
        "ssr",
        name,
        &json!({"phase": "Processed", "serverVersion": "9.9.9"}),
    );
    let ran = Ran::of(asking.wait_with_output().unwrap()).ends(0);
    assert!(
        ran.out.ends_with("Server:\n  Version: 9.9.9\n"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("different versions"), "{}", ran.err);
}

#[test]
fn a_key_is_exported_and_the_reminder_is_given() {
    let ark = Ark::new("keys");
    let (object, status) = location("default", "False");
    ark.apply(&object);
    ark.set_status("bsl", "default", &status);
    ark.run("backup create b").ends(0);
    for (line, reminds) in [
        ("backup-location get", true),
        ("backup create c", true),
        ("backup describe b", true),
        ("backup get", false),
        ("restore create b", false),
        ("restore get", false),
    ] {
        let ran = ark.run(line).ends(0);
        let reminded = ran
            .err
            .contains("warning: the repository key of location default");
        assert_eq!(reminded, reminds, "{line}: {}", ran.err);
    }
    let ran = ark.run("restic repo key export").ends(1);
    assert!(
        ran.err.contains("location default has no repository key"),
        "{}",
        ran.err
    );

    ark.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ark-repository-key-default"},
        "stringData": {"repository-password": "correct-horse"},
    }));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("default.key");
    let ran = ark
        .run(&format!(
            "restic repo key export --output {}",
            file.display()
        ))
        .ends(0);
    assert!(!ran.out.contains("correct-horse") && !ran.err.contains("correct-horse"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "correct-horse\n");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let secret: Value = serde_json::from_str(&kubectl(
        &[
            "-n",
            "keys",
            "get",
            "secret",
            "ark-repository-key-default",
            "-o",
            "json",
        ],
        "",
    ))
    .unwrap();
    let at = secret["metadata"]["annotations"]["ark.heptio.com/key-exported-at"]
        .as_str()
        .unwrap();
    assert!(at.starts_with("20") && at.ends_with('Z'), "{at}");
    assert!(secret["data"]["repository-password"].is_string());

    let ran = ark.run("restic repo key export --location default").ends(0);
    assert_eq!(ran.out, "correct-horse\n");
    assert!(!ran.err.contains("correct-horse"));
    ark.set_status("bsl", "default", &location("default", "True").1);
    assert!(ark.run("backup get").ends(0).err.is_empty());
}

/// Plays the operator for one artefact: answers the request and hands `body` out to whoever
/// presents the token. Returns what `ark` printed.
fn fetch(ark: &Ark, line: &str, body: &[u8]) -> Ran {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fetching = ark.start(&format!("{line} --artefact-address {address}"));
    let request = ark.appears("downloadrequests");
    let name = request["metadata"]["name"].as_str().unwrap();
    let path = format!("/v1/artefacts/{name}");
    ark.set_status(
        "downloadrequest",
        name,
        &json!({"phase": "Processed", "pod": "operator", "path": path}),
    );
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(
        head.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
        "{head}"
    );
    let token = head
        .lines()
        .find_map(|l| l.strip_prefix("authorization: Bearer "))
        .unwrap();
    let hash = hex::encode(Sha256::digest(token.as_bytes()));
    assert_eq!(request["spec"]["tokenHash"], hash);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    drop((stream, reader));
    let ran = Ran::of(fetching.wait_with_output().unwrap());
    assert!(!ran.out.contains(token) && !ran.err.contains(token));
    kubectl(
        &["-n", ark.namespace, "delete", "downloadrequests", "--all"],
        "",
    );
    ran
}

#[test]
fn artefacts_come_through_the_operator() {
    let ark = Ark::new("artefacts");
    ark.run("backup create b").ends(0);
    let ran = ark.run("backup logs b").ends(1);
    assert!(
        ran.err
            .contains("backup \"b\" is New; its log is stored when it has ended"),
        "{}",
        ran.err
    );
    ark.set_status("backup", "b", &json!({"phase": "Completed"}));

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"first line\nsecond line\n").unwrap();
    let packed = encoder.finish().unwrap();
    let ran = fetch(&ark, "backup logs b", &packed).ends(0);
    assert_eq!(ran.out, "first line\nsecond line\n");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.tar.gz");
    let download = format!("backup download b --output {}", file.display());
    fetch(&ark, &download, &packed).ends(0);
    assert_eq!(std::fs::read(&file).unwrap(), packed);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(ark.run(&download).ends(1).err.contains("add --force"));
}

#[test]
fn a_refused_or_unanswered_artefact_is_an_error_with_the_reason() {
    let ark = Ark::new("refused");
    ark.run("backup create b").ends(0);
    ark.set_status("backup", "b", &json!({"phase": "Completed", "errors": 3}));
    let asking = ark.start("backup logs b");
    let request = ark.appears("downloadrequests");
    let name = request["metadata"]["name"].as_str().unwrap();
    ark.set_status(
        "downloadrequest",
        name,
        &json!({"phase": "Failed", "message": "the bucket is gone"}),
    );
    let ran = Ran::of(asking.wait_with_output().unwrap()).ends(1);
    assert!(
        ran.err
            .contains("cannot fetch the log of backup \"b\": the bucket is gone"),
        "{}",
        ran.err
    );

    let ran = ark.run("backup logs b --timeout 1s").ends(6);
    assert!(
        ran.err.contains("the operator has not answered"),
        "{}",
        ran.err
    );
    // A description shows what is known all the same.
    let ran = ark.run("backup describe b --timeout 1s").ends(0);
    assert!(ran.out.contains("Errors:  3\n"), "{}", ran.out);
    assert!(
        ran.out
            .contains("Not shown:\n  errors and warnings: the operator has not answered"),
        "{}",
        ran.out
    );
}
