//! A MinIO server for tests: on the node's address if there is a node, else on loopback.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::control_plane::{flags, text};
use super::ports;
use super::state::{Component, Spec};
use super::supervisor::Supervisor;
use crate::http;
use crate::tools::{self, Tool};
use crate::wait::Look;

const READY: Duration = Duration::from_mins(1);
/// Credentials of a server that only this machine reaches.
const USER: &str = "ark-test";
const PASSWORD: &str = "ark-test-secret";

/// A running MinIO server.
#[derive(Debug, Clone)]
pub struct Minio {
    /// Where its S3 API is, without a slash at the end.
    pub endpoint: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    data: PathBuf,
}

impl Minio {
    /// Makes a bucket if it is not there. A bucket is a folder of the one drive this server has.
    pub fn make_bucket(&self, name: &str) -> Result<()> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.len() < 3 || !name.chars().all(fits) {
            bail!("{name:?} is no bucket name");
        }
        let bucket = self.data.join(name);
        std::fs::create_dir_all(&bucket)
            .with_context(|| format!("cannot make {}", bucket.display()))
    }

    /// The credentials as an AWS profile file.
    pub fn credentials_file(&self) -> String {
        format!(
            "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
            self.access_key, self.secret_key
        )
    }
}

/// Starts the server if it does not run, and waits until it answers.
pub(super) fn start(supervisor: &Supervisor) -> Result<Minio> {
    tools::ensure(&[Tool::Minio])?;
    let address = supervisor
        .state()?
        .network
        .map_or(Ipv4Addr::LOCALHOST, |network| network.address);
    let port = ports::port(supervisor, "minio", address)?;
    let console = ports::port(supervisor, "minio-console", Ipv4Addr::LOCALHOST)?;
    let data = data(supervisor.dir());
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let mut args = vec!["server".to_owned()];
    args.extend(flags(&[
        ("address", &format!("{address}:{port}")),
        ("console-address", &format!("127.0.0.1:{console}")),
        ("config-dir", &text(&supervisor.dir().join("minio-config"))),
    ]));
    args.push(text(&data));
    let variables = [
        ("MINIO_ROOT_USER", USER),
        ("MINIO_ROOT_PASSWORD", PASSWORD),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
    ];
    let spec = Spec {
        program: tools::path(Tool::Minio)?,
        args,
        env: variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        in_node: false,
    };
    supervisor.start(Component::Minio, spec)?;
    supervisor.wait_ready(Component::Minio, READY, || {
        Ok(match http::get((address, port), "/minio/health/ready") {
            Ok(answer) if answer.status == 200 => Look::Ready(()),
            Ok(answer) => Look::NotYet(format!("status {}", answer.status)),
            Err(error) => Look::NotYet(error.to_string()),
        })
    })?;
    Ok(Minio {
        endpoint: format!("http://{address}:{port}"),
        access_key: USER.to_owned(),
        secret_key: PASSWORD.to_owned(),
        data,
    })
}

fn data(dir: &Path) -> PathBuf {
    dir.join("minio")
}
