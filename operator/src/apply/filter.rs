//! Which objects of a bundle a restore is about. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Names to take and names to leave out; globs `*`, `?`, `[a-z]`. No names to take means all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Names {
    /// Takes `include` without `exclude`.
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Self {
        Self {
            include: include.to_vec(),
            exclude: exclude.to_vec(),
        }
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.exclude.is_empty()
            && (self.include.is_empty() || self.include.iter().any(|n| n == "*"))
    }

    /// Whether `name` is meant.
    pub(crate) fn admit(&self, name: &str) -> bool {
        let hit = |list: &[String]| list.iter().any(|pattern| glob(pattern, name));
        (self.include.is_empty() || hit(&self.include)) && !hit(&self.exclude)
    }

    /// Names to take.
    pub(crate) fn included(&self) -> &[String] {
        &self.include
    }

    /// Names to leave out.
    pub(crate) fn excluded(&self) -> &[String] {
        &self.exclude
    }

    /// Whether one of `names` is meant.
    pub(crate) fn admits_any(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.admit(name))
    }

    /// Whether the resource `plural.group` is meant, by its full name.
    pub(crate) fn admit_resource(&self, resource: &str) -> bool {
        let hit = |list: &[String]| list.iter().any(|name| name == "*" || name == resource);
        (self.include.is_empty() || hit(&self.include)) && !hit(&self.exclude)
    }
}

/// Whether `name` is a pattern.
pub(crate) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Whether `text` matches `pattern`: `*` any text, `?` one character, `[a-z]` one of a set.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the text after the last star does not match.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => set(&pattern[p..], text[t]),
            Some(c) if *c == text[t] => Some(1),
            _ => None,
        };
        if let Some(width) = step {
            p += width;
            t += 1;
        } else if let Some((after, from)) = star {
            p = after;
            t = from + 1;
            star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Width of the set at the start of `pattern` when `c` is in it.
fn set(pattern: &[char], c: char) -> Option<usize> {
    let end = pattern.iter().position(|c| *c == ']')?;
    let body = &pattern[1..end];
    let mut i = 0;
    while i < body.len() {
        if body.get(i + 1) == Some(&'-') && i + 2 < body.len() {
            if (body[i]..=body[i + 2]).contains(&c) {
                return Some(end + 1);
            }
            i += 3;
        } else if body[i] == c {
            return Some(end + 1);
        } else {
            i += 1;
        }
    }
    None
}

/// Label selectors of which one must match; none means that everything does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors(pub(crate) Vec<LabelSelector>);

impl Selectors {
    /// Whether an object with `labels` is meant.
    pub(crate) fn admit(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.is_empty() || self.0.iter().any(|selector| matches(selector, labels))
    }
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|rule| {
            let value = labels.get(&rule.key);
            let among = || {
                value
                    .is_some_and(|value| rule.values.iter().flatten().any(|wanted| wanted == value))
            };
            match rule.operator.as_str() {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                // Refused by validation before anything is matched.
                _ => false,
            }
        })
}

/// What is wrong with a selector.
pub(crate) fn check(selector: &LabelSelector) -> Vec<String> {
    selector
        .match_expressions
        .iter()
        .flatten()
        .filter_map(|rule| {
            let empty = rule.values.as_ref().is_none_or(Vec::is_empty);
            match rule.operator.as_str() {
                "In" | "NotIn" if empty => {
                    Some(format!("{} {} needs values", rule.key, rule.operator))
                }
                "In" | "NotIn" => None,
                "Exists" | "DoesNotExist" if empty => None,
                "Exists" | "DoesNotExist" => {
                    Some(format!("{} {} takes no values", rule.key, rule.operator))
                }
                other => Some(format!(
                    "operator {other:?} is none of In, NotIn, Exists, DoesNotExist"
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, wanted) in [
            ("*", "anything", true),
            ("web", "web", true),
            ("web", "web2", false),
            ("web-*", "web-1", true),
            ("*-web-*", "a-web-web-b", true),
            ("w?b", "wab", true),
            ("w?b", "wb", false),
            ("w[a-c]b", "wcb", true),
            ("w[a-c]b", "wdb", false),
            ("w[xyz]", "wy", true),
            ("w[", "w", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn names_and_resources() {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let names = Names::new(&strings(&["web-*"]), &strings(&["web-2"]));
        assert!(names.admit("web-1") && !names.admit("web-2") && !names.admit("db"));
        assert!(!names.is_everything());
        assert!(Names::default().is_everything() && Names::default().admit("x"));
        assert!(Names::new(&strings(&["*"]), &[]).is_everything());

        let resources = Names::new(&strings(&["pods", "deployments.apps"]), &[]);
        assert!(resources.admit_resource("pods"));
        assert!(resources.admit_resource("deployments.apps"));
        assert!(!resources.admit_resource("deployments.example.org"));
        let without = Names::new(&[], &strings(&["secrets"]));
        assert!(without.admit_resource("pods") && !without.admit_resource("secrets"));
    }

    #[test]
    fn selectors() {
        let labels = BTreeMap::from([("app".to_owned(), "nginx".to_owned())]);
        for (selector, wanted) in [
            (json!({"matchLabels": {"app": "nginx"}}), true),
            (json!({"matchLabels": {"app": "other"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "nginx"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["nginx"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
                false,
            ),
        ] {
            let selector: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert!(check(&selector).is_empty());
            assert_eq!(
                Selectors(vec![selector.clone()]).admit(&labels),
                wanted,
                "{selector:?}"
            );
        }
        assert!(Selectors::default().admit(&labels));
        let bad: LabelSelector = serde_json::from_value(
            json!({"matchExpressions": [{"key": "a", "operator": "Near"}, {"key": "a", "operator": "In"}]}),
        )
        .unwrap();
        assert_eq!(check(&bad).len(), 2);
    }
}
