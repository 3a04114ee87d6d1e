//! From the name of a location to an open repository of a namespace there.
//!
//! Does: read the location, its Secrets and the repository key from Ark's namespace, check the
//! handshake of a `local` location, all of it anew for each volume, and hand that to the open
//! repositories. Does not: keep any of it, write anything but the answer to a handshake, or make a
//! key.

use ark_api::location::{AccessMode, SecretKeySelector};
use ark_api::store_settings::{CaSource, ResolvedLocation, S3Settings, resolve};
use ark_api::{BackupStorageLocation, layout, naming};
use ark_engine::{AwsCredentials, OpenOptions, Secret, Store, StoreConfig, parse_aws_credentials};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::repositories::{Access, Lease};
use crate::{handshake, liveness};

/// What a volume is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The repository is written.
    Backup,
    /// It is only read.
    Restore,
}

/// The repository of the volumes of `namespace` at `location`. It is found by these two names
/// alone: an object that describes it is for people, and may be lost with the cluster that made it.
pub(crate) async fn repository(
    ctx: &Context,
    location: &str,
    namespace: &str,
    wanted: Use,
    stop: &CancellationToken,
) -> Result<Lease> {
    let (access, options) = access(ctx, location, namespace, wanted).await?;
    ctx.repositories.open(access, options, stop).await
}

/// All that a repository is opened with: where it is, its key, and who this process is to others
/// that lock it.
pub(crate) async fn access(
    ctx: &Context,
    location: &str,
    namespace: &str,
    wanted: Use,
) -> Result<(Access, OpenOptions)> {
    if namespace.is_empty() {
        return Err(Error::InvalidSpec(
            "it does not say from which namespace the volume is".to_owned(),
        ));
    }
    crate::volume::check_name("namespace of the volume", namespace)?;
    let found = get(ctx, location).await?;
    if wanted == Use::Backup && found.spec.access_mode == Some(AccessMode::ReadOnly) {
        return Err(Error::ReadOnly(location.to_owned()));
    }
    let config = config(ctx, &found).await?;
    let uid = found.metadata.uid.clone().unwrap_or_default();
    if let Some(store) = local_store(location, &config)? {
        let status = found.status.as_ref();
        let token = status.and_then(|s| s.handshake.as_deref());
        handshake::answer(&store, location, &uid, token, &ctx.settings.node).await?;
    }
    let access = Access {
        config,
        prefix: layout::repository(namespace),
        key: key(ctx, location).await?,
        location_uid: uid.clone(),
    };
    let options = OpenOptions {
        holder: liveness::holder(&ctx.settings.pod, &uid),
        liveness: Some(ctx.liveness.at(&uid)),
        ..OpenOptions::default()
    };
    Ok((access, options))
}

async fn get(ctx: &Context, name: &str) -> Result<BackupStorageLocation> {
    ctx.own::<BackupStorageLocation>()
        .get_opt(name)
        .await
        .map_err(|source| Error::api(format!("get location {name:?}"), source))?
        .ok_or_else(|| Error::LocationMissing(name.to_owned()))
}

/// Where the store of a location is, with its credentials.
pub(crate) async fn config(ctx: &Context, location: &BackupStorageLocation) -> Result<StoreConfig> {
    let name = location.name_any();
    let invalid = |problems: String| Error::InvalidLocation {
        name: name.clone(),
        problems,
    };
    let resolved = resolve(
        &location.spec,
        ctx.settings.local_root.as_deref(),
        ctx.settings.default_secret.as_deref(),
    )
    .map_err(|error| invalid(error.to_string()))?;
    match resolved {
        ResolvedLocation::Local { dir } => Ok(StoreConfig::Local { root: dir }),
        ResolvedLocation::S3(settings) => {
            let text = secret_text(ctx, &name, &settings.credential).await?;
            let credentials = parse_aws_credentials(&text, &settings.profile)
                .map_err(|error| invalid(error.to_string()))?;
            let ca = match &settings.ca {
                None => None,
                Some(CaSource::Pem(pem)) => Some(pem.clone()),
                Some(CaSource::Secret(named)) => {
                    Some(secret_text(ctx, &name, named).await?.into_bytes())
                }
            };
            Ok(s3_config(*settings, credentials, ca))
        }
    }
}

/// The store of a location that is a directory. One that does not exist here is one that is not
/// shared.
pub(crate) fn local_store(location: &str, config: &StoreConfig) -> Result<Option<Store>> {
    if !matches!(config, StoreConfig::Local { .. }) {
        return Ok(None);
    }
    match Store::open(config) {
        Ok(store) => Ok(Some(store)),
        Err(error @ ark_engine::Error::NoStore { .. }) => Err(Error::DirectoryNotShared {
            location: location.to_owned(),
            message: error.to_string(),
        }),
        Err(error) => Err(error.into()),
    }
}

fn s3_config(
    settings: S3Settings,
    credentials: AwsCredentials,
    ca_cert: Option<Vec<u8>>,
) -> StoreConfig {
    let S3Settings {
        bucket,
        prefix,
        region,
        endpoint,
        path_style,
        insecure_skip_tls_verify,
        credential: _,
        profile: _,
        ca: _,
    } = settings;
    let AwsCredentials {
        access_key_id,
        secret_access_key,
        session_token,
    } = credentials;
    StoreConfig::S3 {
        bucket,
        prefix,
        endpoint,
        region,
        access_key_id,
        secret_access_key,
        session_token,
        ca_cert,
        path_style,
        insecure_skip_tls_verify,
    }
}

/// The repository key of a location. One that is missing is an error and nothing else.
async fn key(ctx: &Context, location: &str) -> Result<Secret> {
    let secret = naming::key_secret(location);
    let selector = SecretKeySelector {
        name: secret.clone(),
        key: naming::REPOSITORY_PASSWORD_KEY.to_owned(),
        optional: None,
    };
    match secret_text(ctx, location, &selector).await {
        Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(Error::CredentialsMissing { location, .. }) => {
            Err(Error::KeyMissing { location, secret })
        }
        Err(error) => Err(error),
    }
}

/// Text of one key of a Secret in Ark's namespace.
async fn secret_text(ctx: &Context, location: &str, from: &SecretKeySelector) -> Result<String> {
    let missing = |what: String| Error::CredentialsMissing {
        location: location.to_owned(),
        secret: from.name.clone(),
        what,
    };
    let secret = ctx
        .own::<KubeSecret>()
        .get_opt(&from.name)
        .await
        .map_err(|source| Error::api(format!("get Secret {:?}", from.name), source))?
        .ok_or_else(|| missing("all".to_owned()))?;
    let mut data = secret.data.unwrap_or_default();
    let bytes = data
        .remove(&from.key)
        .filter(|bytes| !bytes.0.is_empty())
        .ok_or_else(|| missing(format!("key {:?}", from.key)))?;
    String::from_utf8(bytes.0).map_err(|_| missing(format!("readable text in key {:?}", from.key)))
}
