//! The example application: deployed, filled, lost, and looked at again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::files::{self, Files};
use crate::cluster::Cluster;
use crate::wait::{self, Look};
use crate::{exec, http, place, print};

/// The namespace of the example.
pub(super) const NAMESPACE: &str = "nginx-example";
const CLAIM: &str = "nginx-html";
const LOGS: &str = "nginx-logs";
const LIMIT: Duration = Duration::from_mins(2);

/// What an archiver gets wrong first: times below a second, owners that are nobody here, modes,
/// links of both kinds, empty and odd names, empty folders, a file larger than a chunk.
const WRITE: &str = r#"
html=$1 logs=$2
find "$html" -mindepth 1 -delete
printf '<h1>Ark quickstart</h1>\n<p>Written %s by run %s.</p>\n' "$(date)" "$(cat /proc/sys/kernel/random/uuid)" >"$html/index.html"
mkdir -p "$html/assets/empty" "$html/many" "$logs/old"
head -c 9437184 /dev/urandom >"$html/assets/photo.bin"
: >"$html/assets/nothing"
printf 'odd' >"$html/assets/ an odd  name é.txt"
ln -s ../index.html "$html/assets/home"
ln "$html/assets/photo.bin" "$html/assets/photo-again.bin"
n=0
while [ $n -lt 200 ]; do echo "page $n" >"$html/many/$n.html"; n=$((n + 1)); done
printf 'secret\n' >"$html/assets/private"
chmod 600 "$html/assets/private"
chmod 2750 "$html/assets/empty"
chown 101:4242 "$html/assets/private" "$html/assets/empty"
chown -h 33:33 "$html/assets/home"
echo '10.0.0.1 - - "GET / HTTP/1.1" 200' >"$logs/old/access.log.1"
chmod 640 "$logs/old/access.log.1"
touch -d '2019-03-04 05:06:07.123456789 UTC' "$html/assets/photo.bin" "$logs/old/access.log.1"
touch -h -d '2020-01-02 03:04:05.000000001 UTC' "$html/assets/home"
touch -d '2021-05-06 07:08:09.987654321 UTC' "$html/assets" "$html/assets/empty" "$logs/old"
touch -d '2022-02-02 02:02:02.222222222 UTC' "$html"
"#;

/// The application as it runs now.
pub(super) struct App<'a> {
    cluster: &'a Cluster,
    pod: String,
    pod_uid: String,
    address: Ipv4Addr,
    volume: String,
}

/// What is in the two volumes.
pub(super) struct Content {
    volumes: BTreeMap<&'static str, Files>,
    page: Vec<u8>,
}

impl Content {
    /// How many files, folders and links there are.
    pub(super) fn entries(&self) -> usize {
        self.volumes.values().map(Files::len).sum()
    }
}

impl<'a> App<'a> {
    /// Deploys the example, or takes the one that is there.
    pub(super) fn deploy(cluster: &'a Cluster) -> Result<Self> {
        print::step("deploying the example application");
        wait_not_deleting(cluster)?;
        let mut kubectl = cluster.program("kubectl")?;
        kubectl.args(["apply", "--filename"]);
        exec::run(kubectl.arg(place::workspace().join("examples/nginx-app")))?;
        Self::wait_ready(cluster)
    }

    /// Waits until the application runs, and looks at it.
    pub(super) fn wait_ready(cluster: &'a Cluster) -> Result<Self> {
        cluster.rollout(NAMESPACE, "deployment/nginx")?;
        let look = || Self::look(cluster);
        wait::until("one running pod of the application", LIMIT, look)
            .with_context(|| cluster.report(NAMESPACE))
    }

    fn look(cluster: &'a Cluster) -> Result<Look<Self>> {
        let list = cluster.get(&["pods", "--namespace", NAMESPACE, "--selector", "app=nginx"])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let [pod] = &items[..] else {
            return Ok(Look::NotYet(format!("{} pods", items.len())));
        };
        if !is_ready(pod) {
            return Ok(Look::NotYet(format!("not ready: {}", pod["status"])));
        }
        let claim = cluster.get(&["pvc", CLAIM, "--namespace", NAMESPACE])?;
        Ok(Look::Ready(Self {
            cluster,
            pod: text_at(pod, "/metadata/name")?.to_owned(),
            pod_uid: text_at(pod, "/metadata/uid")?.to_owned(),
            address: text_at(pod, "/status/podIP")?
                .parse()
                .context("the pod's address")?,
            volume: text_at(&claim, "/spec/volumeName")?.to_owned(),
        }))
    }

    /// Where the kubelet has the volumes, as seen by the node.
    pub(super) fn volumes(&self) -> [(&'static str, PathBuf); 2] {
        let pod = self.cluster.kubelet_root().join("pods").join(&self.pod_uid);
        let volumes = pod.join("volumes");
        [
            (
                CLAIM,
                volumes
                    .join("kubernetes.io~local-volume")
                    .join(&self.volume),
            ),
            (LOGS, volumes.join("kubernetes.io~empty-dir").join(LOGS)),
        ]
    }

    /// Fills both volumes and remembers every entry.
    pub(super) fn write_content(&self) -> Result<Content> {
        print::step(&format!(
            "writing content into both volumes of pod {}",
            self.pod
        ));
        let [(_, html), (_, logs)] = self.volumes();
        let mut shell = self.cluster.node_command("sh")?;
        shell.args(["-euc", WRITE, "write"]).arg(html).arg(logs);
        exec::output(&mut shell).context("writing the content")?;
        let content = self.read()?;
        print::note(&format!("{} entries", content.entries()));
        Ok(content)
    }

    fn read(&self) -> Result<Content> {
        let mut volumes = BTreeMap::new();
        for (name, path) in self.volumes() {
            volumes.insert(name, files::read(self.cluster, &path)?);
        }
        let [(_, html), _] = self.volumes();
        let mut cat = self.cluster.node_command("cat")?;
        let page = exec::output(cat.arg(html.join("index.html")))?.into_bytes();
        Ok(Content { volumes, page })
    }

    /// Deletes the namespace, and waits until the claim's volume is gone as well.
    pub(super) fn delete(&self) -> Result<()> {
        print::step("losing it: the namespace is deleted, its volumes go with it");
        let mut kubectl = self.cluster.program("kubectl")?;
        exec::run(kubectl.args(["delete", "namespace", NAMESPACE, "--timeout=120s"]))?;
        let what = format!("end of volume {}", self.volume);
        wait::until(&what, LIMIT, || {
            let mut kubectl = self.cluster.kubectl()?;
            kubectl.args([
                "get",
                "pv",
                &self.volume,
                "--ignore-not-found",
                "--output=name",
            ]);
            Ok(if exec::output(&mut kubectl)?.trim().is_empty() {
                Look::Ready(())
            } else {
                Look::NotYet("still there".to_owned())
            })
        })
    }

    /// Checks that this application, restored, is the one from before on other volumes.
    pub(super) fn compare(&self, before: &App<'_>, content: &Content) -> Result<()> {
        print::step("comparing every file with what was written");
        ensure!(self.pod_uid != before.pod_uid, "the pod was never deleted");
        ensure!(
            self.volume != before.volume,
            "the claim is on its old volume: nothing was proven"
        );
        let now = self.read()?;
        let mut differences = Vec::new();
        for (name, files) in &content.volumes {
            let restored = now.volumes.get(name).context("a volume is missing")?;
            differences.extend(
                files
                    .differences(restored)
                    .into_iter()
                    .map(|one| format!("{name}: {one}")),
            );
            print::note(&format!("volume {name}: {} entries", restored.len()));
        }
        if !differences.is_empty() {
            for difference in differences.iter().take(30) {
                print::note(difference);
            }
            bail!("{} entries are not as they were written", differences.len());
        }
        self.fetch(&content.page)
    }

    /// Fetches the page over HTTP. It may take a moment from ready to serving.
    fn fetch(&self, wanted: &[u8]) -> Result<()> {
        let url = format!("http://{}/", self.address);
        wait::until(&format!("the page at {url}"), LIMIT, || {
            Ok(match http::get((self.address, 80), "/") {
                Ok(answer) if answer.status == 200 && answer.body == wanted => Look::Ready(()),
                Ok(answer) => Look::NotYet(format!(
                    "status {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                )),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })?;
        print::note(&format!("GET {url}"));
        print::note(String::from_utf8_lossy(wanted).trim_end());
        Ok(())
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
}

/// An interrupted run may have left the namespace on its way out.
fn wait_not_deleting(cluster: &Cluster) -> Result<()> {
    let mut kubectl = cluster.kubectl()?;
    kubectl.args(["get", "namespace", NAMESPACE, "--ignore-not-found"]);
    kubectl.args(["--output", "jsonpath={.status.phase}"]);
    if exec::output(&mut kubectl)?.trim() == "Terminating" {
        let mut kubectl = cluster.program("kubectl")?;
        kubectl.args([
            "wait",
            "--for=delete",
            "--timeout=120s",
            "namespace",
            NAMESPACE,
        ]);
        exec::run(&mut kubectl)?;
    }
    Ok(())
}

/// A text inside a JSON value, by its pointer.
fn text_at<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("{pointer} is missing"))
}
