//! Defects of packs, and of the blobs in them.

use std::fs;

use super::{
    Defect,
    Theirs::{Error, Ok, OkBecause},
    defect, only_2,
};
use crate::{
    crypto::Id,
    forge::{Blob, Forge},
};

pub const DEFECTS: &[Defect] = &[
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
];

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
