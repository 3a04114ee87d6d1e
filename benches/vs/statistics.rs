//! Medians, ratios of pairs, and verdicts. Numbers in, numbers out.

use serde::Serialize;

/// The middle of some numbers, or the mean of the two in the middle. `None` of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median of the ratios of pairs: each was taken in one round, so that a machine that gets
/// slower or faster from round to round does not show in it. `None` without pairs, or if something
/// took no time.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(our, their)| our / their)
        .collect();
    median(&ratios).filter(|ratio| ratio.is_finite())
}

/// What became of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// At or below it.
    Reached,
    /// Above it.
    Missed,
}

impl Verdict {
    /// A figure that should be `limit` at most. What is shown has two digits, and so has the verdict:
    /// 0.384 is shown as 0.38 and reaches 0.38.
    pub(crate) fn at_most(limit: f64, figure: f64) -> Self {
        if (figure * 100.0).round() <= (limit * 100.0).round() {
            Self::Reached
        } else {
            Self::Missed
        }
    }

    /// As a word of the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Missed => "MISSED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The machine halves its speed in the second round: the ratio does not change.
        assert_eq!(ratio(&[1.0, 2.0], &[4.0, 8.0]), Some(0.25));
        assert_eq!(ratio(&[1.0, 8.0, 3.0], &[2.0, 2.0, 3.0]), Some(1.0));
        assert_eq!(ratio(&[1.0], &[0.0]), None);
        assert_eq!(ratio(&[], &[]), None);
    }

    #[test]
    fn a_verdict_says_what_the_table_shows() {
        assert_eq!(Verdict::at_most(0.38, 0.384), Verdict::Reached);
        assert_eq!(Verdict::at_most(0.38, 0.386), Verdict::Missed);
        assert_eq!(Verdict::at_most(128.0, 128.0), Verdict::Reached);
        assert_eq!(Verdict::at_most(0.29, 0.29), Verdict::Reached);
        assert_eq!(Verdict::at_most(0.1, f64::INFINITY), Verdict::Missed);
    }
}
