//! What the lists of all kinds share: label columns and the order of rows.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::human::{NONE, map};
use super::table::Table;

/// Columns made from labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelColumns {
    /// Keys of labels that get a column of their own.
    pub(crate) keys: Vec<String>,
    /// One more column with all labels.
    pub(crate) all: bool,
}

impl LabelColumns {
    /// A table with `heads` and these columns.
    pub(crate) fn table(&self, heads: &[&str]) -> Table {
        let mut heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
        heads.extend(
            self.keys
                .iter()
                .map(|key| key.rsplit('/').next().unwrap_or(key).to_uppercase()),
        );
        if self.all {
            heads.push("LABELS".to_owned());
        }
        Table::new(heads)
    }

    /// `cells` with the values of these columns.
    pub(crate) fn cells(
        &self,
        mut cells: Vec<String>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Vec<String> {
        for key in &self.keys {
            let value = labels.and_then(|l| l.get(key)).cloned();
            cells.push(value.unwrap_or_else(|| NONE.to_owned()));
        }
        if self.all {
            cells.push(labels.map_or_else(|| NONE.to_owned(), map));
        }
        cells
    }
}

/// Order of names: alphabetical, but a series `<stem>-YYYYMMDDhhmmss` newest first.
pub(crate) fn by_name(a: &str, b: &str) -> Ordering {
    match (series(a), series(b)) {
        (Some((stem_a, time_a)), Some((stem_b, time_b))) if stem_a == stem_b => time_b.cmp(time_a),
        _ => a.cmp(b),
    }
}

fn series(name: &str) -> Option<(&str, &str)> {
    let (stem, time) = name.rsplit_once('-')?;
    (time.len() == 14 && time.bytes().all(|b| b.is_ascii_digit())).then_some((stem, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_newest_first() {
        let mut names = vec![
            "daily-20260101000000",
            "weekly-20260101000000",
            "app",
            "daily-20260103000000",
            "daily-x",
            "daily-20260102000000",
        ];
        names.sort_by(|a, b| by_name(a, b));
        assert_eq!(
            names,
            [
                "app",
                "daily-20260103000000",
                "daily-20260102000000",
                "daily-20260101000000",
                "daily-x",
                "weekly-20260101000000"
            ]
        );
    }
}
