//! What a backup holds of volumes: snapshots by pod and volume, and by claim; and what it lacks.
//!
//! The volume rows of the backup are read first; a backup without them (Velero's) is described by
//! its `PodVolumeBackup`s alone. Every volume without data has a [`Lack`] that says how bad that
//! is. Both come from a bucket: a snapshot id that is none is refused.

use std::collections::HashMap;

use ark_api::PodVolumeBackup;
use ark_api::annotation;
use ark_api::pod_volume_backup::VolumePhase;
use ark_api::volume::{VolumeClass, VolumeMethod, VolumeReason, VolumeRow};

use super::PodVolume;

/// The files of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Namespace in the backup, which is also that of the repository.
    pub(crate) namespace: String,
    /// Snapshot id, at least eight hexadecimal digits.
    pub(crate) snapshot: String,
    /// Some files are not in it.
    pub(crate) partial: bool,
}

/// A volume of a pod that is to be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The volume.
    pub(crate) volume: PodVolume,
    /// Its files.
    pub(crate) stored: Stored,
}

/// How bad it is that a volume's data is not in the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LackKind {
    /// There was nothing to store.
    Nothing,
    /// The user left it out.
    Chosen,
    /// Nobody asked for it, and it may hold data.
    Unprotected,
    /// It was to be stored.
    Failed,
}

/// That a volume's data is not in the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// How bad it is.
    pub(crate) kind: LackKind,
    /// Why it is not there, for a person.
    pub(crate) why: String,
}

/// What the backup holds of volumes.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    by_pod: HashMap<(String, String, String), Stored>,
    by_claim: HashMap<(String, String), Stored>,
    lacks_by_pod: HashMap<(String, String, String), Lack>,
    lacks_by_claim: HashMap<(String, String), Lack>,
}

impl Stock {
    /// Reads rows and volume backups. `rows` is `None` when the backup has no such file.
    pub(crate) fn read(rows: Option<&[VolumeRow]>, backups: &[PodVolumeBackup]) -> Self {
        let mut stock = Self::default();
        match rows {
            Some(rows) => rows.iter().for_each(|row| stock.add_row(row, backups)),
            None => backups.iter().for_each(|backup| stock.add_backup(backup)),
        }
        stock
    }

    fn add_row(&mut self, row: &VolumeRow, backups: &[PodVolumeBackup]) {
        let VolumeRow {
            namespace,
            pod,
            volume,
            claim,
            class,
            method,
            reason,
            message,
            pod_volume_backup,
            snapshot_id,
            bytes: _,
            new_bytes: _,
            files: _,
        } = row;
        let at = Place {
            namespace,
            pod: pod.as_deref(),
            volume: volume.as_deref(),
            claim: claim.as_deref(),
        };
        let detail = message
            .as_deref()
            .map(|m| format!(": {m}"))
            .unwrap_or_default();
        let said = format!("{reason:?}{detail}");
        match class {
            VolumeClass::Chosen => return self.lack(at, LackKind::Chosen, said),
            VolumeClass::NotData => return self.lack(at, LackKind::Nothing, said),
            VolumeClass::Unprotected => return self.lack(at, LackKind::Unprotected, said),
            VolumeClass::Failed => return self.lack(at, LackKind::Failed, said),
            VolumeClass::Taken | VolumeClass::Partial => {}
        }
        if *reason == VolumeReason::TakenThroughOtherPod && snapshot_id.is_none() {
            // Found through its claim.
            return;
        }
        if *method == Some(VolumeMethod::DiskSnapshot) {
            let why = "it is in a disk snapshot, which this version cannot restore";
            return self.lack(at, LackKind::Failed, why.to_owned());
        }
        let snapshot = snapshot_id.clone().or_else(|| {
            let name = pod_volume_backup.as_deref()?;
            backups
                .iter()
                .find(|b| b.metadata.name.as_deref() == Some(name))?
                .status
                .as_ref()?
                .snapshot_id
                .clone()
        });
        let partial = *class == VolumeClass::Partial;
        self.add(at, snapshot.as_deref(), partial);
    }

    fn add_backup(&mut self, backup: &PodVolumeBackup) {
        let spec = &backup.spec;
        let (pod, volume) = (spec.pod.name.as_str(), spec.volume.as_str());
        let annotations = backup.metadata.annotations.as_ref();
        let claim = spec
            .claim
            .as_ref()
            .map(|claim| claim.name.as_str())
            .or_else(|| annotation::get(annotations?, annotation::PVC_NAME));
        let at = Place {
            namespace: &spec.pod.namespace,
            pod: Some(pod),
            volume: Some(volume),
            claim,
        };
        let status = backup.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        if spec.uploader_type.as_deref() == Some("kopia") {
            let why = "it was stored by kopia, which Ark cannot read".to_owned();
            return self.lack(at, LackKind::Failed, why);
        }
        let usable = matches!(phase, VolumePhase::Completed | VolumePhase::PartiallyFailed);
        if !usable {
            let why = status.message.unwrap_or_else(|| format!("{phase:?}"));
            return self.lack(at, LackKind::Failed, why);
        }
        // An empty volume has no snapshot in Velero's backups, and needs none.
        if status.snapshot_id.as_deref().is_none_or(str::is_empty) {
            return self.lack(at, LackKind::Nothing, "it was empty".to_owned());
        }
        self.add(
            at,
            status.snapshot_id.as_deref(),
            phase == VolumePhase::PartiallyFailed,
        );
    }

    fn add(&mut self, at: Place<'_>, snapshot: Option<&str>, partial: bool) {
        let Some(snapshot) = snapshot.filter(|id| is_snapshot_id(id)) else {
            let why = "the backup names no snapshot of it".to_owned();
            return self.lack(at, LackKind::Failed, why);
        };
        let stored = Stored {
            namespace: at.namespace.to_owned(),
            snapshot: snapshot.to_owned(),
            partial,
        };
        if let Some(key) = at.claim_key() {
            self.by_claim.entry(key).or_insert_with(|| stored.clone());
        }
        if let Some(key) = at.pod_key() {
            self.by_pod.insert(key, stored);
        }
    }

    fn lack(&mut self, at: Place<'_>, kind: LackKind, why: String) {
        let lack = Lack { kind, why };
        if let Some(key) = at.pod_key() {
            self.lacks_by_pod.insert(key, lack.clone());
        }
        if let Some(key) = at.claim_key() {
            let known = self
                .lacks_by_claim
                .entry(key)
                .or_insert_with(|| lack.clone());
            if known.kind < lack.kind {
                *known = lack;
            }
        }
    }

    /// Why the files of a claim are not in the backup; of one whose files are there, nothing.
    pub(crate) fn claim_lack(&self, namespace: &str, claim: &str) -> Option<Lack> {
        if self.has_claim(namespace, claim) {
            return None;
        }
        let known = self
            .lacks_by_claim
            .get(&(namespace.to_owned(), claim.to_owned()));
        Some(known.cloned().unwrap_or_else(|| Lack {
            kind: LackKind::Unprotected,
            why: "the backup does not mention it".to_owned(),
        }))
    }

    /// Why the backup does not hold the files of a volume that is not among [`Self::wanted`]. `None`: there is
    /// no reason to expect any.
    pub(crate) fn volume_lack(
        &self,
        namespace: &str,
        pod: &str,
        volume: &PodVolume,
    ) -> Option<Lack> {
        let key = (namespace.to_owned(), pod.to_owned(), volume.name.clone());
        if let Some(lack) = self.lacks_by_pod.get(&key) {
            return Some(lack.clone());
        }
        self.claim_lack(namespace, volume.claim.as_deref()?)
    }

    /// Whether the files of a claim are in the backup.
    pub(crate) fn has_claim(&self, namespace: &str, claim: &str) -> bool {
        self.by_claim
            .contains_key(&(namespace.to_owned(), claim.to_owned()))
    }

    /// The volumes of one pod that the backup holds files of.
    pub(crate) fn wanted(
        &self,
        namespace: &str,
        pod: &str,
        volumes: Vec<PodVolume>,
    ) -> Vec<Wanted> {
        volumes
            .into_iter()
            .filter_map(|volume| {
                let by_claim = || {
                    let claim = volume.claim.clone()?;
                    self.by_claim.get(&(namespace.to_owned(), claim))
                };
                let key = (namespace.to_owned(), pod.to_owned(), volume.name.clone());
                let stored = self.by_pod.get(&key).or_else(by_claim)?.clone();
                Some(Wanted { volume, stored })
            })
            .collect()
    }
}

/// Eight to sixty-four hexadecimal digits.
fn is_snapshot_id(id: &str) -> bool {
    (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What a row is about.
#[derive(Clone, Copy)]
struct Place<'a> {
    namespace: &'a str,
    pod: Option<&'a str>,
    volume: Option<&'a str>,
    claim: Option<&'a str>,
}

impl Place<'_> {
    fn pod_key(&self) -> Option<(String, String, String)> {
        let (pod, volume) = self.pod.zip(self.volume)?;
        Some((self.namespace.to_owned(), pod.to_owned(), volume.to_owned()))
    }

    fn claim_key(&self) -> Option<(String, String)> {
        Some((self.namespace.to_owned(), self.claim?.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::volumes::of_pod;

    fn id(c: char) -> String {
        c.to_string().repeat(64)
    }

    fn row(value: serde_json::Value) -> VolumeRow {
        serde_json::from_value(value).unwrap()
    }

    fn names(wanted: &[Wanted]) -> Vec<(String, String)> {
        wanted
            .iter()
            .map(|w| (w.volume.name.clone(), w.stored.snapshot[..1].to_owned()))
            .collect()
    }

    fn pod(name: &str) -> Vec<PodVolume> {
        of_pod(&json!({"metadata": {"name": name}, "spec": {"volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "shared"}},
            {"name": "cache", "emptyDir": {}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "cfg", "configMap": {"name": "x"}},
            {"name": "host", "hostPath": {"path": "/"}},
        ]}}))
    }

    #[test]
    fn rows_by_pod_and_by_claim() {
        let rows = [
            row(
                json!({"namespace": "web", "pod": "a", "volume": "data", "claim": "shared",
                "class": "taken", "method": "files", "reason": "Completed", "snapshotID": id('a')}),
            ),
            row(
                json!({"namespace": "web", "pod": "b", "volume": "data", "claim": "shared",
                "class": "taken", "method": "files", "reason": "TakenThroughOtherPod"}),
            ),
            row(json!({"namespace": "web", "pod": "a", "volume": "cache",
                "class": "partial", "method": "files", "reason": "UnreadableFiles", "snapshotID": id('c')})),
            row(
                json!({"namespace": "web", "pod": "a", "volume": "scratch", "claim": "a-scratch",
                "class": "taken", "method": "files", "reason": "Completed", "snapshotID": id('e')}),
            ),
            row(json!({"namespace": "web", "pod": "a", "volume": "cfg",
                "class": "notData", "reason": "NoDataOfItsOwn"})),
            row(json!({"namespace": "web", "claim": "lonely",
                "class": "unprotected", "reason": "NotMounted"})),
            row(json!({"namespace": "web", "pod": "c", "volume": "data",
                "class": "failed", "reason": "NoAgentOnNode", "message": "node n1"})),
            row(json!({"namespace": "web", "pod": "c", "volume": "odd",
                "class": "taken", "reason": "Completed", "snapshotID": "../../etc"})),
        ];
        let stock = Stock::read(Some(&rows), &[]);
        assert_eq!(
            names(&stock.wanted("web", "a", pod("a"))),
            [("data", "a"), ("cache", "c"), ("scratch", "e")].map(|(v, s)| (v.into(), s.into()))
        );
        assert!(stock.wanted("web", "a", pod("a"))[1].stored.partial);
        assert_eq!(
            names(&stock.wanted("web", "b", pod("b"))),
            [("data".to_owned(), "a".to_owned())]
        );
        // The same pod and claim in another namespace are others.
        assert!(stock.wanted("other", "a", pod("a")).is_empty());
        assert!(stock.has_claim("web", "shared") && !stock.has_claim("web", "lonely"));
        let lack = |pod: &str, name: &str, claim: Option<&str>| {
            let volume = PodVolume {
                name: name.to_owned(),
                claim: claim.map(str::to_owned),
                ephemeral: false,
            };
            stock
                .volume_lack("web", pod, &volume)
                .map(|lack| (lack.kind, lack.why))
        };
        let failed = lack("c", "data", None).unwrap();
        assert_eq!(failed.0, LackKind::Failed);
        assert!(failed.1.contains("node n1"), "{}", failed.1);
        assert_eq!(lack("c", "odd", None).unwrap().0, LackKind::Failed);
        assert_eq!(lack("a", "cfg", None).unwrap().0, LackKind::Nothing);
        let lonely = stock.claim_lack("web", "lonely").unwrap();
        assert_eq!(lonely.kind, LackKind::Unprotected);
        // A claim without a word in the backup is as bad; an emptyDir is none of anybody's.
        let silent = lack("z", "d", Some("never-seen")).unwrap();
        assert_eq!(silent.0, LackKind::Unprotected);
        assert_eq!(lack("z", "d", None), None);
        assert_eq!(stock.claim_lack("web", "shared"), None);
    }

    #[test]
    fn velero_backups_are_read_from_their_volume_backups() {
        let backup = |pod: &str, phase: &str, snapshot: &str, uploader: &str| -> PodVolumeBackup {
            serde_json::from_value(json!({
                "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
                "metadata": {"name": format!("b-{pod}"), "annotations": {"velero.io/pvc-name": "shared"}},
                "spec": {"node": "n", "pod": {"kind": "Pod", "namespace": "web", "name": pod, "uid": "u"},
                    "volume": "data", "backupStorageLocation": "default", "uploaderType": uploader,
                    "repoIdentifier": "s3:x", "tags": {"volume": "data"}},
                "status": {"phase": phase, "snapshotID": snapshot, "path": "/x"},
            }))
            .unwrap()
        };
        let backups = [
            backup("a", "Completed", "0123abcd", "restic"),
            backup("b", "Completed", "", "restic"),
            backup("c", "Failed", "", "restic"),
            backup("d", "Completed", "k1234567890", "kopia"),
        ];
        let stock = Stock::read(None, &backups);
        assert_eq!(stock.wanted("web", "a", pod("a")).len(), 1);
        assert!(stock.has_claim("web", "shared"));
        for (pod, kind) in [
            ("b", LackKind::Nothing),
            ("c", LackKind::Failed),
            ("d", LackKind::Failed),
        ] {
            let key = ("web".to_owned(), pod.to_owned(), "data".to_owned());
            assert_eq!(stock.lacks_by_pod[&key].kind, kind, "{pod}");
        }
    }

    #[test]
    fn a_row_finds_the_snapshot_of_its_volume_backup() {
        let backup: PodVolumeBackup = serde_json::from_value(json!({
            "apiVersion": "ark.heptio.com/v1", "kind": "PodVolumeBackup",
            "metadata": {"name": "x"}, "spec": {}, "status": {"snapshotID": id('d')},
        }))
        .unwrap();
        let rows = [row(
            json!({"namespace": "web", "pod": "a", "volume": "cache",
            "class": "taken", "reason": "Completed", "podVolumeBackup": "x"}),
        )];
        let stock = Stock::read(Some(&rows), &[backup]);
        assert_eq!(
            names(&stock.wanted("web", "a", pod("a"))),
            [("cache".to_owned(), "d".to_owned())]
        );
    }
}
