//! From the name of a location to an open repository of a namespace there.
//!
//! Does: read the location, its Secrets and the repository key from Ark's namespace, check the
//! handshake of a `local` location anew each time, and open the engine's store. Does not: keep any
//! of it, write anything but the answer to a handshake, or make a key.

use ark_api::location::{AccessMode, SecretKeySelector};
use ark_api::store_settings::{CaSource, ResolvedLocation, S3Settings, resolve};
use ark_api::{BackupStorageLocation, ResticRepository, layout, naming};
use ark_engine::{
    AwsCredentials, OpenOptions, Repository, Secret, Store, StoreConfig, parse_aws_credentials,
};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::{handshake, liveness};

/// What a volume is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The repository is written.
    Backup,
    /// It is only read.
    Restore,
}

/// All that is needed to open a repository on a thread of its own.
pub(crate) struct RepositoryAccess {
    store: Store,
    key: Secret,
    options: OpenOptions,
    runtime: tokio::runtime::Handle,
}

impl RepositoryAccess {
    /// Opens it. Blocks: only on a thread that is no worker of a runtime.
    pub(crate) fn open(self) -> Result<Repository> {
        let passwords = [self.key];
        Ok(Repository::open(
            self.store,
            &passwords,
            self.options,
            self.runtime,
        )?)
    }
}

/// Gets everything ready to open the repository object `repository` at `location`; requests to the
/// store end when `stop` is cancelled.
pub(crate) async fn repository(
    ctx: &Context,
    location: &str,
    repository: &str,
    wanted: Use,
    stop: &CancellationToken,
) -> Result<RepositoryAccess> {
    let found = get(ctx, location).await?;
    if wanted == Use::Backup && found.spec.access_mode == Some(AccessMode::ReadOnly) {
        return Err(Error::ReadOnly(location.to_owned()));
    }
    let namespace = namespace_of(ctx, location, repository).await?;
    let store = store(ctx, &found).await?;
    if let Some(store) = store.local() {
        let status = found.status.as_ref();
        let token = status.and_then(|s| s.handshake.as_deref());
        let uid = found.metadata.uid.as_deref().unwrap_or_default();
        handshake::answer(store, location, uid, token, &ctx.settings.node).await?;
    }
    let key = key(ctx, location).await?;
    let uid = found.metadata.uid.unwrap_or_default();
    Ok(RepositoryAccess {
        store: store
            .into_inner()
            .child(&layout::repository(&namespace))
            .with_cancel(stop.clone()),
        key,
        options: OpenOptions {
            holder: liveness::holder(&ctx.settings.pod, &uid),
            liveness: Some(ctx.liveness.at(&uid)),
            ..OpenOptions::default()
        },
        runtime: ctx.runtime.clone(),
    })
}

/// A store, and whether it is a directory.
pub(crate) struct OpenStore {
    store: Store,
    local: bool,
}

impl OpenStore {
    /// The store, if it is a directory.
    pub(crate) fn local(&self) -> Option<&Store> {
        self.local.then_some(&self.store)
    }

    fn into_inner(self) -> Store {
        self.store
    }
}

async fn get(ctx: &Context, name: &str) -> Result<BackupStorageLocation> {
    ctx.own::<BackupStorageLocation>()
        .get_opt(name)
        .await
        .map_err(|source| Error::api(format!("get location {name:?}"), source))?
        .ok_or_else(|| Error::LocationMissing(name.to_owned()))
}

/// The namespace whose volumes the repository holds: part of its place in the store.
async fn namespace_of(ctx: &Context, location: &str, name: &str) -> Result<String> {
    let found = ctx
        .own::<ResticRepository>()
        .get_opt(name)
        .await
        .map_err(|source| Error::api(format!("get repository object {name:?}"), source))?;
    let namespace = found
        .filter(|r| r.spec.backup_storage_location == location)
        .map(|r| r.spec.volume_namespace);
    let namespace = namespace.ok_or_else(|| Error::RepositoryUnknown(name.to_owned()))?;
    crate::volume::check_name("volumeNamespace", &namespace)?;
    Ok(namespace)
}

/// The store of a location. A directory that does not exist here is one that is not shared.
pub(crate) async fn store(ctx: &Context, location: &BackupStorageLocation) -> Result<OpenStore> {
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
    let (config, local) = match resolved {
        ResolvedLocation::Local { dir } => (StoreConfig::Local { root: dir }, true),
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
            (s3_config(*settings, credentials, ca), false)
        }
    };
    match Store::open(&config) {
        Ok(store) => Ok(OpenStore { store, local }),
        Err(error @ ark_engine::Error::NoStore { .. }) if local => Err(Error::DirectoryNotShared {
            location: name,
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
