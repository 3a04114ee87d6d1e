//! The words of a restore against what the backup holds. Pure.
//!
//! Resources may be written as in backups: plural, singular, kind or short name, each also with its
//! group, in any case. What the backup does not hold is an error: a word that matches nothing would
//! restore nothing, leave nothing out, or put a namespace's objects where the original is. Only
//! what cannot do harm is a warning: a pattern or an excluded namespace that matches nothing, an
//! excluded resource that the cluster knows and the backup lacks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::validate::Order;
use crate::apply::filter::{Names, is_glob};
use crate::apply::order::{CRDS, NAMESPACES};
use crate::apply::transform::{list, text};
use crate::bundle::read::{Entry, Spool};
use crate::collect::discovery::{Discovered, Kind};
use crate::error::Result;

/// At most this many names are listed in a message.
const SHOWN: usize = 12;

/// What a backup holds, in words.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Its resources; those of the core group first, as in backups.
    kinds: Vec<Kind>,
    /// Its namespaces.
    namespaces: BTreeSet<String>,
}

impl Held {
    /// Reads what the bundle holds. Names come from the cluster, and where it does not know a kind
    /// from the bundle itself.
    pub(super) fn read(spool: &Spool, cluster: &Discovered) -> Result<Self> {
        let mut held = Self::default();
        for resource in spool.resources() {
            let entries = spool.entries(resource);
            let names = entries.iter().map(|entry| match resource {
                NAMESPACES => entry.name.clone(),
                _ => entry.namespace.clone(),
            });
            held.namespaces
                .extend(names.filter(|name| !name.is_empty()));
            let kind = match cluster.get(resource) {
                Some(kind) => kind.clone(),
                None => unknown_kind(spool, resource, entries)?,
            };
            held.kinds.push(kind);
        }
        let rank = |kind: &Kind| {
            let known = &cluster.kinds;
            let at = known.iter().position(|k| k.resource() == kind.resource());
            at.unwrap_or(known.len())
        };
        held.kinds.sort_by_cached_key(rank);
        Ok(held)
    }

    fn resource(&self, word: &str) -> Option<String> {
        let kind = self.kinds.iter().find(|kind| kind.is_called(word))?;
        Some(kind.resource())
    }
}

/// A kind that the cluster does not have, as the bundle describes it.
fn unknown_kind(spool: &Spool, resource: &str, entries: &[Entry]) -> Result<Kind> {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let mut kind = Kind {
        group: group.to_owned(),
        version: String::new(),
        name: String::new(),
        plural: plural.to_owned(),
        singular: String::new(),
        short_names: Vec::new(),
        namespaced: entries.iter().any(|entry| !entry.namespace.is_empty()),
    };
    if let Some(entry) = entries.first() {
        let object = spool.load(resource, entry)?;
        text(&object, "/kind")
            .unwrap_or_default()
            .clone_into(&mut kind.name);
    }
    let definition = spool
        .entries(CRDS)
        .iter()
        .find(|entry| entry.name == resource);
    if let Some(entry) = definition {
        let object = spool.load(CRDS, entry)?;
        let singular = text(&object, "/spec/names/singular").unwrap_or_default();
        singular.clone_into(&mut kind.singular);
        let short = list(&object, "/spec/names/shortNames").iter();
        kind.short_names = short.filter_map(Value::as_str).map(str::to_owned).collect();
    }
    Ok(kind)
}

/// Puts the words of `order` into their full form. Returns warnings, or everything that is wrong.
pub(super) fn resolve(
    order: &mut Order,
    held: &Held,
    cluster: &Discovered,
) -> std::result::Result<Vec<String>, Vec<String>> {
    let (mut wrong, mut warnings) = (Vec::new(), Vec::new());
    let mut lists = [
        order.resources.included().to_vec(),
        order.resources.excluded().to_vec(),
    ];
    for (at, words) in lists.iter_mut().enumerate() {
        for word in words.iter_mut().filter(|word| *word != "*") {
            let excluded = at == 1;
            match held.resource(word.trim()) {
                Some(resource) => *word = resource,
                None if excluded
                    && cluster.kinds.iter().any(|kind| kind.is_called(word.trim())) =>
                {
                    warnings.push(format!(
                        "excludedResources: the backup holds no {word}, so there is nothing to leave out"
                    ));
                }
                None => wrong.push(no_resource(held, word, excluded)),
            }
        }
    }
    namespaces(order, held, &mut wrong, &mut warnings);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let [include, exclude] = lists;
    order.resources = Names::new(&include, &exclude);
    Ok(warnings)
}

fn no_resource(held: &Held, word: &str, excluded: bool) -> String {
    let field = if excluded {
        "excludedResources"
    } else {
        "includedResources"
    };
    let names: Vec<String> = held.kinds.iter().map(Kind::resource).collect();
    format!(
        "{field}: the backup holds no resource called {word:?}; it holds {}",
        enumerate(&names)
    )
}

fn namespaces(order: &Order, held: &Held, wrong: &mut Vec<String>, warnings: &mut Vec<String>) {
    let names: Vec<String> = held.namespaces.iter().cloned().collect();
    let missing = |name: &str| !held.namespaces.contains(name);
    for name in order.namespaces.included() {
        if is_glob(name) {
            let idle = !Names::new(std::slice::from_ref(name), &[]).admits_any(&names);
            if idle && name != "*" {
                warnings.push(format!("no namespace of the backup matches {name:?}"));
            }
        } else if missing(name) {
            wrong.push(format!(
                "includedNamespaces: the backup holds no namespace {name:?}; it holds {}",
                enumerate(&names)
            ));
        }
    }
    let excluded = order.namespaces.excluded().iter();
    for name in excluded.filter(|name| !is_glob(name) && missing(name)) {
        warnings.push(format!(
            "excludedNamespaces: the backup holds no namespace {name:?}, so there is nothing to leave out"
        ));
    }
    for (from, to) in &order.mapping {
        if missing(from) {
            wrong.push(format!(
                "namespaceMapping: the backup holds no namespace {from:?}, which {to:?} would be made from; it holds {}",
                enumerate(&names)
            ));
        } else if !order.namespaces.admit(from) {
            warnings.push(format!(
                "namespaceMapping: namespace {from:?} is not restored, so nothing goes to {to:?}"
            ));
        }
    }
}

fn enumerate(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
