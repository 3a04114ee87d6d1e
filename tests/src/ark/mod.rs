//! An installation of Ark on a control plane without nodes: the real operator with the rights of
//! the chart's roles, a local store, and nodes that exist only on paper, with real agents where a
//! test asks for them.
//!
//! One control plane serves all installations of a test program; each has a namespace of its own for Ark
//! and one for its application, so tests run beside each other. Its processes are in `process`, the
//! application's pods and nodes in `pods`, what it stored in `stored`.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

mod pods;
mod process;
mod stored;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use ark_api::backup::BackupPhase;
use ark_api::location::LocationPhase;
use ark_api::{Backup, BackupStorageLocation, PodVolumeBackup};
use ark_engine::{Store, StoreConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xtask::cluster::ControlPlane;
use xtask::tools::{self, Tool};
use xtask::{exec, place};

pub use self::process::Extra;
use crate::node::until;

/// The control plane that the installations of a test program share.
pub static PLANE: LazyLock<ControlPlane> = LazyLock::new(plane);
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A control plane with Ark's definitions, for a test that needs one of its own.
pub fn plane() -> ControlPlane {
    let plane = ControlPlane::start().unwrap();
    plane.install_crds().unwrap();
    tools::ensure(&[Tool::Helm]).unwrap();
    plane
}

/// An installation.
pub struct Ark {
    /// Ark's namespace.
    pub namespace: String,
    /// Namespace of the application.
    pub shop: String,
    /// As administrator.
    pub client: Client,
    dir: tempfile::TempDir,
    operator_kubeconfig: PathBuf,
    /// Of the agents' service account.
    agent_kubeconfig: PathBuf,
    maintenance_kubeconfig: PathBuf,
    operator: Option<Child>,
    agents: Vec<Child>,
    /// Further environment variables of the operator.
    pub env: Vec<(String, String)>,
}

impl Drop for Ark {
    fn drop(&mut self) {
        self.kill_operator();
        for agent in &mut self.agents {
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}

impl Ark {
    /// An installation whose operator runs.
    pub async fn new() -> Self {
        let mut ark = Self::idle(&PLANE).await;
        ark.start_operator();
        ark
    }

    /// The same with an available `local` location named `default`.
    pub async fn with_location() -> Self {
        let ark = Self::new().await;
        ark.make_location().await;
        ark
    }

    /// An installation on a control plane of the caller's, without an operator yet.
    pub async fn idle(plane: &ControlPlane) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["pods", "store", "spool"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let (namespace, shop) = (format!("ark-{number}"), format!("shop-{number}"));
        let mut ark = Self {
            client,
            dir,
            operator_kubeconfig: PathBuf::new(),
            agent_kubeconfig: PathBuf::new(),
            maintenance_kubeconfig: PathBuf::new(),
            operator: None,
            agents: Vec::new(),
            env: Vec::new(),
            namespace,
            shop,
        };
        for name in [ark.namespace.clone(), ark.shop.clone()] {
            ark.make_namespace(&name).await;
        }
        install_roles(plane, &ark.namespace);
        ark.operator_kubeconfig = plane
            .service_account_kubeconfig(&ark.namespace, "ark-operator")
            .unwrap();
        ark.agent_kubeconfig = plane
            .service_account_kubeconfig(&ark.namespace, "ark-agent")
            .unwrap();
        ark.maintenance_kubeconfig = plane
            .service_account_kubeconfig(&ark.namespace, "ark-maintenance")
            .unwrap();
        ark
    }

    /// Makes a namespace.
    pub async fn make_namespace(&self, name: &str) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::<Namespace>::all(self.client.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    /// Directory below which local locations lie.
    pub fn store_root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The directory of the location `default`.
    pub fn bucket(&self) -> PathBuf {
        self.store_root().join("bucket")
    }

    /// Makes the location `default` and waits until it is available.
    pub async fn make_location(&self) {
        let spec =
            json!({"provider": "local", "default": true, "objectStorage": {"bucket": "bucket"}});
        self.location("default", spec).await;
        self.judged("default", LocationPhase::Available).await;
    }

    /// Creates a location.
    pub async fn location(&self, name: &str, spec: Value) -> BackupStorageLocation {
        let spec = serde_json::from_value(spec).unwrap();
        self.create(BackupStorageLocation::new(name, spec)).await
    }

    /// Waits until a location has been judged so, as it now is.
    pub async fn judged(&self, name: &str, phase: LocationPhase) -> BackupStorageLocation {
        let api = self.api::<BackupStorageLocation>();
        until(
            &format!("location {name} {phase:?}; {}", self.tail()),
            async || {
                let found = api.get(name).await.unwrap();
                let status = found.status.clone().unwrap_or_default();
                let current = status.observed_generation == found.metadata.generation;
                (current && status.phase == Some(phase)).then_some(found)
            },
        )
        .await
    }

    /// The end of the operator's log, for messages.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Makes a Secret in Ark's namespace.
    pub async fn secret(&self, name: &str, key: &str, value: &str) {
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {key: value}}))
                .unwrap();
        self.create(secret).await;
    }

    /// Objects of Ark's namespace, as administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of the application's namespace, as administrator.
    pub fn shop<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.shop)
    }

    /// Creates an object in Ark's namespace.
    pub async fn create<K>(&self, object: K) -> K
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Creates an object in the application's namespace from JSON.
    pub async fn put<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.shop::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Creates a backup of the application's namespace, with `spec` on top.
    pub async fn backup(&self, name: &str, spec: Value) -> Backup {
        let mut whole = json!({"includedNamespaces": [self.shop]});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let spec = serde_json::from_value(whole).unwrap();
        self.create(Backup::new(name, spec)).await
    }

    /// Waits until a backup has an end, which must be `phase`.
    pub async fn ended(&self, name: &str, phase: BackupPhase) -> Backup {
        let api = self.api::<Backup>();
        let found = until(
            &format!("end of backup {name}; {}", self.tail()),
            async || {
                let found = api.get(name).await.unwrap();
                let ended = found
                    .status
                    .as_ref()
                    .and_then(|s| s.phase)
                    .is_some_and(BackupPhase::is_terminal);
                ended.then_some(found)
            },
        )
        .await;
        let status = found.status.as_ref().unwrap();
        assert_eq!(status.phase, Some(phase), "{status:#?}\n{}", self.tail());
        found
    }

    /// The status of a backup that has ended as text, for assertions.
    pub fn reason(backup: &Backup) -> String {
        let status = backup.status.as_ref().unwrap();
        let failure = status.failure_reason.clone().unwrap_or_default();
        format!("{failure}{}", status.validation_errors.join("; "))
    }

    /// Waits for the volume objects of a backup.
    pub async fn volume_objects(&self, backup: &str, count: usize) -> Vec<PodVolumeBackup> {
        let api = self.api::<PodVolumeBackup>();
        let selector = format!("ark.heptio.com/backup-name={backup}");
        until(
            &format!("{count} volume objects of {backup}; {}", self.tail()),
            async || {
                let params = kube::api::ListParams::default().labels(&selector);
                let found = api.list(&params).await.unwrap().items;
                (found.len() >= count).then_some(found)
            },
        )
        .await
    }

    /// Plays the agent: takes a snapshot of a file for a volume object, and ends the object with
    /// it.
    pub async fn complete(&self, object: &PodVolumeBackup) {
        let snapshot = self.snapshot_for(object, &object.uid().unwrap()).await;
        self.complete_with(object, &snapshot).await;
    }

    /// Ends a volume object as an agent does that has taken this snapshot.
    pub async fn complete_with(&self, object: &PodVolumeBackup, snapshot: &str) {
        let status = json!({"status": {"phase": "Completed", "snapshotID": snapshot,
            "progress": {"totalBytes": 7, "bytesDone": 7, "filesDone": 1}, "incrementalBytes": 5, "files": 1}});
        let api = self.api::<PodVolumeBackup>();
        let patch = Patch::Merge(&status);
        api.patch_status(&object.name_any(), &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Takes a snapshot of a file into the repository of a volume object, as for the object with
    /// this uid.
    pub async fn snapshot_for(&self, object: &PodVolumeBackup, uid: &str) -> String {
        let key = self.api::<Secret>().get("ark-repository-key-default").await;
        let key = key.unwrap().data.unwrap().remove("repository-password");
        let key = String::from_utf8(key.unwrap().0).unwrap();
        let root = self.bucket();
        let prefix = ark_api::layout::repository(&object.spec.pod.namespace);
        let (tag, path) = (format!("pvb-uid={uid}"), object.spec.snapshot_path.clone());
        let runtime = tokio::runtime::Handle::current();
        let take = move || {
            let source = tempfile::tempdir().unwrap();
            std::fs::write(source.path().join("file"), "content").unwrap();
            let store = Store::open(&StoreConfig::Local { root }).unwrap();
            let repository = ark_engine::Repository::open(
                store.child(&prefix),
                &[key.as_str().into()],
                ark_engine::OpenOptions::default(),
                runtime,
            );
            let request = ark_engine::ArchiveRequest {
                source: ark_engine::Source::Directory(source.path().to_owned()),
                snapshot_path: path,
                host: "ark".to_owned(),
                tags: vec![tag],
                ..ark_engine::ArchiveRequest::default()
            };
            let (progress, cancel) = (ark_engine::Progress::new(), ark_engine::Cancel::new());
            let report = ark_engine::archive(&repository.unwrap(), &request, &progress, &cancel);
            report.unwrap().snapshot_id
        };
        tokio::task::spawn_blocking(take).await.unwrap()
    }

    /// Deletes an object of Ark's namespace.
    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.api::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

/// Applies the chart's service accounts and roles.
fn install_roles(plane: &ControlPlane, namespace: &str) {
    let mut helm = Command::new(tools::path(Tool::Helm).unwrap());
    helm.args(["template", "ark"])
        .arg(place::workspace().join("charts/ark"))
        .args([
            "--namespace",
            namespace,
            "--kube-version",
            tools::KUBERNETES,
        ]);
    for template in [
        "serviceaccounts",
        "rbac-agent",
        "policy-agent",
        "rbac-operator",
        "maintenance",
    ] {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    let rendered = exec::output(&mut helm).unwrap();
    let mut apply = plane.kubectl().unwrap();
    apply.args(["--namespace", namespace, "apply", "-f", "-"]);
    exec::output_with_input(&mut apply, &rendered).unwrap();
}
