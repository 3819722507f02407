//! Short tables: columns as wide as they must be, two spaces between.

use super::text::{BOLD, paint};
use std::fmt::Write as _;

pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Said instead of a table without rows.
    empty: &'static str,
    right: Vec<usize>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str], empty: &'static str) -> Self {
        Self { head: head.to_vec(), rows: Vec::new(), empty, right: Vec::new() }
    }

    /// Columns of figures.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn rows<T>(mut self, items: &[T], cells: impl Fn(&T) -> Vec<String>) -> Self {
        self.rows.extend(items.iter().map(cells));
        self
    }

    pub(crate) fn text(&self) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let mut text = String::new();
        let head: Vec<String> = self.head.iter().map(|cell| (*cell).to_owned()).collect();
        let _ = writeln!(text, "{}", paint(BOLD, self.line(&head)));
        for row in &self.rows {
            let _ = writeln!(text, "{}", self.line(row));
        }
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let gap = " ".repeat(self.width(column).saturating_sub(cell.chars().count()));
            if self.right.contains(&column) { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([self.head[column].chars().count()]).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_an_empty_table_says_so() {
        let mut table = Table::new(&["NAME", "MS"], "Nothing yet.").right(&[1]);
        assert_eq!(table.text(), "Nothing yet.\n");
        table.row(["a".to_owned(), "1.0".to_owned()]);
        table.row(["longer".to_owned(), "12.5".to_owned()]);
        let plain = anstream::adapter::strip_str(&table.text()).to_string();
        assert_eq!(plain, "NAME      MS\na        1.0\nlonger  12.5\n");
    }
}
