//! Fetches artefacts of backups and restores through the operator, so that it works with a store
//! that only the cluster can reach.
//!
//! Order: a random token is made; a `DownloadRequest` with the token's hash is created (whether
//! that is allowed is the authorisation); the operator answers with a pod and a path; a port is
//! forwarded to that pod and the path is read with the token. The operator deletes the request.
//!
//! Fails when the request is refused, not answered in time, or the transfer breaks: a transfer
//! that ends early is an error, never a shorter artefact.

use std::io::Read;
use std::time::Duration;

use ark_api::DownloadRequest;
use ark_api::requests::{DownloadKind, DownloadRequestSpec, DownloadTarget, RequestPhase};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rand::RngExt;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Context, wait};
use crate::error::{Error, Result};
use crate::kube::Cluster;

/// Most that an artefact held in memory may take, as stored and unpacked.
const MEMORY_LIMIT: u64 = 256 << 20;

/// What is fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Artefact {
    kind: DownloadKind,
    word: &'static str,
}

/// Log of a backup.
pub(crate) const BACKUP_LOG: Artefact = Artefact {
    kind: DownloadKind::BackupLog,
    word: "log",
};
/// Tarball of a backup.
pub(crate) const BACKUP_CONTENTS: Artefact = Artefact {
    kind: DownloadKind::BackupContents,
    word: "content",
};
/// Errors and warnings of a backup.
pub(crate) const BACKUP_RESULTS: Artefact = Artefact {
    kind: DownloadKind::BackupResults,
    word: "errors and warnings",
};
/// Volume rows of a backup.
pub(crate) const BACKUP_VOLUMES: Artefact = Artefact {
    kind: DownloadKind::BackupVolumeInfos,
    word: "volume rows",
};
/// Names of all items of a backup.
pub(crate) const BACKUP_ITEMS: Artefact = Artefact {
    kind: DownloadKind::BackupResourceList,
    word: "resource list",
};
/// Log of a restore.
pub(crate) const RESTORE_LOG: Artefact = Artefact {
    kind: DownloadKind::RestoreLog,
    word: "log",
};
/// Errors, warnings and rows of a restore.
pub(crate) const RESTORE_RESULTS: Artefact = Artefact {
    kind: DownloadKind::RestoreResults,
    word: "errors and warnings",
};

/// An open transfer.
pub(crate) struct Transfer {
    what: Wanted,
    body: Incoming,
}

/// What is being fetched, for messages.
#[derive(Clone, Debug)]
struct Wanted {
    artefact: Artefact,
    owner: String,
}

impl Wanted {
    fn failed(&self, message: impl Into<String>, hint: &'static str) -> Error {
        Error::Artefact {
            artefact: self.artefact.word,
            owner: self.owner.clone(),
            message: message.into(),
            hint,
        }
    }
}

impl Transfer {
    /// The next piece; nothing when all has arrived.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| {
                self.what.failed(
                    format!("the transfer broke ({})", crate::error::root(&e)),
                    "try again; is the operator being restarted?",
                )
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    async fn all(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            if (all.len() + piece.len()) as u64 > MEMORY_LIMIT {
                return Err(self.what.failed("it is larger than 256 MiB", TOO_LARGE));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

const TOO_LARGE: &str = "read it from the object store";

/// Opens the transfer of an artefact of `name`.
pub(crate) async fn open(
    context: &Context,
    cluster: &Cluster,
    artefact: Artefact,
    name: &str,
    limit: Duration,
) -> Result<Transfer> {
    let noun = match artefact.kind {
        DownloadKind::RestoreLog
        | DownloadKind::RestoreResults
        | DownloadKind::RestoreResourceList => "restore",
        _ => "backup",
    };
    let what = Wanted {
        artefact,
        owner: format!("{noun} {name:?}"),
    };
    let token = hex::encode(rand::rng().random::<[u8; 32]>());
    let answer = request(cluster, &what, name, &token, limit).await?;
    let opened = async {
        match context.globals.artefact_address {
            Some(address) => {
                let stream = TcpStream::connect(address).await.map_err(|e| {
                    what.failed(
                        format!("{address} cannot be reached ({e})"),
                        "check --artefact-address",
                    )
                })?;
                get(stream, &what, &answer.path, &token).await
            }
            None => forwarded(cluster, &what, &answer, &token).await,
        }
    };
    let body = tokio::time::timeout(limit, opened)
        .await
        .unwrap_or_else(|_| {
            Err(Error::Timeout {
                message: format!("the {} of {} did not come in time", artefact.word, what.owner),
                hint: "does a port-forward to the operator's pod work? --timeout sets how long to wait"
                    .to_owned(),
            })
        })?;
    Ok(Transfer { what, body })
}

/// Fetches a JSON artefact.
pub(crate) async fn json<T: DeserializeOwned>(
    context: &Context,
    cluster: &Cluster,
    artefact: Artefact,
    name: &str,
    limit: Duration,
) -> Result<T> {
    let text = unpacked(context, cluster, artefact, name, limit).await?;
    serde_json::from_slice(&text).map_err(|e| Error::Artefact {
        artefact: artefact.word,
        owner: name.to_owned(),
        message: format!("it is not what it should be ({e})"),
        hint: "the stored object is damaged, or another version of Ark wrote it",
    })
}

/// Fetches an artefact and unpacks it.
pub(crate) async fn unpacked(
    context: &Context,
    cluster: &Cluster,
    artefact: Artefact,
    name: &str,
    limit: Duration,
) -> Result<Vec<u8>> {
    let transfer = open(context, cluster, artefact, name, limit).await?;
    let what = transfer.what.clone();
    let stored = transfer.all().await?;
    gunzip(&stored, MEMORY_LIMIT).map_err(|e| {
        what.failed(
            e,
            "the stored object is damaged; see it in the object store",
        )
    })
}

/// Unpacks gzip, up to `limit` bytes. Text that is not packed is returned as it is.
fn gunzip(stored: &[u8], limit: u64) -> std::result::Result<Vec<u8>, String> {
    if !stored.starts_with(&[0x1f, 0x8b]) {
        return Ok(stored.to_vec());
    }
    let mut text = Vec::new();
    let mut reader = MultiGzDecoder::new(stored).take(limit + 1);
    reader
        .read_to_end(&mut text)
        .map_err(|e| format!("it cannot be unpacked ({e})"))?;
    if text.len() as u64 > limit {
        return Err("it is larger than 256 MiB when unpacked".to_owned());
    }
    Ok(text)
}

/// Where an artefact can be read.
#[derive(Clone, Debug)]
struct Answer {
    pod: String,
    path: String,
}

async fn request(
    cluster: &Cluster,
    what: &Wanted,
    name: &str,
    token: &str,
    limit: Duration,
) -> Result<Answer> {
    let spec = DownloadRequestSpec {
        target: DownloadTarget {
            kind: what.artefact.kind,
            name: name.to_owned(),
        },
        token_hash: Some(hex::encode(Sha256::digest(token.as_bytes()))),
    };
    let random = hex::encode(rand::rng().random::<[u8; 5]>());
    let stem: String = name.chars().take(200).collect();
    let request = DownloadRequest::new(
        &format!("{}-{random}", stem.trim_end_matches(['.', '-'])),
        spec,
    );
    let request = cluster.create(&request).await?;
    let request_name = request.metadata.name.unwrap_or_default();
    let status = wait::until::<DownloadRequest, _>(cluster, &request_name, limit, |request| {
        let status = request.status.as_ref()?;
        matches!(
            status.phase,
            Some(RequestPhase::Processed | RequestPhase::Failed)
        )
        .then(|| status.clone())
    })
    .await?;
    let Some(status) = status else {
        return Err(Error::Timeout {
            message: format!(
                "the operator has not answered the request for the {} of {}",
                what.artefact.word, what.owner
            ),
            hint: format!(
                "is it running? `kubectl -n {} get pods -l app.kubernetes.io/component=operator`",
                cluster.namespace()
            ),
        });
    };
    if status.phase == Some(RequestPhase::Failed) {
        let why = status
            .message
            .unwrap_or_else(|| "the operator gave no reason".to_owned());
        return Err(what.failed(
            why,
            "`get` shows whether it has ended and where it is stored",
        ));
    }
    match (status.pod, status.path) {
        (Some(pod), Some(path)) if path.starts_with('/') => Ok(Answer { pod, path }),
        _ => Err(what.failed(
            "the operator's answer names no place",
            "are command and operator of the same version?",
        )),
    }
}

async fn forwarded(
    cluster: &Cluster,
    what: &Wanted,
    answer: &Answer,
    token: &str,
) -> Result<Incoming> {
    let port = ark_api::env::ARTEFACT_PORT;
    let mut forwarder = cluster
        .api::<Pod>()
        .portforward(&answer.pod, &[port])
        .await
        .map_err(|e| cluster.failed::<Pod>("forward a port to", &answer.pod, &e))?;
    let stream = forwarder.take_stream(port).ok_or_else(|| {
        Error::Bug("the port-forward has no stream for the port asked for".to_owned())
    })?;
    get(stream, what, &answer.path, token).await
}

/// Reads `path` over `stream`. The connection lives as long as the body.
async fn get<S>(stream: S, what: &Wanted, path: &str, token: &str) -> Result<Incoming>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const HINT: &str = "try again; `kubectl logs` of the operator says more";
    let broke = |e: hyper::Error| {
        what.failed(
            format!("no answer from the operator ({})", crate::error::root(&e)),
            HINT,
        )
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    tokio::spawn(async move {
        if connection.await.is_err() {
            // The body's reader sees the same error and reports it.
        }
    });
    let request = Request::get(path)
        .header(HOST, "localhost")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(|e| Error::Bug(format!("cannot make the request: {e}")))?;
    let response = sender.send_request(request).await.map_err(broke)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let body = http_body_util::Limited::new(response.into_body(), 4096);
    let text = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = crate::print::table::one_line(text.trim());
    let said = if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    };
    Err(what.failed(format!("the operator answers {status}{said}"), HINT))
}

#[cfg(test)]
#[path = "artefact_tests.rs"]
mod tests;
