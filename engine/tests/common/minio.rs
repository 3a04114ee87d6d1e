//! A real MinIO, one for each test binary.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use ark_engine::{Policy, Secret, Store, StoreConfig};

use super::{files, wait_until};

pub const KEY: &str = "arktest";
pub const SECRET: &str = "arktestsecret";

/// Lives as long as this process: a shell ends it and removes its data when its input is closed.
pub struct MinIo {
    _shell: Child,
    pub address: SocketAddr,
}

pub const SHELL: &str =
    r#"trap '' INT TERM; "$0" "$@" & read -r _; kill -9 $!; wait $!; rm -rf "$DATA""#;

pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ARK_TEST_MINIO") {
        return path.into();
    }
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&in_path)
        .map(|dir| dir.join("minio"))
        .find(|file| file.is_file());
    let cache = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/ark/minio"));
    let cached = || {
        let files = files(&cache.filter(|dir| dir.is_dir())?);
        files.into_iter().find(|file| file.ends_with("minio"))
    };
    found
        .or_else(cached)
        .expect("no MinIO: set ARK_TEST_MINIO, or have cargo xtask build it into its cache")
}

impl MinIo {
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// One that speaks TLS only, with this certificate and key.
    pub fn start_tls(certificate: &str, key: &str) -> Self {
        Self::start_in(Some((certificate, key)))
    }

    fn start_in(tls: Option<(&str, &str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        fs::create_dir(dir.path().join("bucket")).unwrap();
        let data = dir.keep();
        // Inside the data, so that one removal takes all; MinIO ignores names with a dot in front.
        let certs = data.join(".certs");
        fs::create_dir(&certs).unwrap();
        if let Some((certificate, key)) = tls {
            fs::write(certs.join("public.crt"), certificate).unwrap();
            fs::write(certs.join("private.key"), key).unwrap();
        }
        let shell = Command::new("sh")
            .args(["-c", SHELL])
            .arg(binary())
            .args([
                "server",
                "--quiet",
                "--address",
                &address.to_string(),
                "--console-address",
                "127.0.0.1:0",
            ])
            .arg("--certs-dir")
            .args([&certs, &data])
            .env("DATA", &data)
            .env("MINIO_ROOT_USER", KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET)
            .env("MINIO_BROWSER", "off")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let minio = Self {
            _shell: shell,
            address,
        };
        wait_until("MinIO is ready", || match tls {
            None => get(address, "/minio/health/ready"),
            Some(_) => TcpStream::connect(address).is_ok(),
        });
        minio
    }

    pub fn config(&self, prefix: &str) -> StoreConfig {
        config(self.address, "bucket", prefix, SECRET)
    }

    pub fn store(&self, prefix: &str) -> Store {
        Store::open(&self.config(prefix)).unwrap()
    }
}

pub fn config(address: SocketAddr, bucket: &str, prefix: &str, secret: &str) -> StoreConfig {
    StoreConfig::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(format!("http://{address}")),
        region: Some("us-east-1".to_owned()),
        access_key_id: Secret::new(KEY),
        secret_access_key: Secret::new(secret),
        session_token: None,
        ca_cert: None,
        path_style: true,
        insecure_skip_tls_verify: false,
    }
}

pub fn get(address: SocketAddr, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// One server for all tests of this file: each uses a prefix of its own.
pub fn minio() -> &'static MinIo {
    static MINIO: OnceLock<MinIo> = OnceLock::new();
    MINIO.get_or_init(MinIo::start)
}

pub fn quick() -> Policy {
    Policy {
        attempts: 3,
        timeout: Duration::from_secs(5),
        first_wait: Duration::from_millis(10),
        min_bytes_per_second: 8 << 20,
        ..Policy::default()
    }
}
