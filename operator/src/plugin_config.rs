//! Says which `ConfigMaps` of Velero's plugins change nothing here.
//!
//! Velero's plugins are configured by `ConfigMaps` in its namespace that carry a label; who brought
//! them over counts on what they say, for example on another storage class. Ark has no plugins, so
//! every run that such a `ConfigMap` would have changed gets a warning.

use ark_api::label::VELERO_PLUGIN_CONFIG;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;

use crate::context::Context;
use crate::error::describe;
use crate::run_log::{About, RunLog};

/// Kind of the plugins that change backups.
pub(crate) const OF_BACKUPS: &str = "BackupItemAction";
/// Kind of the plugins that change restores.
pub(crate) const OF_RESTORES: &str = "RestoreItemAction";

/// Writes a warning for each `ConfigMap` of a plugin of `kind`.
pub(crate) async fn warn(context: &Context, log: &RunLog, kind: &str) {
    let params = ListParams::default().labels(VELERO_PLUGIN_CONFIG);
    match context.api::<ConfigMap>().list_metadata(&params).await {
        Ok(list) => {
            for text in list.items.iter().filter_map(|map| ignored(&map.metadata, kind)) {
                log.warn(About::Ark, text);
            }
        }
        Err(error) => log.warn(
            About::Ark,
            format!(
                "whether ConfigMaps of Velero's plugins exist, which change nothing here, cannot be told: {}",
                describe(&error)
            ),
        ),
    }
}

/// The warning about one of them, if it configures a plugin of `kind`.
fn ignored(metadata: &ObjectMeta, kind: &str) -> Option<String> {
    let labels = metadata.labels.iter().flatten();
    let plugins: Vec<&str> = labels
        .filter(|(_, value)| *value == kind)
        .map(|(plugin, _)| plugin.as_str())
        .collect();
    (!plugins.is_empty()).then(|| {
        format!(
            "ConfigMap {} configures {}, a plugin of Velero that Ark does not have: nothing is changed by it; \
             remove its label {VELERO_PLUGIN_CONFIG} to have this warning gone",
            metadata.name.as_deref().unwrap_or_default(),
            plugins.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugin_that_would_have_changed_the_run_is_named() {
        let map: ObjectMeta = serde_json::from_value(json!({"name": "classes", "labels": {
            "velero.io/plugin-config": "", "velero.io/change-storage-class": "RestoreItemAction",
        }}))
        .unwrap();
        let text = ignored(&map, OF_RESTORES).unwrap();
        assert!(text.contains("ConfigMap classes configures velero.io/change-storage-class"));
        assert_eq!(ignored(&map, OF_BACKUPS), None);
    }
}
