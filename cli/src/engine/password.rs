//! Where a password comes from: a file, a command, or the environment. Never from the command line, where everybody
//! on the machine could read it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ark_engine::Secret;

use super::{
    open::variable,
    textfile::{self, trim},
};
use crate::error::{Error, Result};

/// A source of a password.
#[derive(Debug)]
pub(super) enum Source {
    /// The content of a file, without a byte order mark and without white space at its ends.
    File(PathBuf),
    /// What a command prints, without white space at its ends.
    Command(String),
    /// The password itself.
    Text(Secret),
}

impl Source {
    /// The one that options name.
    pub(super) fn of(file: Option<&Path>, command: Option<&str>) -> Option<Self> {
        let file = file.map(|path| Self::File(path.to_owned()));
        file.or_else(|| command.map(|command| Self::Command(command.to_owned())))
    }

    /// The one that variables name: restic's `RESTIC_PASSWORD` and so on, or the same with another beginning.
    pub(super) fn of_environment(prefix: &str, option: &str) -> Result<Self> {
        let [file_name, command_name, text_name] =
            ["PASSWORD_FILE", "PASSWORD_COMMAND", "PASSWORD"].map(|name| format!("{prefix}{name}"));
        let file = variable(&file_name);
        let command = variable(&command_name);
        if file.is_some() && command.is_some() {
            return Err(Error::usage(format!(
                "{file_name} and {command_name} are both set; only one can count"
            )));
        }
        let named = Self::of(file.as_deref().map(Path::new), command.as_deref());
        let text = || {
            use std::os::unix::ffi::OsStringExt as _;
            let text = std::env::var_os(&text_name)?.into_vec();
            (!text.is_empty()).then(|| Self::Text(Secret::of_bytes(text)))
        };
        named.or_else(text).ok_or_else(|| Error::State {
            message: "no password is given".to_owned(),
            hint: format!(
                "give it with --{option}password-file, --{option}password-command or {text_name}"
            ),
        })
    }

    /// The password.
    pub(super) fn read(self) -> Result<Secret> {
        let password = match self {
            Self::File(path) => trim(&textfile::bytes(&path)?).to_vec(),
            Self::Command(command) => run(&command)?,
            Self::Text(password) => return Ok(password),
        };
        if password.is_empty() {
            return Err(Error::usage("the password is empty"));
        }
        Ok(Secret::of_bytes(password))
    }
}

/// What a command prints. It is started without a shell, as restic starts it.
fn run(command: &str) -> Result<Vec<u8>> {
    let failed = |message: String| Error::State {
        message: format!("the password command failed: {message}"),
        hint: "run it by hand to see what is wrong".to_owned(),
    };
    let words = words(command)
        .ok_or_else(|| failed("its quotes do not match, or it is empty".to_owned()))?;
    let output = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    Ok(trim(&output.stdout).to_vec())
}

/// The words of a command line with quotes; `None` if there are none, or a quote is open.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        let is = |line: &str, expected: &[&str]| {
            assert_eq!(
                words(line).as_deref(),
                Some(
                    expected
                        .iter()
                        .map(|w| (*w).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice()
                ),
                "{line}"
            );
        };
        is("a  b", &["a", "b"]);
        is(
            r#"echo "a b" 'c "d"' e\ f"#,
            &["echo", "a b", "c \"d\"", "e f"],
        );
        is(r#"x "" a"b"c"#, &["x", "", "abc"]);
        for bad in ["", "  ", "a 'b", "a \"b", "a \\"] {
            assert_eq!(words(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_command_that_fails_gives_no_password() {
        assert_eq!(run("printf ' secret\\n'").unwrap(), b"secret");
        assert!(run("false").is_err());
        assert!(run("/does/not/exist").is_err());
        assert!(Source::Command("true".to_owned()).read().is_err());
    }
}
