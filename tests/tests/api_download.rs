//! Artefacts through the operator, and the requests that are answered in other ways.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::io::{Read as _, Write as _};

use ark_api::backup::BackupPhase;
use ark_api::requests::{DownloadRequestStatus, RequestPhase};
use ark_api::{DownloadRequest, ServerStatusRequest, VolumeSnapshotLocation, layout};
use ark_tests::ark::Ark;
use ark_tests::node::until;
use flate2::read::GzDecoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

const TOKEN: &str = "a-random-token";

async fn ask(
    ark: &Ark,
    name: &str,
    kind: &str,
    target: &str,
    hash: Option<String>,
) -> DownloadRequestStatus {
    let spec = json!({"target": {"kind": kind, "name": target}, "tokenHash": hash});
    ark.create(DownloadRequest::new(
        name,
        serde_json::from_value(spec).unwrap(),
    ))
    .await;
    let api = ark.api::<DownloadRequest>();
    until(
        &format!("an answer to {name}; {}", ark.tail()),
        async || api.get(name).await.unwrap().status,
    )
    .await
}

/// Status code and body.
async fn fetch(ark: &Ark, path: &str, token: Option<&str>) -> (u16, Vec<u8>) {
    let address = ark.said("artefacts=").await;
    let token = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\n\r\n");
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let text = String::from_utf8_lossy(&answer[..head]).into_owned();
        let code = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer[head + 4..].to_vec();
        if code == 200 {
            let length = format!("content-length: {}", body.len());
            assert!(text.to_lowercase().contains(&length), "{text}");
        }
        (code, body)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_token_gets_the_artefact_and_nobody_else() {
    let ark = Ark::with_location().await;
    ark.backup("b", json!({})).await;
    ark.ended("b", BackupPhase::Completed).await;
    let hash = hex::encode(Sha256::digest(TOKEN));
    let answer = ask(&ark, "log", "BackupLog", "b", Some(hash.clone())).await;
    assert_eq!(answer.phase, Some(RequestPhase::Processed), "{answer:?}");
    assert_eq!(answer.pod.as_deref(), Some("ark-operator-x"));
    let path = answer.path.unwrap();
    for wrong in [None, Some("another"), Some(hash.as_str()), Some("")] {
        let (code, body) = fetch(&ark, &path, wrong).await;
        assert_eq!(code, 403, "{wrong:?}: {}", String::from_utf8_lossy(&body));
    }
    let (code, body) = fetch(&ark, &path, Some(TOKEN)).await;
    assert_eq!(code, 200);
    let mut text = String::new();
    GzDecoder::new(body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.contains("level=info") && text.contains("ends as Completed"),
        "{text}"
    );
    let (code, _) = fetch(&ark, "/v1/artefacts/other", Some(TOKEN)).await;
    assert_eq!(code, 403);

    let answer = ask(&ark, "bundle", "BackupContents", "b", Some(hash)).await;
    let (_, body) = fetch(&ark, &answer.path.unwrap(), Some(TOKEN)).await;
    assert_eq!(
        body,
        std::fs::read(ark.bucket().join(layout::bundle("b"))).unwrap()
    );
    // A deleted request gives nothing any more.
    ark.delete::<DownloadRequest>("log").await;
    assert_eq!(fetch(&ark, &path, Some(TOKEN)).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_answered_say_why() {
    let ark = Ark::with_location().await;
    let hash = || Some(hex::encode(Sha256::digest(TOKEN)));
    ark.backup("refused", json!({"includedNamespaces": ["no-such"]}))
        .await;
    ark.ended("refused", BackupPhase::FailedValidation).await;
    // Its name belongs to somebody else, whose artefacts must not be handed out under it.
    let dir = ark.bucket().join(layout::backup_dir("foreign"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("foreign-logs.gz"), "secret").unwrap();
    std::fs::write(
        dir.join("ark-claim.json"),
        json!({"cluster": "c", "backupUid": "u"}).to_string(),
    )
    .unwrap();
    ark.backup("foreign", json!({})).await;
    ark.ended("foreign", BackupPhase::Failed).await;
    for (name, kind, target, hash, word) in [
        ("r1", "BackupLog", "nothing", hash(), "no Backup nothing"),
        ("r2", "RestoreLog", "nothing", hash(), "no Restore nothing"),
        ("r3", "BackupLog", "refused", hash(), "stored nothing"),
        ("r4", "BackupLog", "foreign", hash(), "not its own"),
        ("r5", "BackupLog", "b", None, "tokenHash"),
        ("r6", "BackupLog", "b", Some("abc".to_owned()), "SHA-256"),
    ] {
        let answer = ask(&ark, name, kind, target, hash).await;
        assert_eq!(
            answer.phase,
            Some(RequestPhase::Failed),
            "{name}: {answer:?}"
        );
        let said = answer.message.unwrap();
        assert!(
            said.contains(word) || said.contains("location"),
            "{name}: {said}"
        );
        assert!(answer.path.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_says_its_version_and_what_it_cannot_do() {
    let ark = Ark::new().await;
    ark.create(ServerStatusRequest::new(
        "s",
        serde_json::from_value(json!({})).unwrap(),
    ))
    .await;
    let api = ark.api::<ServerStatusRequest>();
    let status = until("the version", async || api.get("s").await.unwrap().status).await;
    assert_eq!(
        status.server_version.as_deref(),
        Some(env!("CARGO_PKG_VERSION"))
    );

    let spec = serde_json::from_value(json!({"provider": "aws"})).unwrap();
    ark.create(VolumeSnapshotLocation::new("v", spec)).await;
    let api = ark.api::<VolumeSnapshotLocation>();
    let status = until("an answer", async || api.get("v").await.unwrap().status).await;
    assert!(status.message.unwrap().contains("not supported yet"));
}
