//! The operator as a process: health, metrics, election, stop, memory.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::io::{Read as _, Write as _};

use ark_api::backup::BackupPhase;
use ark_api::repository::{RepositoryPhase, ResticRepositorySpec};
use ark_api::restore::RestorePhase;
use ark_api::schedule::SchedulePhase;
use ark_api::{Backup, DeleteBackupRequest, ResticRepository, Restore, Schedule};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

async fn get(address: String, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_healthy_ready_and_counts() {
    let ark = Ark::with_location().await;
    let address = ark.said("http=").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(address.clone(), path).await.0, 200, "{path}");
    }
    let (_, metrics) = get(address, "/metrics").await;
    assert!(
        metrics.contains(r#"ark_location_available{location="default"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains("ark_leader 1"), "{metrics}");

    let node = ark.node("n").await;
    ark.pod(
        "web",
        &node,
        json!({}),
        json!([{"name": "data", "emptyDir": {}}]),
    )
    .await;
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::Completed).await;
    let address = ark.said("http=").await;
    // Objects are counted as the operator has seen them last.
    until("all of it in the metrics", async || {
        let (_, metrics) = get(address.clone(), "/metrics").await;
        let lines = [
            r#"ark_objects{kind="Backup",phase="completed"} 1"#,
            r#"ark_backup_volumes_total{class="chosen",reason="notannotated"} 1"#,
            "ark_backup_queue_wait_seconds_count 1",
        ];
        lines
            .iter()
            .all(|line| metrics.contains(line))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_restore_only_mode_it_restores_and_reads_and_does_nothing_else() {
    let mut ark = Ark::with_location().await;
    ark.put::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"a": "b"}}))
        .await;
    for name in ["kept", "lost"] {
        ark.backup(name, json!({})).await;
        ark.ended(name, BackupPhase::Completed).await;
    }
    ark.kill_operator();
    ark.delete::<Backup>("lost").await;
    ark.env
        .push(("ARK_RESTORE_ONLY".to_owned(), "true".to_owned()));
    ark.start_operator();

    // What lies at the location appears, and is restored.
    let backups = ark.api::<Backup>();
    until(&format!("import; {}", ark.tail()), async || {
        let backup = backups.get_opt("lost").await.unwrap()?;
        backup.status?.phase
    })
    .await;
    let spec = json!({"backupName": "lost", "namespaceMapping": {ark.shop.clone(): format!("{}-copy", ark.shop)}});
    ark.create(Restore::new("r", serde_json::from_value(spec).unwrap()))
        .await;
    let restores = ark.api::<Restore>();
    let phase = until(&format!("end of the restore; {}", ark.tail()), async || {
        let phase = restores.get("r").await.unwrap().status?.phase?;
        phase.is_terminal().then_some(phase)
    })
    .await;
    assert_eq!(phase, RestorePhase::Completed);

    ark.backup("new", json!({})).await;
    let refused = ark.ended("new", BackupPhase::FailedValidation).await;
    let said = refused.status.unwrap().validation_errors.join("; ");
    assert!(said.contains("restore-only mode"), "{said}");
    let spec = json!({"schedule": "* * * * *", "template": {"includedNamespaces": [ark.shop]}});
    ark.create(Schedule::new("s", serde_json::from_value(spec).unwrap()))
        .await;
    let schedules = ark.api::<Schedule>();
    let said = until(
        &format!("word on the schedule; {}", ark.tail()),
        async || {
            let status = schedules.get("s").await.unwrap().status?;
            (status.phase == Some(SchedulePhase::FailedValidation))
                .then(|| status.validation_errors.join("; "))
        },
    )
    .await;
    assert!(said.contains("restore-only mode"), "{said}");
    let spec = serde_json::from_value(json!({"backupName": "kept"})).unwrap();
    ark.create(DeleteBackupRequest::new("d", spec)).await;
    let requests = ark.api::<DeleteBackupRequest>();
    let said = until(
        &format!("word on the request; {}", ark.tail()),
        async || requests.get("d").await.unwrap().status?.waiting_for,
    )
    .await;
    assert!(said.contains("restore-only mode"), "{said}");

    // Out of the mode, what was put off is done.
    ark.kill_operator();
    ark.env.retain(|(name, _)| name != "ARK_RESTORE_ONLY");
    ark.start_operator();
    until(&format!("end of the backup; {}", ark.tail()), async || {
        backups
            .get_opt("kept")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    until(&format!("schedule; {}", ark.tail()), async || {
        let phase = schedules.get("s").await.unwrap().status?.phase;
        (phase == Some(SchedulePhase::Enabled)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_stands_by_until_the_first_goes() {
    let mut ark = Ark::with_location().await;
    let lease = ark.api::<Lease>();
    let holder = async || {
        lease
            .get("ark-operator")
            .await
            .unwrap()
            .spec
            .unwrap()
            .holder_identity
    };
    assert_eq!(holder().await.as_deref(), Some("ark-operator-x"));
    let mut second = ark.another_operator("ark-operator-y");
    until("the second to stand by", async || {
        let log = second.log();
        log.contains("another process leads").then_some(())
    })
    .await;
    assert_eq!(ark.stop_operator().await, Some(0), "{}", ark.tail());
    until(
        &format!("the second to lead; {}", second.log()),
        async || (holder().await.as_deref() == Some("ark-operator-y")).then_some(()),
    )
    .await;
    second.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_lost_its_lease_ends_with_an_error() {
    let mut ark = Ark::with_location().await;
    let lease = ark.api::<Lease>();
    let mut stolen = lease.get("ark-operator").await.unwrap();
    stolen.spec.as_mut().unwrap().holder_identity = Some("thief".to_owned());
    stolen.metadata.resource_version = None;
    stolen.metadata.managed_fields = None;
    let patch = kube::api::Patch::Merge(serde_json::json!({"spec": stolen.spec}));
    lease
        .patch("ark-operator", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    let code = ark.operator_ended().await;
    assert_eq!(code, Some(1), "{}", ark.tail());
    assert!(ark.log().contains("no longer the leader"));
}

/// Memory of the operator in KiB by the kernel's word for it.
fn memory(ark: &Ark, word: &str) -> u64 {
    let path = format!("/proc/{}/status", ark.operator_pid());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with(word)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_memory_back_after_work() {
    let ark = Ark::with_location().await;
    // Deriving a key takes 16 MiB each time; several at once must not stay.
    let namespaces: Vec<String> = (0..8).map(|n| format!("space-{n}")).collect();
    for namespace in &namespaces {
        let spec = ResticRepositorySpec {
            volume_namespace: namespace.clone(),
            backup_storage_location: "default".to_owned(),
            ..ResticRepositorySpec::default()
        };
        ark.create(ResticRepository::new(namespace, spec)).await;
    }
    let api = ark.api::<ResticRepository>();
    for namespace in &namespaces {
        until("all repositories to be ready", async || {
            let status = api.get(namespace).await.unwrap().status?;
            (status.phase == Some(RepositoryPhase::Ready)).then_some(())
        })
        .await;
    }
    // What code and tables take depends on how it was built; this is what it asked for itself.
    until(
        &format!("little memory, not {} KiB", memory(&ark, "RssAnon")),
        async || (memory(&ark, "RssAnon") < 24 << 10).then_some(()),
    )
    .await;
    // Shown with `--nocapture`; the aim for the images' build is 40 MiB in all.
    let said = format!(
        "{} KiB in use, {} KiB of its own\n",
        memory(&ark, "VmRSS"),
        memory(&ark, "RssAnon")
    );
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}
