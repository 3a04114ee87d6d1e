//! Long messages in tables, each once.

use std::collections::HashMap;

/// Shorter messages are shown in each row.
const LONG: usize = 80;

/// Messages of rows, given with the row's name: a long one that several rows have is shown in the first,
/// with a count; the others point there.
pub(crate) fn said_once(rows: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let rows: Vec<(String, String)> = rows.collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (_, message) in rows.iter().filter(|(_, message)| message.len() >= LONG) {
        *counts.entry(message).or_default() += 1;
    }
    let mut first: HashMap<&str, &str> = HashMap::new();
    let mut told = Vec::new();
    for (who, message) in &rows {
        let count = counts.get(message.as_str()).copied().unwrap_or_default();
        told.push(match first.get(message.as_str()) {
            Some(before) => format!("as {before}"),
            None if count > 1 => {
                first.insert(message, who);
                format!("{message} ({count} rows)")
            }
            None => message.clone(),
        });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_shown_in_one_row() {
        let why = "a cause that is long enough to be a burden when a table repeats it in each of its rows";
        let rows = [
            ("pod a", why),
            ("pod b", "short"),
            ("pod c", why),
            ("pod d", "short"),
        ];
        let rows = rows.map(|(who, message)| (who.to_owned(), message.to_owned()));
        assert_eq!(
            said_once(rows.into_iter()),
            [
                format!("{why} (2 rows)").as_str(),
                "short",
                "as pod a",
                "short"
            ]
        );
    }
}
