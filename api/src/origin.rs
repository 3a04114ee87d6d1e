//! Where an imported object came from. An object with an origin is a record, never an order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Origin of an object that was not created by a user or a schedule of this cluster, but read from
/// a bucket or taken over from another product. No controller ever executes such an object,
/// whatever its status says. Immutable; it cannot be added or removed later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Location the object was read from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Identity of the cluster that made it (uid of its `kube-system` namespace).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Uid the object had there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// Message of the rule that keeps [`Origin`] as it was when the object was created.
pub(crate) const IMMUTABLE: &str = "spec.origin is set at creation and never changes";
/// The rule itself, in CEL, for use on a kind's spec.
pub(crate) const RULE: &str = "has(self.origin) == has(oldSelf.origin) && (!has(self.origin) || self.origin == oldSelf.origin)";
