use super::*;

/// Of the names given, each is a blob of so many bytes or a directory.
#[derive(Default)]
struct Knows {
    data: Vec<(Id, u64)>,
    dirs: Vec<(Id, Inner)>,
}

impl Known for Knows {
    fn data(&self, id: &Id) -> Option<u64> {
        let found = self.data.iter().find(|(other, _)| other == id);
        found.map(|(_, bytes)| *bytes)
    }

    fn directory(&self, id: &Id) -> Inner {
        let found = self.dirs.iter().find(|(other, _)| other == id);
        found.map_or(Inner::Lost, |(_, inner)| *inner)
    }
}

fn id(name: &str) -> Id {
    Id::of(name.as_bytes())
}

fn tree(nodes: &[String]) -> String {
    format!("{{\"nodes\":[{}]}}\n", nodes.join(","))
}

/// The new document, if it is another one, and what was lost.
fn new(nodes: &[String], known: &Knows) -> (Option<String>, Vec<(String, Loss)>) {
    let new = rewrite(tree(nodes).as_bytes(), known).unwrap();
    let text = String::from_utf8(new.json).unwrap();
    let losses = new.losses.into_iter();
    (
        new.changed.then_some(text),
        losses.map(|(name, loss)| (name.into(), loss)).collect(),
    )
}

fn file(size: &str, content: &[&str]) -> String {
    let ids: Vec<String> = content
        .iter()
        .map(|name| format!("\"{}\"", id(name)))
        .collect();
    format!(
        r#"{{"name":"f","type":"file","mode":420,"inode":7{size},"links":1,"new_field":{{"a":[1]}},"content":[{}]}}"#,
        ids.join(",")
    )
}

#[test]
fn a_file_keeps_what_is_left() {
    let known = Knows {
        data: vec![(id("a"), 10), (id("b"), 20)],
        ..Knows::default()
    };
    let whole = file(r#","size":30"#, &["a", "b"]);
    assert_eq!(new(std::slice::from_ref(&whole), &known), (None, vec![]));
    let lost = |lost, left| vec![("f".to_owned(), Loss::Content { lost, left })];
    let broken = file(r#","size":60"#, &["a", "x", "b"]);
    assert_eq!(
        new(&[whole.clone(), broken], &known),
        (Some(tree(&[whole.clone(), whole.clone()])), lost(30, 30))
    );
    let all = file(r#","size":9"#, &["x"]);
    assert_eq!(
        new(&[all], &known),
        (Some(tree(&[file("", &[])])), lost(9, 0))
    );
    // It never said its size, and says too much.
    for size in ["", r#","size":31"#] {
        let stated = if size.is_empty() { 0 } else { 31 };
        let said = vec![(
            "f".to_owned(),
            Loss::Size {
                stated,
                content: 30,
            },
        )];
        let wrong = file(size, &["a", "b"]);
        assert_eq!(
            new(&[wrong], &known),
            (Some(tree(std::slice::from_ref(&whole))), said)
        );
    }
}

#[test]
fn content_that_is_no_list_of_ids() {
    let known = Knows {
        data: vec![(id("a"), 10)],
        ..Knows::default()
    };
    let node = |content: &str| format!(r#"{{"name":"f","type":"file","content":{content}}}"#);
    let (text, losses) = new(&[node("null")], &known);
    assert_eq!(text, Some(tree(&[node("[]")])));
    assert_eq!(losses[0].1, Loss::Content { lost: 0, left: 0 });
    let (text, _) = new(&[node(&format!(r#"["{}",7]"#, id("a")))], &known);
    let kept = format!(
        r#"{{"name":"f","type":"file","size":10,"content":["{}"]}}"#,
        id("a")
    );
    assert_eq!(text, Some(tree(&[kept])));
}

#[test]
fn directories_lead_to_what_is_left_of_them() {
    let known = Knows {
        dirs: vec![
            (id("whole"), Inner::Whole),
            (id("mended"), Inner::Mended(id("new"), 7)),
        ],
        ..Knows::default()
    };
    let dir = |id: Id| format!(r#"{{"name":"d","type":"dir","content":null,"subtree":"{id}"}}"#);
    let nodes = [dir(id("whole")), dir(id("mended")), dir(id("gone"))];
    let done = rewrite(tree(&nodes).as_bytes(), &known).unwrap();
    let wanted = tree(&[dir(id("whole")), dir(id("new")), dir(Id::of(EMPTY))]);
    assert_eq!(String::from_utf8(done.json).unwrap(), wanted);
    assert_eq!(done.below, [("d".into(), 7)]);
    assert_eq!(done.losses, [("d".into(), Loss::Directory)]);
    assert!(done.needs_empty);
    // One that names none.
    let none = r#"{"name":"d","type":"dir","content":null}"#.to_owned();
    let (text, _) = new(&[none], &known);
    assert_eq!(text, Some(tree(&[dir(Id::of(EMPTY))])));
    // An empty one can be had again: nothing changes.
    let nodes = [dir(Id::of(EMPTY))];
    let done = rewrite(tree(&nodes).as_bytes(), &known).unwrap();
    assert!(done.needs_empty && !done.changed);
}

#[test]
fn what_makes_no_sense_goes() {
    let known = Knows::default();
    let link = r#"{"name":"l","type":"symlink","linktarget":"x"}"#.to_owned();
    let nodes = [
        r#"{"name":"i","type":"irregular"}"#.to_owned(),
        link.clone(),
        r#"{"name":7}"#.to_owned(),
        link.clone(),
        r#"{"name":"n"}"#.to_owned(),
        // A node by its fields' places, which cannot be changed.
        r#"["s","file",7,null,null,null,null,[]]"#.to_owned(),
    ];
    let (text, losses) = new(&nodes, &known);
    assert_eq!(text, Some(tree(&[link.clone(), link])));
    let names: Vec<&str> = losses.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["i", "?", "n", "s"]);
    for bad in ["", "{", "7", r#"{"nodes":7}"#] {
        assert!(rewrite(bad.as_bytes(), &known).is_err(), "{bad}");
    }
}
