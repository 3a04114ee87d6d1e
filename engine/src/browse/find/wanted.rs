//! Ids that are searched for, each given in full or by its beginning.
//!
//! Pure. Takes 64 bytes an id, whatever it is compared with.

use crate::{
    crypto::Id,
    error::{Error, Result},
};

/// Fewer digits would mean anything.
const LEAST: usize = 8;

/// Ids, as ranges that do not overlap, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted(Vec<([u8; 32], [u8; 32])>);

impl Wanted {
    /// From hexadecimal texts.
    ///
    /// # Errors
    /// `InvalidConfig` for what is no id and no beginning of one.
    pub(super) fn parse(texts: &[String]) -> Result<Self> {
        let ranges = texts.iter().map(|text| {
            range(text).ok_or_else(|| Error::InvalidConfig {
                what: "id",
                message: format!("{text:?} is not {LEAST} to 64 hexadecimal digits"),
            })
        });
        Ok(Self::of(ranges.collect::<Result<_>>()?))
    }

    /// These.
    pub(super) fn ids(ids: impl Iterator<Item = Id>) -> Self {
        Self::of(ids.map(|id| (id.0, id.0)).collect())
    }

    /// These and all ids that begin so.
    pub(super) fn with_beginnings(mut self, starts: &[[u8; 24]]) -> Self {
        let range = |start: &[u8; 24]| {
            let (mut low, mut high) = ([0; 32], [255; 32]);
            low[..24].copy_from_slice(start);
            high[..24].copy_from_slice(start);
            (low, high)
        };
        self.0.extend(starts.iter().map(range));
        Self::of(self.0)
    }

    fn of(mut ranges: Vec<([u8; 32], [u8; 32])>) -> Self {
        // The widest of those that begin alike first.
        ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        // One that is the beginning of another has it inside.
        ranges.dedup_by(|later, kept| later.1 <= kept.1);
        Self(ranges)
    }

    /// Whether this is one of them.
    pub(super) fn contains(&self, id: &Id) -> bool {
        let after = self.0.partition_point(|(low, _)| *low <= id.0);
        after.checked_sub(1).is_some_and(|at| id.0 <= self.0[at].1)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn range(text: &str) -> Option<([u8; 32], [u8; 32])> {
    if !(LEAST..=64).contains(&text.len()) {
        return None;
    }
    let end = |fill: u8| -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        for (n, byte) in bytes.iter_mut().enumerate() {
            for digit in [2 * n, 2 * n + 1] {
                let value = match text.as_bytes().get(digit) {
                    Some(c) => u8::try_from(char::from(*c).to_digit(16)?).ok()?,
                    None => fill,
                };
                *byte = *byte << 4 | value;
            }
        }
        Some(bytes)
    };
    Some((end(0)?, end(15)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_and_whole_ids() {
        let id = Id::of(b"a");
        let text = id.to_string();
        for length in [8, 9, 63, 64] {
            let wanted = Wanted::parse(&[text[..length].to_owned()]).unwrap();
            assert!(
                wanted.contains(&id) && !wanted.contains(&Id::of(b"b")),
                "{length}"
            );
        }
        let wanted =
            Wanted::parse(&[text[..20].to_owned(), text[..8].to_owned(), text.clone()]).unwrap();
        assert_eq!(wanted.0.len(), 1);
        let mut near = id;
        near.0[31] ^= 1;
        assert!(wanted.contains(&near) && !Wanted::ids([id].into_iter()).contains(&near));
        assert!(Wanted::parse(&[text.to_uppercase()]).unwrap().contains(&id));
        for bad in ["", "1234567", "1234567g", &"a".repeat(65), "ééééé"] {
            assert!(Wanted::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(!Wanted::default().contains(&id) && Wanted::default().is_empty());
    }
}
