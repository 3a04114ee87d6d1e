//! Keys of repositories: which Secret holds a location's key, what is known about it, and when one
//! may be made.
//!
//! A key is made only when no repository exists at the location, because a repository that exists
//! has a key already, and a second one would make its data look lost. The Secret is created, never
//! changed: of two that try at once one wins and the other reads.

use ark_api::annotation::{KEY_EXPORTED_AT, KEY_GENERATED};
use ark_api::condition::reason;
use ark_api::layout;
use ark_api::naming::{REPOSITORY_PASSWORD_KEY, key_secret};
use ark_engine::{Repository, Secret, Store};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};

use crate::context::Context;
use crate::error::{Error, Result, is_conflict};
use crate::status::FIELD_MANAGER;
use crate::store::repository_password;

/// Random bytes of a key; twice as many hexadecimal digits.
const KEY_BYTES: usize = 32;

/// What is known about the key of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// No key, and no repository that would need one.
    NotNeededYet,
    /// No key, although there are repositories.
    Missing,
    /// A key made by Ark that nobody has exported.
    OnlyInCluster,
    /// A key the user supplied or exported.
    HeldByUser,
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Says {
    /// Its status.
    pub(crate) status: bool,
    /// Its reason.
    pub(crate) reason: &'static str,
    /// Its message.
    pub(crate) message: String,
}

impl KeyState {
    /// From what was found.
    pub(crate) fn of(secret: Option<&KubeSecret>, repositories: bool) -> Self {
        match secret {
            None if repositories => Self::Missing,
            None => Self::NotNeededYet,
            Some(secret) => {
                let annotations = secret.annotations();
                let generated = annotations.get(KEY_GENERATED).is_some_and(|v| v == "true");
                let exported = annotations
                    .get(KEY_EXPORTED_AT)
                    .is_some_and(|v| !v.is_empty());
                if generated && !exported {
                    Self::OnlyInCluster
                } else {
                    Self::HeldByUser
                }
            }
        }
    }

    /// Condition `KeyAvailable`.
    pub(crate) fn available(self, location: &str) -> Says {
        match self {
            Self::Missing => Says {
                status: false,
                reason: reason::KEY_MISSING,
                message: missing_message(location),
            },
            Self::NotNeededYet => Says {
                status: true,
                reason: reason::NO_KEY_YET,
                message: "a key is made with the first repository".to_owned(),
            },
            Self::OnlyInCluster | Self::HeldByUser => Says {
                status: true,
                reason: reason::OK,
                message: format!("Secret {}", key_secret(location)),
            },
        }
    }

    /// Condition `KeyExported`; none while there is no key.
    pub(crate) fn exported(self, location: &str) -> Option<Says> {
        match self {
            Self::Missing | Self::NotNeededYet => None,
            Self::HeldByUser => Some(Says {
                status: true,
                reason: reason::KEY_HELD_BY_USER,
                message: "the key exists outside the cluster".to_owned(),
            }),
            Self::OnlyInCluster => Some(Says {
                status: false,
                reason: reason::KEY_ONLY_IN_CLUSTER,
                message: format!(
                    "the key lives only in Secret {}; without it nothing can be restored, so keep a copy outside the cluster",
                    key_secret(location)
                ),
            }),
        }
    }
}

fn missing_message(location: &str) -> String {
    format!(
        "repositories exist at location {location}, but Secret {} with their key does not; \
         create it with the original key under {REPOSITORY_PASSWORD_KEY} (no new key is made up)",
        key_secret(location)
    )
}

/// Looks at the Secret, and at the store only if there is none.
pub(crate) async fn look(context: &Context, location: &str, store: &Store) -> Result<KeyState> {
    let found = repository_password(context, location).await?;
    let repositories = found.is_none() && any_repository(store).await?;
    Ok(KeyState::of(
        found.as_ref().map(|(secret, _)| secret),
        repositories,
    ))
}

/// A key and whether it was made by Ark, so that it has full randomness.
pub(crate) struct Key {
    /// The password.
    pub(crate) password: Secret,
    /// Made by Ark.
    pub(crate) generated: bool,
}

/// The key of `location`; made up now if there is none and none can have been in use.
pub(crate) async fn obtain(context: &Context, location: &str, store: &Store) -> Result<Key> {
    if let Some((secret, password)) = repository_password(context, location).await? {
        return Ok(key(&secret, password));
    }
    if any_repository(store).await? {
        return Err(Error::Location {
            name: location.to_owned(),
            message: missing_message(location),
            reason: reason::KEY_MISSING,
        });
    }
    create(context, location).await
}

/// The key of `location`, which must be there.
pub(crate) async fn existing(context: &Context, location: &str) -> Result<Key> {
    let found = repository_password(context, location).await?;
    found
        .map(|(secret, password)| key(&secret, password))
        .ok_or_else(|| Error::Location {
            name: location.to_owned(),
            message: format!(
                "Secret {} with the key of its repositories does not exist; create it with the original key under \
                 {REPOSITORY_PASSWORD_KEY} (no new key is made up)",
                key_secret(location)
            ),
            reason: reason::KEY_MISSING,
        })
}

fn key(secret: &KubeSecret, password: Secret) -> Key {
    Key {
        generated: secret
            .annotations()
            .get(KEY_GENERATED)
            .is_some_and(|v| v == "true"),
        password,
    }
}

async fn create(context: &Context, location: &str) -> Result<Key> {
    let name = key_secret(location);
    let text = hex::encode(rand::random::<[u8; KEY_BYTES]>());
    let secret = KubeSecret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(KEY_GENERATED.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            [(
                REPOSITORY_PASSWORD_KEY.to_owned(),
                ByteString(text.clone().into_bytes()),
            )]
            .into(),
        ),
        ..KubeSecret::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match context.api().create(&params, &secret).await {
        Ok(_) => {
            tracing::info!(
                location,
                secret = name,
                "repository key made; export it and keep it safe"
            );
            Ok(Key {
                password: Secret::from(text),
                generated: true,
            })
        }
        Err(error) if is_conflict(&error) => match repository_password(context, location).await? {
            Some((secret, password)) => Ok(key(&secret, password)),
            None => Err(Error::Location {
                name: location.to_owned(),
                message: format!(
                    "Secret {name} exists, but holds nothing under {REPOSITORY_PASSWORD_KEY}"
                ),
                reason: reason::KEY_MISSING,
            }),
        },
        Err(error) => Err(Error::kube(format!("create Secret {name}"))(error)),
    }
}

/// Whether any repository, or part of one, exists at the location.
async fn any_repository(store: &Store) -> Result<bool> {
    for entry in store.list("restic").await? {
        if entry.is_dir
            && Repository::exists(&store.child(&layout::repository(&entry.name))).await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(annotations: &[(&str, &str)]) -> KubeSecret {
        KubeSecret {
            metadata: ObjectMeta {
                annotations: Some(
                    annotations
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect(),
                ),
                ..ObjectMeta::default()
            },
            ..KubeSecret::default()
        }
    }

    #[test]
    fn a_missing_key_is_only_bad_when_repositories_exist() {
        assert_eq!(KeyState::of(None, false), KeyState::NotNeededYet);
        assert_eq!(KeyState::of(None, true), KeyState::Missing);
        let says = KeyState::Missing.available("default");
        assert!(!says.status && says.message.contains("ark-repository-key-default"));
        assert!(KeyState::NotNeededYet.available("default").status);
    }

    #[test]
    fn exported_means_supplied_or_exported() {
        let state = |annotations: &[(&str, &str)]| KeyState::of(Some(&secret(annotations)), true);
        assert_eq!(state(&[]), KeyState::HeldByUser);
        assert_eq!(state(&[(KEY_GENERATED, "true")]), KeyState::OnlyInCluster);
        assert_eq!(
            state(&[
                (KEY_GENERATED, "true"),
                (KEY_EXPORTED_AT, "2026-01-01T00:00:00Z")
            ]),
            KeyState::HeldByUser
        );
        assert_eq!(KeyState::NotNeededYet.exported("l"), None);
    }

    #[tokio::test]
    async fn an_empty_directory_is_no_repository() {
        let dir = tempfile::tempdir().unwrap();
        let config = ark_engine::StoreConfig::Local {
            root: dir.path().to_owned(),
        };
        let store = Store::open(&config).unwrap();
        assert!(!any_repository(&store).await.unwrap());
        std::fs::create_dir_all(dir.path().join("restic/shop/keys")).unwrap();
        assert!(!any_repository(&store).await.unwrap());
        std::fs::write(dir.path().join("restic/shop/config"), "x").unwrap();
        assert!(any_repository(&store).await.unwrap());
    }
}
