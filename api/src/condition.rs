//! Condition types, their stable reasons, and the merge that keeps transition times right.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Type names of conditions.
pub mod kind {
    /// Backup, Restore: a terminal phase was reached; the reason says which.
    pub const FINISHED: &str = "Finished";
    /// Backup: every claim and data volume of the selected pods is covered.
    pub const ALL_VOLUMES_PROTECTED: &str = "AllVolumesProtected";
    /// Location: the store answers and the credentials are accepted.
    pub const AVAILABLE: &str = "Available";
    /// Location: its repository key is at hand, or none is needed yet.
    pub const KEY_AVAILABLE: &str = "KeyAvailable";
    /// Location: the backups found there are in the cluster.
    pub const SYNCED: &str = "Synced";
    /// Location: backups that expired are deleted; False while somebody has to acknowledge that.
    pub const EXPIRY: &str = "Expiry";
    /// Location: the repository key exists outside the cluster too.
    pub const KEY_EXPORTED: &str = "KeyExported";
    /// Location of provider `local`: operator and all agents see the same directory.
    pub const SHARED_DIRECTORY: &str = "SharedDirectory";
    /// Repository: it can be opened with the location's key.
    pub const READY: &str = "Ready";
    /// Backup, Restore: the object is a copy of one that was executed, and is not executed itself.
    pub const COPY: &str = "Copy";
    /// Repository: the last check found it whole.
    pub const HEALTHY: &str = "Healthy";
    /// Backup, Restore, volume objects: something outside is being waited for; the reason says what.
    pub const WAITING: &str = "Waiting";
    /// `PodVolumeRestore`: the volume held nothing before anything was written, so what is in it is this restore's.
    pub const TARGET_EMPTY: &str = "TargetEmpty";
}

/// Reasons of conditions; stable, documented, for scripts.
pub mod reason {
    /// All is as it should be.
    pub const OK: &str = "OK";
    /// Spec does not make sense; the message says what to change.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The store refused the credentials.
    pub const CREDENTIALS_REFUSED: &str = "CredentialsRefused";
    /// The Secret with the credentials, or its key, does not exist or cannot be read.
    pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
    /// The bucket or directory does not exist.
    pub const BUCKET_NOT_FOUND: &str = "BucketNotFound";
    /// The store cannot be reached.
    pub const UNREACHABLE: &str = "Unreachable";
    /// The prefix holds directories that are not Ark's or Velero's.
    pub const FOREIGN_DIRECTORIES: &str = "ForeignDirectories";
    /// No repository key, although repositories exist: none will be made up.
    pub const KEY_MISSING: &str = "KeyMissing";
    /// A key was made by Ark and lives only in this cluster.
    pub const KEY_ONLY_IN_CLUSTER: &str = "KeyOnlyInCluster";
    /// The user supplied or exported the key.
    pub const KEY_HELD_BY_USER: &str = "KeyHeldByUser";
    /// No key has been needed yet.
    pub const NO_KEY_YET: &str = "NoKeyYet";
    /// The key opens no key file of the repository.
    pub const WRONG_PASSWORD: &str = "WrongPassword";
    /// The repository is locked by somebody else.
    pub const LOCKED: &str = "Locked";
    /// The repository's content is damaged.
    pub const DAMAGED: &str = "Damaged";
    /// The location is not available.
    pub const LOCATION_UNAVAILABLE: &str = "LocationUnavailable";
    /// Some agents see another directory than the operator.
    pub const DIRECTORY_NOT_SHARED: &str = "DirectoryNotShared";
    /// Agents have not answered yet.
    pub const AGENTS_PENDING: &str = "AgentsPending";
    /// Some volumes hold data that no method covers.
    pub const UNPROTECTED_VOLUMES: &str = "UnprotectedVolumes";
    /// Waiting for a pod to be scheduled.
    pub const POD_NOT_SCHEDULED: &str = "PodNotScheduled";
    /// Waiting for a claim to be bound.
    pub const CLAIM_NOT_BOUND: &str = "ClaimNotBound";
    /// Waiting for one's turn: for a free slot of the agent, or for another backup or restore.
    pub const QUEUED: &str = "Queued";
    /// The node of a volume does not exist.
    pub const NODE_GONE: &str = "NodeGone";
    /// No agent is ready on the node of a volume.
    pub const NO_AGENT: &str = "NoAgentOnNode";
    /// Waiting for a namespace that is being deleted to go away.
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    /// Waiting for volumes.
    pub const VOLUMES_RUNNING: &str = "VolumesRunning";
    /// Waiting for an agent's second or later try; the message says what went wrong.
    pub const RETRYING: &str = "Retrying";
    /// There is no repository where one must be.
    pub const REPOSITORY_MISSING: &str = "RepositoryMissing";
    /// No snapshot, or more than one, has the given id.
    pub const SNAPSHOT_NOT_FOUND: &str = "SnapshotNotFound";
    /// The pod is gone, or another one has its name.
    pub const POD_GONE: &str = "PodGone";
    /// The pod does not run on the node, so its volumes are not mounted there.
    pub const POD_NOT_RUNNING: &str = "PodNotRunning";
    /// The pod has no volume of that name.
    pub const NO_SUCH_VOLUME: &str = "NoSuchVolume";
    /// The volume is of a kind whose files the agent cannot reach; the message says why.
    pub const UNSUPPORTED_VOLUME: &str = "UnsupportedVolume";
    /// The volume is a block device.
    pub const BLOCK_VOLUME: &str = "BlockVolume";
    /// The kubelet has no directory, or no single one, for the volume.
    pub const VOLUME_NOT_FOUND: &str = "VolumeNotFound";
    /// The volume's directory is there, but nothing is mounted on it as the agent sees it.
    pub const VOLUME_NOT_MOUNTED: &str = "VolumeNotMounted";
    /// The agent was given another directory than the kubelet's `pods`.
    pub const WRONG_KUBELET_ROOT: &str = "WrongKubeletRoot";
    /// Waiting for the restored pod's gate to start.
    pub const GATE_NOT_STARTED: &str = "GateNotStarted";
    /// The restored pod has no gate, or is past it: its volumes may be in use.
    pub const GATE_OPEN: &str = "GateOpen";
    /// The volume held files before anything was written into it.
    pub const VOLUME_NOT_EMPTY: &str = "VolumeNotEmpty";
    /// Files could not be read or written; they are listed.
    pub const FILE_ERRORS: &str = "FileErrors";
    /// The object is a copy of one that was executed; the message says how to execute it on purpose.
    pub const COPY_OF_EXECUTED: &str = "CopyOfExecuted";
    /// It was cancelled.
    pub const CANCELLED: &str = "Cancelled";
    /// It was started again and again and never got to its end.
    pub const TOO_MANY_ATTEMPTS: &str = "TooManyAttempts";
    /// Waiting for the backup that an earlier run of the schedule made.
    pub const PREVIOUS_RUNNING: &str = "PreviousRunning";
    /// An object of somebody else has the name that is needed.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// Expired backups are not deleted until somebody acknowledges it; the message says how.
    pub const ACKNOWLEDGEMENT_NEEDED: &str = "AcknowledgementNeeded";
    /// What looks like backups at a location and cannot be any was left alone; it is listed.
    pub const BACKUPS_REFUSED: &str = "BackupsRefused";
    /// Not one of the backups that the cluster knows of a location is there any more.
    pub const BACKUPS_VANISHED: &str = "BackupsVanished";
    /// Any other error; the message says which.
    pub const ERROR: &str = "Error";
}

/// Sets the condition `kind`; the transition time moves only when the status changes. Returns
/// whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: &Time,
) -> bool {
    let status = if status { "True" } else { "False" };
    if let Some(existing) = conditions.iter_mut().find(|c| c.type_ == kind) {
        let same = existing.status == status
            && existing.reason == reason
            && existing.message == message
            && existing.observed_generation == generation;
        if same {
            return false;
        }
        if existing.status != status {
            existing.last_transition_time = now.clone();
        }
        status.clone_into(&mut existing.status);
        reason.clone_into(&mut existing.reason);
        message.clone_into(&mut existing.message);
        existing.observed_generation = generation;
        return true;
    }
    conditions.push(Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: now.clone(),
    });
    true
}

/// The condition `kind`, if it is there.
pub fn get<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether the condition `kind` is there and `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.status == "True")
}

/// Sets the condition [`kind::WAITING`]: what is waited for as reason and message, or nothing any more, which is said
/// only if something was waited for before. Returns whether anything changed.
pub fn set_waiting(
    conditions: &mut Vec<Condition>,
    what: Option<(&str, &str)>,
    generation: Option<i64>,
    now: &Time,
) -> bool {
    let (status, reason, message) = match what {
        Some((reason, message)) => (true, reason, message),
        None if get(conditions, kind::WAITING).is_some() => (false, reason::OK, ""),
        None => return false,
    };
    set(
        conditions,
        kind::WAITING,
        status,
        reason,
        message,
        generation,
        now,
    )
}
