//! `ark version`.

use ark_api::ServerStatusRequest;
use ark_api::duration::Duration;
use ark_api::requests::{RequestPhase, ServerStatusRequestSpec};
use clap::Args;
use rand::RngExt;

use super::{Context, wait};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kube::Cluster;

/// Show versions.
#[derive(Clone, Debug, Args)]
pub(crate) struct Version {
    /// Do not ask the operator
    #[arg(long)]
    client_only: bool,
    /// Longest time to wait for the operator
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: Duration,
}

/// The version of this command.
pub(crate) const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Version) -> Result<Exit> {
    context
        .printer
        .out(&format!("Client:\n  Version: {CLIENT}\n"))?;
    if args.client_only {
        return Ok(Exit::Done);
    }
    let cluster = context.cluster().await?;
    let server = ask(&cluster, args.timeout.0).await?;
    context
        .printer
        .out(&format!("Server:\n  Version: {server}\n"))?;
    if server != CLIENT {
        context
            .printer
            .warn("command and operator are of different versions");
    }
    Ok(Exit::Done)
}

async fn ask(cluster: &Cluster, limit: std::time::Duration) -> Result<String> {
    let name = format!("ark-cli-{}", hex::encode(rand::rng().random::<[u8; 5]>()));
    cluster
        .create(&ServerStatusRequest::new(&name, ServerStatusRequestSpec {}))
        .await?;
    let version = wait::until::<ServerStatusRequest, _>(cluster, &name, limit, |request| {
        let status = request.status.as_ref()?;
        (status.phase == Some(RequestPhase::Processed)).then(|| {
            status
                .server_version
                .clone()
                .unwrap_or_else(|| "unknown".to_owned())
        })
    })
    .await?;
    version.ok_or_else(|| Error::Timeout {
        message: "the operator has not answered".to_owned(),
        hint: format!(
            "is it running? `kubectl -n {} get pods -l app.kubernetes.io/component=operator`",
            cluster.namespace()
        ),
    })
}
