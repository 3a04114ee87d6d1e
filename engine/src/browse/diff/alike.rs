//! Whether two entries are alike but for their content. Pure.
//!
//! As restic compares them: by all fields, a field that is missing being an empty one, and times as
//! moments. Their order does not count, and fields that this engine does not know count.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use crate::format::time;

const TIMES: [&str; 3] = ["mtime", "atime", "ctime"];

/// Whether two nodes have the same fields, content left out.
pub(super) fn alike(a: &str, b: &str) -> bool {
    a == b || matches!((fields(a), fields(b)), (Some(a), Some(b)) if a == b)
}

/// The fields that say something.
fn fields(node: &str) -> Option<BTreeMap<String, Value>> {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(node).ok()?;
    let mut fields = BTreeMap::new();
    for (name, value) in raw {
        if name == "content" {
            continue;
        }
        let mut value: Value = serde_json::from_str(value.get()).ok()?;
        if TIMES.contains(&name.as_str())
            && let Some(moment) = value.as_str().and_then(time::parse)
        {
            value = Value::from(moment.to_string());
        }
        let is_empty = match &value {
            Value::Null => true,
            Value::Bool(yes) => !yes,
            Value::Number(number) => number.as_u64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
        };
        if !is_empty {
            fields.insert(name, value);
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let a = r#"{"name":"a","type":"file","size":0,"mtime":"2024-01-02T03:04:05Z","content":["1"],"xattr":[]}"#;
        for same in [
            a.to_owned(),
            a.replace(r#""size":0,"#, ""),
            a.replace("03:04:05Z", "05:04:05+02:00"),
            a.replace(r#"["1"]"#, "null"),
            r#"{"type":"file","name":"a","mtime":"2024-01-02T03:04:05.000Z"}"#.to_owned(),
        ] {
            assert!(alike(a, &same), "{same}");
        }
        for other in [
            a.replace("05Z", "05.1Z"),
            a.replace(r#""size":0"#, r#""size":1"#),
            a.replace("\"xattr\":[]", "\"xattr\":[7]"),
            a.replace("file", "dir"),
            "{".to_owned(),
        ] {
            assert!(!alike(a, &other), "{other}");
        }
    }
}
