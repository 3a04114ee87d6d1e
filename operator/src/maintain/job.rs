//! The Job that maintains some repositories: made from the chart's `PodTemplate`, and read again.
//! Pure.

use std::collections::BTreeMap;

use ark_api::{annotation, env, label, naming};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplate, PodTemplateSpec,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::{Rules, plan};

/// Label that the Job controller puts on a Job's pods.
pub(super) const POD_LABEL: &str = "batch.kubernetes.io/job-name";
/// Node label of the node's name.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// How long an ended Job is kept, in seconds: a day.
const KEPT: i32 = 24 * 3600;

/// The Job that maintains `repositories`, one after the other. Its pod runs on `node`, if one is
/// given.
pub(super) fn build(
    template: &PodTemplate,
    rules: &Rules,
    repositories: &[String],
    node: Option<&str>,
    now: Timestamp,
) -> Job {
    let first = repositories.first().map_or("", String::as_str);
    let labels = BTreeMap::from([(
        label::COMPONENT.to_owned(),
        label::COMPONENT_MAINTENANCE.to_owned(),
    )]);
    let mut pod = template.template.clone().unwrap_or_default();
    complete(&mut pod, rules, repositories, node);
    Job {
        metadata: ObjectMeta {
            name: Some(naming::maintenance_job(first, now)),
            namespace: template.namespace(),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(
                annotation::MAINTENANCE_REPOSITORIES.to_owned(),
                repositories.join(","),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            // Another try is decided here, with a pause, and not by the Job controller.
            backoff_limit: Some(0),
            active_deadline_seconds: i64::try_from(rules.deadline.as_secs()).ok(),
            ttl_seconds_after_finished: Some(KEPT),
            template: pod,
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn complete(pod: &mut PodTemplateSpec, rules: &Rules, repositories: &[String], node: Option<&str>) {
    let metadata = pod.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(
        label::COMPONENT.to_owned(),
        label::COMPONENT_MAINTENANCE.to_owned(),
    );
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy = Some("Never".to_owned());
    if let Some(node) = node {
        spec.node_selector
            .get_or_insert_default()
            .insert(HOSTNAME.to_owned(), node.to_owned());
    }
    for container in &mut spec.containers {
        let mut args = vec![
            "maintain".to_owned(),
            format!("--shares={}", plan::shares(rules)),
        ];
        args.extend(repositories.iter().cloned());
        container.args = Some(args);
        let job_name = EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{POD_LABEL}']"),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        };
        container.env.get_or_insert_default().push(EnvVar {
            name: env::JOB_NAME.to_owned(),
            value_from: Some(job_name),
            ..EnvVar::default()
        });
    }
}

/// The repositories that a Job works on.
pub(super) fn repositories(job: &Job) -> Vec<String> {
    let names = job.annotations().get(annotation::MAINTENANCE_REPOSITORIES);
    names.map_or_else(Vec::new, |names| annotation::names(names))
}

/// How a Job ended: when, and why it failed if it did; `None` while it has not ended.
pub(super) fn end(job: &Job) -> Option<(Timestamp, Option<String>)> {
    let JobStatus { conditions, .. } = job.status.as_ref()?;
    conditions.iter().flatten().find_map(|condition| {
        let at = condition.last_transition_time.as_ref()?.0;
        if condition.status != "True" {
            return None;
        }
        match condition.type_.as_str() {
            "Complete" => Some((at, None)),
            "Failed" => {
                let parts = [condition.reason.as_deref(), condition.message.as_deref()];
                let why: Vec<&str> = parts.into_iter().flatten().collect();
                Some((at, Some(why.join(": "))))
            }
            _ => None,
        }
    })
}

/// Whether a Job has ended.
pub(super) fn has_ended(job: &Job) -> bool {
    end(job).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn built(node: Option<&str>) -> Job {
        let template: PodTemplate = serde_json::from_value(json!({
            "metadata": {"name": "ark-maintenance", "namespace": "ark"},
            "template": {"spec": {"containers": [{
                "name": "maintenance", "image": "agent:1", "env": [{"name": "ARK_LOG", "value": "info"}],
            }]}},
        }))
        .unwrap();
        let rules = Rules {
            template: "ark-maintenance".to_owned(),
            frequency: Duration::from_hours(24),
            jobs: 1,
            job_repositories: 10,
            verify_within: Duration::from_hours(240),
            deadline: Duration::from_hours(4),
        };
        let names = ["a".to_owned(), "b".to_owned()];
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        build(&template, &rules, &names, node, now)
    }

    #[test]
    fn a_job_names_its_repositories_and_ends_by_itself() {
        let job = built(Some("n1"));
        assert_eq!(repositories(&job), ["a", "b"]);
        assert!(!has_ended(&job));
        let spec = job.spec.unwrap();
        assert_eq!(spec.active_deadline_seconds, Some(4 * 3600));
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.node_selector.unwrap()[HOSTNAME], "n1");
        let container = &pod.containers[0];
        assert_eq!(
            container.args.as_ref().unwrap().as_slice(),
            ["maintain", "--shares=10", "a", "b"]
        );
        assert_eq!(container.env.as_ref().unwrap().len(), 2);
        assert_eq!(
            built(None)
                .spec
                .unwrap()
                .template
                .spec
                .unwrap()
                .node_selector,
            None
        );
    }

    #[test]
    fn a_failed_job_says_why() {
        let with = |kind: &str, status: &str| -> Job {
            let condition: Value = json!({
                "type": kind, "status": status, "reason": "DeadlineExceeded", "message": "too long",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            });
            serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [condition]}}))
                .unwrap()
        };
        let (_, why) = end(&with("Failed", "True")).unwrap();
        assert_eq!(why.as_deref(), Some("DeadlineExceeded: too long"));
        assert!(matches!(end(&with("Complete", "True")), Some((_, None))));
        assert!(end(&with("Failed", "False")).is_none());
        assert!(end(&with("Suspended", "True")).is_none());
    }
}
