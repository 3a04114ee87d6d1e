//! Reads the AWS shared credentials format (an INI file) from text.
//!
//! Does not touch the file system or the environment. Fails with `InvalidConfig`, never quoting the
//! text, which holds secrets.

use super::Secret;
use crate::error::{Error, Result};

/// An access key pair from an AWS credentials file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    /// `aws_access_key_id`
    pub access_key_id: Secret,
    /// `aws_secret_access_key`
    pub secret_access_key: Secret,
    /// `aws_session_token`, if there is one.
    pub session_token: Option<Secret>,
}

/// A value without the comment behind it, which a blank must separate: keys may hold `#` and `;`,
/// and hold no blanks.
fn without_comment(value: &str) -> &str {
    let value = value.trim();
    let comment = value
        .match_indices([' ', '\t'])
        .find(|(at, _)| value[*at..].trim_start().starts_with(['#', ';']));
    comment.map_or(value, |(at, _)| value[..at].trim_end())
}

/// Reads one profile of an AWS credentials file.
///
/// # Errors
/// `InvalidConfig` if the profile or one of its two keys is missing, or a line is not `key = value`.
pub fn parse_aws_credentials(text: &str, profile: &str) -> Result<AwsCredentials> {
    let invalid = |message: String| Error::InvalidConfig {
        what: "AWS credentials",
        message,
    };
    let (mut id, mut key, mut token) = (None, None, None);
    let mut found = false;
    let mut inside = false;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            inside = name.strip_prefix("profile ").map_or(name, str::trim) == profile;
            found |= inside;
            continue;
        }
        if !inside {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(invalid(format!("line {} is not key = value", number + 1)));
        };
        let value = without_comment(value);
        let slot = match name.trim() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut key,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        if !value.is_empty() {
            *slot = Some(Secret::new(value));
        }
    }
    if !found {
        return Err(invalid(format!("there is no profile [{profile}]")));
    }
    let missing = |what: &str| invalid(format!("profile [{profile}] has no {what}"));
    Ok(AwsCredentials {
        access_key_id: id.ok_or_else(|| missing("aws_access_key_id"))?,
        secret_access_key: key.ok_or_else(|| missing("aws_secret_access_key"))?,
        session_token: token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# made by hand\n[default]\naws_access_key_id = AK\naws_secret_access_key=s/=k\n\n[other]\naws_access_key_id=B\n";

    #[test]
    fn reads_a_profile() {
        let found = parse_aws_credentials(TEXT, "default").unwrap();
        assert_eq!(found.access_key_id.expose(), "AK");
        assert_eq!(found.secret_access_key.expose(), "s/=k");
        assert_eq!(found.session_token, None);
        assert!(!format!("{found:?}").contains("AK"));
    }

    #[test]
    fn says_what_is_missing() {
        let text = |profile| {
            parse_aws_credentials(TEXT, profile)
                .unwrap_err()
                .to_string()
        };
        assert!(text("other").contains("aws_secret_access_key"));
        assert!(text("none").contains("no profile [none]"));
        let err = parse_aws_credentials("[default]\nsecretsecret\n", "default").unwrap_err();
        assert!(!err.to_string().contains("secretsecret"), "{err}");
    }

    #[test]
    fn windows_line_ends_and_byte_order_mark() {
        let text = "\u{feff}[default]\r\naws_access_key_id = A\r\naws_secret_access_key = B\r\n";
        assert_eq!(
            parse_aws_credentials(text, "default")
                .unwrap()
                .secret_access_key
                .expose(),
            "B"
        );
    }

    #[test]
    fn a_comment_behind_a_value_is_no_part_of_it_and_a_sign_within_is() {
        for (value, key) in [
            ("a#b;c", "a#b;c"),
            ("a#b # mine", "a#b"),
            ("key\t; old", "key"),
            ("key", "key"),
        ] {
            let text = format!(
                "[default]\r\naws_access_key_id = AK # id\r\naws_secret_access_key = {value}\r\n"
            );
            let found = parse_aws_credentials(&text, "default").unwrap();
            assert_eq!(found.access_key_id.expose(), "AK");
            assert_eq!(found.secret_access_key.expose(), key);
        }
    }
}
