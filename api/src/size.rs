//! Numbers of bytes as people write them, in options and environment variables.

/// Bytes: a whole number, with a suffix of `K`, `M`, `G` or `T` for powers of 1024. Kubernetes' spelling (`Ki`, `Mi`, …)
/// means the same, and so does a `B` behind either.
///
/// # Errors
/// What can be written instead.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text[digits.len()..].to_ascii_lowercase();
    let suffix = suffix.strip_suffix('b').unwrap_or(&suffix);
    let shift = match suffix {
        "" => 0,
        "k" | "ki" => 10,
        "m" | "mi" => 20,
        "g" | "gi" => 30,
        "t" | "ti" => 40,
        _ => return Err("use a number of bytes, or one with K, M, G or T".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "it is no number of bytes".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "it is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_as_good_as_another() {
        for text in [
            "2147483648",
            "2097152k",
            "2048M",
            "2048MiB",
            "2G",
            "2g",
            "2Gi",
            "2GB",
        ] {
            assert_eq!(parse(text), Ok(2 << 30), "{text}");
        }
        assert_eq!((parse("0"), parse("1T")), (Ok(0), Ok(1 << 40)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "-1", "1.5G", "2X", "2 G", "G2", "2iB", "99999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
