//! What is read of directories, in both ways.

use proptest::prelude::*;

use super::*;

/// Name, kind, size, subtree and content of each node that makes sense.
type Seen = Vec<Option<(String, String, u64, Option<String>, Vec<Option<Id>>)>>;

fn streamed(json: &[u8]) -> Result<Seen, Invalid> {
    let mut seen = Vec::new();
    let done: Result<_, ()> = each(json, |node| {
        seen.push(node.ok().map(|node| {
            let ids = node.blobs().map(Result::ok).collect();
            let subtree = node.subtree.as_deref().map(str::to_owned);
            let text = |text: &Cow<'_, str>| text.clone().into_owned();
            (text(&node.name), text(&node.kind), node.size, subtree, ids)
        }));
        Ok(())
    });
    done.unwrap().map(|()| seen)
}

/// The same by the other parser.
fn spans(json: &[u8]) -> Result<Seen, Invalid> {
    let nodes = tree::Entries::parse(json.to_vec())?;
    Ok(nodes
        .map(|node| {
            node.ok().map(|node| {
                let ids = node.content.iter().map(|text| Id::parse(text)).collect();
                (node.name, node.kind, node.size, node.subtree, ids)
            })
        })
        .collect())
}

#[test]
fn both_parsers_agree() {
    let id = Id::of(b"x");
    for json in [
        format!(
            r#"{{"nodes":[{{"name":"a","type":"file","size":7,"content":["{id}" , "{id}"],"other":[{{}}]}}]}}"#
        ),
        format!(
            r#" {{ "more":[1], "nodes" : [ {{"name":"\u00e9\\x00","type":"dir","subtree":"{id}","content":null}}, {{"name":7}}, {{"content":[ ]}} ] }} "#
        ),
        r#"{"nodes":null}"#.to_owned(),
        "{}".to_owned(),
        r#"{"nodes":[]}"#.to_owned(),
        r#"{"nodes":[7,null,"x",{}]}"#.to_owned(),
        "{".to_owned(),
        "7".to_owned(),
        String::new(),
        r#"{"nodes":7}"#.to_owned(),
        r#"{"nodes":[{}],"nodes":[]}"#.to_owned(),
        r#"{"nodes":[{}]} x"#.to_owned(),
    ] {
        assert_eq!(
            streamed(json.as_bytes()).ok(),
            spans(json.as_bytes()).ok(),
            "{json}"
        );
    }
}

/// As it is, and so that the quick way does not recognise it.
fn both_ways(json: &[u8]) -> (Option<Seen>, Option<Seen>) {
    let slowly = [b" ", json].concat();
    (streamed(json).ok(), streamed(&slowly).ok())
}

#[test]
fn the_quick_way_sees_the_same() {
    let id = Id::of(b"x");
    let usual = format!(
        r#"{{"name":"a b","type":"file","mode":420,"mtime":"2026-01-02T03:04:05.6Z","uid":0,"size":18446744073709551615,"links":2,"inode":7,"device_id":0,"content":["{id}","{id}"]}}"#
    );
    let quick = format!(
        r#"{{"nodes":[{usual},{{"name":"é","type":"dir","subtree":"{id}","content":null}}]}}"#
    );
    let mut scan = scan::nodes(quick.as_bytes()).unwrap();
    let (first, text) = scan.node().unwrap();
    assert_eq!(text, usual);
    assert_eq!((first.size, first.links), (Some(u64::MAX), Some(2)));
    assert!(scan.eat(b',') && scan.node().is_some() && scan.rest() == "]}");
    let one = |node: &str| format!(r#"{{"nodes":[{node}]}}"#);
    for json in [
        quick.clone() + "\n",
        quick.replace(',', " , "),
        quick.replace("a b", "a\\\\b"),
        quick.replace("a b", "a\\u00e9b"),
        quick.replace("a b", "a\\ud800b"),
        quick.replace("a b", "a\\x"),
        quick.replace("a b", "a\tb"),
        one(r#"{"name":"a","name":"b"}"#),
        one(r#"{"content":null,"content":[]}"#),
        one(r#"{"mode":1,"mode":2}"#),
        one(r#"{"size":01}"#),
        one(r#"{"mode":01}"#),
        one(r#"{"size":-1}"#),
        one(r#"{"size":1.0}"#),
        one(r#"{"size":18446744073709551616}"#),
        one(r#"{"mode":18446744073709551616}"#),
        one(r#"{"size":"1"}"#),
        one(r#"{"size":null}"#),
        one(r#"{"name":null,"extended_attributes":[{"name":"n","value":"v"}]}"#),
        one(r#"{"other":"\q"}"#),
        one(r#"{"other":"\u12"}"#),
        one(r#"{"other":"\\"}"#),
        one(r#"{"other":tru}"#),
        one(r#"{"name":"a""#),
        one(r#"{"name":"a",}"#),
        one(r"{},"),
        one(""),
        one(" "),
        one("nul"),
        one("7"),
        one("[]"),
        one(&format!(r#"{{"content":["{id}",]}}"#)),
        one(&format!(
            r#"{{"content":["{}"]}}"#,
            id.to_string().to_uppercase()
        )),
        one("{}") + "}",
        r#"{"nodes":[{}],"more":{}}"#.to_owned(),
        r#"{"nodes":[{}],"nodes":null}"#.to_owned(),
        r#"{"nodes":[{}]"#.to_owned(),
    ] {
        let (quick, slow) = both_ways(json.as_bytes());
        assert_eq!(quick, slow, "{json}");
    }
    let (quick, slow) = both_ways(b"{\"nodes\":[{\"name\":\"\xff\"}]}");
    assert_eq!(quick, slow);
}

#[test]
fn content_that_is_none() {
    let id = Id::of(b"x");
    for (content, good) in [
        (format!(r#"["{id}",7]"#), 1),
        (format!(r#"["{id}",["{id}"]]"#), 1),
        (r#"["short"]"#.to_owned(), 0),
        ("7".to_owned(), 0),
        (r#""text""#.to_owned(), 0),
        ("{}".to_owned(), 0),
    ] {
        let json = format!(r#"{{"nodes":[{{"content":{content}}}]}}"#);
        let seen = streamed(json.as_bytes()).unwrap().remove(0).unwrap().4;
        assert_eq!(seen.len(), good + 1, "{content}");
        assert_eq!(seen.iter().flatten().count(), good, "{content}");
    }
}

#[test]
fn directories_and_what_is_wrong_with_them() {
    let id = Id::of(b"x");
    let of = |text: &str| Node::parse(text).unwrap().directory();
    assert_eq!(
        of(&format!(r#"{{"type":"dir","subtree":"{id}"}}"#)),
        Ok(Some(id))
    );
    assert_eq!(of(r#"{"type":"file"}"#), Ok(None));
    assert!(of(r#"{"type":"dir"}"#).is_err() && of(r#"{"subtree":"x"}"#).is_err());
    let node = Node::parse(r#"{"name":"a","uid":7}"#).unwrap();
    assert_eq!(node.whole().unwrap().uid, 7);
}

#[test]
fn it_stops_when_told() {
    let mut count = 0;
    let done = each(br#"{"nodes":[{},{},{}]}"#, |_| {
        count += 1;
        if count == 2 { Err("enough") } else { Ok(()) }
    });
    assert_eq!((done, count), (Err("enough"), 2));
}

proptest! {
    #[test]
    fn documents_with_a_change(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let id = Id::of(b"x");
        let mut json = format!(
            r#"{{"nodes":[{{"name":"a","type":"file","size":10,"content":["{id}"],"more":"x"}},{{"name":"b","type":"dir","subtree":"{id}","content":null}}]}}"#
        )
        .into_bytes();
        let at = at.index(json.len());
        if cut {
            json.remove(at);
        } else {
            json[at] = byte;
        }
        let (quick, slow) = both_ways(&json);
        prop_assert_eq!(quick, slow);
    }

    #[test]
    fn any_bytes(json in proptest::collection::vec(any::<u8>(), 0..60)) {
        prop_assert!(streamed(&json).is_err() || spans(&json).is_ok());
    }
}
