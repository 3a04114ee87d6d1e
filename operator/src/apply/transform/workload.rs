//! Jobs and custom resource definitions.

use serde_json::{Value, json};

use super::remove;

const JOB_LABELS: &[&str] = &[
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
];

/// Finished jobs would run again.
pub(super) fn skip_job(job: &Value) -> Option<&'static str> {
    let finished = super::list(job, "/status/conditions").iter().any(|c| {
        matches!(super::text(c, "/type"), Some("Complete" | "Failed"))
            && super::text(c, "/status") == Some("True")
    });
    (finished || job.pointer("/status/completionTime").is_some())
        .then_some("it had finished when it was backed up")
}

/// The selector and labels that carry the old job's uid.
pub(super) fn strip_job(job: &mut Value) {
    if job.pointer("/spec/manualSelector").and_then(Value::as_bool) != Some(true) {
        remove(job, "/spec", &["selector"]);
    }
    remove(job, "/spec/template/metadata/labels", JOB_LABELS);
    remove(job, "/metadata/labels", JOB_LABELS);
    super::drop_if_empty(job, "labels");
}

/// Lets a restored Job take up the pods of the Job that it was: `stored` with the labels and the
/// selector by which it knew them. Without this a Job selects by its own uid, which is new.
pub(crate) fn keep_pods(stored: &Value, job: &mut Value) {
    for pointer in ["/spec/selector", "/spec/template/metadata/labels"] {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        let Some(value) = stored.pointer(pointer) else {
            return;
        };
        if let Some(parent) = job.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("manualSelector".to_owned(), json!(true));
    }
}

/// A definition converted from `v1beta1` may say `preserveUnknownFields: true`, which `v1` refuses;
/// the same is said in its schemas.
pub(super) fn strip_definition(definition: &mut Value) {
    let preserve = definition
        .pointer("/spec/preserveUnknownFields")
        .and_then(Value::as_bool)
        == Some(true);
    if !preserve {
        return;
    }
    remove(definition, "/spec", &["preserveUnknownFields"]);
    let versions = definition
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let Some(version) = version.as_object_mut() else {
            continue;
        };
        let schema = version
            .entry("schema")
            .or_insert_with(|| json!({ "openAPIV3Schema": {} }));
        if let Some(schema) = schema
            .get_mut("openAPIV3Schema")
            .and_then(Value::as_object_mut)
        {
            schema.entry("type").or_insert_with(|| json!("object"));
            schema.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
        }
    }
}
