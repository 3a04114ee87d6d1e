//! What the library would get wrong is found before it starts, from the index alone.
//!
//! It takes a pack's kind from its first blob, counts blobs of a pack in 16 bits, and does not tell a directory
//! from a piece of a file that has the same bytes.

use std::collections::HashMap;

use crate::{
    crypto::Id,
    error::{Error, Result},
    format::index::{BlobKind, Pack},
    index,
    repo::Repository,
    storage::Store,
};

/// Blobs of one pack the library can count.
const MOST_BLOBS: usize = u16::MAX as usize;

/// Fails with `Refused` if there is something the library cannot handle.
pub(super) async fn unsuitable(repo: &Repository, store: &Store) -> Result<()> {
    let mut kinds = HashMap::new();
    for (id, size) in index::files(store).await? {
        let Some(file) = index::read(repo, store, id, size).await? else {
            continue;
        };
        for pack in file.packs.iter().chain(&file.packs_to_delete) {
            if let Some(why) = look(pack, &mut kinds) {
                return Err(Error::Refused {
                    location: repo.location(),
                    what: "pruning",
                    message: why,
                    hint: "prune it with restic, which can handle it",
                });
            }
        }
    }
    Ok(())
}

fn look(pack: &Pack, kinds: &mut HashMap<Id, BlobKind>) -> Option<String> {
    // It can come from anybody who can write to the store.
    let name = pack.id.escape_debug();
    if pack.blobs.len() > MOST_BLOBS {
        return Some(format!("pack {name} has more than {MOST_BLOBS} blobs"));
    }
    let first = pack.blobs.first()?.kind;
    for blob in &pack.blobs {
        if blob.kind != first {
            return Some(format!(
                "pack {name} holds directories and file content together, as old repositories do"
            ));
        }
        let Some(id) = Id::parse(&blob.id) else {
            return Some(format!("pack {name} is said to hold a blob without an id"));
        };
        if *kinds.entry(id).or_insert(blob.kind) != blob.kind {
            return Some(format!("{id} is a directory and the content of a file"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::index::Blob;

    fn blob(n: u8, kind: BlobKind) -> Blob {
        Blob {
            id: Id([n; 32]).to_string(),
            kind,
            offset: 0,
            length: 40,
            uncompressed_length: None,
        }
    }

    fn pack(blobs: Vec<Blob>) -> Pack {
        Pack {
            id: Id([9; 32]).to_string(),
            blobs,
        }
    }

    #[test]
    fn mixed_and_ambiguous_packs() {
        let mut kinds = HashMap::new();
        let (data, tree) = (BlobKind::Data, BlobKind::Tree);
        let mut look = |blobs| look(&pack(blobs), &mut kinds);
        assert_eq!(look(vec![]), None);
        assert_eq!(look(vec![blob(1, data), blob(2, data)]), None);
        assert_eq!(look(vec![blob(3, tree), blob(3, tree)]), None);
        assert!(
            look(vec![blob(4, tree), blob(5, data)])
                .unwrap()
                .contains("together")
        );
        assert!(
            look(vec![blob(1, tree)])
                .unwrap()
                .contains("content of a file")
        );
        let many = (0..=MOST_BLOBS).map(|_| blob(1, data)).collect();
        assert!(look(many).unwrap().contains("more than"));
    }
}
