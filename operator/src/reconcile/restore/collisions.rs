//! Objects of several namespaces that a mapping would put in one place. Reads the spool, nothing
//! else.
//!
//! Objects that are equal there, like the default service accounts, come back once. Whatever holds
//! data or runs is never equal: one claim cannot be filled from two snapshots.

use std::collections::BTreeMap;

use super::plan::Plan;
use crate::apply::order::{CLAIMS, NAMESPACES, PODS};
use crate::apply::transform::{self, Binding, Rules};
use crate::bundle::read::{Entry, Spool};
use crate::error::Result;

/// At most this many collisions are told.
const SHOWN: usize = 10;

/// Collisions of the plan, in words; none when it can be restored.
pub(super) fn find(plan: &Plan, spool: &Spool, rules: Rules<'_>) -> Result<Vec<String>> {
    if !rules.renames() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (resource, entries) in &plan.resources {
        if resource == NAMESPACES {
            continue;
        }
        let mut places: BTreeMap<(&str, &str), Vec<&Entry>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.namespace.is_empty()) {
            let place = (rules.target(&entry.namespace), entry.name.as_str());
            places.entry(place).or_default().push(entry);
        }
        for ((namespace, name), entries) in places {
            if entries.len() > 1 && !all_equal(resource, &entries, spool, rules)? {
                let from: Vec<&str> = entries.iter().map(|e| e.namespace.as_str()).collect();
                found.push(format!(
                    "namespaceMapping: {resource} {name} of the namespaces {} would all become {namespace}/{name}",
                    from.join(" and ")
                ));
            }
        }
    }
    let more = found.len().saturating_sub(SHOWN);
    if more > 0 {
        found.truncate(SHOWN);
        found.push(format!(
            "namespaceMapping: and {more} more objects of one name"
        ));
    }
    Ok(found)
}

fn all_equal(resource: &str, entries: &[&Entry], spool: &Spool, rules: Rules<'_>) -> Result<bool> {
    if matches!(resource, CLAIMS | PODS) {
        return Ok(false);
    }
    let mut first = None;
    for entry in entries {
        let object = spool.load(resource, entry)?;
        let object = transform::restored(resource, object, rules, Binding::default());
        if *first.get_or_insert_with(|| object.clone()) != object {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::apply::volumes::stock::Stock;
    use crate::reconcile::restore::plan::{self, tests::bundle};
    use crate::reconcile::restore::validate;

    fn object(kind: &str, namespace: &str, name: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "data": {"k": value}})
    }

    fn collisions(mapping: &Value) -> Vec<String> {
        let spool = bundle(&[
            (
                "serviceaccounts",
                object("ServiceAccount", "a", "default", ""),
            ),
            (
                "serviceaccounts",
                object("ServiceAccount", "b", "default", ""),
            ),
            ("configmaps", object("ConfigMap", "a", "one", "1")),
            ("configmaps", object("ConfigMap", "b", "one", "2")),
            ("configmaps", object("ConfigMap", "b", "two", "2")),
            (
                "persistentvolumeclaims",
                object("PersistentVolumeClaim", "a", "data", ""),
            ),
            (
                "persistentvolumeclaims",
                object("PersistentVolumeClaim", "b", "data", ""),
            ),
        ]);
        let spec = json!({"backupName": "x", "namespaceMapping": mapping});
        let order = validate::check(&serde_json::from_value(spec).unwrap()).unwrap();
        let plan = plan::make(&spool, &order, &Stock::default()).unwrap();
        let names: BTreeMap<String, String> = order.mapping;
        let rules = Rules {
            namespaces: &names,
            preserve_node_ports: false,
            status_is_data: false,
        };
        find(&plan, &spool, rules).unwrap()
    }

    #[test]
    fn two_applications_never_become_one() {
        for mapping in [json!({"a": "t", "b": "t"}), json!({"a": "b"})] {
            let found = collisions(&mapping);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.iter().any(|text| text.contains("configmaps one")));
            assert!(
                found
                    .iter()
                    .any(|text| text.contains("persistentvolumeclaims data"))
            );
        }
        for mapping in [
            json!({}),
            json!({"a": "b", "b": "a"}),
            json!({"a": "c"}),
            json!({"a": "a"}),
        ] {
            assert_eq!(collisions(&mapping), Vec::<String>::new());
        }
    }
}
