//! A MinIO server of one run, its data in the run's folder.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::work::Work;

/// Credentials of a server that only this machine reaches.
pub(super) const KEY: &str = "arkbench";
/// See above.
pub(super) const SECRET: &str = "arkbenchsecret";
/// The one bucket.
pub(super) const BUCKET: &str = "bench";
const READY: Duration = Duration::from_mins(1);

/// The server; it ends with the run.
pub(super) struct Minio {
    /// Where its API is.
    pub(super) address: SocketAddr,
    data: PathBuf,
}

impl Minio {
    /// Starts it and waits until it answers.
    pub(super) fn start(work: &Work, program: &Path) -> Result<Self> {
        let data = work.folder("minio")?;
        // MinIO takes a folder of its drive for a bucket, and ignores names with a dot in front.
        for folder in [BUCKET, ".certs"] {
            std::fs::create_dir(data.join(folder)).context("cannot make MinIO's folders")?;
        }
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("no port for MinIO")?;
        let mut command = Command::new(program);
        command
            .args(["server", "--quiet", "--address", &address.to_string()])
            .args(["--console-address", "127.0.0.1:0", "--certs-dir"])
            .arg(data.join(".certs"))
            .arg(&data)
            .env("MINIO_ROOT_USER", KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        drop(work.start(&mut command)?);
        let start = Instant::now();
        while !answers(address) {
            ensure!(
                start.elapsed() < READY,
                "MinIO does not answer at {address}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { address, data })
    }

    /// Removes what lies below a prefix.
    pub(super) fn empty(&self, prefix: &str) -> Result<()> {
        let folder = self.data.join(BUCKET).join(prefix);
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))
    }
}

fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let request = format!("GET /minio/health/ready HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.split(' ').nth(1) == Some("200")
}
