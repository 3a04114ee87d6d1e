//! From the name of a location to its store. Used by every controller that touches a bucket.
//!
//! Reads the location's spec through [`ark_api::store_settings`] and its Secrets from Ark's
//! namespace, and opens the engine's store. Does not ask the store whether it answers; that is the
//! location controller's. What is wrong is an [`Error`] with a stable reason; no text of a Secret
//! is ever in it.

use ark_api::BackupStorageLocation;
use ark_api::condition::reason;
use ark_api::location::{AccessMode, LocationPhase, SecretKeySelector};
use ark_api::store_settings::{CaSource, ResolvedLocation, S3Settings, resolve};
use ark_engine::{Secret, Store, StoreConfig};
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::ResourceExt;

use crate::context::Context;
use crate::error::{Class, Error, Result, is_not_found};

/// A location and its open store.
#[derive(Clone, Debug)]
pub(crate) struct OpenLocation {
    /// The location, as it was a moment ago.
    pub(crate) location: BackupStorageLocation,
    /// Its store, rooted at the location's prefix.
    pub(crate) store: Store,
}

impl OpenLocation {
    /// Name of the location.
    pub(crate) fn name(&self) -> String {
        self.location.name_any()
    }

    /// Whether only restores may use it.
    pub(crate) fn read_only(&self) -> bool {
        self.location.spec.access_mode == Some(AccessMode::ReadOnly)
    }
}

/// The location `name`, which must exist and be `Available`, and its store.
pub(crate) async fn open_available(context: &Context, name: &str) -> Result<OpenLocation> {
    let location = get(context, name).await?;
    let status = location.status.clone().unwrap_or_default();
    if status.phase != Some(LocationPhase::Available) {
        let why = status
            .message
            .unwrap_or_else(|| "it has not been validated yet".to_owned());
        return Err(Error::Location {
            name: name.to_owned(),
            message: format!("it is not available: {why}"),
            reason: reason::LOCATION_UNAVAILABLE,
        });
    }
    let store = open(context, &location).await?;
    Ok(OpenLocation { location, store })
}

/// The location `name` and its store, whatever its status says. Reads spec and credentials anew, so
/// whoever calls it again after a failure goes on with credentials that were changed in the
/// meantime.
pub(crate) async fn connect(context: &Context, name: &str) -> Result<OpenLocation> {
    let location = get(context, name).await?;
    let store = open(context, &location).await?;
    Ok(OpenLocation { location, store })
}

/// The location `name`.
async fn get(context: &Context, name: &str) -> Result<BackupStorageLocation> {
    match context.api::<BackupStorageLocation>().get(name).await {
        Ok(location) => Ok(location),
        Err(error) if is_not_found(&error) => Err(Error::Location {
            name: name.to_owned(),
            message: "there is no such location".to_owned(),
            reason: reason::LOCATION_UNAVAILABLE,
        }),
        Err(error) => Err(Error::kube(format!("get BackupStorageLocation {name}"))(
            error,
        )),
    }
}

/// The store of `location`, whatever its status says.
pub(crate) async fn open(context: &Context, location: &BackupStorageLocation) -> Result<Store> {
    let name = location.name_any();
    let resolved = resolve_spec(context, location)?;
    let config = match resolved {
        ResolvedLocation::Local { dir } => StoreConfig::Local { root: dir },
        ResolvedLocation::S3(settings) => s3(context, &name, *settings).await?,
    };
    Ok(crate::requests::store(Store::open(&config)?))
}

/// What the spec of `location` means.
pub(crate) fn resolve_spec(
    context: &Context,
    location: &BackupStorageLocation,
) -> Result<ResolvedLocation> {
    resolve(
        &location.spec,
        context.settings.local_store_root.as_deref(),
        context.settings.default_credentials_secret.as_deref(),
    )
    .map_err(|invalid| Error::Location {
        name: location.name_any(),
        message: invalid.to_string(),
        reason: reason::INVALID_SPEC,
    })
}

async fn s3(context: &Context, location: &str, settings: S3Settings) -> Result<StoreConfig> {
    let missing = |message: String| Error::Location {
        name: location.to_owned(),
        message,
        reason: reason::CREDENTIALS_MISSING,
    };
    let selector = &settings.credential;
    let text = secret_text(context, selector)
        .await
        .map_err(|problem| problem.into_error(location))?;
    let found = ark_engine::parse_aws_credentials(&text, &settings.profile).map_err(|error| {
        missing(format!(
            "Secret {}, key {}: {error}",
            selector.name, selector.key
        ))
    })?;
    let ca_cert = match settings.ca {
        None => None,
        Some(CaSource::Pem(pem)) => Some(pem),
        Some(CaSource::Secret(selector)) => Some(
            secret_text(context, &selector)
                .await
                .map_err(|problem| problem.into_error(location))?
                .into_bytes(),
        ),
    };
    Ok(StoreConfig::S3 {
        bucket: settings.bucket,
        prefix: settings.prefix,
        endpoint: settings.endpoint,
        region: settings.region,
        access_key_id: found.access_key_id,
        secret_access_key: found.secret_access_key,
        session_token: found.session_token,
        ca_cert,
        path_style: settings.path_style,
        insecure_skip_tls_verify: settings.insecure_skip_tls_verify,
    })
}

/// Why a Secret's key could not be read.
enum SecretProblem {
    /// It, or the key in it, is not there or is not text.
    Missing(String),
    /// The API server did not give it.
    Error(Error),
}

impl SecretProblem {
    fn into_error(self, location: &str) -> Error {
        match self {
            Self::Missing(message) => Error::Location {
                name: location.to_owned(),
                message,
                reason: reason::CREDENTIALS_MISSING,
            },
            Self::Error(error) => error,
        }
    }
}

async fn secret_text(
    context: &Context,
    selector: &SecretKeySelector,
) -> Result<String, SecretProblem> {
    let SecretKeySelector { name, key, .. } = selector;
    let secret: KubeSecret = match context.api().get(name).await {
        Ok(secret) => secret,
        Err(error) if is_not_found(&error) => {
            return Err(SecretProblem::Missing(format!(
                "Secret {name} does not exist in namespace {}",
                context.namespace
            )));
        }
        Err(error) => {
            return Err(SecretProblem::Error(Error::kube(format!(
                "get Secret {name}"
            ))(error)));
        }
    };
    let bytes = secret
        .data
        .and_then(|mut data| data.remove(key))
        .filter(|value| !value.0.is_empty())
        .ok_or_else(|| SecretProblem::Missing(format!("Secret {name} has no key {key}")))?;
    String::from_utf8(bytes.0)
        .map_err(|_| SecretProblem::Missing(format!("Secret {name}, key {key}, is not text")))
}

/// The repository password in the Secret of `location`; `None` if the Secret or its key is missing.
pub(crate) async fn repository_password(
    context: &Context,
    location: &str,
) -> Result<Option<(KubeSecret, Secret)>> {
    let name = ark_api::naming::key_secret(location);
    let secret: Option<KubeSecret> = context
        .api()
        .get_opt(&name)
        .await
        .map_err(Error::kube(format!("get Secret {name}")))?;
    let Some(secret) = secret else {
        return Ok(None);
    };
    let password = secret
        .data
        .as_ref()
        .and_then(|data| data.get(ark_api::naming::REPOSITORY_PASSWORD_KEY))
        .and_then(|value| std::str::from_utf8(&value.0).ok())
        // A trailing newline is an artefact of how people make Secrets, never part of a password.
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .filter(|text| !text.is_empty())
        .map(Secret::from);
    Ok(password.map(|password| (secret, password)))
}

impl From<ark_engine::Error> for Error {
    fn from(error: ark_engine::Error) -> Self {
        use ark_engine::Error as Engine;
        let reason = match &error {
            Engine::Unreachable { .. } | Engine::Timeout { .. } => reason::UNREACHABLE,
            Engine::AccessDenied { .. } => reason::CREDENTIALS_REFUSED,
            Engine::NoStore { .. } => reason::BUCKET_NOT_FOUND,
            Engine::InvalidConfig { .. } => reason::INVALID_SPEC,
            Engine::WrongPassword { .. } => reason::WRONG_PASSWORD,
            Engine::Locked { .. } => reason::LOCKED,
            Engine::Damaged { .. } | Engine::UnsupportedVersion { .. } => reason::DAMAGED,
            _ => reason::ERROR,
        };
        let class = match error.class() {
            ark_engine::Class::Transient => Class::Transient,
            ark_engine::Class::Waiting => Class::Waiting,
            ark_engine::Class::Permanent => Class::Permanent,
            ark_engine::Class::Bug => Class::Bug,
        };
        Self::Store {
            message: error.to_string(),
            hint: error.hint().to_owned(),
            class,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_errors_keep_class_and_reason() {
        let error = Error::from(ark_engine::Error::AccessDenied {
            location: "s3://b".to_owned(),
            operation: "list",
            path: String::new(),
            message: "InvalidAccessKeyId".to_owned(),
        });
        assert_eq!(error.reason(), reason::CREDENTIALS_REFUSED);
        assert_eq!(error.class(), Class::Waiting);
        assert!(
            error.sentence().contains("access key"),
            "{}",
            error.sentence()
        );
    }
}
