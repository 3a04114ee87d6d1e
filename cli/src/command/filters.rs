//! How lists, maps and selectors are typed. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// `a=b,c=d`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs(pub(crate) BTreeMap<String, String>);

impl std::str::FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pairs(text, ',', '=').map(Self)
    }
}

/// `a:b,c:d`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mappings(pub(crate) BTreeMap<String, String>);

impl std::str::FromStr for Mappings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pairs(text, ',', ':').map(Self)
    }
}

/// `pods=ns1/p1,ns1/p2;persistentvolumeclaims=ns1/c1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ordered(pub(crate) BTreeMap<String, String>);

impl std::str::FromStr for Ordered {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pairs(text, ';', '=').map(Self)
    }
}

/// A label selector, as `kubectl -l` takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector(pub(crate) LabelSelector);

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        selector(text).map(Self)
    }
}

/// Selectors joined by ` or `.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OrSelectors(pub(crate) Vec<LabelSelector>);

impl std::str::FromStr for OrSelectors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(" or ")
            .map(selector)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn pairs(text: &str, between: char, inside: char) -> Result<BTreeMap<String, String>, String> {
    let mut map = BTreeMap::new();
    for pair in text.split(between).map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = pair
            .split_once(inside)
            .ok_or_else(|| format!("{pair:?} is not of the form KEY{inside}VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            return Err(format!("{pair:?} has nothing before the {inside:?}"));
        }
        if map.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key:?} is given twice"));
        }
    }
    Ok(map)
}

fn selector(text: &str) -> Result<LabelSelector, String> {
    let mut labels = BTreeMap::new();
    let mut expressions = Vec::new();
    for part in requirements(text)? {
        match requirement(part)? {
            Requirement::Equals(key, value) => {
                if labels.insert(key.clone(), value).is_some() {
                    return Err(format!("no object has two values of label {key:?}"));
                }
            }
            Requirement::Other(expression) => expressions.push(expression),
        }
    }
    if labels.is_empty() && expressions.is_empty() {
        return Err("the selector is empty".to_owned());
    }
    Ok(LabelSelector {
        match_labels: (!labels.is_empty()).then_some(labels),
        match_expressions: (!expressions.is_empty()).then_some(expressions),
    })
}

/// Parts of a selector: separated by commas that are not in parentheses.
fn requirements(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut start, mut open) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if open => return Err(format!("{text:?} has a parenthesis in parentheses")),
            '(' => open = true,
            ')' if !open => return Err(format!("{text:?} closes a parenthesis that is not open")),
            ')' => open = false,
            ',' if !open => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(format!("{text:?} does not close its parenthesis"));
    }
    parts.push(&text[start..]);
    Ok(parts
        .into_iter()
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .collect())
}

enum Requirement {
    Equals(String, String),
    Other(LabelSelectorRequirement),
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let other = |key: &str, operator: &str, values: Option<Vec<String>>| {
        key_of(key, part).map(|key| {
            Requirement::Other(LabelSelectorRequirement {
                key,
                operator: operator.to_owned(),
                values,
            })
        })
    };
    if let Some(head) = part.strip_suffix(')') {
        let (head, values) = head.split_once('(').ok_or_else(|| wrong(part))?;
        let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        if let Some(bad) = values.iter().find(|v| !is_value(v)) {
            return Err(format!("{bad:?} is not a label value"));
        }
        let head = head.trim_end();
        return match head.rsplit_once(char::is_whitespace) {
            Some((key, "in")) => other(key, "In", Some(values)),
            Some((key, "notin")) => other(key, "NotIn", Some(values)),
            _ => Err(wrong(part)),
        };
    }
    if let Some(key) = part.strip_prefix('!') {
        return other(key, "DoesNotExist", None);
    }
    if let Some((key, value)) = part.split_once("!=") {
        return other(key, "NotIn", Some(vec![value_of(value)?]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::Equals(key_of(key, part)?, value_of(value)?));
    }
    other(part, "Exists", None)
}

fn wrong(part: &str) -> String {
    format!("{part:?} is not a selector; write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY or !KEY")
}

fn key_of(key: &str, part: &str) -> Result<String, String> {
    let key = key.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(good) || key.matches('/').count() > 1 {
        return Err(wrong(part));
    }
    Ok(key.to_owned())
}

fn value_of(value: &str) -> Result<String, String> {
    let value = value.trim();
    if is_value(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("{value:?} is not a label value"))
    }
}

fn is_value(value: &str) -> bool {
    value.len() <= 63
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::human;

    fn shown(text: &str) -> Result<String, String> {
        text.parse::<Selector>()
            .map(|s| human::selector(Some(&s.0)))
    }

    #[test]
    fn selectors_come_out_as_they_went_in() {
        for (typed, read) in [
            ("app=nginx", "app=nginx"),
            ("app==nginx, tier = web", "app=nginx,tier=web"),
            ("app.kubernetes.io/name=x", "app.kubernetes.io/name=x"),
            ("tier!=db", "tier notin (db)"),
            ("env in (a, b),!old,app", "env in (a,b),!old,app"),
            ("env notin (a)", "env notin (a)"),
            ("empty=", "empty="),
        ] {
            assert_eq!(shown(typed).unwrap(), read, "{typed}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "", ",", "=x", "a=b=c", "a in b", "a in (b", "a)", "a b", "a=b c", "a=1,a=2", "a/b/c=d",
        ] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn or_selectors() {
        let read: OrSelectors = "app=a or tier in (x,y)".parse().unwrap();
        assert_eq!(read.0.len(), 2);
        assert!("app=a or ".parse::<OrSelectors>().is_err());
    }

    #[test]
    fn pairs_are_read() {
        let read: Pairs = "a=b, c=d=e".parse().unwrap();
        assert_eq!(read.0["c"], "d=e");
        assert!("a".parse::<Pairs>().is_err());
        assert!("a=1,a=2".parse::<Pairs>().is_err());
        let read: Ordered = "pods=n/a,n/b;persistentvolumeclaims=n/c".parse().unwrap();
        assert_eq!(read.0["pods"], "n/a,n/b");
        let read: Mappings = "a:b".parse().unwrap();
        assert_eq!(read.0["a"], "b");
    }
}
