//! A node that exists only on paper: pods and their directories as a kubelet would leave them, and a
//! real agent process that works on them.
//!
//! One control plane serves all nodes of a test program; every node has a namespace, a name, a
//! location and a repository of its own, so tests run beside each other. The agent acts with the
//! rights of the chart's roles, never as administrator.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a failed step of a test is a failed test, in its helpers too"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ark_api::naming::{self, tag};
use ark_api::pod_volume_backup::{ClaimReference, PodReference, PodVolumeBackupSpec, VolumePhase};
use ark_api::pod_volume_restore::PodVolumeRestoreSpec;
use ark_api::{BackupStorageLocation, PodVolumeBackup, PodVolumeRestore, ResticRepository, layout};
use ark_engine::{InitOptions, Repository, Secret, Store, StoreConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Node as KubeNode, Pod, Secret as KubeSecret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xtask::cluster::ControlPlane;
use xtask::tools::{self, Tool};
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
    agent: Option<Child>,
    mounts: Vec<PathBuf>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill_agent();
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
            agent: None,
            mounts: Vec::new(),
            namespace,
        };
        node.make_objects().await;
        install_agent_roles(plane, &node.namespace);
        node.kubeconfig = plane
            .service_account_kubeconfig(&node.namespace, "ark-agent")
            .unwrap();
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

    /// A pod of this node: bound, and with the directory that a kubelet would have made. `status` is
    /// what the kubelet would have written.
    pub async fn pod(&self, name: &str, volumes: Value, status: Value) -> Pod {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.shop);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": self.name,
                "automountServiceAccountToken": false,
                "initContainers": [{"name": naming::GATE_CONTAINER, "image": "none"}],
                "containers": [{"name": "main", "image": "none"}],
                "volumes": volumes,
            },
        }))
        .unwrap();
        // The controller manager makes the namespace's service account in its own time.
        let params = PostParams::default();
        let pod = until("creation of the pod", async || {
            match pods.create(&params, &pod).await {
                Ok(pod) => Some(pod),
                Err(kube::Error::Api(error)) if error.code == 403 => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        std::fs::create_dir_all(self.pod_dir(&pod).join("volumes")).unwrap();
        self.pod_status(&pod, status).await
    }

    /// Writes the status of a pod.
    pub async fn pod_status(&self, pod: &Pod, status: Value) -> Pod {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.shop);
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({ "status": status }));
        pods.patch_status(&pod.name_any(), &params, &patch)
            .await
            .unwrap()
    }

    /// Removes a pod at once, as a kubelet does at the end of its deletion.
    pub async fn delete_pod(&self, pod: &Pod) {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.shop);
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&pod.name_any(), &now).await.unwrap();
    }

    /// A running pod with one emptyDir, and that directory.
    pub async fn pod_with_empty_dir(&self, name: &str, volume: &str) -> (Pod, PathBuf) {
        let volumes = json!([{"name": volume, "emptyDir": {}}]);
        let pod = self.pod(name, volumes, json!({"phase": "Running"})).await;
        let dir = self.empty_dir(&pod, volume);
        (pod, dir)
    }

    /// A restored pod whose gate runs, with one emptyDir, and the directories of volume and gate.
    pub async fn gated_pod(&self, name: &str, volume: &str) -> (Pod, PathBuf, PathBuf) {
        let volumes = json!([
            {"name": volume, "emptyDir": {}},
            {"name": naming::GATE_VOLUME, "emptyDir": {}},
        ]);
        let pod = self.pod(name, volumes, gate_runs()).await;
        let dir = self.empty_dir(&pod, volume);
        let gate = self.empty_dir(&pod, naming::GATE_VOLUME);
        (pod, dir, gate)
    }

    /// The directory of a pod.
    pub fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.pods_dir().join(pod.uid().unwrap())
    }

    /// The directory of an emptyDir, made as a kubelet makes it.
    pub fn empty_dir(&self, pod: &Pod, volume: &str) -> PathBuf {
        let dir = self.pod_dir(pod).join("volumes/kubernetes.io~empty-dir");
        let dir = dir.join(volume);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Mounts a directory at `below` the pod's volumes, as a kubelet mounts a claim. Needs root.
    pub fn mount(&mut self, pod: &Pod, below: &str) -> PathBuf {
        let source = self.scratch(&below.replace('/', "-"));
        let target = self.pod_dir(pod).join("volumes").join(below);
        std::fs::create_dir_all(&target).unwrap();
        exec::output(Command::new("mount").arg("--bind").arg(source).arg(&target)).unwrap();
        self.mounts.push(target.clone());
        target
    }

    /// The reference to a pod that volume objects carry.
    pub fn reference(pod: &Pod) -> PodReference {
        PodReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        }
    }

    /// A backup of a volume, not created yet.
    pub fn backup(&self, name: &str, pod: &Pod, volume: &str) -> PodVolumeBackup {
        let tags = [
            (tag::NAMESPACE, "shop"),
            (tag::OWNER, "deployment/web"),
            (tag::VOLUME, volume),
        ];
        let spec = PodVolumeBackupSpec {
            node: self.name.clone(),
            pod: Self::reference(pod),
            volume: volume.to_owned(),
            backup_storage_location: LOCATION.to_owned(),
            repository: REPOSITORY.to_owned(),
            tags: tags
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            snapshot_path: format!("/shop/web/{volume}"),
            ..PodVolumeBackupSpec::default()
        };
        PodVolumeBackup::new(name, spec)
    }

    /// The same of a claim bound to the PersistentVolume `pv`.
    pub fn claim_backup(&self, name: &str, pod: &Pod, volume: &str, pv: &str) -> PodVolumeBackup {
        let mut backup = self.backup(name, pod, volume);
        backup.spec.claim = Some(claim(pv));
        backup
    }

    /// A restore of a volume, not created yet.
    pub fn restore(&self, name: &str, pod: &Pod, volume: &str, snapshot: &str) -> PodVolumeRestore {
        let spec = PodVolumeRestoreSpec {
            node: self.name.clone(),
            pod: Self::reference(pod),
            volume: volume.to_owned(),
            backup_storage_location: LOCATION.to_owned(),
            repository: REPOSITORY.to_owned(),
            snapshot_id: snapshot.to_owned(),
            source_namespace: "shop".to_owned(),
            ..PodVolumeRestoreSpec::default()
        };
        PodVolumeRestore::new(name, spec)
    }

    /// Waits until a backup has an end.
    pub async fn ended(&self, name: &str) -> PodVolumeBackup {
        let api = self.api::<PodVolumeBackup>();
        until(
            &format!("end of backup {name}\n{}", self.log()),
            async || {
                let found = api.get(name).await.unwrap();
                let phase = found.status.as_ref().and_then(|s| s.phase);
                phase.is_some_and(VolumePhase::is_terminal).then_some(found)
            },
        )
        .await
    }

    /// Waits until a restore has an end.
    pub async fn restored(&self, name: &str) -> PodVolumeRestore {
        let api = self.api::<PodVolumeRestore>();
        until(&format!("end of restore {name}"), async || {
            let found = api.get(name).await.unwrap();
            let phase = found.status.as_ref().and_then(|s| s.phase);
            phase.is_some_and(VolumePhase::is_terminal).then_some(found)
        })
        .await
    }

    /// Starts the agent as the chart's DaemonSet would.
    pub fn start_agent(&mut self) {
        self.start_agent_with(&[]);
    }

    /// The same with other environment variables on top.
    pub fn start_agent_with(&mut self, env: &[(&str, &str)]) {
        assert!(self.agent.is_none(), "the agent is running");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let child = Command::new(program("ark-agent"))
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ARK_NAMESPACE", &self.namespace)
            .env("ARK_NODE_NAME", &self.name)
            .env("ARK_POD_NAME", "agent-x")
            .env("ARK_HOST_PODS", self.pods_dir())
            .env("ARK_LOCAL_STORE_ROOT", self.dir.path().join("store"))
            .env("ARK_HTTP_ADDRESS", "127.0.0.1:0")
            .env("ARK_LOG", "info,ark_agent=debug")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    /// Process id of the agent.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Ends the agent without warning.
    pub fn kill_agent(&mut self) {
        if let Some(mut child) = self.agent.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the agent to end and waits until it has; its exit code.
    pub async fn stop_agent(&mut self) -> Option<i32> {
        let mut child = self.agent.take().unwrap();
        let pid = child.id().to_string();
        exec::output(Command::new("kill").args(["-TERM", &pid])).unwrap();
        until("end of the agent", async || child.try_wait().unwrap())
            .await
            .code()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    /// What the agent has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Asks the agent over HTTP: status code and body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        let address = until("address of the agent", async || {
            let log = self.log();
            let line = log.lines().rfind(|l| l.contains("agent started"))?;
            let rest = line.split("http=").nth(1)?;
            Some(rest.split_whitespace().next()?.to_owned())
        })
        .await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        let answer = tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Write as _};
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (code, body)
    }
}

/// The reference to a claim bound to the PersistentVolume `pv`.
pub fn claim(pv: &str) -> ClaimReference {
    ClaimReference {
        name: "data".to_owned(),
        uid: "0000".to_owned(),
        volume_name: Some(pv.to_owned()),
    }
}

/// Status of a pod whose gate runs.
pub fn gate_runs() -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [{
        "name": naming::GATE_CONTAINER, "image": "none", "imageID": "", "ready": false,
        "restartCount": 0, "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]})
}

/// A program of this workspace, built beside this one.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is missing: build it first (cargo xtask test does)",
        path.display()
    );
    path
}

/// Applies the chart's service account and roles of the agent.
fn install_agent_roles(plane: &ControlPlane, namespace: &str) {
    let rendered = exec::output(
        Command::new(tools::path(Tool::Helm).unwrap())
            .args(["template", "ark"])
            .arg(place::workspace().join("charts/ark"))
            .args(["--namespace", namespace])
            .args(["--show-only", "templates/serviceaccounts.yaml"])
            .args(["--show-only", "templates/rbac-agent.yaml"]),
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
