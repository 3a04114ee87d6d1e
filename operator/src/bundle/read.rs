//! Reads a bundle (tar.gz) into a spool on disk: one file per resource, an index in memory.
//!
//! Does: checks every path against the layout, every object against its path ([`file_name`]: the name in the
//! object is the one that counts), and every size against [`Limits`], because a bucket is not a trusted place. Skips the duplicates that Velero
//! stores below `<version>-preferredversion`. Keeps memory bounded by one object and the index.
//!
//! Does not: interpret objects, or decide what is restored.
//!
//! Fails: as a whole when the archive is damaged or exceeds a limit on its total;
//! one entry that makes no sense is a [`Rejected`] row and the rest is read.
//!
//! Order: the whole bundle is read before anything of it is used, so a damaged one changes nothing.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::file_name;
use crate::error::{Error, Result};
use crate::json::Document;

/// Most bytes of an extended header (a long path) that are read.
const MAX_PATH_HEADER: u64 = 64 * 1024;
/// Longest name of a resource or namespace in Kubernetes, and longest file name that releases
/// before encoded names wrote, without `.json`.
const MAX_NAME: usize = 253;
/// Longest name of an object that is believed; Events may have names longer than 253 bytes.
const MAX_OBJECT_NAME: usize = 4096;

/// How much of a bundle is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one object.
    pub(crate) object: u64,
    /// Bytes of the archive, decompressed.
    pub(crate) total: u64,
    /// Objects.
    pub(crate) objects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object: 16 << 20,
            total: 16 << 30,
            objects: 2_000_000,
        }
    }
}

/// An entry that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Its path in the archive, cut to a printable length.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// An object in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Namespace in the backup; empty for cluster-scoped objects.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    offset: u64,
    length: u32,
}

struct Pile {
    file: BufWriter<File>,
    entries: Vec<Entry>,
    end: u64,
}

/// The objects of a bundle, on disk, by resource (`pods`, `deployments.apps`).
pub(crate) struct Spool {
    resources: BTreeMap<String, (File, Vec<Entry>)>,
    rejected: Vec<Rejected>,
}

impl Spool {
    /// Resources with at least one object.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.keys().map(String::as_str)
    }

    /// Objects of `resource`, by namespace and name.
    pub(crate) fn entries(&self, resource: &str) -> &[Entry] {
        self.resources
            .get(resource)
            .map_or(&[], |(_, entries)| entries)
    }

    /// Entries that were left out.
    pub(crate) fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.resources.values().map(|(_, e)| e.len()).sum()
    }

    /// Reads one object back.
    pub(crate) fn load(&self, resource: &str, entry: &Entry) -> Result<Value> {
        serde_json::from_str(&self.text(resource, entry)?).map_err(damaged)
    }

    /// One object as it is in the bundle, with its text.
    pub(crate) fn document(&self, resource: &str, entry: &Entry) -> Result<Document> {
        Document::read(&self.text(resource, entry)?).map_err(damaged)
    }

    fn text(&self, resource: &str, entry: &Entry) -> Result<String> {
        let (file, _) = self
            .resources
            .get(resource)
            .ok_or_else(|| Error::Bug(format!("no resource {resource} in the spool")))?;
        let mut bytes = vec![0; entry.length as usize];
        file.read_exact_at(&mut bytes, entry.offset)
            .map_err(Error::io("read the spooled bundle"))?;
        String::from_utf8(bytes).map_err(damaged)
    }
}

/// Where an archive path says its object belongs.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Object {
        resource: &'a str,
        namespace: &'a str,
        /// File name without `.json`.
        stem: &'a str,
    },
    /// The file with the layout's version.
    Version,
    /// Something every bundle holds and nobody needs: directories, duplicates, other metadata.
    Other,
}

/// Reads the bundle `archive` into unnamed files below `directory`.
pub(crate) fn spool(archive: impl Read, directory: &Path, limits: Limits) -> Result<Spool> {
    let mut reader = Reader {
        directory,
        limits,
        piles: BTreeMap::new(),
        seen: HashSet::new(),
        rejected: Vec::new(),
    };
    let bounded = MultiGzDecoder::new(archive).take(limits.total.saturating_add(1));
    let mut archive = tar::Archive::new(bounded);
    let read = reader.read_all(&mut archive);
    let rest = archive.into_inner();
    if rest.limit() == 0 {
        return Err(too_large(&format!("{} MiB unpacked", limits.total >> 20)));
    }
    read?;
    finish(rest)?;
    reader.into_spool()
}

/// Reads what follows the archive's end, so that a bundle cut short within its checksum is noticed.
fn finish(mut rest: impl Read) -> Result<()> {
    io::copy(&mut rest, &mut io::sink())
        .map(drop)
        .map_err(damaged)
}

fn damaged(message: impl std::fmt::Display) -> Error {
    Error::malformed("the bundle")(message)
}

fn too_large(what: &str) -> Error {
    Error::Permanent {
        message: format!(
            "the bundle is larger than Ark believes a backup can be: more than {what}"
        ),
        hint: "it was not written by Ark or Velero, or somebody changed it",
    }
}

struct Reader<'a> {
    directory: &'a Path,
    limits: Limits,
    piles: BTreeMap<String, Pile>,
    seen: HashSet<String>,
    rejected: Vec<Rejected>,
}

impl Reader<'_> {
    fn read_all<R: Read>(&mut self, archive: &mut tar::Archive<io::Take<R>>) -> Result<()> {
        // Raw entries: long paths come as entries of their own, and their sizes are checked here.
        let entries = archive.entries().map_err(damaged)?.raw(true);
        let mut long_path: Option<Vec<u8>> = None;
        let mut found = false;
        for entry in entries {
            let mut entry = entry.map_err(damaged)?;
            found = true;
            let kind = entry.header().entry_type();
            if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
                if entry.size() > MAX_PATH_HEADER {
                    return Err(damaged("a path header is far too long"));
                }
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(damaged)?;
                if kind.is_gnu_longname() {
                    while bytes.last() == Some(&0) {
                        bytes.pop();
                    }
                    long_path = Some(bytes);
                } else if let Some(path) = pax_path(&bytes) {
                    long_path = Some(path);
                }
                continue;
            }
            let raw = long_path
                .take()
                .unwrap_or_else(|| entry.path_bytes().into_owned());
            if !kind.is_file() {
                continue;
            }
            let path = String::from_utf8_lossy(&raw).into_owned();
            let size = entry.size();
            self.one(&path, size, &mut entry)?;
        }
        if found {
            Ok(())
        } else {
            Err(damaged("it holds nothing"))
        }
    }

    fn one(&mut self, path: &str, size: u64, content: &mut impl Read) -> Result<()> {
        let place = match place(path) {
            Ok(place) => place,
            Err(reason) => {
                self.reject(path, reason);
                return Ok(());
            }
        };
        let (resource, namespace, stem) = match place {
            Place::Other => return Ok(()),
            Place::Version => return check_version(content),
            Place::Object {
                resource,
                namespace,
                stem,
            } => (resource, namespace, stem),
        };
        if size > self.limits.object {
            let reason = format!(
                "is larger than the {} MiB an object may have",
                self.limits.object >> 20
            );
            self.reject(path, reason);
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        content
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(damaged(format!("{} is cut short", shown(path))));
        }
        let name = match check_object(&bytes, namespace, stem) {
            Ok(name) => name,
            Err(reason) => {
                self.reject(path, reason);
                return Ok(());
            }
        };
        if self.seen.len() >= self.limits.objects {
            return Err(too_large(&format!("{} objects", self.limits.objects)));
        }
        if !self.seen.insert(format!("{resource}\0{namespace}\0{name}")) {
            self.reject(path, "is there twice; the first one counts".into());
            return Ok(());
        }
        self.keep(resource, namespace, &name, &bytes)
            .map_err(Error::io("spool the bundle"))
    }

    fn keep(
        &mut self,
        resource: &str,
        namespace: &str,
        name: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        if !self.piles.contains_key(resource) {
            let pile = Pile {
                file: BufWriter::new(tempfile::tempfile_in(self.directory)?),
                entries: Vec::new(),
                end: 0,
            };
            self.piles.insert(resource.to_owned(), pile);
        }
        let Some(pile) = self.piles.get_mut(resource) else {
            return Ok(());
        };
        pile.file.write_all(bytes)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        pile.entries.push(Entry {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            offset: pile.end,
            length,
        });
        pile.end += u64::from(length);
        Ok(())
    }

    fn reject(&mut self, path: &str, reason: String) {
        // A hostile bundle must not fill the memory with complaints either.
        if self.rejected.len() < 10_000 {
            self.rejected.push(Rejected {
                path: shown(path),
                reason,
            });
        }
    }

    fn into_spool(self) -> Result<Spool> {
        let mut resources = BTreeMap::new();
        for (resource, pile) in self.piles {
            let mut file = pile
                .file
                .into_inner()
                .map_err(|e| Error::io("spool the bundle")(e.into_error()))?;
            file.seek(SeekFrom::Start(0))
                .map_err(Error::io("spool the bundle"))?;
            let mut entries = pile.entries;
            entries.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            resources.insert(resource, (file, entries));
        }
        Ok(Spool {
            resources,
            rejected: self.rejected,
        })
    }
}

/// The path in a PAX header, if it holds one.
fn pax_path(bytes: &[u8]) -> Option<Vec<u8>> {
    tar::PaxExtensions::new(bytes)
        .filter_map(Result::ok)
        .find(|extension| extension.key_bytes() == b"path")
        .map(|extension| extension.value_bytes().to_vec())
}

fn check_version(content: &mut impl Read) -> Result<()> {
    let mut text = String::new();
    content
        .take(64)
        .read_to_string(&mut text)
        .map_err(damaged)?;
    let text = text.trim();
    // `1` and `1.0.0` are what the first releases wrote; the tree below is the same.
    if text == "1" || text.starts_with("1.") {
        Ok(())
    } else {
        Err(damaged(format!(
            "it has format version {:?}, which this version of Ark does not know",
            shown(text)
        )))
    }
}

/// Says where `path` belongs, or what is wrong with it.
fn place(path: &str) -> Result<Place<'_>, String> {
    let path = path.strip_prefix("./").unwrap_or(path);
    if path == "metadata/version" {
        return Ok(Place::Version);
    }
    let parts: Vec<&str> = path.split('/').collect();
    for part in &parts {
        if *part == ".." || *part == "." || part.is_empty() {
            return Err("has a path that leaves its directory".into());
        }
        if part.len() > MAX_NAME + ".json".len() || part.chars().any(char::is_control) {
            return Err("has a path that no object can have".into());
        }
    }
    let (resource, namespace, file) = match parts[..] {
        ["resources", resource, "cluster", file] => (resource, "", file),
        ["resources", resource, "namespaces", namespace, file] => (resource, namespace, file),
        ["resources", _, version, "cluster", _] | ["resources", _, version, "namespaces", _, _]
            if version.starts_with('v') =>
        {
            return Ok(Place::Other);
        }
        ["metadata", ..] => return Ok(Place::Other),
        _ => return Err("is not where objects are in a bundle".into()),
    };
    let Some(stem) = file.strip_suffix(".json").filter(|n| !n.is_empty()) else {
        return Err("is not a JSON file".into());
    };
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !resource.chars().all(|c| label(c) || c == '.') {
        return Err("is of a resource whose name makes no sense".into());
    }
    if !namespace.chars().all(label) {
        return Err("is in a namespace whose name makes no sense".into());
    }
    Ok(Place::Object {
        resource,
        namespace,
        stem,
    })
}

/// The name of the object. Checks the parsed form: what a stricter or laxer reader makes of the
/// bytes does not matter, since this is the form that is used.
fn check_object(bytes: &[u8], namespace: &str, stem: &str) -> Result<String, String> {
    let object: Value = serde_json::from_slice(bytes)
        .ok()
        .filter(Value::is_object)
        .ok_or("is not a Kubernetes object")?;
    let text = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str).unwrap_or_default();
        text.to_owned()
    };
    if text(&object, "apiVersion").is_empty() || text(&object, "kind").is_empty() {
        return Err("does not say which kind of object it is".into());
    }
    let metadata = object
        .get("metadata")
        .filter(|m| m.is_object())
        .ok_or("has no metadata")?;
    let name = text(metadata, "name");
    if !file_name::is_of(stem, &name) || text(metadata, "namespace") != namespace {
        return Err("holds an object with another name or namespace than its path says".into());
    }
    if name.len() > MAX_OBJECT_NAME {
        return Err("holds an object with a name that is far too long".into());
    }
    Ok(name)
}

/// `text` in a form that is safe in a log line.
fn shown(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
