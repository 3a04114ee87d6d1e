//! Tables: columns padded to their widest cell, as `kubectl` prints them.

/// A table under construction.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new<S: Into<String>>(heads: impl IntoIterator<Item = S>) -> Self {
        Self {
            rows: vec![heads.into_iter().map(Into::into).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| one_line(&cell.into()))
                .collect(),
        );
    }

    /// The table as text, each line preceded by `indent`. Nothing is padded at a line's end.
    pub(crate) fn render(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                self.rows
                    .iter()
                    .filter_map(|r| r.get(c))
                    .map(|s| width(s))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (cell, wanted) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(wanted - width(cell) + 3));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Columns a text takes, near enough: characters.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text from elsewhere without what could break the line or drive the terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_stay_in_their_line() {
        let mut table = Table::new(["NAME", "STATUS"]);
        table.row(["a-long-name", "Completed"]);
        table.row(["ü", "bad\nline\u{1b}[2J"]);
        assert_eq!(
            table.render("  "),
            "  NAME          STATUS\n  a-long-name   Completed\n  ü             bad line [2J\n"
        );
    }
}
