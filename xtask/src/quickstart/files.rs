//! What is in a volume, entry by entry, as the node sees it.
//!
//! Read by `find` and `sha256sum` in the node's mount namespace, where volumes are mounted: other
//! programs than Ark's own, so that a mistake of Ark's cannot hide itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::exec;

/// Kind, mode, owner, time of change, link count, size, link target, path: each ended by a NUL.
const FORMAT: &str = r"%y\0%m\0%U:%G\0%T@\0%n\0%s\0%l\0%P\0";
const FIELDS: usize = 8;

/// One file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Entry {
    kind: String,
    mode: String,
    owner: String,
    changed: String,
    links: String,
    size: String,
    target: String,
    digest: String,
}

/// The entries of a volume by path; the volume's own folder has an empty path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Entry>);

/// Reads a volume.
pub fn read(cluster: &Cluster, volume: &Path) -> Result<Files> {
    let listing = exec::output(
        cluster
            .node_command("find")?
            .arg(volume)
            .args(["-printf", FORMAT]),
    )?;
    let script = r#"cd "$0" && find . -type f -print0 | xargs -0r sha256sum -z --"#;
    let digests = exec::output(cluster.node_command("sh")?.args(["-c", script]).arg(volume))?;
    parse(&listing, &digests).with_context(|| format!("cannot read {}", volume.display()))
}

fn parse(listing: &str, digests: &str) -> Result<Files> {
    let mut entries = BTreeMap::new();
    let fields: Vec<&str> = listing.split_terminator('\0').collect();
    for fields in fields.chunks(FIELDS) {
        let &[kind, mode, owner, changed, links, size, target, path] = fields else {
            bail!("an incomplete entry: {fields:?}");
        };
        let is_file = kind == "f";
        let only_file = |text: &str| {
            if is_file {
                text.to_owned()
            } else {
                String::new()
            }
        };
        let entry = Entry {
            kind: kind.to_owned(),
            mode: mode.to_owned(),
            owner: owner.to_owned(),
            changed: changed.to_owned(),
            // Of a folder these depend on the file system it lies on.
            links: only_file(links),
            size: only_file(size),
            target: target.to_owned(),
            digest: String::new(),
        };
        entries.insert(path.to_owned(), entry);
    }
    for line in digests.split_terminator('\0') {
        let (digest, path) = line.split_once("  ").context("an unexpected digest")?;
        let path = path.strip_prefix("./").unwrap_or(path);
        let entry = entries
            .get_mut(path)
            .with_context(|| format!("{path} changed while it was read"))?;
        digest.clone_into(&mut entry.digest);
    }
    Ok(Files(entries))
}

impl Files {
    /// How many entries there are, the volume's own folder included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing at all, not even the volume's own folder.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without the volume's own folder, which restic's format does not hold.
    #[must_use]
    pub fn without_root(mut self) -> Self {
        self.0.remove("");
        self
    }

    /// What is not in `other` as it is here, and what is there besides.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, entry) in &self.0 {
            match other.0.get(path) {
                None => found.push(format!("{path:?} is missing")),
                Some(now) if now != entry => found.push(explain(path, entry, now)),
                Some(_) => {}
            }
        }
        let extra = other.0.keys().filter(|path| !self.0.contains_key(*path));
        found.extend(extra.map(|path| format!("{path:?} was never written")));
        found
    }
}

fn explain(path: &str, was: &Entry, is: &Entry) -> String {
    let Entry {
        kind,
        mode,
        owner,
        changed,
        links,
        size,
        target,
        digest,
    } = was;
    let pairs = [
        ("kind", kind, &is.kind),
        ("mode", mode, &is.mode),
        ("owner", owner, &is.owner),
        ("time", changed, &is.changed),
        ("links", links, &is.links),
        ("size", size, &is.size),
        ("target", target, &is.target),
        ("content", digest, &is.digest),
    ];
    let changes: Vec<String> = pairs
        .iter()
        .filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| format!("{name} was {was} and is {is}"))
        .collect();
    format!("{path:?}: {}", changes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "d\x00755\x000:0\x001.5\x002\x004096\x00\x00\x00\
                           f\x00644\x0033:33\x002.25\x001\x003\x00\x00a b\x00";

    #[test]
    fn a_listing_and_its_digests_become_entries() {
        let files = parse(LISTING, "abc  ./a b\0").unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files.0["a b"].digest, "abc");
        assert_eq!(files.0[""].size, "", "the size of a folder says nothing");
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let before = parse(LISTING, "abc  ./a b\0").unwrap();
        let changed = LISTING.replace("33:33", "0:0").replace("2.25", "2.0");
        let after = parse(&changed, "xyz  ./a b\0").unwrap();
        assert_eq!(
            before.differences(&after),
            [
                "\"a b\": owner was 33:33 and is 0:0, time was 2.25 and is 2.0, content was abc and is xyz"
            ]
        );
        let empty = parse("d\x00755\x000:0\x001.5\x002\x001\x00\x00\x00", "").unwrap();
        assert_eq!(before.differences(&empty), ["\"a b\" is missing"]);
        assert_eq!(empty.differences(&before), ["\"a b\" was never written"]);
        assert!(before.differences(&before).is_empty());
    }
}
