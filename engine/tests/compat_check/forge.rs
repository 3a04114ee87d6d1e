//! Repositories changed by hand: with the repository's own key, so that each defect is just the one
//! wanted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    common::{files, restic::Restic},
    crypto::{Id, Key},
};

/// A copy of a repository.
pub struct Forge {
    pub dir: PathBuf,
    key: Key,
    version: u32,
}

/// A blob of a pack.
#[derive(Clone)]
pub struct Blob {
    pub id: String,
    pub tree: bool,
    pub sealed: Vec<u8>,
    pub plain_length: Option<u32>,
}

/// The key of a repository, as stock restic tells it.
pub fn key(restic: &Restic) -> Key {
    let json: Value = serde_json::from_str(&restic.run(&["cat", "masterkey"])).unwrap();
    let part = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let mut bytes = part(&json["encrypt"]);
    bytes.extend(part(&json["mac"]["k"]));
    bytes.extend(part(&json["mac"]["r"]));
    Key::from_bytes(&bytes.try_into().unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Forge {
    pub fn copy_of(repo: &Path, to: &Path, key: &Key, version: u32) -> Self {
        copy(repo, to);
        Self {
            dir: to.to_owned(),
            key: key.clone(),
            version,
        }
    }

    pub fn files(&self, dir: &str) -> Vec<PathBuf> {
        files(&self.dir.join(dir))
    }

    pub fn pack_path(&self, id: &str) -> PathBuf {
        self.dir.join("data").join(&id[..2]).join(id)
    }

    /// Writes a file under a name, or under that of its content.
    pub fn write_named(&self, dir: &str, name: Option<&str>, bytes: &[u8]) -> String {
        let name = name.map_or_else(|| Id::of(bytes).to_string(), str::to_owned);
        let path = match dir {
            "data" => self.pack_path(&name),
            _ => self.dir.join(dir).join(&name),
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        name
    }

    pub fn write_document(&self, dir: &str, json: &[u8]) -> String {
        self.write_named(dir, None, &self.key.seal(json))
    }

    pub fn document(&self, path: &Path) -> Value {
        let plain = self.key.open(&fs::read(path).unwrap()).unwrap();
        let json = match plain[0] {
            2 => zstd::decode_all(&plain[1..]).unwrap(),
            _ => plain,
        };
        serde_json::from_slice(&json).unwrap()
    }

    /// All index files made one, and changed.
    pub fn edit_index(&self, edit: impl FnOnce(&mut Vec<Value>)) {
        let mut packs = Vec::new();
        for path in self.files("index") {
            packs.extend(self.document(&path)["packs"].as_array().unwrap().clone());
            fs::remove_file(path).unwrap();
        }
        edit(&mut packs);
        self.write_document("index", json!({ "packs": packs }).to_string().as_bytes());
    }

    /// The blobs of the only pack of data, or of directories, by the index; with its id.
    pub fn pack(&self, trees: bool) -> (String, Vec<Blob>) {
        let wanted = if trees { "tree" } else { "data" };
        let indexes = self
            .files("index")
            .into_iter()
            .map(|path| self.document(&path));
        let packs = indexes.flat_map(|index| index["packs"].as_array().unwrap().clone());
        let mut packs: Vec<_> = packs
            .filter(|pack| pack["blobs"][0]["type"] == wanted)
            .collect();
        assert_eq!(packs.len(), 1, "{packs:?}");
        let pack = packs.remove(0);
        let id = pack["id"].as_str().unwrap().to_owned();
        let bytes = fs::read(self.pack_path(&id)).unwrap();
        let mut blobs: Vec<Value> = pack["blobs"].as_array().unwrap().clone();
        blobs.sort_by_key(|blob| blob["offset"].as_u64());
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let blob = |blob: &Value| Blob {
            id: blob["id"].as_str().unwrap().to_owned(),
            tree: blob["type"] == "tree",
            sealed: bytes[number(&blob["offset"])..][..number(&blob["length"])].to_vec(),
            plain_length: blob["uncompressed_length"]
                .as_u64()
                .map(|n| u32::try_from(n).unwrap()),
        };
        (id, blobs.iter().map(blob).collect())
    }

    pub fn plain(&self, blob: &Blob) -> Vec<u8> {
        let plain = self.key.open(&blob.sealed).unwrap();
        match blob.plain_length {
            Some(_) => zstd::decode_all(&plain[..]).unwrap(),
            None => plain,
        }
    }

    /// A blob of this content, compressed where the format does that.
    pub fn blob(&self, tree: bool, plain: &[u8]) -> Blob {
        let compressed = self.version >= 2;
        let stored = if compressed {
            zstd::encode_all(plain, 1).unwrap()
        } else {
            plain.to_vec()
        };
        Blob {
            id: Id::of(plain).to_string(),
            tree,
            sealed: self.key.seal(&stored),
            plain_length: compressed.then(|| u32::try_from(plain.len()).unwrap()),
        }
    }

    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        self.key.seal(plain)
    }

    /// The bytes of a pack of these blobs.
    pub fn pack_bytes(&self, blobs: &[Blob], listed: &[Blob]) -> Vec<u8> {
        let mut bytes: Vec<u8> = blobs.iter().flat_map(|blob| blob.sealed.clone()).collect();
        let mut header = Vec::new();
        for blob in listed {
            header.push(u8::from(blob.tree) | u8::from(blob.plain_length.is_some()) << 1);
            header.extend(u32::try_from(blob.sealed.len()).unwrap().to_le_bytes());
            header.extend(blob.plain_length.iter().flat_map(|n| n.to_le_bytes()));
            header.extend(Id::parse(&blob.id).unwrap().0);
        }
        let header = self.key.seal(&header);
        bytes.extend(&header);
        bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
        bytes
    }

    /// Writes a pack and adds it to the index.
    pub fn add_pack(&self, blobs: &[Blob]) -> String {
        let id = self.write_named("data", None, &self.pack_bytes(blobs, blobs));
        self.edit_index(|packs| packs.push(entry(&id, blobs)));
        id
    }

    /// Replaces a pack by one of other blobs, which its list names so, and the index so.
    pub fn replace_pack(&self, old: &str, blobs: &[Blob], listed: &[Blob], indexed: &[Blob]) {
        fs::remove_file(self.pack_path(old)).unwrap();
        let id = self.write_named("data", None, &self.pack_bytes(blobs, listed));
        self.edit_index(|packs| {
            packs.retain(|pack| pack["id"] != old);
            packs.push(entry(&id, indexed));
        });
    }

    /// Adds a snapshot of a root directory of these nodes.
    pub fn add_snapshot(&self, nodes: &[Value]) -> String {
        let json = json!({ "nodes": nodes }).to_string() + "\n";
        self.add_snapshot_of(json.as_bytes())
    }

    /// The same, of a root directory with this document.
    pub fn add_snapshot_of(&self, tree: &[u8]) -> String {
        let root = self.blob(true, tree);
        self.add_pack(std::slice::from_ref(&root));
        self.snapshot_of(&root.id)
    }

    pub fn snapshot_of(&self, tree: &str) -> String {
        let snapshot = json!({
            "time": "2024-01-02T03:04:05Z", "tree": tree, "paths": ["/forged"], "hostname": "h", "username": "u",
        });
        self.write_document("snapshots", snapshot.to_string().as_bytes())
    }
}

/// A pack's entry of an index.
pub fn entry(id: &str, blobs: &[Blob]) -> Value {
    let mut offset = 0;
    let mut entries = Vec::new();
    for blob in blobs {
        let kind = if blob.tree { "tree" } else { "data" };
        let mut entry =
            json!({"id": blob.id, "type": kind, "offset": offset, "length": blob.sealed.len()});
        if let Some(length) = blob.plain_length {
            entry["uncompressed_length"] = length.into();
        }
        entries.push(entry);
        offset += blob.sealed.len();
    }
    json!({"id": id, "blobs": entries})
}
