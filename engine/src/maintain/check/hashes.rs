//! The hash of a pack and of the content in it, made side by side.

use std::ops::Range;

use super::pieces::Pieces;
use crate::{
    crypto::Id,
    error::{Error, Result},
    format::{Invalid, compressed::Unpacker, index::BlobKind},
    sha::Sha,
};

/// Where the content of a blob is that was opened.
pub(super) enum Content {
    /// What was decompressed last.
    Unpacked,
    /// In the pack.
    Inside(Range<u64>),
}

/// A blob that is wrong: position in the index, kind, id, and why.
pub(super) type WrongBlob = (u32, BlobKind, Id, Invalid);

/// The hash of a pack, and of the content in it.
pub(super) struct Hashes {
    pack: Sha,
    /// Bytes of it that were hashed.
    done: u64,
    /// A blob whose content is still to be compared with its id.
    next: Option<(Content, u32, BlobKind, Id)>,
}

impl Hashes {
    pub(super) fn new() -> Self {
        Self {
            pack: Sha::new(),
            done: 0,
            next: None,
        }
    }

    /// Hashes the pack's bytes up to this one, as they are in the store, and what is to be
    /// compared, as it is now.
    pub(super) fn up_to(
        &mut self,
        end: u64,
        pieces: &Pieces<'_>,
        unpacker: &Unpacker,
        wrong: &mut Vec<WrongBlob>,
    ) -> Result<()> {
        let at_hand = |range| {
            let bytes = pieces.get(range);
            bytes.ok_or_else(|| Error::Bug("bytes of a pack are not at hand".to_owned()))
        };
        let sealed = at_hand(self.done..end)?;
        self.done = end;
        let Some((content, position, kind, id)) = self.next.take() else {
            self.pack.update(sealed);
            return Ok(());
        };
        let plain = match content {
            Content::Unpacked => unpacker.plain(),
            Content::Inside(range) => at_hand(range)?,
        };
        let mut sha = Sha::new();
        self.pack.update_both(sealed, &mut sha, plain);
        if sha.finish() != id {
            let why = Invalid::new("its content does not match its id");
            wrong.push((position, kind, id, why));
        }
        Ok(())
    }

    /// What was opened is to be compared with its id: of this position, kind and id.
    pub(super) fn compare_next(
        &mut self,
        content: Content,
        (position, kind, id): (u32, BlobKind, Id),
    ) {
        self.next = Some((content, position, kind, id));
    }

    /// The hash of the pack.
    pub(super) fn finish(self) -> Id {
        self.pack.finish()
    }
}
