//! Defects of index files.

use std::fs;

use super::{
    Defect,
    Theirs::{self, Error, Ok},
    defect,
    defects_of_documents::rename,
    edit_entries, flip, only_2,
};
use crate::{crypto::Id, forge::entry};

pub const DEFECTS: &[Defect] = &[
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
];

const INDEX_LOST: &[&str] = &["unreadable", "pack_unreferenced", "blob_missing"];
const V1_SIZES: &[&str] = &["index_differs", "blob_content", "file_size"];
