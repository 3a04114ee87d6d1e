//! Which kinds of objects a backup takes. Pure.
//!
//! Two styles, never mixed (validation sees to that): the old lists speak of all resources and
//! `includeClusterResources` of the cluster-scoped ones; the new lists speak of either sort by itself.

use std::collections::HashSet;

use ark_api::backup::BackupSpec;

use super::discovery::{Discovered, Kind};

/// The kinds meant by lists of names: included ones (`None`: all) without excluded ones.
#[derive(Debug, Default)]
struct Lists {
    include: Option<HashSet<String>>,
    exclude: HashSet<String>,
    exclude_all: bool,
}

impl Lists {
    fn admit(&self, resource: &str) -> bool {
        self.include
            .as_ref()
            .is_none_or(|include| include.contains(resource))
            && !self.excludes(resource)
    }

    fn excludes(&self, resource: &str) -> bool {
        self.exclude_all || self.exclude.contains(resource)
    }
}

#[derive(Debug)]
enum Style {
    Old {
        lists: Lists,
        cluster: Option<bool>,
    },
    New {
        namespaced: Lists,
        cluster: Lists,
        cluster_listed: bool,
    },
}

/// Which kinds of objects a backup takes.
#[derive(Debug)]
pub(crate) struct ResourceFilter {
    style: Style,
    /// All namespaces are selected, which brings all cluster-scoped objects along.
    all_namespaces: bool,
}

/// What the lists name and the cluster does not know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// To be taken.
    pub(crate) included: Vec<String>,
    /// To be left out.
    pub(crate) excluded: Vec<String>,
}

impl ResourceFilter {
    /// From the words of a backup and what the cluster has.
    pub(crate) fn new(
        spec: &BackupSpec,
        discovered: &Discovered,
        all_namespaces: bool,
    ) -> (Self, Unknown) {
        let mut unknown = Unknown::default();
        let mut lists = |include: &[String], exclude: &[String]| Lists {
            include: (!include.is_empty() && !has_star(include))
                .then(|| resolve(include, discovered, &mut unknown.included)),
            exclude: resolve(exclude, discovered, &mut unknown.excluded),
            exclude_all: has_star(exclude),
        };
        let style = if uses_new_style(spec) {
            Style::New {
                namespaced: lists(
                    &spec.included_namespace_scoped_resources,
                    &spec.excluded_namespace_scoped_resources,
                ),
                cluster: lists(
                    &spec.included_cluster_scoped_resources,
                    &spec.excluded_cluster_scoped_resources,
                ),
                cluster_listed: !spec.included_cluster_scoped_resources.is_empty(),
            }
        } else {
            Style::Old {
                lists: lists(&spec.included_resources, &spec.excluded_resources),
                cluster: spec.include_cluster_resources,
            }
        };
        let filter = Self {
            style,
            all_namespaces,
        };
        (filter, unknown)
    }

    /// Whether all objects of a kind are taken that namespaces and selectors allow.
    pub(crate) fn lists(&self, kind: &Kind) -> bool {
        let resource = kind.resource();
        match &self.style {
            Style::Old { lists, cluster } => {
                let scope = kind.namespaced || cluster.unwrap_or(self.all_namespaces);
                scope && lists.admit(&resource)
            }
            Style::New { namespaced, .. } if kind.namespaced => namespaced.admit(&resource),
            Style::New {
                cluster,
                cluster_listed,
                ..
            } => (*cluster_listed || self.all_namespaces) && cluster.admit(&resource),
        }
    }

    /// Whether an object of a kind is taken because one that is taken needs it.
    pub(crate) fn related(&self, kind: &Kind) -> bool {
        let resource = kind.resource();
        match &self.style {
            Style::Old { lists, cluster } => {
                (kind.namespaced || *cluster != Some(false)) && lists.admit(&resource)
            }
            Style::New { namespaced, .. } if kind.namespaced => namespaced.admit(&resource),
            Style::New { cluster, .. } => !cluster.excludes(&resource),
        }
    }

    /// Whether the user's lists leave a kind out by name.
    pub(crate) fn excludes(&self, resource: &str) -> bool {
        match &self.style {
            Style::Old { lists, .. } => lists.excludes(resource),
            Style::New {
                namespaced,
                cluster,
                ..
            } => namespaced.excludes(resource) || cluster.excludes(resource),
        }
    }

    /// Whether a list of what to take names nothing that the cluster knows.
    pub(crate) fn has_idle_list(&self) -> bool {
        let idle = |lists: &Lists| lists.include.as_ref().is_some_and(HashSet::is_empty);
        match &self.style {
            Style::Old { lists, .. } => idle(lists),
            Style::New {
                namespaced,
                cluster,
                ..
            } => idle(namespaced) || idle(cluster),
        }
    }

    /// Whether objects of a group that does not answer could have been meant.
    pub(crate) fn may_miss(&self, group: &str, unknown: &Unknown) -> bool {
        let suffix = format!(".{group}");
        let named = unknown
            .included
            .iter()
            .any(|name| !name.contains('.') || name.ends_with(&suffix));
        let everything = match &self.style {
            Style::Old { lists, .. } => lists.include.is_none() && !lists.exclude_all,
            Style::New {
                namespaced,
                cluster,
                ..
            } => {
                (namespaced.include.is_none() && !namespaced.exclude_all)
                    || (cluster.include.is_none() && !cluster.exclude_all)
            }
        };
        named || everything
    }
}

/// Whether a backup speaks the new style.
pub(crate) fn uses_new_style(spec: &BackupSpec) -> bool {
    !(spec.included_cluster_scoped_resources.is_empty()
        && spec.excluded_cluster_scoped_resources.is_empty()
        && spec.included_namespace_scoped_resources.is_empty()
        && spec.excluded_namespace_scoped_resources.is_empty())
}

fn has_star(names: &[String]) -> bool {
    names.iter().any(|name| name == "*")
}

/// Full names of the kinds that `names` mean; the first kind of a name, core first, is the one
/// meant.
fn resolve(
    names: &[String],
    discovered: &Discovered,
    unknown: &mut Vec<String>,
) -> HashSet<String> {
    let mut found = HashSet::new();
    for name in names.iter().filter(|name| *name != "*") {
        match discovered.kinds.iter().find(|kind| kind.is_called(name)) {
            Some(kind) => {
                found.insert(kind.resource());
            }
            None => unknown.push(name.clone()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::discovery::tests::cluster;
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn check(spec: &BackupSpec, all_namespaces: bool, lists: &[&str], related: &[&str]) {
        let discovered = cluster();
        let (filter, _) = ResourceFilter::new(spec, &discovered, all_namespaces);
        let names = |test: &dyn Fn(&Kind) -> bool| -> Vec<String> {
            discovered
                .kinds
                .iter()
                .filter(|kind| test(kind))
                .map(Kind::resource)
                .collect()
        };
        assert_eq!(names(&|kind| filter.lists(kind)), lists, "listed");
        assert_eq!(names(&|kind| filter.related(kind)), related, "related");
    }

    const NAMESPACED: &[&str] = &[
        "pods",
        "persistentvolumeclaims",
        "events",
        "deployments.apps",
    ];
    const ALL: &[&str] = &[
        "pods",
        "persistentvolumeclaims",
        "persistentvolumes",
        "namespaces",
        "events",
        "deployments.apps",
        "widgets.apps",
    ];

    #[test]
    fn old_style_takes_cluster_scoped_objects_only_with_all_namespaces() {
        let mut spec = BackupSpec::default();
        check(&spec, false, NAMESPACED, ALL);
        check(&spec, true, ALL, ALL);
        spec.include_cluster_resources = Some(true);
        check(&spec, false, ALL, ALL);
        spec.include_cluster_resources = Some(false);
        check(&spec, true, NAMESPACED, NAMESPACED);
    }

    #[test]
    fn old_style_lists() {
        let mut spec = BackupSpec {
            included_resources: strings(&["po", "PersistentVolume", "deployments.apps"]),
            ..BackupSpec::default()
        };
        let related = &["pods", "persistentvolumes", "deployments.apps"];
        check(&spec, false, &["pods", "deployments.apps"], related);
        spec.included_resources = strings(&["*"]);
        spec.excluded_resources = strings(&["events", "persistentvolumeclaims"]);
        let rest = &[
            "pods",
            "persistentvolumes",
            "namespaces",
            "deployments.apps",
            "widgets.apps",
        ];
        check(&spec, false, &["pods", "deployments.apps"], rest);
    }

    #[test]
    fn new_style_sorts_by_scope() {
        let mut spec = BackupSpec {
            included_namespace_scoped_resources: strings(&["pods"]),
            ..BackupSpec::default()
        };
        check(
            &spec,
            false,
            &["pods"],
            &["pods", "persistentvolumes", "namespaces", "widgets.apps"],
        );
        spec.included_cluster_scoped_resources = strings(&["widgets"]);
        spec.excluded_cluster_scoped_resources = strings(&["persistentvolumes"]);
        check(
            &spec,
            true,
            &["pods", "widgets.apps"],
            &["pods", "namespaces", "widgets.apps"],
        );
        spec.excluded_cluster_scoped_resources = strings(&["*"]);
        check(&spec, true, &["pods"], &["pods"]);
    }

    #[test]
    fn unknown_names_are_told() {
        let spec = BackupSpec {
            included_resources: strings(&["pods", "deploymets"]),
            excluded_resources: strings(&["gone.example.org"]),
            ..BackupSpec::default()
        };
        let (filter, unknown) = ResourceFilter::new(&spec, &cluster(), false);
        assert!(!filter.has_idle_list());
        let misspelt = BackupSpec {
            included_resources: strings(&["deploymets"]),
            ..BackupSpec::default()
        };
        assert!(
            ResourceFilter::new(&misspelt, &cluster(), false)
                .0
                .has_idle_list()
        );
        assert_eq!(unknown.included, ["deploymets"]);
        assert_eq!(unknown.excluded, ["gone.example.org"]);
        assert!(filter.may_miss("broken.example.org", &unknown));
        let sure = Unknown::default();
        assert!(!filter.may_miss("broken.example.org", &sure));
        let (filter, unknown) = ResourceFilter::new(&BackupSpec::default(), &cluster(), false);
        assert!(filter.may_miss("broken.example.org", &unknown));
    }
}
