//! Polynomials over GF(2), as far as the chunker needs them.
//!
//! The polynomial of a repository is data of whoever wrote its configuration: one of a degree the
//! tables cannot be made for is refused by the chunker.

/// A polynomial; bit n is the coefficient of x^n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Polynomial(u64);

impl Polynomial {
    /// From the hexadecimal text in a configuration.
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        plain
            .then(|| u64::from_str_radix(hex, 16).ok().map(Self))
            .flatten()
    }

    /// Its degree; `None` for zero.
    pub(crate) fn degree(self) -> Option<u32> {
        self.0.checked_ilog2()
    }
}

/// `value` modulo the polynomial.
pub(crate) fn remainder(mut value: u64, by: Polynomial) -> u64 {
    let Some(degree) = by.degree() else {
        return 0;
    };
    while let Some(top) = value.checked_ilog2().filter(|top| *top >= degree) {
        value ^= by.0 << (top - degree);
    }
    value
}

/// `hash * x^8 + byte` modulo the polynomial, bit by bit: what the tables must agree with.
#[cfg(test)]
pub(crate) fn remainder_wide(hash: u64, byte: u8, by: Polynomial) -> u64 {
    (0..8).rev().fold(hash, |hash, bit| {
        remainder((hash << 1) | u64::from(byte >> bit & 1), by)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing() {
        assert_eq!(
            Polynomial::parse("3da3358b4dc173").unwrap().degree(),
            Some(53)
        );
        for bad in ["", "+1", "xyz", "3da3358b4dc1733da3358b4dc173"] {
            assert_eq!(Polynomial::parse(bad), None, "{bad}");
        }
        assert_eq!(Polynomial::parse("0").unwrap().degree(), None);
    }

    #[test]
    fn remainders() {
        let by = Polynomial(0b1011);
        assert_eq!(remainder(0b1011, by), 0);
        assert_eq!(remainder(0b1000, by), 0b011);
        assert_eq!(remainder(0b111, by), 0b111);
    }
}
