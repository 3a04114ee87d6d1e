//! Rounds: in each, every program runs once, and each round starts with another one. What a round
//! gives is compared within the round.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::{measure::Usage, print, program::Who};

/// One run of one program.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// What it took.
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// Bytes it added to its repository.
    pub(crate) added: u64,
    /// Requests it made of an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<u64>,
}

/// All runs of a case, in order.
pub(crate) type Samples = BTreeMap<Who, Vec<Sample>>;

/// How many rounds there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// As many as the user asked for.
    pub(crate) asked: Option<usize>,
    /// A quick look.
    pub(crate) quick: bool,
}

impl Rounds {
    /// How many, when the longest run of the first took `longest` seconds.
    fn wanted(self, longest: f64) -> usize {
        match self.asked {
            Some(asked) => asked.max(1),
            None if self.quick => 3,
            None if longest < 20.0 => 5,
            None => 3,
        }
    }

    /// Runs them.
    pub(crate) fn run(self, mut one: impl FnMut(Who, usize) -> Result<Sample>) -> Result<Samples> {
        let mut samples = Samples::new();
        let (mut round, mut longest) = (0, 0.0_f64);
        loop {
            let mut line = Vec::new();
            for who in order(round) {
                let sample = one(who, round)?;
                longest = longest.max(sample.usage.wall);
                line.push(format!("{} {:.2} s", who.name(), sample.usage.wall));
                samples.entry(who).or_default().push(sample);
            }
            round += 1;
            let wanted = self.wanted(longest);
            print::note(&format!("round {round} of {wanted}: {}", line.join(", ")));
            if round >= wanted {
                return Ok(samples);
            }
        }
    }
}

fn order(round: usize) -> impl Iterator<Item = Who> {
    let count = Who::ALL.len();
    (0..count).map(move |turn| Who::ALL[(round + turn) % count])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_starts_a_round_in_turn() {
        let firsts: Vec<Who> = (0..6).filter_map(|round| order(round).next()).collect();
        assert_eq!(firsts[..3], Who::ALL);
        assert_eq!(firsts[3..], Who::ALL);
        assert_eq!(order(4).count(), 3);
    }

    #[test]
    fn short_runs_are_repeated_more_often() {
        let rounds = Rounds {
            asked: None,
            quick: false,
        };
        assert_eq!((rounds.wanted(19.0), rounds.wanted(21.0)), (5, 3));
        let usage = Usage {
            wall: 1.0,
            user: 0.0,
            system: 0.0,
            peak_rss: 0,
        };
        let sample = Sample {
            usage,
            added: 0,
            requests: None,
        };
        let mut count = 0;
        let samples = rounds
            .run(|_, _| {
                count += 1;
                Ok(sample)
            })
            .unwrap();
        assert_eq!(count, 15);
        assert!(samples.values().all(|runs| runs.len() == 5));
    }
}
