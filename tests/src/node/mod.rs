//! A node that exists only on paper: pods and their directories as a kubelet would leave them, and
//! a real agent process that works on them.
//!
//! One control plane serves all nodes of a test program; every node has a namespace, a name, a
//! location and a repository of its own, so tests run beside each other. The agent acts with the
//! rights of the chart's roles and under its policy, with a token of its pod, never as
//! administrator.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

mod agent;
mod objects;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use agent::{AGENT, pod_kubeconfig, program};
use ark_api::naming;
use ark_api::{BackupStorageLocation, ResticRepository, layout};
use ark_engine::{InitOptions, Repository, Secret, Store, StoreConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Node as KubeNode, Secret as KubeSecret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource, ResourceExt as _};
pub use objects::{claim, gate_runs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xtask::cluster::ControlPlane;
use xtask::tools::{self, KUBERNETES, Tool};
use xtask::{exec, place};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_mins(1);
/// The repository password of every node.
pub const PASSWORD: &str = "test-password-5f1d";
/// Name of the location.
pub const LOCATION: &str = "default";
/// Name of the repository object.
pub const REPOSITORY: &str = "shop-default";
/// Token of the location's handshake.
const TOKEN: &str = "token-1";

static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
    let plane = ControlPlane::start().unwrap();
    plane.install_crds().unwrap();
    tools::ensure(&[Tool::Helm]).unwrap();
    plane
});
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A simulated node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Ark's namespace.
    pub namespace: String,
    /// The namespace of its pods.
    pub shop: String,
    /// As administrator.
    pub client: Client,
    dir: tempfile::TempDir,
    kubeconfig: PathBuf,
    /// Of the agents' service account, without a pod.
    account: PathBuf,
    agent: Option<Child>,
    /// Length of the log when the agent was last started.
    log_start: usize,
    mounts: Vec<PathBuf>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill_agent();
        if std::thread::panicking() {
            // Shown with the test that failed, and nowhere else.
            std::io::Write::write_all(&mut std::io::stderr(), self.log().as_bytes()).unwrap();
        }
        for mount in &self.mounts {
            drop(Command::new("umount").arg(mount).status());
        }
    }
}

/// Looks until `look` gives a value. Panics with `what` when it takes too long.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not in time: {what}"
        );
        // Between two looks at the condition.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Node {
    /// A node with an available `local` location and an empty repository, without an agent yet.
    pub async fn new() -> Self {
        Self::on(&PLANE).await
    }

    /// The same on a control plane of the caller's.
    pub async fn on(plane: &ControlPlane) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("ark-{number}");
        let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("pods")).unwrap();
        let mut node = Self {
            name: format!("node-{number}"),
            shop: format!("shop-{number}"),
            client,
            dir,
            kubeconfig: PathBuf::new(),
            account: PathBuf::new(),
            agent: None,
            log_start: 0,
            mounts: Vec::new(),
            namespace,
        };
        node.make_objects().await;
        install_agent_roles(plane, &node.namespace);
        node.account = plane
            .service_account_kubeconfig(&node.namespace, "ark-agent")
            .unwrap();
        node.make_agent_pod().await;
        let (client, account) = (&node.client, &node.account);
        node.kubeconfig =
            pod_kubeconfig(client, &node.namespace, AGENT, account, node.dir.path()).await;
        node.make_location().await;
        node.make_repository().await;
        node
    }

    async fn make_objects(&self) {
        let named = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let params = PostParams::default();
        for name in [&self.namespace, &self.shop] {
            let namespace = Namespace {
                metadata: named(name),
                ..Namespace::default()
            };
            let api = Api::<Namespace>::all(self.client.clone());
            api.create(&params, &namespace).await.unwrap();
        }
        let kube_node = KubeNode {
            metadata: named(&self.name),
            ..KubeNode::default()
        };
        let api = Api::<KubeNode>::all(self.client.clone());
        api.create(&params, &kube_node).await.unwrap();
    }

    async fn make_location(&self) {
        let spec = json!({"provider": "local", "objectStorage": {"bucket": "bucket"}});
        let spec = serde_json::from_value(spec).unwrap();
        let location = self
            .create(BackupStorageLocation::new(LOCATION, spec))
            .await;
        self.mark_directory(&location.uid().unwrap(), TOKEN);
        let status = json!({"status": {"phase": "Available", "handshake": TOKEN}});
        self.patch_status::<BackupStorageLocation>(LOCATION, &status)
            .await;
        self.set_password(PASSWORD).await;
    }

    /// Writes what the operator would write into the location's directory.
    pub fn mark_directory(&self, uid: &str, token: &str) {
        let mark = json!({"location": LOCATION, "uid": uid, "token": token});
        let path = self.bucket().join(layout::HANDSHAKE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, mark.to_string()).unwrap();
    }

    /// Sets the repository key Secret.
    pub async fn set_password(&self, password: &str) {
        let mut secret = KubeSecret::default();
        let name = naming::key_secret(LOCATION);
        secret.metadata.name = Some(name.clone());
        let data = (
            naming::REPOSITORY_PASSWORD_KEY.to_owned(),
            password.to_owned(),
        );
        secret.string_data = Some([data].into());
        self.delete_key().await;
        self.create(secret).await;
    }

    /// Removes the repository key Secret.
    pub async fn delete_key(&self) {
        let api = self.api::<KubeSecret>();
        let name = naming::key_secret(LOCATION);
        if api.get_opt(&name).await.unwrap().is_some() {
            api.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }

    async fn make_repository(&self) {
        let spec = json!({"volumeNamespace": "shop", "backupStorageLocation": LOCATION});
        let spec = serde_json::from_value(spec).unwrap();
        self.create(ResticRepository::new(REPOSITORY, spec)).await;
        self.init_repository().await;
    }

    /// Makes the repository itself, where none is.
    pub async fn init_repository(&self) {
        let options = InitOptions {
            random_password: true,
            ..InitOptions::default()
        };
        self.with_store(move |store, runtime| {
            Repository::init(store, &Secret::new(PASSWORD), options, runtime).unwrap()
        })
        .await;
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(Store, tokio::runtime::Handle) -> T + Send + 'static,
    ) -> T {
        let root = self.bucket();
        let store = Store::open(&StoreConfig::Local { root }).unwrap();
        let store = store.child(&layout::repository("shop"));
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || work(store, runtime))
            .await
            .unwrap()
    }

    /// Does something with the opened repository, on a blocking thread.
    pub async fn with_repository<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repository) -> T + Send + 'static,
    ) -> T {
        self.with_store(move |store, runtime| {
            let passwords = [Secret::new(PASSWORD)];
            let options = ark_engine::OpenOptions::default();
            work(&Repository::open(store, &passwords, options, runtime).unwrap())
        })
        .await
    }

    /// The location's directory.
    pub fn bucket(&self) -> PathBuf {
        self.dir.path().join("store/bucket")
    }

    /// The kubelet's `pods` directory.
    pub fn pods_dir(&self) -> PathBuf {
        self.dir.path().join("pods")
    }

    /// A directory for the test's own files.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("scratch").join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Objects of Ark's namespace, as administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
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
        let api = self.api::<K>();
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// Patches the status of an object in Ark's namespace.
    pub async fn patch_status<K>(&self, name: &str, patch: &Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }
}

/// Applies the chart's service account, roles and policy of the agent.
fn install_agent_roles(plane: &ControlPlane, namespace: &str) {
    let rendered = exec::output(
        Command::new(tools::path(Tool::Helm).unwrap())
            .args(["template", "ark"])
            .arg(place::workspace().join("charts/ark"))
            .args(["--kube-version", KUBERNETES, "--namespace", namespace])
            .args(["--show-only", "templates/serviceaccounts.yaml"])
            .args(["--show-only", "templates/rbac-agent.yaml"])
            .args(["--show-only", "templates/policy-agent.yaml"]),
    )
    .unwrap();
    exec::output_with_input(
        plane
            .kubectl()
            .unwrap()
            .args(["--namespace", namespace, "apply", "-f", "-"]),
        &rendered,
    )
    .unwrap();
}
