//! The defects: how each is made, what restic's check says of the repository then, and what ours finds.

use std::fs;

use serde_json::{Value, json};

use crate::{
    crypto::Id,
    forge::{Blob, Forge, entry, name},
};

/// What stock restic's `check --read-data` says.
pub enum Theirs {
    /// There is an error. Ours says so, too.
    Error,
    /// There is an error, told without `--read-data`: with it, restic 0.19.1 waits for ever.
    ErrorWithoutReading,
    /// It is not asked: restic 0.19.1 finds that the blobs do not lie side by side, and waits for ever. Ours says that
    /// there is an error.
    WaitsForEver,
    /// There is none, and ours says so, too.
    Ok,
    /// There is none, and ours is stricter, for this reason.
    OkBecause(#[allow(dead_code, reason = "for people")] &'static str),
}

/// One defect.
pub struct Defect {
    pub name: &'static str,
    pub versions: &'static [u32],
    pub make: fn(&Forge),
    pub theirs: Theirs,
    /// What ours finds.
    pub codes: &'static [&'static str],
    /// Whether a snapshot is affected.
    pub affects: bool,
}

const BOTH: &[u32] = &[1, 2];

const fn defect(
    name: &'static str,
    make: fn(&Forge),
    theirs: Theirs,
    codes: &'static [&'static str],
    affects: bool,
) -> Defect {
    Defect {
        name,
        versions: BOTH,
        make,
        theirs,
        codes,
        affects,
    }
}

const fn only_2(defect: Defect) -> Defect {
    Defect {
        versions: &[2],
        ..defect
    }
}

use Theirs::{Error, Ok, OkBecause};

/// Node-level defects are given to a root directory of a new snapshot.
pub const DEFECTS: &[Defect] = &[
    defect("nothing", |_| {}, Ok, &[], false),
    // Packs.
    defect(
        "data pack missing",
        |f| remove_pack(f, false),
        Error,
        &["pack_missing"],
        true,
    ),
    defect(
        "tree pack missing",
        |f| remove_pack(f, true),
        Error,
        &["pack_missing", "unreadable"],
        true,
    ),
    defect(
        "data pack truncated",
        |f| change_pack(f, false, |b| b.truncate(b.len() / 2)),
        Error,
        &["pack_size", "pack_content", "pack_header", "blob_content"],
        true,
    ),
    defect(
        "tree pack truncated",
        |f| change_pack(f, true, |b| b.truncate(b.len() / 2)),
        Error,
        &[
            "pack_size",
            "pack_content",
            "pack_header",
            "blob_content",
            "unreadable",
        ],
        true,
    ),
    defect(
        "pack empty",
        |f| change_pack(f, false, Vec::clear),
        Error,
        &["pack_size", "pack_content", "pack_header", "blob_content"],
        true,
    ),
    defect(
        "pack with a byte more",
        |f| change_pack(f, false, |b| b.push(0)),
        Error,
        &["pack_size", "pack_content", "pack_header"],
        false,
    ),
    defect(
        "bit flipped in data",
        |f| change_pack(f, false, |b| b[20] ^= 1),
        Error,
        &["pack_content", "blob_content"],
        true,
    ),
    defect(
        "bit flipped in a directory",
        |f| change_pack(f, true, |b| b[20] ^= 1),
        Error,
        &["pack_content", "blob_content", "unreadable"],
        true,
    ),
    defect(
        "bit flipped in a header",
        |f| change_pack(f, false, |b| flip_at_end(b, 10)),
        Error,
        &["pack_content", "pack_header"],
        false,
    ),
    defect(
        "bit flipped in the header's length",
        |f| change_pack(f, false, |b| flip_at_end(b, 3)),
        Error,
        &["pack_content", "pack_header"],
        false,
    ),
    defect(
        "pack renamed",
        rename_pack,
        Error,
        &["pack_missing", "pack_unreferenced"],
        true,
    ),
    defect(
        "pack named wrong and so in the index",
        name_wrong_everywhere,
        Error,
        &["pack_content"],
        false,
    ),
    defect(
        "pack unreferenced",
        |f| {
            f.write_named("data", None, b"a pack of nobody");
        },
        Ok,
        &["pack_unreferenced"],
        false,
    ),
    defect("two kinds in a pack", mixed, Ok, &["pack_mixed"], false),
    defect(
        "a blob in two packs",
        |f| drop(copy_of_data(f)),
        Ok,
        &[],
        false,
    ),
    defect(
        "a blob in two packs and one is damaged",
        |f| {
            let copy = copy_of_data(f);
            change(f, &copy, |b| b[20] ^= 1);
        },
        Error,
        &["pack_content", "blob_content"],
        false,
    ),
    defect(
        "unused data damaged",
        |f| {
            let pack = f.add_pack(&[f.blob(false, b"nobody needs it")]);
            change(f, &pack, |b| b[20] ^= 1);
        },
        Error,
        &["pack_content", "blob_content"],
        false,
    ),
    // What is in packs, sealed with the right key.
    defect(
        "a blob of another content",
        |f| {
            edit_blob(f, |f, blob| {
                blob.sealed = f.blob(false, &vec![7; f.plain(blob).len()]).sealed;
            })
        },
        Error,
        &["blob_content"],
        true,
    ),
    only_2(defect(
        "a blob that does not decompress",
        |f| {
            edit_blob(f, |f, blob| {
                blob.sealed = f.seal(b"no frame at all");
            })
        },
        Error,
        &["blob_content"],
        true,
    )),
    only_2(defect(
        "a blob of another length",
        |f| {
            edit_blob(f, |_, blob| {
                blob.plain_length = blob.plain_length.map(|n| n + 1);
            })
        },
        OkBecause("where content goes in a file is reckoned from these lengths"),
        &["blob_content", "file_size"],
        true,
    )),
    defect(
        "a header that lacks a blob",
        |f| {
            let (old, blobs) = f.pack(false);
            f.replace_pack(&old, &blobs, &blobs[1..], &blobs);
        },
        Error,
        &["pack_size", "pack_header"],
        false,
    ),
    defect(
        "a header with another id",
        |f| {
            let (old, blobs) = f.pack(false);
            let mut listed = blobs.clone();
            listed[0].id = Id::of(b"another").to_string();
            f.replace_pack(&old, &blobs, &listed, &blobs);
        },
        Error,
        &["index_differs"],
        false,
    ),
    defect(
        "a header with another kind",
        |f| {
            let (old, blobs) = f.pack(false);
            let mut listed = blobs.clone();
            listed[0].tree = true;
            f.replace_pack(&old, &blobs, &listed, &blobs);
        },
        Error,
        &["index_differs"],
        false,
    ),
    // The index.
    defect(
        "index lacks a blob",
        |f| edit_entries(f, false, |b| drop(b.remove(0))),
        Theirs::ErrorWithoutReading,
        &["pack_size", "index_differs", "blob_missing"],
        true,
    ),
    defect(
        "index lacks a pack",
        |f| {
            let (id, _) = f.pack(false);
            f.edit_index(|packs| packs.retain(|pack| pack["id"] != *id));
        },
        Error,
        &["pack_unreferenced", "blob_missing"],
        true,
    ),
    defect(
        "index gone",
        |f| {
            f.files("index")
                .iter()
                .for_each(|p| fs::remove_file(p).unwrap())
        },
        Error,
        &["pack_unreferenced", "blob_missing"],
        true,
    ),
    defect(
        "index names a pack that is not there",
        |f| {
            let pack = entry(&Id::of(b"no pack").to_string(), &[f.blob(false, b"unused")]);
            f.edit_index(|packs| packs.push(pack));
        },
        Error,
        &["pack_missing"],
        false,
    ),
    defect(
        "index with two places swapped",
        |f| {
            edit_entries(f, false, |blobs| {
                // Of the same lengths, so that nothing else changes.
                let (one, two) = (0..blobs.len())
                    .flat_map(|one| (0..one).map(move |two| (one, two)))
                    .find(|(one, two)| blobs[*one]["length"] == blobs[*two]["length"])
                    .unwrap();
                let id = blobs[one]["id"].clone();
                blobs[one]["id"] = blobs[two]["id"].clone();
                blobs[two]["id"] = id;
            })
        },
        Error,
        &["index_differs", "blob_content"],
        true,
    ),
    defect(
        "index with another offset",
        |f| {
            edit_entries(f, false, |blobs| {
                blobs[0]["offset"] = 1.into();
            })
        },
        Theirs::WaitsForEver,
        &["index_differs", "blob_content"],
        true,
    ),
    defect(
        "index with other lengths",
        |f| {
            edit_entries(f, false, |blobs| {
                let length = |at: usize| blobs[at]["length"].as_u64().unwrap();
                let (a, b) = (length(0), length(1));
                (blobs[0]["length"], blobs[1]["length"]) = ((a + 1).into(), (b - 1).into());
                blobs[1]["offset"] = (blobs[1]["offset"].as_u64().unwrap() + 1).into();
            })
        },
        Error,
        V1_SIZES,
        true,
    ),
    defect(
        "index with another kind",
        |f| {
            edit_entries(f, false, |blobs| {
                blobs[0]["type"] = "tree".into();
            })
        },
        Error,
        &["index_differs", "blob_missing", "pack_mixed"],
        true,
    ),
    only_2(defect(
        "index with another length of the content",
        |f| {
            edit_entries(f, false, |blobs| {
                let mut sizes = blobs
                    .iter_mut()
                    .map(|blob| &mut blob["uncompressed_length"]);
                let size = sizes.find(|size| size.is_u64()).unwrap();
                *size = (size.as_u64().unwrap() + 1).into();
            })
        },
        Error,
        &["index_differs", "blob_content", "file_size"],
        true,
    )),
    defect(
        "index twice",
        |f| {
            let index = f.document(&f.files("index")[0]);
            f.write_document("index", (index.to_string() + "\n").as_bytes());
        },
        Ok,
        &[],
        false,
    ),
    defect(
        "index damaged",
        |f| flip(&f.files("index")[0]),
        Error,
        INDEX_LOST,
        true,
    ),
    defect(
        "index renamed",
        |f| rename(f, "index"),
        Error,
        INDEX_LOST,
        true,
    ),
    defect(
        "index that is none",
        |f| {
            f.write_document("index", b"[7]");
        },
        Error,
        &["unreadable"],
        false,
    ),
    // Snapshots.
    defect(
        "snapshot damaged",
        |f| flip(&f.files("snapshots")[0]),
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot renamed",
        |f| rename(f, "snapshots"),
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot that is none",
        |f| {
            f.write_document("snapshots", b"[7]");
        },
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot with a tree that is no id",
        |f| {
            f.snapshot_of("7");
        },
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "snapshot without a tree",
        |f| {
            f.snapshot_of(&Id::of(b"none").to_string());
        },
        Error,
        &["blob_missing"],
        true,
    ),
    defect(
        "snapshot of data",
        |f| {
            f.snapshot_of(&f.pack(false).1[0].id);
        },
        Error,
        &["blob_missing"],
        true,
    ),
    // Directories, each authentic and named by its content.
    defect(
        "a directory that is none",
        |f| {
            f.add_snapshot_of(b"nothing of the kind");
        },
        Error,
        &["unreadable"],
        true,
    ),
    defect(
        "a directory that ends early",
        |f| {
            f.add_snapshot_of(br#"{"nodes":[{"name":"a","#);
        },
        Error,
        &["unreadable"],
        true,
    ),
    defect(
        "a file whose content is missing",
        |f| with(f, &[file("a", 5, &[&Id::of(b"none").to_string()])]),
        Error,
        &["blob_missing"],
        true,
    ),
    defect(
        "a file without a list of content",
        |f| with(f, &[json!({"name": "a", "type": "file", "size": 0})]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "a file whose content is no id",
        |f| with(f, &[file("a", 5, &["7"])]),
        Error,
        NODE,
        true,
    ),
    defect(
        "a file of another size",
        |f| with(f, &[file("a", 7, &[])]),
        Ok,
        &["file_size"],
        false,
    ),
    defect(
        "a directory whose content is missing",
        |f| with(f, &[dir("a", &Id::of(b"none").to_string())]),
        Error,
        &["blob_missing"],
        true,
    ),
    defect(
        "a directory without content",
        |f| with(f, &[json!({"name": "a", "type": "dir"})]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "an entry without a name",
        |f| with(f, &[file("", 0, &[])]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "an entry of no known kind",
        |f| with(f, &[json!({"name": "a", "type": "odd"})]),
        Error,
        &["node"],
        true,
    ),
    defect(
        "an entry named dot dot",
        |f| with(f, &[file("..", 0, &[])]),
        OkBecause("nothing can be restored under such a name"),
        &["node"],
        true,
    ),
    defect(
        "an entry named with a slash",
        |f| with(f, &[file("a/b", 0, &[])]),
        OkBecause("nothing can be restored under such a name"),
        &["node"],
        true,
    ),
    defect(
        "two entries of one name",
        |f| with(f, &[file("a", 0, &[]), file("a", 0, &[])]),
        OkBecause("only one of them can be restored"),
        &["node"],
        true,
    ),
    defect(
        "two entries of one name not side by side",
        |f| {
            with(
                f,
                &[file("b", 0, &[]), file("c", 0, &[]), file("b", 0, &[])],
            )
        },
        OkBecause("only one of them can be restored"),
        &["node", "unordered"],
        true,
    ),
    defect(
        "entries in another order",
        |f| with(f, &[file("b", 0, &[]), file("a", 0, &[])]),
        Ok,
        &["unordered"],
        false,
    ),
    defect(
        "a size that is no number",
        |f| with(f, &[json!({"name": "a", "type": "file", "size": "x"})]),
        Error,
        &["node"],
        true,
    ),
    // Keys and the configuration.
    defect(
        "the key damaged",
        |f| flip(&f.files("keys")[0]),
        Error,
        CLOSED,
        false,
    ),
    defect(
        "no key",
        |f| fs::remove_file(&f.files("keys")[0]).unwrap(),
        Error,
        CLOSED,
        false,
    ),
    defect(
        "another key damaged",
        |f| {
            f.write_named("keys", Some(&Id::of(b"key").to_string()), b"{}");
        },
        Error,
        &["unreadable"],
        false,
    ),
    defect(
        "configuration missing",
        |f| fs::remove_file(f.dir.join("config")).unwrap(),
        Error,
        CLOSED,
        false,
    ),
    defect(
        "configuration damaged",
        |f| flip(&f.dir.join("config")),
        Error,
        CLOSED,
        false,
    ),
];

const CLOSED: &[&str] = &["cannot be opened"];
const NODE: &[&str] = &["node"];
const INDEX_LOST: &[&str] = &["unreadable", "pack_unreferenced", "blob_missing"];
const V1_SIZES: &[&str] = &["index_differs", "blob_content", "file_size"];

fn file(name: &str, size: u64, content: &[&str]) -> Value {
    json!({"name": name, "type": "file", "mode": 0o644, "mtime": "2024-01-01T00:00:00Z", "atime": "2024-01-01T00:00:00Z",
        "ctime": "2024-01-01T00:00:00Z", "uid": 0, "gid": 0, "size": size, "content": content})
}

fn dir(name: &str, tree: &str) -> Value {
    json!({"name": name, "type": "dir", "mode": 0o755 | 1_u32 << 31, "mtime": "2024-01-01T00:00:00Z",
        "atime": "2024-01-01T00:00:00Z", "ctime": "2024-01-01T00:00:00Z", "uid": 0, "gid": 0, "subtree": tree})
}

fn with(forge: &Forge, nodes: &[Value]) {
    forge.add_snapshot(nodes);
}

fn remove_pack(forge: &Forge, trees: bool) {
    fs::remove_file(forge.pack_path(&forge.pack(trees).0)).unwrap();
}

fn change(forge: &Forge, id: &str, change: fn(&mut Vec<u8>)) {
    let path = forge.pack_path(id);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn change_pack(forge: &Forge, trees: bool, how: fn(&mut Vec<u8>)) {
    change(forge, &forge.pack(trees).0, how);
}

fn flip_at_end(bytes: &mut [u8], from_end: usize) {
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
}

fn flip(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Gives a file the name of another content.
fn rename(forge: &Forge, dir: &str) {
    let path = forge.files(dir).remove(0);
    fs::rename(
        &path,
        path.with_file_name(Id::of(name(&path).as_bytes()).to_string()),
    )
    .unwrap();
}

fn rename_pack(forge: &Forge) {
    let old = forge.pack_path(&forge.pack(false).0);
    let bytes = fs::read(&old).unwrap();
    forge.write_named("data", Some(&Id::of(b"another name").to_string()), &bytes);
    fs::remove_file(old).unwrap();
}

fn name_wrong_everywhere(forge: &Forge) {
    let (old, _) = forge.pack(false);
    rename_pack(forge);
    forge.edit_index(|packs| {
        for pack in packs.iter_mut().filter(|pack| pack["id"] == *old) {
            pack["id"] = Id::of(b"another name").to_string().into();
        }
    });
}

fn mixed(forge: &Forge) {
    let blobs = [
        forge.blob(false, b"data"),
        forge.blob(true, b"{\"nodes\":[]}\n"),
    ];
    forge.add_pack(&blobs);
}

/// Stores the pack of data once more, under another nonce of its list; returns its name.
fn copy_of_data(forge: &Forge) -> String {
    let (_, blobs) = forge.pack(false);
    forge.add_pack(&blobs)
}

/// Replaces the pack of data by one of whose blobs one is another.
fn edit_blob(forge: &Forge, edit: fn(&Forge, &mut Blob)) {
    let (old, mut blobs) = forge.pack(false);
    // One that is compressed, if the format does that.
    let compressed = blobs.iter().position(|blob| blob.plain_length.is_some());
    edit(forge, &mut blobs[compressed.unwrap_or(0)]);
    forge.replace_pack(&old, &blobs, &blobs, &blobs);
}

/// Changes what the index says of one pack.
fn edit_entries(forge: &Forge, trees: bool, edit: fn(&mut Vec<Value>)) {
    let (id, _) = forge.pack(trees);
    forge.edit_index(|packs| {
        let pack = packs.iter_mut().find(|pack| pack["id"] == *id).unwrap();
        let blobs = pack["blobs"].as_array_mut().unwrap();
        blobs.sort_by_key(|blob| blob["offset"].as_u64());
        edit(blobs);
    });
}
