//! Writes JSON: unchanged parts as they came, the rest as Go's encoder does. Pure.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// What Go's encoder escapes inside strings, beyond what JSON asks for. In valid JSON, these bytes
/// stand nowhere else.
const ESCAPED: &[(&[u8], &[u8])] = &[
    (b"<", br"\u003c"),
    (b">", br"\u003e"),
    (b"&", br"\u0026"),
    ("\u{2028}".as_bytes(), br"\u2028"),
    ("\u{2029}".as_bytes(), br"\u2029"),
];

/// The text of `value`: every part that is as in `original` with the very bytes it has there, the
/// rest encoded. Without an original, everything is encoded.
pub(crate) fn encode(value: &Value, original: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let original = original.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    write(&mut out, value, original);
    out
}

/// Escapes JSON text as Go's encoder does. Idempotent.
pub(crate) fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hit = matches!(first, b'<' | b'>' | b'&' | 0xe2)
            .then(|| ESCAPED.iter().find(|(plain, _)| rest.starts_with(plain)))
            .flatten();
        if let Some((plain, escaped)) = hit {
            out.extend_from_slice(escaped);
            rest = &rest[plain.len()..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn write(out: &mut Vec<u8>, value: &Value, original: Option<&RawValue>) {
    if let Some(raw) = original
        && decode(raw).as_ref() == Some(value)
    {
        out.extend_from_slice(raw.get().as_bytes());
        return;
    }
    match value {
        Value::Object(map) => {
            let parts: HashMap<String, &RawValue> = parts(original);
            separated(out, *b"{}", map, |out, (key, value)| {
                scalar(out, &Value::String(key.clone()));
                out.push(b':');
                write(out, value, parts.get(key).copied());
            });
        }
        Value::Array(items) => {
            let parts: Vec<&RawValue> = parts(original);
            let origins = pair(items, &parts);
            separated(
                out,
                *b"[]",
                items.iter().zip(origins),
                |out, (item, raw)| {
                    write(out, item, raw);
                },
            );
        }
        value => scalar(out, value),
    }
}

fn separated<T>(
    out: &mut Vec<u8>,
    brackets: [u8; 2],
    items: impl IntoIterator<Item = T>,
    each: impl Fn(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(brackets[1]);
}

fn scalar(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(value.to_string().as_bytes());
}

fn decode(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

/// The parts of an object or a list, undecoded; none when it is of another sort.
fn parts<'a, T: serde::Deserialize<'a> + Default>(original: Option<&'a RawValue>) -> T {
    original
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

/// For each item of a list that was changed, the part of the original it comes from: an equal one,
/// else one of its name, else, when none was added or removed, the one in its place.
fn pair<'a>(items: &[Value], parts: &[&'a RawValue]) -> Vec<Option<&'a RawValue>> {
    let known: Vec<Option<Value>> = parts.iter().map(|raw| decode(raw)).collect();
    // Mostly the items come in the order of the original.
    let mut next = 0;
    let mut find = |test: &dyn Fn(&Value) -> bool| {
        let found = (next..known.len())
            .chain(0..next)
            .find(|at| known[*at].as_ref().is_some_and(test))?;
        next = found + 1;
        Some(parts[found])
    };
    items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let name = item.get("name").filter(|name| name.is_string());
            find(&|known| known == item)
                .or_else(|| find(&|known| name.is_some() && known.get("name") == name))
                .or_else(|| {
                    (items.len() == parts.len())
                        .then(|| parts.get(at).copied())
                        .flatten()
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Numbers and strings that no decoder gives back as they were.
    const ODD: &str = r#"{"a":9709.299823785817,"b":1e3,"c":-0.0,"d":18446744073709551616,"e":1.50,"f":"\u003c\/","g":{"x":1,"x":2}}"#;

    fn encoded(value: &Value, original: &str) -> String {
        String::from_utf8(encode(value, Some(original))).unwrap()
    }

    #[test]
    fn what_is_unchanged_keeps_its_bytes() {
        let original = format!(r#"{{"metadata":{{"uid":"u","name":"n"}},"spec":{ODD}}}"#);
        let mut value: Value = serde_json::from_str(&original).unwrap();
        assert_eq!(encoded(&value, &original), original);
        value["metadata"] = json!({"name": "n", "labels": {"l": "<"}});
        let wanted = format!(r#"{{"metadata":{{"name":"n","labels":{{"l":"<"}}}},"spec":{ODD}}}"#);
        assert_eq!(encoded(&value, &original), wanted);
        // A change beside the odd values leaves them alone, too.
        value["spec"]["new"] = json!(1);
        let text = encoded(&value, &original);
        for part in [
            "9709.299823785817",
            "1e3",
            "-0.0",
            "18446744073709551616",
            "1.50",
            r#""\u003c\/""#,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn items_of_lists_are_found_again() {
        let original = r#"{"c":[{"name":"a","n":1.0},{"name":"b","n":2.0},{"name":"c","n":3.0}],"p":[1.0,2.0]}"#;
        let mut value: Value = serde_json::from_str(original).unwrap();
        let list = value["c"].as_array_mut().unwrap();
        list.remove(0);
        list[0]["new"] = json!(true);
        list.insert(0, json!({"name": "gate"}));
        value["p"][0] = json!("x");
        assert_eq!(
            encoded(&value, original),
            r#"{"c":[{"name":"gate"},{"name":"b","n":2.0,"new":true},{"name":"c","n":3.0}],"p":["x",2.0]}"#
        );
    }

    #[test]
    fn another_original_does_no_harm() {
        let value = json!({"a": [1, {"b": null}], "c": "d"});
        for original in ["", "nonsense", "[]", "1", r#"{"a":{},"c":[]}"#] {
            let text = encode(&value, Some(original));
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), value);
        }
        assert_eq!(encode(&value, None), br#"{"a":[1,{"b":null}],"c":"d"}"#);
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let text =
            json!({"<k>": "a && b > /dev/null", "u": "\u{2028}\u{2029}é\u{2027}"}).to_string();
        let escaped = String::from_utf8(escape(text.as_bytes())).unwrap();
        assert_eq!(
            escaped,
            r#"{"\u003ck\u003e":"a \u0026\u0026 b \u003e /dev/null","u":"\u2028\u2029é‧"}"#
        );
        assert_eq!(escape(escaped.as_bytes()), escaped.as_bytes());
        let back: Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(&text).unwrap());
    }
}
