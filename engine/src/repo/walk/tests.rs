use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Mutex,
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    error::Class,
    index::{Copies, Loading, Packs},
    restore::forge::{Forge, file},
};

/// Notes what it is shown.
#[derive(Default)]
struct Notes {
    dirs: Mutex<BTreeMap<Id, Vec<String>>>,
    bad: Mutex<Vec<(Id, String)>>,
    cancel: Option<Cancel>,
}

impl Visitor for Notes {
    type Dir = Vec<String>;

    fn enter(&self, _tree: &Tree) -> Result<Vec<String>> {
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        Ok(Vec::new())
    }

    fn node(
        &self,
        tree: &Tree,
        dir: &mut Vec<String>,
        node: Result<&Node<'_>, Invalid>,
    ) -> Result<()> {
        match node {
            Ok(node) => dir.push(node.name.clone().into_owned()),
            Err(why) => self.bad.lock().unwrap().push((tree.id, why.to_string())),
        }
        Ok(())
    }

    fn leave(&self, tree: &Tree, dir: Vec<String>) -> Result<()> {
        let again = self.dirs.lock().unwrap().insert(tree.id, dir);
        assert_eq!(again, None, "{} was visited twice", tree.id);
        Ok(())
    }

    fn unreadable(&self, tree: &Tree, error: Error) -> Result<()> {
        assert_eq!(error.class(), Class::Permanent);
        self.bad.lock().unwrap().push((tree.id, error.to_string()));
        Ok(())
    }

    fn too_large(&self, tree: &Tree, error: Error) -> Result<()> {
        self.unreadable(tree, error)
    }
}

impl Forge {
    fn index(&self) -> Index {
        let loading = Loading {
            which: Packs::Live,
            copies: Copies::All,
            limit: u64::MAX,
            unreadable: None,
        };
        let load = Index::load_as(&self.repo, self.repo.store(), loading);
        self.runtime.block_on(load).unwrap()
    }

    fn walk(&self, roots: &[&str], memory: u64) -> (Notes, Result<()>) {
        let (index, cancel, notes) = (self.index(), Cancel::new(), Notes::default());
        let seen = Bits::new(index.len());
        let walk = Walk {
            repo: &self.repo,
            store: self.repo.store(),
            index: &index,
            seen: &seen,
            memory,
            cancel: &cancel,
        };
        let roots: Vec<_> = roots.iter().map(|id| Id::parse(id).unwrap()).collect();
        let done = walk.run(&roots, &notes);
        // What one walk has seen, the next does not visit.
        if done.is_ok() {
            let again = Notes::default();
            walk.run(&roots, &again).unwrap();
            assert!(again.dirs.into_inner().unwrap().is_empty());
        }
        (notes, done)
    }
}

const ENOUGH: u64 = 64 << 20;

fn dir(name: &str, tree: &str) -> Value {
    json!({"name": name, "type": "dir", "subtree": tree})
}

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

#[test]
fn what_is_wrong_is_shown_and_the_rest_is_visited() {
    let mut forge = Forge::new();
    let whole = forge.tree(&json!([file("whole", &[])]));
    let damaged = forge.tree(&json!([file("damaged", &[])]));
    let lies = Id::of(b"another content").to_string();
    forge.blob_named("tree", &lies, b"{}", None);
    let broken = forge.blob("tree", br#"{"nodes":[{"name":"first"},"#);
    let missing = Id::of(b"missing").to_string();
    let data = forge.blob("data", br#"{"nodes":[]}"#);
    let odd = forge.tree(&json!([
        {"name": 7},
        {"name": "nowhere", "type": "dir"},
        {"name": "no id", "type": "dir", "subtree": "x"},
        dir("below", &whole),
    ]));
    let root = forge.tree(&json!([
        dir("a", &damaged),
        dir("b", &lies),
        dir("c", &broken),
        dir("d", &missing),
        dir("e", &data),
        dir("f", &odd),
        dir("d again", &missing),
    ]));
    let path = forge.dir.path().join("repo").join(forge.publish());
    let mut pack = fs::read(&path).unwrap();
    let record = forge.index().position(BlobKind::Tree, &id(&damaged));
    let place = forge.index().record(record.unwrap()).unwrap().place;
    pack[place.offset as usize + 20] ^= 1;
    fs::write(&path, pack).unwrap();

    let (notes, done) = forge.walk(&[&root, &missing], ENOUGH);
    done.unwrap();
    let dirs = notes.dirs.into_inner().unwrap();
    let visited: BTreeSet<_> = dirs.keys().copied().collect();
    assert_eq!(visited, BTreeSet::from([id(&whole), id(&odd), id(&root)]));
    assert_eq!(dirs[&id(&odd)], ["nowhere", "no id", "below"]);
    let mut bad = notes.bad.into_inner().unwrap();
    bad.sort();
    let said = |id: &str| -> Vec<&str> {
        let of = bad
            .iter()
            .filter(|(tree, _)| *tree == Id::parse(id).unwrap());
        of.map(|(_, why)| why.as_str()).collect()
    };
    for (tree, word) in [
        (&damaged, "authentic"),
        (&lies, "does not match its id"),
        (&broken, "no directory"),
        (&missing, "in no index"),
        (&data, "in no index"),
    ] {
        assert!(
            said(tree).len() == 1 && said(tree)[0].contains(word),
            "{bad:?}"
        );
    }
    assert_eq!(said(&odd).len(), 3);
}

#[test]
fn another_copy_is_read() {
    let mut forge = Forge::new();
    let below = forge.tree(&json!([file("a", &[])]));
    let root = forge.tree(&json!([dir("below", &below)]));
    let first = forge.dir.path().join("repo").join(forge.publish());
    forge.tree(&json!([dir("below", &below)]));
    forge.tree(&json!([file("a", &[])]));
    let second = forge.dir.path().join("repo").join(forge.publish());
    let both = [&first, &second].map(|path| fs::read(path).unwrap());
    let visited = || {
        let (notes, done) = forge.walk(&[&root], ENOUGH);
        done.unwrap();
        let (dirs, bad) = (
            notes.dirs.into_inner().unwrap(),
            notes.bad.into_inner().unwrap(),
        );
        (dirs.len(), bad.len())
    };
    for (path, bytes) in [&first, &second].into_iter().zip(&both) {
        fs::remove_file(path).unwrap();
        assert_eq!(visited(), (2, 0));
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(visited(), (2, 0));
        let mut wrong = bytes.clone();
        for byte in &mut wrong {
            *byte ^= 1;
        }
        fs::write(path, wrong).unwrap();
        assert_eq!(visited(), (2, 0));
        fs::write(path, bytes).unwrap();
    }
    fs::remove_file(&first).unwrap();
    fs::remove_file(&second).unwrap();
    assert_eq!(visited(), (0, 1));
}

#[test]
fn memory_that_does_not_suffice() {
    let mut forge = Forge::new();
    let small = forge.tree(&json!([file("a", &[])]));
    let huge = Id::of(b"huge").to_string();
    forge.blob_named("tree", &huge, b"{}", Some(200 << 20));
    let root = forge.tree(&json!([dir("huge", &huge), dir("small", &small)]));
    forge.publish();
    let (notes, done) = forge.walk(&[&root], ENOUGH);
    done.unwrap();
    assert_eq!(notes.dirs.into_inner().unwrap().len(), 2);
    let bad = notes.bad.into_inner().unwrap();
    let most = (400 << 20) + (9 << 20);
    let needed: u64 = bad[0]
        .1
        .split_once("needs ")
        .unwrap()
        .1
        .split_once(' ')
        .unwrap()
        .0
        .parse()
        .unwrap();
    assert!(
        bad.len() == 1 && (400 << 20..most).contains(&needed),
        "{bad:?}"
    );
    // With as much as it says, it is read, and is not what it says it is.
    let (notes, done) = forge.walk(&[&root], needed);
    done.unwrap();
    let bad = notes.bad.into_inner().unwrap();
    assert!(bad.len() == 1 && !bad[0].1.contains("memory"), "{bad:?}");
    let Err(Error::MemoryLimit { needed, .. }) = forge.walk(&[&root], 1 << 20).1 else {
        panic!("a megabyte suffices");
    };
    forge.walk(&[&root], needed).1.unwrap();
}

#[test]
fn it_is_cancelled() {
    let mut forge = Forge::new();
    let mut tree = forge.tree(&json!([]));
    for n in 0..200 {
        tree = forge.tree(&json!([dir(&n.to_string(), &tree)]));
    }
    forge.publish();
    let (index, cancel) = (forge.index(), Cancel::new());
    let (seen, notes) = (
        Bits::new(index.len()),
        Notes {
            cancel: Some(cancel.clone()),
            ..Notes::default()
        },
    );
    let walk = Walk {
        repo: &forge.repo,
        store: &forge.repo.store().with_cancel(cancel.clone()),
        index: &index,
        seen: &seen,
        memory: ENOUGH,
        cancel: &cancel,
    };
    let done = walk.run(&[id(&tree)], &notes);
    assert!(matches!(done, Err(Error::Cancelled)), "{done:?}");
    assert_eq!(notes.dirs.into_inner().unwrap().len(), 1);
}

#[test]
fn a_panic_of_the_visitor_ends_it() {
    struct Panics;
    impl Visitor for Panics {
        type Dir = ();
        fn enter(&self, _: &Tree) -> Result<()> {
            panic!("on purpose")
        }
        fn node(&self, _: &Tree, (): &mut (), _: Result<&Node<'_>, Invalid>) -> Result<()> {
            Ok(())
        }
        fn leave(&self, _: &Tree, (): ()) -> Result<()> {
            Ok(())
        }
        fn unreadable(&self, _: &Tree, error: Error) -> Result<()> {
            Err(error)
        }
    }
    let mut forge = Forge::new();
    let root = forge.tree(&json!([]));
    forge.publish();
    let (index, cancel) = (forge.index(), Cancel::new());
    let seen = Bits::new(index.len());
    let walk = Walk {
        repo: &forge.repo,
        store: forge.repo.store(),
        index: &index,
        seen: &seen,
        memory: ENOUGH,
        cancel: &cancel,
    };
    let done = walk.run(&[id(&root)], &Panics);
    assert!(matches!(done, Err(Error::Bug(_))), "{done:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Directories that share others, in many packs: each that can be reached is visited once.
    #[test]
    fn each_directory_once(
        trees in proptest::collection::vec((proptest::collection::vec(any::<prop::sample::Index>(), 0..4), any::<bool>()), 1..80),
        root in any::<prop::sample::Index>(),
    ) {
        let mut forge = Forge::new();
        let mut made: Vec<(String, Vec<usize>)> = Vec::new();
        for (n, (below, publish)) in trees.into_iter().enumerate() {
            let below: Vec<usize> = if n == 0 { Vec::new() } else { below.iter().map(|i| i.index(n)).collect() };
            let mut nodes: Vec<_> = below.iter().map(|i| dir(&i.to_string(), &made[*i].0)).collect();
            nodes.push(file(&format!("file {n}"), &[]));
            let id = forge.tree(&nodes.into());
            made.push((id, below));
            if publish {
                forge.publish();
            }
        }
        forge.publish();
        let root = root.index(made.len());
        let mut reached = BTreeSet::new();
        let mut todo = vec![root];
        while let Some(n) = todo.pop() {
            if reached.insert(id(&made[n].0)) {
                todo.extend(&made[n].1);
            }
        }
        let (notes, done) = forge.walk(&[&made[root].0], ENOUGH);
        done.unwrap();
        prop_assert_eq!(notes.dirs.into_inner().unwrap().into_keys().collect::<BTreeSet<_>>(), reached);
        prop_assert!(notes.bad.into_inner().unwrap().is_empty());
    }
}
