//! Text tables: columns as wide as their widest cell, two spaces between them.

use crate::output::{Tone, paint};
use crate::words;

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone. The text is cleaned; an empty one is a dash.
    pub(crate) fn toned(text: &str, tone: Tone) -> Self {
        Self { text: words::or_dash(text), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.as_ref(), Tone::Plain)
    }
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heading: [&'static str; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub(crate) const fn new(heading: [&'static str; N]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The table as lines, each without trailing spaces.
    pub(crate) fn lines(&self, colour: bool) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([self.heading[column].len()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..N).map(width).collect();
        let heading = self.heading.map(|text| Cell::toned(text, Tone::Dim));
        std::iter::once(&heading).chain(&self.rows).map(|row| line(row, &widths, colour)).collect()
    }
}

fn line(row: &[Cell], widths: &[usize], colour: bool) -> String {
    let mut line = String::new();
    for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
        line.push_str(&paint(&cell.text, cell.tone, colour));
        if n + 1 < row.len() {
            // Padded by hand: escape sequences take no column.
            let padding = width - cell.text.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", "X"]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "".into()]);
        assert_eq!(table.lines(false), ["NAME    X", "a       1", "longer  -"]);
    }

    #[test]
    fn colours_take_no_column() {
        let mut table = Table::new(["A", "B"]);
        table.row([Cell::toned("x", Tone::Bad), "y".into()]);
        assert_eq!(table.lines(true)[1], "\x1b[31mx\x1b[0m  y");
    }
}
