//! Amazon S3 and services that speak its protocol, through OpenDAL.
//!
//! Every call here is one attempt; limits and repetition are the caller's. Uploads carry a CRC-32C
//! the service verifies. Credentials come from the configuration only: never from the environment,
//! from files or from the cloud's metadata service.
//!
//! Order of a large upload: parts, then completion; an error or a dropped future leaves no object.

use std::{error::Error as StdError, fs, io::Read as _, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use opendal::{ErrorKind, HttpTransporter, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::{Entry, ObjectMeta, Policy, StoreConfig, listing::Strict, tls};
use crate::error::{Error, Result};

/// Size of the parts of a large upload.
const PART: usize = 16 << 20;
/// Codes of answers that say that the credentials are not valid any more.
const EXPIRED: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];

#[derive(Clone)]
pub(super) struct S3 {
    operator: Operator,
    /// `s3://bucket` or `s3://host/bucket`.
    place: Arc<str>,
}

impl S3 {
    pub(super) fn open(config: &StoreConfig) -> Result<Self> {
        let StoreConfig::S3 {
            bucket,
            prefix: _,
            endpoint,
            region,
            access_key_id,
            secret_access_key,
            session_token,
            ca_cert,
            path_style,
            insecure_skip_tls_verify,
        } = config
        else {
            return Err(Error::Bug(
                "an S3 store was opened with other settings".to_owned(),
            ));
        };
        if bucket.is_empty() || bucket.contains(['/', '?', '#', ' ']) {
            return Err(invalid(
                "bucket",
                format!("{bucket:?} is not a bucket's name"),
            ));
        }
        let region = region.as_deref().filter(|region| !region.is_empty());
        let mut builder = opendal::services::S3::default()
            .root("/")
            .bucket(bucket)
            .region(region.unwrap_or("us-east-1"))
            .access_key_id(access_key_id.expose())
            .secret_access_key(secret_access_key.expose())
            .checksum_algorithm("crc32c")
            .disable_config_load()
            .disable_ec2_metadata();
        if let Some(token) = session_token {
            builder = builder.session_token(token.expose());
        }
        let endpoint = endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let place = match endpoint {
            Some(endpoint) => {
                let host = check_endpoint(endpoint)?;
                builder = builder.endpoint(endpoint.trim_end_matches('/'));
                format!("s3://{host}/{bucket}")
            }
            None => format!("s3://{bucket}"),
        };
        if !path_style {
            builder = builder.enable_virtual_host_style();
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(ca_cert.as_deref(), *insecure_skip_tls_verify)?)
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| invalid("S3 client", chain(&error)))?;
        let operator = Operator::new(builder)
            .map_err(|error| invalid("S3 settings", error.message().to_owned()))?;
        let context = operator
            .base_context()
            .with_http_transport(HttpTransporter::new(Strict(ReqwestTransport::new(client))));
        Ok(Self {
            operator: operator.with_context(context),
            place: place.into(),
        })
    }

    pub(super) fn location(&self, base: &str) -> String {
        if base.is_empty() {
            self.place.to_string()
        } else {
            format!("{}/{base}", self.place)
        }
    }

    fn error(&self, operation: &'static str, path: &str, error: &opendal::Error) -> Error {
        let location = self.place.to_string();
        let path = path.to_owned();
        let message = chain(error);
        let connection = std::iter::successors(StdError::source(error), |e| StdError::source(*e))
            .filter_map(|e| e.downcast_ref::<reqwest::Error>())
            .any(|e| e.is_connect() || e.is_timeout());
        match error.kind() {
            _ if connection => Error::Unreachable { location, message },
            _ if message.contains("NoSuchBucket") => Error::NoStore {
                location,
                message: "the bucket does not exist".to_owned(),
            },
            ErrorKind::PermissionDenied => Error::AccessDenied {
                location,
                operation,
                path,
                message,
            },
            // Told with the status of a bad request.
            _ if EXPIRED.iter().any(|code| message.contains(code)) => Error::AccessDenied {
                location,
                operation,
                path,
                message,
            },
            ErrorKind::RangeNotSatisfied => Error::ObjectShort {
                location,
                path,
                message,
            },
            ErrorKind::NotFound => Error::ObjectMissing { location, path },
            _ => Error::Store {
                location,
                operation,
                path,
                message,
                temporary: error.is_temporary(),
            },
        }
    }

    pub(super) async fn list(
        self,
        path: String,
        recursive: bool,
        policy: Policy,
    ) -> Result<Vec<Entry>> {
        let fail = |error: &opendal::Error| self.error("list", &path, error);
        let late = |_elapsed| Error::Timeout {
            location: self.place.to_string(),
            operation: "list",
            path: path.clone(),
        };
        let root = if path.is_empty() { "/" } else { path.as_str() };
        let mut lister = self
            .operator
            .lister_with(root)
            .recursive(recursive)
            .await
            .map_err(|error| fail(&error))?;
        let mut entries = Vec::new();
        loop {
            // The limit is for one page, however many the listing has.
            let next = tokio::time::timeout(policy.limit(0), lister.try_next())
                .await
                .map_err(late)?
                .map_err(|error| fail(&error))?;
            let Some(entry) = next else {
                return Ok(entries);
            };
            let name = entry.path().strip_prefix(&path).unwrap_or_default();
            let is_dir = entry.metadata().is_dir();
            let name = name.trim_end_matches('/');
            if name.is_empty() || (recursive && is_dir) {
                continue;
            }
            entries.push(Entry {
                name: name.to_owned(),
                is_dir,
                size: if is_dir {
                    0
                } else {
                    entry.metadata().content_length()
                },
                modified: entry.metadata().last_modified().map(Into::into),
            });
        }
    }

    pub(super) async fn stat(self, path: String) -> Result<Option<ObjectMeta>> {
        match self.operator.stat(&path).await {
            Ok(meta) if meta.is_file() => Ok(Some(ObjectMeta {
                size: meta.content_length(),
                modified: meta.last_modified().map(Into::into),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("stat", &path, &error)),
        }
    }

    pub(super) async fn read(
        self,
        path: String,
        limit: u64,
        policy: Policy,
    ) -> Result<Option<Bytes>> {
        let fail = |error: opendal::Error| match self.error("read", &path, &error) {
            Error::ObjectMissing { .. } => Ok(None),
            error => Err(error),
        };
        let reader = match self.operator.reader(&path).await {
            Ok(reader) => reader,
            Err(error) => return fail(error),
        };
        let mut stream = match reader.into_bytes_stream(..).await {
            Ok(stream) => stream,
            Err(error) => return fail(error),
        };
        let mut data = Vec::new();
        loop {
            let piece = tokio::time::timeout(policy.limit(0), stream.try_next()).await;
            let piece = match piece {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => match error.downcast::<opendal::Error>() {
                    Ok(error) => return fail(error),
                    Err(error) => return fail(passing(&error.to_string())),
                },
                Err(_elapsed) => return fail(passing("the body stalled")),
            };
            let Some(piece) = piece else {
                return Ok(Some(data.into()));
            };
            if (data.len() + piece.len()) as u64 > limit {
                return Err(Error::ObjectTooLarge {
                    location: self.place.to_string(),
                    path: path.clone(),
                    limit,
                });
            }
            data.extend_from_slice(&piece);
        }
    }

    /// Each piece of the body is copied as it comes and let go, so that the connection reads the
    /// next one into the same memory.
    pub(super) async fn read_range(
        self,
        path: String,
        offset: u64,
        len: u64,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let fail = |error: opendal::Error| self.error("read", &path, &error);
        let reader = self.operator.reader(&path).await.map_err(fail)?;
        let range = offset..offset.saturating_add(len);
        let mut pieces = reader.into_bytes_stream(range).await.map_err(fail)?;
        data.reserve_exact(usize::try_from(len).unwrap_or_default());
        loop {
            let piece = match pieces.try_next().await {
                Ok(Some(piece)) => piece,
                Ok(None) if data.len() as u64 == len => return Ok(data),
                Ok(None) => return Err(self.wrong_length(&path, offset, len, None).await),
                Err(error) => {
                    let error = match error.downcast::<opendal::Error>() {
                        Ok(error) => error,
                        Err(error) => passing(&error.to_string()),
                    };
                    if error.kind() == ErrorKind::Unexpected && !error.is_temporary() {
                        return Err(self.wrong_length(&path, offset, len, Some(error)).await);
                    }
                    return Err(fail(error));
                }
            };
            data.extend_from_slice(&piece);
            if data.len() as u64 > len {
                let error = passing("more bytes came than were asked for");
                return Err(self.wrong_length(&path, offset, len, Some(error)).await);
            }
        }
    }

    /// Why a whole response holds another number of bytes than was asked for. A store that is asked
    /// for more than there is answers with what there is, or with all of it where the range is
    /// beyond its numbers, and OpenDAL gives these answers no kind of their own. Only the object's
    /// size tells an object that is too short, which is damage, from a failure of the store, which
    /// never is.
    async fn wrong_length(
        &self,
        path: &str,
        offset: u64,
        len: u64,
        error: Option<opendal::Error>,
    ) -> Error {
        match self.clone().stat(path.to_owned()).await {
            Ok(Some(meta)) if meta.size < offset.saturating_add(len) => Error::ObjectShort {
                location: self.place.to_string(),
                path: path.to_owned(),
                message: format!(
                    "{len} bytes from {offset} on were asked for, the object has {}",
                    meta.size
                ),
            },
            _ => {
                let error = error.unwrap_or_else(|| passing("the answer ended early"));
                self.error("read", path, &error)
            }
        }
    }

    pub(super) async fn write(self, path: String, data: Bytes) -> Result<()> {
        let written = if data.len() > 2 * PART {
            self.operator.write_with(&path, data).chunk(PART).await
        } else {
            self.operator.write(&path, data).await
        };
        written
            .map(drop)
            .map_err(|error| self.error("write", &path, &error))
    }

    pub(super) async fn write_if_absent(self, path: String, data: Bytes) -> Result<bool> {
        match self
            .operator
            .write_with(&path, data)
            .if_not_exists(true)
            .await
        {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists
                ) =>
            {
                Ok(false)
            }
            // Another conditional write of the same object is under way: look again.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                Err(self.error("write", &path, &error.set_temporary()))
            }
            Err(error) => Err(self.error("write", &path, &error)),
        }
    }

    pub(super) async fn write_file(
        self,
        path: String,
        from: PathBuf,
        policy: Policy,
    ) -> Result<()> {
        let source = |source| Error::Source {
            path: from.clone(),
            source,
        };
        let file = fs::File::open(&from).map_err(source)?;
        let size = file.metadata().map_err(source)?.len();
        let fail = |error: &opendal::Error| self.error("write", &path, error);
        let mut writer = self
            .operator
            .writer_with(&path)
            .chunk(PART)
            .await
            .map_err(|error| fail(&error))?;
        let mut left = size;
        while left > 0 {
            let len = left.min(PART as u64);
            let file = file.try_clone().map_err(source)?;
            let piece = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::new();
                file.take(len).read_to_end(&mut piece).map(|_| piece)
            })
            .await
            .map_err(|error| Error::Bug(error.to_string()))?
            .map_err(source)?;
            if piece.len() as u64 != len {
                drop(writer.abort().await);
                return Err(source(std::io::ErrorKind::UnexpectedEof.into()));
            }
            left -= len;
            let sent = tokio::time::timeout(policy.limit(len), writer.write(piece)).await;
            let sent = sent.unwrap_or_else(|_| Err(passing("a part stalled")));
            if let Err(error) = sent {
                drop(writer.abort().await);
                return Err(fail(&error));
            }
        }
        writer.close().await.map(drop).map_err(|error| fail(&error))
    }

    pub(super) async fn delete(self, path: String) -> Result<()> {
        match self.operator.delete(&path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.error("delete", &path, &error))
            }
            _ => Ok(()),
        }
    }
}

fn passing(message: &str) -> opendal::Error {
    opendal::Error::new(ErrorKind::Unexpected, message).set_temporary()
}

fn invalid(what: &'static str, message: String) -> Error {
    Error::InvalidConfig { what, message }
}

/// `http(s)://host[:port]`, nothing more. Returns the host with its port.
fn check_endpoint(endpoint: &str) -> Result<&str> {
    let rest = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"))
        .unwrap_or(endpoint);
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) || host.contains("://") {
        return Err(invalid(
            "endpoint",
            format!("{endpoint:?} is not http(s)://host[:port]"),
        ));
    }
    Ok(host)
}

/// An error's own message and those of its causes, without the request's headers.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<opendal::Error>() {
            Some(error) => error.message().to_owned(),
            None => error.to_string(),
        };
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    let mut text = parts.join(": ");
    if let Some((at, _)) = text.char_indices().nth(400) {
        text.truncate(at);
    }
    text
}
