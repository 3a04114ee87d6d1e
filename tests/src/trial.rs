//! An application on the real cluster, and the commands its owner would type. Shared by the tests
//! with a node.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use xtask::cluster::Cluster;
use xtask::install::NAMESPACE;
use xtask::wait::{self, Look};
use xtask::{exec, image};

/// Longest wait for anything that an application does.
pub const LIMIT: Duration = Duration::from_mins(2);

/// An application in a namespace of its own.
pub struct Trial {
    cluster: &'static Cluster,
    /// The application's namespace.
    pub namespace: String,
    /// Makes the names of backups and restores unique among runs.
    run: String,
    /// So many backups were made.
    backups: AtomicU32,
}

/// A container of the test image that runs `script` with `sh`.
pub fn container(script: &str, mounts: &[(&str, &str)]) -> Value {
    let mounts: Vec<Value> = mounts
        .iter()
        .map(|(name, path)| json!({"name": name, "mountPath": path}))
        .collect();
    json!({
        "name": "c", "image": image::BUSYBOX, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script], "volumeMounts": mounts,
    })
}

/// A claim of ten mebibytes.
pub fn claim(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    })
}

/// A volume of a pod that uses the claim of its name.
pub fn claim_volume(name: &str) -> Value {
    json!({"name": name, "persistentVolumeClaim": {"claimName": name}})
}

/// A Deployment of one pod that is replaced before the next one starts.
pub fn deployment(name: &str, namespace: &str, volumes: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, volumes, pod),
        },
    })
}

/// A pod template labelled `app=<name>` whose `volumes` are backed up.
pub fn template(name: &str, volumes: &str, pod: &Value) -> Value {
    let mut spec = pod.clone();
    spec["terminationGracePeriodSeconds"] = json!(0);
    json!({
        "metadata": {
            "labels": {"app": name},
            "annotations": {ark_api::annotation::BACKUP_VOLUMES: volumes},
        },
        "spec": spec,
    })
}

impl Trial {
    /// An empty namespace with `labels` on a cluster where Ark is installed.
    pub fn start(cluster: &'static Cluster, namespace: &str, labels: &Value) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let trial = Self {
            cluster,
            namespace: namespace.to_owned(),
            run: format!("{now:x}"),
            backups: AtomicU32::new(0),
        };
        // An earlier run may have left it.
        trial.lose()?;
        trial.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": labels},
        })])?;
        Ok(trial)
    }

    /// The cluster.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Runs kubectl as administrator and returns its output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        exec::output(self.cluster.kubectl()?.args(args))
    }

    /// Runs kubectl in the application's namespace.
    pub fn here(&self, args: &[&str]) -> Result<String> {
        let namespace = ["--namespace", &self.namespace];
        self.kubectl(&[&namespace[..], args].concat())
    }

    /// An object, or a list of objects, of the application's namespace.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let words = [&["get"][..], args, &["--output", "json"]].concat();
        serde_json::from_str(&self.here(&words)?).context("kubectl's answer is no JSON")
    }

    /// Creates or changes objects.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let mut kubectl = self.cluster.kubectl()?;
        kubectl.args(["apply", "--filename", "-"]);
        exec::output_with_input(&mut kubectl, &list.to_string()).map(drop)
    }

    /// Backs the namespace up, with further arguments, and returns the backup's name.
    /// Fails unless the backup is `phase`.
    pub fn back_up(&self, phase: &str, args: &[&str]) -> Result<String> {
        let (name, words) = self.new_backup(args);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.ark_waits("backup", &name, &words, phase)?;
        Ok(name)
    }

    /// Begins a backup of the namespace, with further arguments, and returns its name.
    pub fn begin_backup(&self, args: &[&str]) -> Result<String> {
        let (name, words) = self.new_backup(args);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.ark(&words)?;
        Ok(name)
    }

    /// Deletes a backup and waits until the backup and all it stored are gone.
    pub fn delete_backup(&self, name: &str) -> Result<()> {
        self.ark(&[
            "backup",
            "delete",
            name,
            "--confirm",
            "--wait",
            "--timeout",
            "2m",
        ])
        .map(drop)
    }

    /// A name that was not used before, and the words that back the namespace up under it.
    fn new_backup(&self, args: &[&str]) -> (String, Vec<String>) {
        let name = self.new_name();
        let mut words = self.backup_words(&name);
        words.extend(args.iter().map(|&word| word.to_owned()));
        (name, words)
    }

    fn new_name(&self) -> String {
        let number = self.backups.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{number}", self.namespace, self.run)
    }

    fn backup_words(&self, name: &str) -> Vec<String> {
        [
            "backup",
            "create",
            name,
            "--include-namespaces",
            &self.namespace,
        ]
        .map(str::to_owned)
        .into()
    }

    /// Runs `ark` and returns its output; fails unless it ends well.
    pub fn ark(&self, words: &[&str]) -> Result<String> {
        exec::output(self.cluster.program("ark")?.args(words))
    }

    /// An object of Ark's own, `backups` NAME.
    pub fn own(&self, kind: &str, name: &str) -> Result<Value> {
        let resource = format!("{kind}.ark.heptio.com");
        self.cluster
            .get(&[&resource, name, "--namespace", NAMESPACE])
    }

    /// All objects of Ark's own of a kind that carry a label.
    pub fn owned(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let resource = format!("{kind}.ark.heptio.com");
        let words = [&resource, "--namespace", NAMESPACE, "--selector", selector];
        Ok(items(&self.cluster.get(&words)?).cloned().collect())
    }

    /// Restores `backup`, with further arguments, and returns the Restore. `nth` tells the restores
    /// of one trial apart. Fails unless the restore is `phase`.
    pub fn restore(&self, backup: &str, nth: u32, phase: &str, args: &[&str]) -> Result<Value> {
        let name = format!("{backup}-{nth}");
        let words = ["restore", "create", &name, "--from-backup", backup];
        self.ark_waits("restore", &name, &[&words[..], args].concat(), phase)
    }

    /// Runs a command of `ark` that waits, and returns the object it works on, which must be `phase` then.
    pub fn ark_waits(&self, noun: &str, name: &str, words: &[&str], phase: &str) -> Result<Value> {
        let mut ark = self.cluster.program("ark")?;
        ark.args(words).args(["--wait", "--timeout", "4m"]);
        // The exit code follows the phase, which is looked at below.
        let output = ark.output().context("cannot start ark")?;
        let object = self
            .own(&format!("{noun}s"), name)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        if object["status"]["phase"] != phase {
            let mut describe = self.cluster.program("ark")?;
            describe.args([noun, "describe", name, "--details"]);
            let described = exec::output(&mut describe).unwrap_or_else(|e| format!("{e:#}"));
            bail!("{noun} {name} is not {phase}:\n{described}");
        }
        Ok(object)
    }

    /// Deletes the namespace, and waits until it and the volumes of its claims are gone.
    pub fn lose(&self) -> Result<()> {
        let namespace = &self.namespace;
        self.leave()?;
        self.kubectl(&[
            "delete",
            "namespace",
            namespace,
            "--ignore-not-found",
            "--timeout=120s",
        ])?;
        wait::until("the end of the claims' volumes", LIMIT, || {
            let volumes = self.cluster.get(&["persistentvolumes"])?;
            let left: Vec<&str> = items(&volumes)
                .filter(|volume| volume["spec"]["claimRef"]["namespace"] == namespace.as_str())
                .filter(|volume| volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete")
                .filter_map(|volume| volume["metadata"]["name"].as_str())
                .collect();
            Ok(if left.is_empty() {
                Look::Ready(())
            } else {
                Look::NotYet(left.join(", "))
            })
        })
    }

    /// Deletes the namespace and waits for nothing: a later run does, if there is one.
    pub fn leave(&self) -> Result<()> {
        self.kubectl(&[
            "delete",
            "namespace",
            &self.namespace,
            "--ignore-not-found",
            "--wait=false",
        ])?;
        // The namespace controller begins five seconds later, and each time it still finds
        // something it comes back eight seconds later. If claims and pods have gone by themselves
        // by then, it finds nothing.
        self.here(&[
            "delete",
            "deployments,statefulsets,daemonsets,replicasets,jobs,pods,persistentvolumeclaims",
            "--all",
            "--ignore-not-found",
            "--wait=false",
        ])
        .map(drop)
    }

    /// Waits until every controller of the namespace has synced and has all its pods ready, and
    /// every pod that has no other owner in the template's labels belongs to one.
    pub fn works(&self) -> Result<()> {
        wait::until("the application to work", LIMIT, || {
            let controllers = self.get(&["deployments,statefulsets,daemonsets,replicasets"])?;
            for controller in items(&controllers) {
                if let Some(why) = not_synced(controller) {
                    return Ok(Look::NotYet(why));
                }
            }
            let pods = self.get(&["pods"])?;
            for pod in items(&pods) {
                if !is_ready(pod) {
                    return Ok(Look::NotYet(format!(
                        "pod {}: {}",
                        pod["metadata"]["name"], pod["status"]
                    )));
                }
            }
            Ok(Look::Ready(()))
        })
        .with_context(|| self.cluster.report(&self.namespace))
    }

    /// Waits until the rollout of `what` (`deployment/web`) is done.
    pub fn rolled_out(&self, what: &str) -> Result<()> {
        self.here(&["rollout", "status", what, "--timeout=90s"])
            .map(drop)
            .with_context(|| self.cluster.report(&self.namespace))
    }

    /// Output of a shell command in a pod (`deploy/web`).
    pub fn shell(&self, pod: &str, script: &str) -> Result<String> {
        let output = self.here(&["exec", pod, "--container", "c", "--", "sh", "-c", script])?;
        Ok(output.trim_end().to_owned())
    }

    /// Names of the pods labelled `app=<app>` that are not being deleted, and of their owners.
    pub fn pods_of(&self, app: &str) -> Result<BTreeSet<(String, String)>> {
        let pods = self.get(&["pods", "--selector", &format!("app={app}")])?;
        items(&pods)
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| {
                let name = pod["metadata"]["name"].as_str().context("a pod's name")?;
                let owner = pod["metadata"]["ownerReferences"][0]["kind"].as_str();
                let owner = owner.with_context(|| format!("pod {name} has no owner"))?;
                Ok((name.to_owned(), owner.to_owned()))
            })
            .collect()
    }
}

/// The items of a list.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// Why a controller has not done all that its spec says.
fn not_synced(controller: &Value) -> Option<String> {
    let what = format!(
        "{} {}",
        controller["kind"].as_str().unwrap_or_default(),
        controller["metadata"]["name"].as_str().unwrap_or_default()
    );
    let status = &controller["status"];
    if status["observedGeneration"] != controller["metadata"]["generation"] {
        return Some(format!("{what} has not synced: {status}"));
    }
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let (wanted, ready) = match controller["kind"].as_str() {
        Some("DaemonSet") => (
            number(&status["desiredNumberScheduled"]),
            number(&status["numberReady"]),
        ),
        _ => (
            number(&controller["spec"]["replicas"]),
            number(&status["readyReplicas"]),
        ),
    };
    (wanted != ready).then(|| format!("{what}: {ready} of {wanted} pods are ready"))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
}
