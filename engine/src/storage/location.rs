//! Where a repository is, in the words restic uses: `/path`, `local:/path`, `s3:http://host:port/bucket/prefix`,
//! `s3:host/bucket/prefix`.
//!
//! Does: read such a text, and turn it into the settings of a store. Does not: touch a file, the
//! network or the environment; credentials are the caller's. Fails with `InvalidConfig`, saying
//! what to write instead. Parts of an address that could hold a password are never quoted.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{Secret, StoreConfig};
use crate::error::{Error, Result};

/// Stores that restic knows and this engine does not.
const ELSEWHERE: [&str; 7] = ["sftp", "rest", "swift", "b2", "azure", "gs", "rclone"];
/// Amazon's own address, whose regional form is found by the region.
const AMAZON: &str = "s3.amazonaws.com";

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket.
    S3 {
        /// `http://host:port` or `https://host[:port]`; `None` is Amazon's.
        endpoint: Option<String>,
        /// The bucket.
        bucket: String,
        /// Prefix of all keys, without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// How to reach a bucket: what restic takes from the environment and from options.
#[derive(Debug, Clone)]
pub struct S3Access {
    /// The access key.
    pub access_key_id: Secret,
    /// Its secret.
    pub secret_access_key: Secret,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// The region; `us-east-1` when absent.
    pub region: Option<String>,
    /// PEM certificates to trust beside the system's.
    pub ca_cert: Option<Vec<u8>>,
    /// Accept any TLS certificate.
    pub insecure_skip_tls_verify: bool,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidConfig {
        what: "repository location",
        message: message.into(),
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if let Some(path) = text.strip_prefix("local:") {
            return local(path);
        }
        if let Some(rest) = text.strip_prefix("s3:") {
            return s3(rest);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(invalid("write a bucket as s3:https://host/bucket/prefix"));
        }
        let plain = text.starts_with('/') || text.starts_with("./") || text.starts_with("../");
        match text.split_once(':') {
            Some((scheme, _)) if !plain && ELSEWHERE.contains(&scheme) => Err(invalid(format!(
                "stores of kind {scheme} cannot be reached from here, only directories and S3; restic reads \
                 such a repository, and can copy it"
            ))),
            Some(_) if !plain => Err(invalid(
                "its kind is not known; put local: in front if it is a directory with a colon in its name, or \
                 s3: if it is a bucket",
            )),
            _ => local(text),
        }
    }
}

fn local(path: &str) -> Result<Location> {
    if path.is_empty() {
        return Err(invalid("there is no path after local:"));
    }
    Ok(Location::Local(PathBuf::from(path)))
}

fn s3(rest: &str) -> Result<Location> {
    let (scheme, rest) = if let Some(rest) = rest.strip_prefix("http://") {
        ("http", rest)
    } else if let Some(rest) = rest.strip_prefix("https://") {
        ("https", rest)
    } else {
        ("https", rest.strip_prefix("//").unwrap_or(rest))
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let prefix = prefix.trim_matches('/');
    if host.contains('@') {
        return Err(invalid(
            "it holds a user name or password; give those in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ));
    }
    if host.is_empty() || bucket.is_empty() {
        return Err(invalid(
            "an S3 location needs a host and a bucket: s3:https://host/bucket/prefix",
        ));
    }
    if rest.contains(['?', '#', ' ']) {
        return Err(invalid("an S3 location has no '?', '#' or spaces"));
    }
    let amazon = host == AMAZON && scheme == "https";
    Ok(Location::S3 {
        endpoint: (!amazon).then(|| format!("{scheme}://{host}")),
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::S3 {
                endpoint,
                bucket,
                prefix,
            } => {
                let endpoint = endpoint.as_deref().unwrap_or(AMAZON);
                write!(f, "s3:{endpoint}/{bucket}")?;
                if prefix.is_empty() {
                    Ok(())
                } else {
                    write!(f, "/{prefix}")
                }
            }
        }
    }
}

impl Location {
    /// The settings of its store. A bucket needs `access`, a directory does not.
    ///
    /// # Errors
    /// `InvalidConfig` if it is a bucket and there is no access to it.
    pub fn store_config(&self, access: Option<S3Access>) -> Result<StoreConfig> {
        match self {
            Self::Local(root) => Ok(StoreConfig::Local { root: root.clone() }),
            Self::S3 {
                endpoint,
                bucket,
                prefix,
            } => {
                let access = access.ok_or(Error::InvalidConfig {
                    what: "S3 credentials",
                    message: "there are none for a location that is a bucket".to_owned(),
                })?;
                // As restic does it: Amazon wants the bucket in the host name, most others do not.
                let host = endpoint.as_deref().unwrap_or(AMAZON);
                let amazon = host.ends_with("amazonaws.com") || host.ends_with("amazonaws.com.cn");
                Ok(StoreConfig::S3 {
                    bucket: bucket.clone(),
                    prefix: prefix.clone(),
                    endpoint: endpoint.clone(),
                    region: access.region,
                    access_key_id: access.access_key_id,
                    secret_access_key: access.secret_access_key,
                    session_token: access.session_token,
                    ca_cert: access.ca_cert,
                    // A certificate for *.amazonaws.com does not cover a bucket with a dot in its
                    // name.
                    path_style: !amazon || bucket.contains('.'),
                    insecure_skip_tls_verify: access.insecure_skip_tls_verify,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(endpoint: Option<&str>, bucket: &str, prefix: &str) -> Location {
        Location::S3 {
            endpoint: endpoint.map(str::to_owned),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn restics_spellings() {
        for (text, meant) in [
            ("/srv/repo", Location::Local("/srv/repo".into())),
            ("/srv/a:b", Location::Local("/srv/a:b".into())),
            ("repo", Location::Local("repo".into())),
            ("../a:b", Location::Local("../a:b".into())),
            ("local:/srv/repo", Location::Local("/srv/repo".into())),
            ("local:a:b", Location::Local("a:b".into())),
            (
                "s3:http://127.0.0.1:9000/bucket/a/b",
                s3(Some("http://127.0.0.1:9000"), "bucket", "a/b"),
            ),
            (
                "s3:https://s3.example.com/bucket/",
                s3(Some("https://s3.example.com"), "bucket", ""),
            ),
            (
                "s3:host:9000/bucket/p/",
                s3(Some("https://host:9000"), "bucket", "p"),
            ),
            ("s3://host/bucket", s3(Some("https://host"), "bucket", "")),
            ("s3:s3.amazonaws.com/b/p", s3(None, "b", "p")),
            (
                "s3:s3.eu-west-1.amazonaws.com/b",
                s3(Some("https://s3.eu-west-1.amazonaws.com"), "b", ""),
            ),
        ] {
            assert_eq!(text.parse::<Location>().unwrap(), meant, "{text}");
        }
    }

    #[test]
    fn what_cannot_work_says_what_can() {
        for (text, said) in [
            ("", "empty"),
            ("local:", "no path"),
            ("s3:host", "s3:https://host/bucket/prefix"),
            ("s3:https:///bucket", "s3:https://host/bucket/prefix"),
            ("s3:http://user:pass@host/bucket", "AWS_ACCESS_KEY_ID"),
            ("sftp:host:/srv", "restic"),
            ("rest:http://host", "restic"),
            ("c:repo", "local:"),
            ("https://host/bucket", "s3:https://"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains("pass@"), "{error}");
        }
    }

    #[test]
    fn a_bucket_needs_credentials_and_is_addressed_as_its_service_wants() {
        let access = || {
            Some(S3Access {
                access_key_id: Secret::new("a"),
                secret_access_key: Secret::new("b"),
                session_token: None,
                region: None,
                ca_cert: None,
                insecure_skip_tls_verify: false,
            })
        };
        let path_style = |text: &str| {
            let location: Location = text.parse().unwrap();
            assert!(location.store_config(None).is_err(), "{text}");
            match location.store_config(access()).unwrap() {
                StoreConfig::S3 { path_style, .. } => path_style,
                StoreConfig::Local { .. } => panic!("{text}"),
            }
        };
        assert!(path_style("s3:http://127.0.0.1:9000/bucket"));
        assert!(!path_style("s3:s3.amazonaws.com/bucket"));
        assert!(path_style("s3:s3.amazonaws.com/bucket.with.dots"));
    }
}
