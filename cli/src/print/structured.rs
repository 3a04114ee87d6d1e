//! Objects as JSON and YAML.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::kube::Kind;

/// A machine-readable form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
}

/// Text of any value.
pub(crate) fn value(value: &impl Serialize, form: Form) -> Result<String> {
    let failed = |e: String| Error::Bug(format!("cannot show the result: {e}"));
    match form {
        Form::Json => serde_json::to_string_pretty(value)
            .map(|text| text + "\n")
            .map_err(|e| failed(e.to_string())),
        Form::Yaml => serde_saphyr::to_string(value).map_err(|e| failed(e.to_string())),
    }
}

/// One object, without the bookkeeping of who wrote which field.
pub(crate) fn object<K: Kind>(object: &K, form: Form) -> Result<String> {
    value(&stripped(object)?, form)
}

/// Objects: the object itself if there is just one, as users of Velero's command expect, else a
/// list.
pub(crate) fn objects<K: Kind>(objects: &[K], form: Form) -> Result<String> {
    if let [one] = objects {
        return object(one, form);
    }
    let items = objects.iter().map(stripped).collect::<Result<Vec<_>>>()?;
    let list = json!({
        "apiVersion": K::api_version(&()),
        "kind": format!("{}List", K::kind(&())),
        "metadata": ListMeta::default(),
        "items": items,
    });
    value(&list, form)
}

fn stripped<K: Resource + Clone + Serialize>(object: &K) -> Result<Value> {
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    serde_json::to_value(&object).map_err(|e| Error::Bug(format!("cannot show an object: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_keeps_strings_strings() {
        let text = value(
            &json!({"a": "yes", "b": "1e3", "c": "null", "d": "0x1", "e": "a: b", "f": "2026-01-01", "g": true}),
            Form::Yaml,
        )
        .unwrap();
        insta::assert_snapshot!(text);
    }
}
