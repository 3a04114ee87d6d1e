//! Snapshot documents, with the fields in the order restic writes them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Invalid, null_as_default, time};

/// A snapshot as stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    pub(crate) tree: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) paths: Vec<String>,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) hostname: String,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) username: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) gid: u32,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) excludes: Vec<String>,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) original: Option<String>,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) program_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<Summary>,
    /// Which directories were read whole, in the words of [`Coverage`]. Other programs leave it out
    /// when they write a snapshot anew, which is right: what they made of it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ark_coverage: Option<String>,
    /// Ours alone; other programs skip it, and leave it out of what they make of the snapshot.
    #[serde(
        default,
        rename = "ark_synced",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) synced: Option<Synced>,
}

/// On which devices files of fixed chunks can be told from changed ones by their times: see `archive/native/synced.rs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Synced {
    /// When: the boot id of the machine.
    pub(crate) boot: String,
    /// Their numbers in that boot.
    pub(crate) devices: Vec<u64>,
}

/// Which directories a snapshot holds whole: all that was in them when they were read, but for what
/// its patterns leave out, and sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Coverage {
    /// The snapshot does not say.
    #[default]
    Unknown,
    /// The root and all below, but for directories whose entries say otherwise.
    Root,
    /// The same without the root itself.
    BelowRoot,
    /// The same for its paths and all below those.
    Paths,
}

impl Coverage {
    const WORDS: [(Self, &str); 3] = [
        (Self::Root, "root"),
        (Self::BelowRoot, "below-root"),
        (Self::Paths, "paths"),
    ];

    /// As a snapshot says it.
    pub(crate) fn word(self) -> Option<String> {
        let of = |(one, word): (Self, &str)| (one == self).then(|| word.to_owned());
        Self::WORDS.into_iter().find_map(of)
    }

    /// What a snapshot says; a word that is not known says nothing.
    pub(crate) fn of(word: Option<&str>) -> Self {
        let known = Self::WORDS.into_iter().find(|(_, one)| Some(*one) == word);
        known.map_or(Self::Unknown, |(coverage, _)| coverage)
    }
}

/// What a backup did, as stored in its snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "the names are restic's and say what they count"
)]
pub struct Summary {
    pub backup_start: String,
    pub backup_end: String,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    pub data_blobs: i64,
    pub tree_blobs: i64,
    pub data_added: u64,
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_bytes_processed: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl SnapshotFile {
    pub(crate) fn decode(json: &[u8]) -> Result<Self, Invalid> {
        serde_json::from_slice(json).map_err(|error| Invalid(format!("it is no snapshot: {error}")))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Invalid> {
        serde_json::to_vec(self).map_err(Invalid::new)
    }

    pub(crate) fn timestamp(&self) -> Result<Timestamp, Invalid> {
        time::parse(&self.time).ok_or_else(|| Invalid::new("its time is not a time"))
    }
}
