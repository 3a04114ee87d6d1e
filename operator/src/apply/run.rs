//! Applies one object: creates it, or treats the one that exists as [`conflict`] says.
//!
//! Does: retry what may pass (a busy server, a service account that is about to be made, an object
//! that is still going away). Does not: order objects, or wait for what they cause.
//!
//! Fails never: what went wrong is the [`Outcome`]. Idempotent: an object that an earlier attempt
//! of the same restore made is recognised by its stamp.

use std::collections::BTreeMap;
use std::time::Duration;

use ark_api::restore::ExistingResourcePolicy;
use ark_api::results::ItemAction;
use kube::Client;
use serde_json::{Value, json};

use super::causes::Causes;
use super::conflict::{self, Decision};
use super::discover::{Served, Target};
use super::managers::Managers;
use super::node_ports;
use super::transform::{self, Binding, Rules, Stamp, text};
use super::tries::{Again, Tries, already_exists, is_final, judge};
use super::wire::{Endpoint, Manager, Sent};
use crate::error::{describe, is_conflict, is_not_found, status_code};
use crate::json::{self, Document};
use crate::status::FIELD_MANAGER;

/// How long an object may take to go away before it is made again.
const LEAVING: Duration = Duration::from_mins(1);
/// How often managers are given back to an object that others change as well.
const MANAGER_TRIES: u32 = 5;
/// Most characters of a server's reason that are told where the object is kept.
const MAX_REASON: usize = 200;

/// What became of an object.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What was done.
    pub(crate) action: ItemAction,
    /// Why, where it is not obvious.
    pub(crate) message: String,
    /// The user should know, although nothing failed.
    pub(crate) warn: bool,
    /// What of the object the cluster dropped: an error, although the object is there.
    pub(crate) lost: Option<String>,
    /// The object as it is now in the cluster, when it is this restore's own.
    pub(crate) own: Option<Value>,
}

impl Outcome {
    /// What was done, and why where it is not obvious.
    pub(crate) fn new(action: ItemAction, message: impl Into<String>) -> Self {
        Self {
            action,
            message: message.into(),
            warn: false,
            lost: None,
            own: None,
        }
    }

    /// What was done, and what the user should know about it.
    pub(crate) fn warning(action: ItemAction, message: impl Into<String>) -> Self {
        Self {
            warn: true,
            ..Self::new(action, message)
        }
    }

    /// It could not be applied.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ItemAction::Failed, message)
    }

    fn losing(self, fields: Option<String>) -> Self {
        let lost = fields.map(|fields| {
            format!("the cluster's definition of it does not have all of its fields, and dropped these: {fields}")
        });
        Self { lost, ..self }
    }
}

/// Applies the objects of one restore.
pub(crate) struct Applier {
    /// Client of the cluster.
    pub(crate) client: Client,
    /// What the cluster serves.
    pub(crate) served: Served,
    /// Namespace in the backup to namespace in the cluster.
    pub(crate) namespaces: BTreeMap<String, String>,
    /// Keep the node ports of Services.
    pub(crate) preserve_node_ports: bool,
    /// What happens to objects that exist.
    pub(crate) policy: ExistingResourcePolicy,
    /// Name of the Restore.
    pub(crate) restore: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Name of the Backup.
    pub(crate) backup: String,
    /// What has been waited for in vain.
    pub(crate) causes: Causes,
}

/// One object on its way into the cluster.
struct Job<'a> {
    resource: &'a str,
    endpoint: Endpoint,
    desired: Value,
    binding: Binding,
    /// As the backup holds it.
    original: Option<&'a Document>,
    managers: Managers,
    status_is_data: bool,
}

impl Job<'_> {
    fn name(&self) -> &str {
        transform::name(&self.desired)
    }

    fn encode(&self, value: &Value) -> Vec<u8> {
        json::encode(value, self.original.map(Document::text))
    }

    async fn send(&self, patch: &Value) -> kube::Result<Sent> {
        let manager = Manager(FIELD_MANAGER);
        self.endpoint
            .patch(self.name(), self.encode(patch), manager)
            .await
    }
}

impl Applier {
    /// How objects are changed.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            namespaces: &self.namespaces,
            preserve_node_ports: self.preserve_node_ports,
            status_is_data: false,
        }
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp {
            restore: &self.restore,
            uid: &self.uid,
            backup: &self.backup,
        }
    }

    /// Where `object` of `resource` is applied to, or why that is not possible.
    pub(crate) async fn target(&self, resource: &str, object: &Value) -> Result<Target, String> {
        let version = text(object, "/apiVersion").unwrap_or_default();
        let namespaced = text(object, "/metadata/namespace").is_some();
        match self.served.resolve(resource, version).await {
            Ok(Some(target)) if target.namespaced == namespaced => Ok(target),
            Ok(Some(_)) => Err("the cluster has this kind in another scope".to_owned()),
            Ok(None) => Err("the cluster does not know this kind of object".to_owned()),
            Err(error) => Err(error.sentence()),
        }
    }

    /// Whether the cluster has an object of a core resource. One that cannot be asked for counts as
    /// there.
    pub(crate) async fn exists(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let Ok(Some(target)) = self.served.resolve(resource, "v1").await else {
            return true;
        };
        let endpoint = Endpoint::new(self.client.clone(), &target, Some(namespace));
        !matches!(endpoint.get(name).await, Ok(None))
    }

    /// Applies `desired`, which went through [`transform::restored`] with `binding` and is `original`
    /// in the backup.
    pub(crate) async fn apply(
        &self,
        resource: &str,
        mut desired: Value,
        original: Option<&Document>,
        binding: Binding,
    ) -> Outcome {
        let target = match self.target(resource, &desired).await {
            Ok(target) => target,
            Err(why) => return Outcome::failed(why),
        };
        if let Some(version) = desired.get_mut("apiVersion") {
            *version = json!(target.resource.api_version);
        }
        let status = original.and_then(|original| original.get("status"));
        if let Some(status) = status.filter(|_| !target.has_status) {
            desired["status"] = status.clone();
        }
        let namespace = text(&desired, "/metadata/namespace");
        let job = Job {
            resource,
            endpoint: Endpoint::new(self.client.clone(), &target, namespace),
            managers: original
                .map(|original| Managers::of(original))
                .unwrap_or_default(),
            status_is_data: !target.has_status,
            original,
            binding,
            desired,
        };
        let mut tries = Tries::start();
        loop {
            match self.once(&job).await {
                Ok(outcome) => return outcome,
                Err(Again { message, patience }) => {
                    let since = self.causes.since(&message, &target, tries.started);
                    if !tries.pause(since, patience).await {
                        return Outcome::failed(message);
                    }
                }
            }
        }
    }

    async fn once(&self, job: &Job<'_>) -> Result<Outcome, Again> {
        let mut stamped = job.desired.clone();
        transform::stamp(&mut stamped, self.stamp());
        let mut changed_ports = Vec::new();
        let error = loop {
            let body = job.encode(&stamped);
            let error = match job.endpoint.create(body, job.managers.creator()).await {
                Ok(sent) => return Ok(self.created(job, sent, &changed_ports).await),
                Err(error) => error,
            };
            // A port that another Service has is given up, unless ports are to be kept.
            if job.resource == "services"
                && !self.preserve_node_ports
                && let Some(port) = node_ports::taken(&error)
                && node_ports::give_up(&mut stamped, port)
                && job
                    .endpoint
                    .get(job.name())
                    .await
                    .is_ok_and(|found| found.is_none())
            {
                changed_ports.push(port);
                continue;
            }
            break error;
        };
        // An object that exists may be refused for that very reason, in other words.
        let final_refusal = !already_exists(&error);
        if final_refusal && !is_final(&error, &describe(&error)) {
            return judge(&error);
        }
        let existing = match job.endpoint.get(job.name()).await {
            Ok(Some(existing)) => existing,
            Ok(None) | Err(_) if final_refusal => return judge(&error),
            Ok(None) => return Err(Again::soon("it exists and does not exist")),
            Err(error) => return judge(&error),
        };
        if existing.pointer("/metadata/deletionTimestamp").is_some() {
            return Err(Again {
                message: "the one in the cluster is being deleted and does not go away".into(),
                patience: LEAVING,
            });
        }
        self.existing(job, existing).await
    }

    /// A created object gets its managers back.
    async fn created(&self, job: &Job<'_>, sent: Sent, changed_ports: &[u64]) -> Outcome {
        let mut outcome = Outcome::new(ItemAction::Created, "").losing(sent.lost);
        if !changed_ports.is_empty() {
            outcome.message = node_ports::tell(changed_ports, &sent.object);
            outcome.warn = true;
        }
        if let Err(error) = give_back(job, &sent.object).await {
            outcome.message = format!(
                "whoever applied it before does not own its fields any more: {}",
                describe(&error)
            );
            outcome.warn = true;
        }
        outcome.own = Some(sent.object);
        outcome
    }

    async fn existing(&self, job: &Job<'_>, existing: Value) -> Result<Outcome, Again> {
        let rules = Rules {
            status_is_data: job.status_is_data,
            ..self.rules()
        };
        let decision = conflict::decide(
            job.resource,
            &existing,
            &job.desired,
            self.policy,
            &self.uid,
            rules,
            job.binding,
        );
        let (patch, differs) = match decision {
            Decision::Own => {
                let sent = Sent {
                    object: existing,
                    lost: None,
                };
                return Ok(self.created(job, sent, &[]).await);
            }
            Decision::OwnChange => return Ok(Outcome::new(ItemAction::Changed, "")),
            Decision::Equal => return Ok(Outcome::new(ItemAction::Kept, "it is as in the backup")),
            Decision::Differs => {
                return Ok(Outcome::warning(
                    ItemAction::Kept,
                    "it exists and differs from the backup; it was left as it is",
                ));
            }
            Decision::Patch { patch, differs } => (patch, differs),
        };
        let error = match job.send(&patch).await {
            Ok(sent) if differs => {
                return Ok(Outcome::warning(
                    ItemAction::Changed,
                    "it existed: what it lacked was added, and what differs from the backup was left as it is",
                )
                .losing(sent.lost));
            }
            Ok(sent) => return Ok(Outcome::new(ItemAction::Changed, "").losing(sent.lost)),
            Err(error) if is_not_found(&error) => return Err(Again::soon("it went away")),
            Err(error) if status_code(&error) == Some(422) => error,
            Err(error) => return judge(&error),
        };
        // Something in it cannot be changed; what can be is.
        let why = immutable(&error);
        match job.send(&conflict::labels_only(&patch)).await {
            Ok(_) => Ok(Outcome::warning(
                ItemAction::Kept,
                format!("only its labels and annotations could be changed: {why}"),
            )),
            Err(error) => judge(&error),
        }
    }
}

/// Makes the managers of the stored object those of the created one, which may be changing.
async fn give_back(job: &Job<'_>, created: &Value) -> kube::Result<()> {
    let mut live = created.clone();
    for left in (0..MANAGER_TRIES).rev() {
        let Some(patch) = job.managers.patch(&live) else {
            return Ok(());
        };
        let Err(error) = job.send(&patch).await else {
            return Ok(());
        };
        if left == 0 || !is_conflict(&error) {
            return Err(error);
        }
        match job.endpoint.get(job.name()).await? {
            Some(now) => live = now,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Why an object cannot be changed, in words that are alike for all objects of its kind: the fields
/// and, of the server's reason, what fits; without the object, which the reason may repeat.
fn immutable(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        return describe(error);
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut reasons: Vec<String> = Vec::new();
    for cause in causes {
        let first = cause.message.lines().next().unwrap_or_default();
        // `Invalid value: …: field is immutable`
        let reason = match first.strip_prefix("Invalid value: ") {
            Some(rest) => rest.rsplit(": ").next().unwrap_or_default(),
            None => first,
        };
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let reason = format!("{}: {reason}", cause.field);
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() {
        return describe(error);
    }
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_cannot_be_changed_is_told_without_the_object() {
        let cause = |field: &str, message: &str| json!({"field": field, "message": message, "reason": "FieldValueInvalid"});
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": 422, "reason": "Invalid",
            "message": "Secret \"s\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
            "details": {"causes": [
                cause("spec", "Forbidden: pod updates may not change fields other than `image`\n{ a page }"),
                cause("spec.selector", "Invalid value: {\"app\": \"x\"}: field is immutable"),
                cause("spec.selector", "Invalid value: {\"app\": \"y\"}: field is immutable"),
            ]},
        }))
        .unwrap();
        assert_eq!(
            immutable(&kube::Error::Api(Box::new(status))),
            "spec: Forbidden: pod updates may not change fields other than `image`; spec.selector: field is immutable"
        );
    }
}
