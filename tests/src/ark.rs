//! An installation of Ark on a control plane without nodes: the real operator with the rights of the
//! chart's roles, a local store, and nodes that exist only on paper, with real agents where a test asks
//! for them.
//!
//! One control plane serves all installations of a test program; each has a namespace of its own for Ark
//! and one for its application, so tests run beside each other.
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

use ark_api::backup::BackupPhase;
use ark_api::location::LocationPhase;
use ark_api::results::Results;
use ark_api::volume::VolumeRow;
use ark_api::{Backup, BackupStorageLocation, PodVolumeBackup, layout};
use flate2::read::GzDecoder;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Node as KubeNode, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xtask::cluster::ControlPlane;
use xtask::tools::{self, Tool};
use xtask::{exec, place};

use crate::node::{program, until};

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
    agent_kubeconfig: PathBuf,
    operator: Option<Child>,
    agents: Vec<Child>,
    /// Further environment variables of the operator.
    pub env: Vec<(String, String)>,
}

/// A further process of an installation.
pub struct Extra {
    child: Child,
    log: PathBuf,
}

impl Extra {
    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        self.kill();
    }
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

    /// Starts the operator as the chart's Deployment would.
    pub fn start_operator(&mut self) {
        assert!(self.operator.is_none(), "the operator is running");
        let child = self.spawn(
            "ark-operator",
            &self.operator_kubeconfig,
            &self.operator_log_path(),
            &[
                ("ARK_POD_NAME", "ark-operator-x"),
                ("ARK_ARTEFACT_ADDRESS", "127.0.0.1:0"),
            ],
        );
        self.operator = Some(child);
    }

    fn spawn(&self, name: &str, kubeconfig: &Path, log: &Path, env: &[(&str, &str)]) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        // Another build of the programs, such as the one of the images, can be tried as well.
        let path = std::env::var_os("ARK_TEST_PROGRAMS")
            .map_or_else(|| program(name), |dir| PathBuf::from(dir).join(name));
        Command::new(path)
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("ARK_NAMESPACE", &self.namespace)
            .env("ARK_LOCAL_STORE_ROOT", self.store_root())
            .env("ARK_HTTP_ADDRESS", "127.0.0.1:0")
            .env("ARK_LOG", "info,ark_operator=debug,ark_agent=debug")
            .env("TMPDIR", self.dir.path().join("spool"))
            .envs(env.iter().copied())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Ends the operator without warning.
    pub fn kill_operator(&mut self) {
        if let Some(mut child) = self.operator.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the operator to end and waits until it has; its exit code.
    pub async fn stop_operator(&mut self) -> Option<i32> {
        let mut child = self.operator.take().unwrap();
        exec::output(Command::new("kill").args(["-TERM", &child.id().to_string()])).unwrap();
        until("end of the operator", async || child.try_wait().unwrap())
            .await
            .code()
    }

    /// Waits until the operator has ended by itself; its exit code.
    pub async fn operator_ended(&mut self) -> Option<i32> {
        let mut child = self.operator.take().unwrap();
        until("end of the operator", async || child.try_wait().unwrap())
            .await
            .code()
    }

    /// Starts another operator of the same installation.
    pub fn another_operator(&self, pod: &str) -> Extra {
        let log = self.dir.path().join(format!("{pod}.log"));
        let env = [
            ("ARK_POD_NAME", pod),
            ("ARK_ARTEFACT_ADDRESS", "127.0.0.1:0"),
        ];
        let child = self.spawn("ark-operator", &self.operator_kubeconfig, &log, &env);
        Extra { child, log }
    }

    /// Process id of the operator.
    pub fn operator_pid(&self) -> u32 {
        self.operator.as_ref().unwrap().id()
    }

    fn operator_log_path(&self) -> PathBuf {
        self.dir.path().join("operator.log")
    }

    /// What the operator has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.operator_log_path()).unwrap_or_default()
    }

    /// The last value of `key=` in the operator's log.
    pub async fn said(&self, key: &str) -> String {
        until(&format!("{key} in the operator's log"), async || {
            let log = self.log();
            let line = log.lines().rfind(|line| line.contains(key))?;
            let rest = line.split(key).nth(1)?;
            Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
        })
        .await
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

    /// A gzipped JSON artefact of the location `default`.
    pub fn artefact<T: DeserializeOwned>(&self, path: &str) -> T {
        let file = std::fs::File::open(self.bucket().join(path)).unwrap();
        serde_json::from_reader(GzDecoder::new(file)).unwrap()
    }

    /// Errors and warnings of a backup.
    pub fn results(&self, backup: &str) -> Results {
        self.artefact(&layout::backup_results(backup))
    }

    /// Volume rows of a backup.
    pub fn rows(&self, backup: &str) -> Vec<VolumeRow> {
        self.artefact(&layout::volume_rows(backup))
    }

    /// Paths and contents of a bundle.
    pub fn bundle(&self, backup: &str) -> Vec<(String, Value)> {
        let file = std::fs::File::open(self.bucket().join(layout::bundle(backup))).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(file));
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, serde_json::from_reader(entry).unwrap_or(Value::Null))
            })
            .collect()
    }

    /// Paths of a bundle without those of the preferred versions.
    pub fn items(&self, backup: &str) -> Vec<String> {
        let all = self.bundle(backup).into_iter().map(|(path, _)| path);
        all.filter(|path| !path.contains("-preferredversion"))
            .collect()
    }

    /// A node, with the pod of an agent that is running and ready, but no process.
    pub async fn node(&self, name: &str) -> String {
        let name = format!("{name}-{}", self.namespace);
        let node: KubeNode = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api = Api::<KubeNode>::all(self.client.clone());
        api.create(&PostParams::default(), &node).await.unwrap();
        let pod = json!({
            "metadata": {"name": format!("agent-{name}"), "labels": {"app.kubernetes.io/component": "agent"}},
            "spec": {"nodeName": name, "containers": [{"name": "agent", "image": "none"}]},
        });
        let api = self.api::<Pod>();
        self.make_pod(&api, pod).await;
        name
    }

    async fn make_pod(&self, api: &Api<Pod>, pod: Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        // The controller manager makes the namespace's service account in its own time.
        let pod = until("creation of a pod", async || {
            match api.create(&PostParams::default(), &pod).await {
                Ok(pod) => Some(pod),
                Err(kube::Error::Api(error)) if error.code == 403 => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "startTime": "2026-01-01T00:00:00Z"}});
        self.pod_status(api, &pod, &status).await
    }

    async fn pod_status(&self, api: &Api<Pod>, pod: &Pod, status: &Value) -> Pod {
        let patch = Patch::Strategic(status);
        api.patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    /// Starts a real agent for a node.
    pub fn start_agent(&mut self, node: &str) {
        let pods = self.pods_dir();
        let env = [
            ("ARK_NODE_NAME", node),
            ("ARK_POD_NAME", "agent-x"),
            ("ARK_HOST_PODS", pods.to_str().unwrap()),
        ];
        let log = self.dir.path().join("agent.log");
        let child = self.spawn("ark-agent", &self.agent_kubeconfig, &log, &env);
        self.agents.push(child);
    }

    /// What the agents have said so far.
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// The kubelet's `pods` directory.
    pub fn pods_dir(&self) -> PathBuf {
        self.dir.path().join("pods")
    }

    /// A running pod of the application. `metadata` and `spec` are merged on top of a plain one whose
    /// container mounts every volume.
    pub async fn pod(&self, name: &str, node: &str, annotations: Value, volumes: Value) -> Pod {
        let mounts: Vec<Value> = volumes
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| json!({"name": volume["name"], "mountPath": format!("/mnt/{}", volume["name"].as_str().unwrap())}))
            .collect();
        let pod = json!({
            "metadata": {"name": name, "annotations": annotations, "labels": {"app": name}},
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "none", "volumeMounts": mounts}],
                "volumes": volumes,
            },
        });
        let pod = self.make_pod(&self.shop::<Pod>(), pod).await;
        std::fs::create_dir_all(self.pods_dir().join(pod.uid().unwrap()).join("volumes")).unwrap();
        pod
    }

    /// Writes the status of a pod of the application.
    pub async fn set_pod_status(&self, pod: &Pod, status: Value) {
        self.pod_status(&self.shop::<Pod>(), pod, &json!({"status": status}))
            .await;
    }

    /// The directory of an emptyDir, made as a kubelet makes it.
    pub fn empty_dir(&self, pod: &Pod, volume: &str) -> PathBuf {
        let dir = self
            .pods_dir()
            .join(pod.uid().unwrap())
            .join("volumes/kubernetes.io~empty-dir")
            .join(volume);
        std::fs::create_dir_all(&dir).unwrap();
        dir
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

    /// Plays the agent: ends a volume object with a made-up snapshot.
    pub async fn complete(&self, object: &PodVolumeBackup) {
        let status = json!({"status": {"phase": "Completed", "snapshotID": "a".repeat(64),
            "progress": {"totalBytes": 7, "bytesDone": 7, "filesDone": 1}, "incrementalBytes": 5, "files": 1}});
        let api = self.api::<PodVolumeBackup>();
        let patch = Patch::Merge(&status);
        api.patch_status(&object.name_any(), &PatchParams::default(), &patch)
            .await
            .unwrap();
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
    for template in ["serviceaccounts", "rbac-agent", "rbac-operator"] {
        helm.args(["--show-only", &format!("templates/{template}.yaml")]);
    }
    let rendered = exec::output(&mut helm).unwrap();
    let mut apply = plane.kubectl().unwrap();
    apply.args(["--namespace", namespace, "apply", "-f", "-"]);
    exec::output_with_input(&mut apply, &rendered).unwrap();
}
