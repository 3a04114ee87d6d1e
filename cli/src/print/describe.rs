//! The building blocks of `describe`: blocks of aligned `Key:  value` lines, and lists of messages.

use ark_api::attempt::FailedAttempt;
use ark_api::results::Messages;

use super::table::one_line;

/// Keys and values, aligned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    indent: &'static str,
    lines: Vec<(&'static str, String)>,
    colour: bool,
}

impl Block {
    /// A block at the left edge.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A block under a heading.
    pub(crate) fn indented() -> Self {
        Self {
            indent: "  ",
            ..Self::default()
        }
    }

    /// A block in which the phase has the colour that says how good it is.
    pub(crate) fn coloured(mut self, colour: bool) -> Self {
        self.colour = colour;
        self
    }

    /// Adds a line.
    pub(crate) fn line(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.lines.push((key, value.into()));
        self
    }

    /// Adds a line if there is a value.
    pub(crate) fn maybe(self, key: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.line(key, value),
            None => self,
        }
    }

    /// The block as text. Further lines of a value are aligned with its first.
    pub(crate) fn render(&self) -> String {
        let width = self
            .lines
            .iter()
            .map(|(key, _)| key.len())
            .max()
            .unwrap_or(0)
            + 3;
        let mut text = String::new();
        for (key, value) in &self.lines {
            let mut lines = value.lines();
            let mut first = one_line(lines.next().unwrap_or_default());
            if self.colour && *key == "Phase" {
                first = coloured(&first);
            }
            let head = format!("{key}:");
            text.push_str(format!("{}{head:width$}{first}", self.indent).trim_end());
            text.push('\n');
            for further in lines {
                text.push_str(self.indent);
                text.push_str(&" ".repeat(width));
                text.push_str(&one_line(further));
                text.push('\n');
            }
        }
        text
    }
}

/// A heading with lines below it.
pub(crate) fn list(heading: &str, lines: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("{heading}:\n");
    for line in lines {
        text.push_str("  ");
        text.push_str(&one_line(&line));
        text.push('\n');
    }
    text
}

/// Errors or warnings by what they concern; how many if their texts are not at hand.
pub(crate) fn messages(heading: &str, messages: Option<&Messages>, count: i32) -> String {
    let Some(messages) = messages.filter(|m| !m.is_empty()) else {
        return format!(
            "{heading}:  {}\n",
            if count == 0 {
                "<none>".into()
            } else {
                count.to_string()
            }
        );
    };
    let mut text = format!("{heading}:\n");
    let mut group = |name: &str, lines: &[String]| {
        for (index, line) in lines.iter().enumerate() {
            let head = if index == 0 {
                format!("{name}:")
            } else {
                String::new()
            };
            text.push_str(&format!("  {head:12}{}", one_line(line)));
            text.push('\n');
        }
    };
    group("Ark", &messages.ark);
    group("Cluster", &messages.cluster);
    if !messages.namespaces.is_empty() {
        text.push_str("  Namespaces:\n");
        for (namespace, lines) in &messages.namespaces {
            text.push_str(&format!("    {}:\n", one_line(namespace)));
            for line in lines {
                text.push_str(&format!("      {}\n", one_line(line)));
            }
        }
    }
    text
}

/// A phase in the colour that says how good it is.
fn coloured(phase: &str) -> String {
    let code = match phase {
        "Completed" => "32",
        "PartiallyFailed" => "33",
        "Failed" | "FailedValidation" => "31",
        _ => return phase.to_owned(),
    };
    format!("\u{1b}[{code}m{phase}\u{1b}[0m")
}
/// Earlier attempts, one a line; nothing if there were none.
pub(crate) fn attempts(failed: &[FailedAttempt]) -> Option<String> {
    let lines: Vec<String> = failed
        .iter()
        .map(|failed| format!("{}: {}", failed.attempt, one_line(&failed.message)))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
