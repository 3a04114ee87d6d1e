//! What a location's spec means: the one place where it is turned into settings of a store, so that
//! operator and agents cannot read it differently.
//!
//! Does: check every field a store depends on and say all that is wrong at once. Does not: read
//! Secrets, files or the environment (it says which Secret to read), nor judge fields that only the
//! operator acts on (sync period, validation frequency).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::location::{BackupStorageLocationSpec, SecretKeySelector};

/// Provider of a directory shared by operator and agents.
pub const PROVIDER_LOCAL: &str = "local";
/// Provider of any S3 service.
pub const PROVIDER_AWS: &str = "aws";
/// Key looked for in the default credentials Secret (Velero's key name).
pub const DEFAULT_CREDENTIALS_KEY: &str = "cloud";
/// Profile of the credentials file used when the location names none.
pub const DEFAULT_PROFILE: &str = "default";
/// Longest bucket or prefix accepted.
const MAX_PATH: usize = 1024;

/// Where a location's data lies and what is needed to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedLocation {
    /// A directory.
    Local {
        /// `<local store root>/<bucket>/<prefix>`.
        dir: PathBuf,
    },
    /// A bucket of an S3 service.
    S3(Box<S3Settings>),
}

/// A bucket of an S3 service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Bucket.
    pub bucket: String,
    /// Prefix without slashes at its ends; may be empty.
    pub prefix: String,
    /// Region; Amazon's first when absent.
    pub region: Option<String>,
    /// `http(s)://host[:port]`, without a slash at its end; Amazon's own when absent.
    pub endpoint: Option<String>,
    /// Bucket in the path instead of in the host name.
    pub path_style: bool,
    /// Accept any TLS certificate.
    pub insecure_skip_tls_verify: bool,
    /// Secret with the credentials file.
    pub credential: SecretKeySelector,
    /// Profile of the credentials file.
    pub profile: String,
    /// Certificates to trust beside the system's.
    pub ca: Option<CaSource>,
}

/// Where the certificates of a store's authority are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaSource {
    /// PEM text, decoded from the spec.
    Pem(Vec<u8>),
    /// Key of a Secret with PEM text.
    Secret(SecretKeySelector),
}

/// All that is wrong with a location's spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLocation {
    /// One sentence a problem.
    pub problems: Vec<String>,
}

impl std::fmt::Display for InvalidLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for InvalidLocation {}

/// What the spec means. `local_root` is the directory below which `local` locations live, if this
/// installation has one; `default_secret` is the Secret with cloud credentials for locations that
/// name none, if there is one.
///
/// # Errors
/// Every reason at once why the spec cannot work.
pub fn resolve(
    spec: &BackupStorageLocationSpec,
    local_root: Option<&Path>,
    default_secret: Option<&str>,
) -> Result<ResolvedLocation, InvalidLocation> {
    let mut problems = Vec::new();
    let bucket = bucket(&spec.object_storage.bucket, &mut problems);
    let prefix = prefix(&spec.object_storage.prefix, &mut problems);
    let resolved = match spec.provider.as_str() {
        PROVIDER_LOCAL => local(spec, local_root, &bucket, &prefix, &mut problems),
        PROVIDER_AWS => s3(spec, default_secret, bucket, prefix, &mut problems),
        "" => {
            problems.push("spec.provider is empty: use `local` or `aws`".to_owned());
            None
        }
        later @ ("azure" | "gcp") => {
            problems.push(format!(
                "spec.provider {later:?} is not supported yet by this version: use `local` or `aws` (any S3 service)"
            ));
            None
        }
        other => {
            problems.push(format!(
                "spec.provider {other:?} is not supported: use `local` or `aws`"
            ));
            None
        }
    };
    match resolved {
        Some(resolved) if problems.is_empty() => Ok(resolved),
        _ => Err(InvalidLocation { problems }),
    }
}

fn bucket(bucket: &str, problems: &mut Vec<String>) -> String {
    if let Some(problem) = segment_problem(bucket) {
        problems.push(format!("spec.objectStorage.bucket {problem}"));
    }
    bucket.to_owned()
}

fn prefix(prefix: &str, problems: &mut Vec<String>) -> String {
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty()
        && let Some(problem) = prefix.split('/').find_map(segment_problem)
    {
        problems.push(format!("spec.objectStorage.prefix: a part {problem}"));
    }
    prefix.to_owned()
}

/// Why `text` cannot be one part of a path in a store.
fn segment_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text == "." || text == ".." {
        Some("must not be `.` or `..`")
    } else if text.len() > MAX_PATH {
        Some("is too long")
    } else if text.contains(['/', '\\']) || text.chars().any(char::is_control) {
        Some("holds a slash, a backslash or a control character")
    } else {
        None
    }
}

fn local(
    spec: &BackupStorageLocationSpec,
    root: Option<&Path>,
    bucket: &str,
    prefix: &str,
    problems: &mut Vec<String>,
) -> Option<ResolvedLocation> {
    let storage = &spec.object_storage;
    for key in spec.config.keys() {
        problems.push(format!(
            "spec.config.{key} means nothing for provider `local`"
        ));
    }
    if spec.credential.is_some() {
        problems.push("spec.credential means nothing for provider `local`".to_owned());
    }
    if storage.ca_cert.is_some() || storage.ca_cert_ref.is_some() {
        problems.push("certificates mean nothing for provider `local`".to_owned());
    }
    let Some(root) = root else {
        problems.push(format!(
            "provider `local` needs a directory shared by operator and agents, and this installation has none \
             (chart value localStore, {})",
            crate::env::LOCAL_STORE_ROOT
        ));
        return None;
    };
    let mut dir = root.join(bucket);
    if !prefix.is_empty() {
        dir.push(prefix);
    }
    Some(ResolvedLocation::Local { dir })
}

fn s3(
    spec: &BackupStorageLocationSpec,
    default_secret: Option<&str>,
    bucket: String,
    prefix: String,
    problems: &mut Vec<String>,
) -> Option<ResolvedLocation> {
    let (mut region, mut endpoint, mut profile) = (None, None, DEFAULT_PROFILE.to_owned());
    let (mut path_style, mut insecure) = (None, None);
    for (key, value) in &spec.config {
        match key.as_str() {
            "region" => region = Some(value.clone()).filter(|v| !v.is_empty()),
            "s3Url" => endpoint = url(value, problems),
            "profile" if !value.is_empty() => profile.clone_from(value),
            "s3ForcePathStyle" => path_style = boolean(key, value, problems),
            "insecureSkipTLSVerify" => insecure = boolean(key, value, problems),
            _ if value.is_empty() => {}
            _ => problems.push(format!("spec.config.{key} is not supported")),
        }
    }
    let credential = match (&spec.credential, default_secret) {
        (Some(named), _) if named.name.is_empty() || named.key.is_empty() => {
            problems.push("spec.credential needs both a name and a key".to_owned());
            None
        }
        (Some(named), _) => Some(named.clone()),
        (None, Some(name)) => Some(SecretKeySelector {
            name: name.to_owned(),
            key: DEFAULT_CREDENTIALS_KEY.to_owned(),
            optional: None,
        }),
        (None, None) => {
            problems.push(
                "spec.credential is missing, and this installation has no default credentials"
                    .to_owned(),
            );
            None
        }
    };
    let ca = ca(spec, problems);
    let path_style = path_style.unwrap_or_else(|| endpoint.as_deref().is_some_and(host_is_address));
    Some(ResolvedLocation::S3(Box::new(S3Settings {
        bucket,
        prefix,
        region,
        endpoint,
        path_style,
        insecure_skip_tls_verify: insecure.unwrap_or(false),
        credential: credential?,
        profile,
        ca,
    })))
}

fn ca(spec: &BackupStorageLocationSpec, problems: &mut Vec<String>) -> Option<CaSource> {
    let storage = &spec.object_storage;
    match (&storage.ca_cert, &storage.ca_cert_ref) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            problems.push(
                "spec.objectStorage has both caCert and caCertRef: give one of them".to_owned(),
            );
            None
        }
        (Some(text), None) => {
            let pem = STANDARD.decode(text.split_whitespace().collect::<String>());
            if pem.is_err() {
                problems.push("spec.objectStorage.caCert is not base64".to_owned());
            }
            pem.ok().map(CaSource::Pem)
        }
        (None, Some(named)) => Some(CaSource::Secret(named.clone())),
    }
}

fn boolean(key: &str, value: &str, problems: &mut Vec<String>) -> Option<bool> {
    match value {
        "" => None,
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            problems.push(format!("spec.config.{key} must be \"true\" or \"false\""));
            None
        }
    }
}

fn url(value: &str, problems: &mut Vec<String>) -> Option<String> {
    let value = value.trim().trim_end_matches('/');
    if value.is_empty() {
        return None;
    }
    let host = value
        .strip_prefix("http://")
        .or_else(|| value.strip_prefix("https://"));
    match host {
        // Never quoted: somebody may have put credentials into it.
        Some(host) if host.contains('@') => {
            problems.push("spec.config.s3Url must not hold credentials".to_owned());
            None
        }
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', ' ']) => {
            Some(value.to_owned())
        }
        _ => {
            problems.push(
                "spec.config.s3Url must be http://host[:port] or https://host[:port]".to_owned(),
            );
            None
        }
    }
}

/// Whether an endpoint's host is an IP address or `localhost`, for which a bucket cannot be put in
/// front of the host.
fn host_is_address(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, h)| h);
    if host.starts_with('[') {
        return true;
    }
    let host = host.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::location::ObjectStorage;

    fn spec(provider: &str, config: &[(&str, &str)]) -> BackupStorageLocationSpec {
        BackupStorageLocationSpec {
            provider: provider.to_owned(),
            config: config
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            object_storage: ObjectStorage {
                bucket: "b".to_owned(),
                prefix: "/p/q/".to_owned(),
                ..ObjectStorage::default()
            },
            ..BackupStorageLocationSpec::default()
        }
    }

    #[test]
    fn local_is_a_directory_below_the_root() {
        let found = resolve(&spec("local", &[]), Some(Path::new("/store")), None).unwrap();
        let dir = PathBuf::from("/store/b/p/q");
        assert_eq!(found, ResolvedLocation::Local { dir });
        let err = resolve(&spec("local", &[]), None, None).unwrap_err();
        assert!(err.to_string().contains("ARK_LOCAL_STORE_ROOT"), "{err}");
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for (bucket, prefix) in [
            ("..", ""),
            ("a/b", ""),
            ("", ""),
            ("b", "a/../.."),
            ("b", "a//b"),
        ] {
            let mut spec = spec("local", &[]);
            spec.object_storage.bucket = bucket.to_owned();
            spec.object_storage.prefix = prefix.to_owned();
            assert!(
                resolve(&spec, Some(Path::new("/store")), None).is_err(),
                "{bucket:?} {prefix:?}"
            );
        }
    }

    #[test]
    fn s3_settings() {
        let given = [("s3Url", "http://10.0.0.1:9000/"), ("region", "r")];
        let ResolvedLocation::S3(s3) = resolve(&spec("aws", &given), None, Some("cloud")).unwrap()
        else {
            panic!("not S3");
        };
        assert_eq!(s3.endpoint.as_deref(), Some("http://10.0.0.1:9000"));
        assert_eq!(s3.prefix, "p/q");
        assert!(s3.path_style, "an address cannot carry a bucket name");
        assert_eq!(
            (s3.credential.name.as_str(), s3.credential.key.as_str()),
            ("cloud", "cloud")
        );
        assert_eq!(s3.profile, "default");

        let named = [
            ("s3Url", "https://s3.example.org"),
            ("s3ForcePathStyle", ""),
        ];
        let ResolvedLocation::S3(s3) = resolve(&spec("aws", &named), None, Some("c")).unwrap()
        else {
            panic!("not S3");
        };
        assert!(!s3.path_style);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let given = [
            ("kmsKeyId", "x"),
            ("s3ForcePathStyle", "yes"),
            ("s3Url", "s3.example.org"),
            ("checksumAlgorithm", ""),
        ];
        let err = resolve(&spec("aws", &given), None, None).unwrap_err();
        assert_eq!(err.problems.len(), 4, "{err}");
        assert!(
            resolve(&spec("azure", &[]), None, None)
                .unwrap_err()
                .to_string()
                .contains("azure")
        );
    }

    #[test]
    fn credentials_in_an_address_are_not_repeated() {
        let err = resolve(
            &spec("aws", &[("s3Url", "http://user:hunter2@h")]),
            None,
            Some("c"),
        )
        .unwrap_err();
        assert!(!err.to_string().contains("hunter2"), "{err}");
    }

    #[test]
    fn one_source_of_certificates() {
        let mut spec = spec("aws", &[]);
        spec.object_storage.ca_cert = Some("UEVN\n".to_owned());
        let ResolvedLocation::S3(s3) = resolve(&spec, None, Some("c")).unwrap() else {
            panic!("not S3");
        };
        assert_eq!(s3.ca, Some(CaSource::Pem(b"PEM".to_vec())));
        spec.object_storage.ca_cert_ref = Some(SecretKeySelector::default());
        assert!(resolve(&spec, None, Some("c")).is_err());
    }
}
