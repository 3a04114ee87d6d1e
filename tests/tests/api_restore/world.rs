//! An installation whose backups the test lays into the store by hand, and whose scheduler,
//! provisioner and agents the test plays itself.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use ark_api::condition::reason;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::restore::{RestorePhase, RestoreStatus};
use ark_api::results::{ItemAction, ItemRow, Results};
use ark_api::{Backup, PodVolumeRestore, Restore, layout};
use ark_tests::ark::{Ark, PLANE};
use ark_tests::node::LIMIT;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Image of the gate; nothing runs it here.
pub(crate) const GATE_IMAGE: &str = "ark-agent:test";

/// An installation, a node with an agent on paper, and a namespace that does not exist yet.
pub(crate) struct World {
    ark: Ark,
    /// Namespace of the application.
    pub(crate) app: String,
    /// The node.
    pub(crate) node: String,
}

impl Deref for World {
    type Target = Ark;

    fn deref(&self) -> &Ark {
        &self.ark
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Ark {
        &mut self.ark
    }
}

impl World {
    /// Starts an operator and gives it an available location, a node and an agent there.
    pub(crate) async fn start() -> Self {
        let mut ark = Ark::idle(&PLANE).await;
        let image = (
            ark_api::env::RESTORE_WAIT_IMAGE.to_owned(),
            GATE_IMAGE.to_owned(),
        );
        ark.env.push(image);
        ark.start_operator();
        let node = ark.node("n").await;
        ark.make_location().await;
        Self {
            app: format!("app-{}", ark.namespace),
            node,
            ark,
        }
    }

    /// A path in the location.
    pub(crate) fn stored(&self, path: &str) -> PathBuf {
        self.bucket().join(path)
    }

    /// Any objects, by resource `deployments.apps` and namespace.
    pub(crate) async fn any(&self, resource: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let list = if group.is_empty() {
            self.client.list_core_api_resources("v1").await
        } else {
            self.client
                .list_api_group_resources(&format!("{group}/v1"))
                .await
        }
        .unwrap();
        let found = list
            .resources
            .into_iter()
            .find(|r| r.name == plural)
            .unwrap();
        let kind = kube::core::ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: list.group_version,
            kind: found.kind,
            plural: plural.to_owned(),
        };
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        }
    }

    /// Creates an object.
    pub(crate) async fn make(&self, resource: &str, object: Value) -> Value {
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let api = self.any(resource, namespace.as_deref()).await;
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        serde_json::to_value(made).unwrap()
    }

    /// An object as it is now.
    pub(crate) async fn get(
        &self,
        resource: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Value> {
        let found = self
            .any(resource, namespace)
            .await
            .get_opt(name)
            .await
            .unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// Waits until `look` gives something.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn(&Self) -> Option<T>) -> T {
        let found = async { ark_tests::node::until(what, async || look(self).await).await };
        // What the operator says is of use only while the test still runs.
        match tokio::time::timeout(
            LIMIT.saturating_sub(std::time::Duration::from_secs(1)),
            found,
        )
        .await
        {
            Ok(found) => found,
            Err(tokio::time::error::Elapsed { .. }) => {
                panic!("no {what} in time; the operator says:\n{}", self.tail())
            }
        }
    }

    /// Lays a backup into the store and makes its Backup object.
    pub(crate) async fn stored_backup(&self, name: &str, objects: &[Value], rows: Value) -> Backup {
        let backup = self
            .backup_object(name, json!({"phase": "Completed"}))
            .await;
        self.write(&layout::bundle(name), &bundle(objects));
        self.write(
            &layout::volume_rows(name),
            &gzip(&serde_json::to_vec(&rows).unwrap()),
        );
        self.write(&layout::marker(name), &serde_json::to_vec(&backup).unwrap());
        backup
    }

    /// A Backup object alone.
    pub(crate) async fn backup_object(&self, name: &str, status: Value) -> Backup {
        let backup: Backup = serde_json::from_value(json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Backup", "metadata": {"name": name},
            // Its origin keeps the backup controller away.
            "spec": {"storageLocation": "default",
                     "origin": {"location": "default", "cluster": "c", "uid": format!("uid-{name}")}},
        }))
        .unwrap();
        let api: Api<Backup> = self.api();
        api.create(&PostParams::default(), &backup).await.unwrap();
        let patch = json!({ "status": status });
        let mut backup = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        backup.metadata.uid = Some(format!("uid-{name}"));
        backup
    }

    /// Writes into the location.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.stored(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Creates a Restore.
    pub(crate) async fn restore(&self, name: &str, spec: Value) {
        let restore: Restore = serde_json::from_value(json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "Restore",
            "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap();
        self.api()
            .create(&PostParams::default(), &restore)
            .await
            .unwrap();
    }

    /// The status of a Restore.
    pub(crate) async fn status(&self, name: &str) -> RestoreStatus {
        let restore: Restore = self.api().get(name).await.unwrap();
        restore.status.unwrap_or_default()
    }

    /// Waits for the end of a Restore.
    pub(crate) async fn finished(&self, name: &str) -> (RestorePhase, RestoreStatus) {
        self.until(&format!("end of restore {name}"), async |w| {
            let status = w.status(name).await;
            let phase = status.phase.unwrap_or_default();
            phase.is_terminal().then_some((phase, status))
        })
        .await
    }

    /// The results of a Restore.
    pub(crate) fn outcome(&self, name: &str) -> Results {
        let bytes = std::fs::read(self.stored(&layout::restore_results(name))).unwrap();
        serde_json::from_reader(GzDecoder::new(bytes.as_slice())).unwrap()
    }

    /// What a restore did with an object.
    pub(crate) fn row(&self, restore: &str, resource: &str, name: &str) -> ItemRow {
        let results = self.outcome(restore);
        let found = results
            .items
            .iter()
            .find(|r| r.resource == resource && r.name == name);
        found
            .unwrap_or_else(|| panic!("no row {resource} {name} in {:#?}", results.items))
            .clone()
    }

    /// What a restore did with an object, in a word.
    pub(crate) fn action(&self, restore: &str, resource: &str, name: &str) -> ItemAction {
        self.row(restore, resource, name).action
    }

    /// Plays the scheduler for one pod of the application.
    pub(crate) async fn schedule(&self, pod: &str, node: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.app);
        self.until(&format!("pod {pod}"), async |_| {
            pods.get_opt(pod).await.unwrap()
        })
        .await;
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod, "namespace": self.app},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let result: kube::Result<Value> = pods
            .create_subresource("binding", pod, &PostParams::default(), &binding)
            .await;
        result.unwrap();
    }

    /// Plays the provisioner for one claim of the application.
    pub(crate) async fn provision(&self, claim: &str) {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"generateName": "made-"},
            "spec": {"capacity": {"storage": "1Gi"},
                     "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                     "storageClassName": "manual", "hostPath": {"path": "/nowhere"},
                     "claimRef": {"namespace": self.app, "name": claim}}});
        volumes
            .create(
                &PostParams::default(),
                &serde_json::from_value(volume).unwrap(),
            )
            .await
            .unwrap();
    }

    /// The PodVolumeRestores of this world, once there are `count`.
    pub(crate) async fn fills(&self, count: usize) -> Vec<PodVolumeRestore> {
        let api: Api<PodVolumeRestore> = self.api();
        self.until(&format!("{count} PodVolumeRestores"), async |_| {
            let list = api.list(&ListParams::default()).await.unwrap().items;
            (list.len() >= count).then_some(list)
        })
        .await
    }

    /// Plays the agent: ends a PodVolumeRestore.
    pub(crate) async fn end(&self, fill: &PodVolumeRestore, phase: VolumePhase, message: &str) {
        let name = fill.metadata.name.as_deref().unwrap();
        let patch = json!({"status": {"phase": phase, "message": message,
            "progress": {"totalBytes": 42, "bytesDone": 42, "filesDone": 1}}});
        self.api::<PodVolumeRestore>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        if phase == VolumePhase::Completed {
            for pod in [&fill.spec.pod].into_iter().chain(&fill.spec.gates) {
                self.open_gate(&pod.name).await;
            }
        }
    }

    /// Plays the agent that finds a volume with files in it and leaves it as it is.
    pub(crate) async fn keep(&self, fill: &PodVolumeRestore) {
        let name = fill.metadata.name.as_deref().unwrap();
        let patch = json!({"status": {"phase": "Completed", "reason": reason::VOLUME_NOT_EMPTY,
            "message": "the volume held files already"}});
        self.api::<PodVolumeRestore>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        self.open_gate(&fill.spec.pod.name).await;
    }

    /// Plays the kubelet: the gate of a pod has ended well.
    pub(crate) async fn open_gate(&self, pod: &str) {
        self.gate_status(pod, json!({"terminated": {"exitCode": 0}}))
            .await;
    }

    /// Plays the kubelet: the gate of a pod is in this state. A pod that is gone has none.
    pub(crate) async fn gate_status(&self, pod: &str, state: Value) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.app);
        let patch = json!({"status": {"initContainerStatuses": [{
            "name": "ark-restore-wait", "image": "none", "imageID": "", "ready": false,
            "restartCount": 0, "state": state}]}});
        match pods
            .patch_status(pod, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Has the cluster make an application, takes it as it then is, and deletes its namespace.
    pub(crate) async fn lose(
        &self,
        manifests: &[(&str, Value)],
        kinds: &[&str],
        ready: impl AsyncFn(&Self) -> bool,
    ) -> Vec<Value> {
        for (resource, object) in manifests {
            self.make(resource, object.clone()).await;
        }
        self.until("the application", async |w| ready(w).await.then_some(()))
            .await;
        let mut taken = Vec::new();
        for kind in kinds {
            let list: Value =
                serde_json::from_str(&kubectl(&["get", kind, "-n", &self.app, "-o", "json"]))
                    .unwrap();
            taken.extend(list["items"].as_array().unwrap().clone());
        }
        taken.push(self.get("namespaces", None, &self.app).await.unwrap());
        kubectl(&["delete", "namespace", &self.app, "--timeout=60s"]);
        taken
    }
}

/// Runs kubectl as administrator.
pub(crate) fn kubectl(args: &[&str]) -> String {
    let output = PLANE.kubectl().unwrap().args(args).output().unwrap();
    assert!(
        output.status.success(),
        "kubectl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Packs bytes.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A bundle in the layout every backup has.
pub(crate) fn bundle(objects: &[Value]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, content).unwrap();
    };
    add("metadata/version", b"1.1.0\n");
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap().to_lowercase();
        let plural = match kind.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None if kind.ends_with('s') => format!("{kind}es"),
            None => format!("{kind}s"),
        };
        let resource = match text("/apiVersion").unwrap().split_once('/') {
            Some((group, _)) => format!("{plural}.{group}"),
            None => plural,
        };
        let name = text("/metadata/name").unwrap();
        let place = match text("/metadata/namespace") {
            Some(namespace) => format!("namespaces/{namespace}"),
            None => "cluster".to_owned(),
        };
        add(
            &format!("resources/{resource}/{place}/{name}.json"),
            &serde_json::to_vec(object).unwrap(),
        );
    }
    gzip(&builder.into_inner().unwrap())
}

/// A volume row of a volume whose files are in the backup.
pub(crate) fn taken(namespace: &str, pod: &str, volume: &str, claim: Option<&str>) -> Value {
    json!({"namespace": namespace, "pod": pod, "volume": volume, "claim": claim, "class": "taken",
           "method": "files", "reason": "Completed", "snapshotID": "ab".repeat(32)})
}

/// A pod with volumes: name and claim, or `""` for an emptyDir.
pub(crate) fn pod(namespace: &str, name: &str, volumes: &[(&str, &str)]) -> Value {
    let volumes: Vec<Value> = volumes
        .iter()
        .map(|(name, claim)| match *claim {
            "" => json!({"name": name, "emptyDir": {}}),
            claim => json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}),
        })
        .collect();
    let mounts: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({"name": volume["name"], "mountPath": format!("/{}", volume["name"].as_str().unwrap())}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web", "volumeMounts": mounts}], "volumes": volumes},
        "status": {"phase": "Running"}})
}

/// A claim of the class that the test provisions by hand.
pub(crate) fn claim(namespace: &str, name: &str, mode: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace,
                     "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": [mode], "storageClassName": "manual", "volumeName": "pv-before",
                 "resources": {"requests": {"storage": "1Gi"}}}})
}

/// A ConfigMap with one value.
pub(crate) fn config_map(namespace: &str, name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"name": name, "namespace": namespace}, "data": {"key": value}})
}

/// The gate of a pod: the volumes it waits for.
pub(crate) fn gate(pod: &Value) -> Option<String> {
    let first = pod.pointer("/spec/initContainers/0")?;
    (first["name"] == "ark-restore-wait").then(|| first["command"][2].as_str().unwrap().to_owned())
}
