//! The operator as a process: health, metrics, election, stop, memory.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::io::{Read as _, Write as _};

use ark_api::ResticRepository;
use ark_api::repository::{RepositoryPhase, ResticRepositorySpec};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use k8s_openapi::api::coordination::v1::Lease;

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
