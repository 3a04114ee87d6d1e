//! Which packs are read.
//!
//! Pure decisions. A part that rotates needs no memory of earlier runs: a pack's id, which is
//! random, says in which part it is, so whoever counts the turns reads all in as many runs. New
//! packs fall in some part as well.

use std::collections::BTreeMap;

use crate::{
    crypto::Id,
    error::{Error, Result},
};

/// How much of the data is read and verified.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum DataShare {
    /// None: packs are compared with the index by their sizes.
    #[default]
    None,
    /// All.
    All,
    /// Part `part`, from 1 on, of `of` equal ones, 256 at most: the same packs each time, those
    /// restic takes.
    Part {
        /// Which.
        part: u32,
        /// Of how many.
        of: u32,
    },
    /// So many hundredths of the packs, chosen anew each time; above 0, at most 100.
    Percent(f64),
    /// About so many bytes, in packs chosen anew each time.
    Bytes(u64),
    /// The part of `of` equal ones whose turn it is: `of` runs with consecutive turns read all.
    Rotating {
        /// How many parts.
        of: u32,
        /// Any count that grows by one from run to run, such as [`DataShare::day`] for runs once a
        /// day.
        turn: u64,
    },
}

impl DataShare {
    /// The number of today, for parts that rotate daily: days since 1970, by UTC.
    pub fn day() -> u64 {
        u64::try_from(jiff::Timestamp::now().as_second() / 86_400).unwrap_or(0)
    }

    /// Whether it can be had.
    pub(super) fn validate(&self) -> Result<()> {
        let message = match self {
            Self::Part { part, of } if *part == 0 || part > of || *of > 256 => {
                "a part is one of at most 256, counted from 1"
            }
            Self::Percent(percent) if !(*percent > 0.0 && *percent <= 100.0) => {
                "a share is more than 0 % and at most 100 %"
            }
            Self::Bytes(0) => "a share of 0 bytes is none",
            Self::Rotating { of: 0, .. } => "nothing can be divided into 0 parts",
            _ => return Ok(()),
        };
        Err(Error::InvalidConfig {
            what: "share of the data",
            message: message.to_owned(),
        })
    }

    /// The packs that are read, of these, each with its size. `random` is asked for a number below
    /// the one given.
    pub(super) fn choose(
        &self,
        packs: &BTreeMap<Id, u64>,
        mut random: impl FnMut(usize) -> usize,
    ) -> Vec<Id> {
        let some = |keep: &dyn Fn(&Id) -> bool| packs.keys().copied().filter(keep).collect();
        let mut at_random = |share: f64| {
            let mut ids: Vec<Id> = packs.keys().copied().collect();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "at least one, and no more than there are"
            )]
            let count = ((ids.len() as f64 * share) as usize).max(1).min(ids.len());
            for n in 0..count {
                let other = n + random(ids.len() - n).min(ids.len() - n - 1);
                ids.swap(n, other);
            }
            ids.truncate(count);
            ids.sort_unstable();
            ids
        };
        match *self {
            Self::None => Vec::new(),
            Self::All => packs.keys().copied().collect(),
            Self::Part { part, of } => {
                some(&|id| u32::from(id.0[0]) % of.max(1) == part.saturating_sub(1))
            }
            Self::Rotating { of, turn } => {
                some(&|id| bucket(id, of) == turn % u64::from(of.max(1)))
            }
            Self::Percent(percent) => at_random(percent / 100.0),
            Self::Bytes(bytes) => {
                let all: u64 = packs.values().sum();
                #[expect(clippy::cast_precision_loss, reason = "it is a share, about")]
                let share = bytes as f64 / all.max(1) as f64;
                at_random(share.min(1.0))
            }
        }
    }
}

/// In which of so many parts a pack is.
fn bucket(id: &Id, of: u32) -> u64 {
    let number = id.0.first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
    number % u64::from(of.max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn packs(count: u32) -> BTreeMap<Id, u64> {
        (0..count)
            .map(|n| (Id::of(&n.to_be_bytes()), 100))
            .collect()
    }

    fn choose(share: DataShare, packs: &BTreeMap<Id, u64>) -> Vec<Id> {
        share.choose(packs, |below| (below * 7 / 3) % below)
    }

    #[test]
    fn as_many_turns_as_parts_read_all_once() {
        let packs = packs(1000);
        for of in [1, 2, 7, 300] {
            let mut all = Vec::new();
            for turn in 20_000..20_000 + u64::from(of) {
                let part = choose(DataShare::Rotating { of, turn }, &packs);
                let usual = 1000 / of as usize;
                assert!(part.len() <= usual * 2 + 20, "{of}: {}", part.len());
                all.extend(part);
            }
            all.sort_unstable();
            assert!(all.iter().eq(packs.keys()), "{of}");
        }
    }

    #[test]
    fn parts_are_those_of_the_first_byte() {
        let packs = packs(500);
        let mut all = Vec::new();
        for part in 1..=5 {
            let ids = choose(DataShare::Part { part, of: 5 }, &packs);
            assert!(ids.iter().all(|id| u32::from(id.0[0]) % 5 == part - 1));
            all.extend(ids);
        }
        all.sort_unstable();
        assert!(all.iter().eq(packs.keys()));
    }

    #[test]
    fn shares_have_their_size_and_no_pack_twice() {
        let packs = packs(200);
        for (share, count) in [
            (DataShare::None, 0),
            (DataShare::All, 200),
            (DataShare::Percent(100.0), 200),
            (DataShare::Percent(10.0), 20),
            (DataShare::Percent(0.001), 1),
            (DataShare::Bytes(5000), 50),
            (DataShare::Bytes(u64::MAX), 200),
            (DataShare::Bytes(1), 1),
        ] {
            let ids = choose(share, &packs);
            assert_eq!(ids.len(), count, "{share:?}");
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), count);
        }
        assert_eq!(choose(DataShare::Percent(50.0), &BTreeMap::new()), []);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for bad in [
            DataShare::Part { part: 0, of: 3 },
            DataShare::Part { part: 4, of: 3 },
            DataShare::Part { part: 1, of: 257 },
            DataShare::Percent(0.0),
            DataShare::Percent(100.1),
            DataShare::Percent(f64::NAN),
            DataShare::Bytes(0),
            DataShare::Rotating { of: 0, turn: 1 },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(DataShare::Part { part: 3, of: 3 }.validate().is_ok());
        assert!(DataShare::day() > 20_000);
    }
}
