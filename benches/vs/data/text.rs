//! Rows of text as tables and logs hold them: keys, times, numbers and words. They compress to
//! about half.

use std::fmt::Write as _;

use super::random::Random;

const SYLLABLES: [&str; 24] = [
    "ba", "cor", "den", "el", "fi", "gra", "hu", "in", "jo", "kal", "lo", "men", "na", "or", "pri",
    "qua", "ras", "sto", "tu", "ul", "ver", "wi", "xen", "yo",
];

/// Words of up to four syllables: the same few thousand again and again, as in any real table.
fn word(random: &mut Random, out: &mut String) {
    // The smaller of two draws: some words are frequent, most are rare.
    let mut number = random.below(4000).min(random.below(4000)) + 40;
    while number > 0 {
        let syllable = usize::try_from(number % 24).unwrap_or(0);
        out.push_str(SYLLABLES[syllable]);
        number /= 24;
    }
}

/// One row without an end of line, in place of what `out` held.
pub(crate) fn row(random: &mut Random, id: u64, out: &mut String) {
    out.clear();
    let (second, micro) = (random.below(86_400 * 365), random.below(1_000_000));
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{id:010}|{second:08}.{micro:06}|{:016x}|",
        random.next()
    );
    let _ = write!(out, "{}.{:02}|", random.below(100_000), random.below(100));
    for _ in 0..4 + random.below(5) {
        word(random, out);
        out.push(' ');
    }
}

/// Rows, one a line, until `out` is full.
pub(crate) fn fill(random: &mut Random, out: &mut [u8]) {
    let (mut line, mut at, mut id) = (String::new(), 0, random.below(1 << 30));
    while at < out.len() {
        row(random, id, &mut line);
        line.push('\n');
        let take = line.len().min(out.len() - at);
        out[at..at + take].copy_from_slice(&line.as_bytes()[..take]);
        at += take;
        id += 1;
    }
}
