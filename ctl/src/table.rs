//! Text tables: columns as wide as their widest cell, two spaces between them, and text that is folded to a terminal.

use crate::output::{Layout, Tone, paint};
use crate::words;

/// Text in less room than this reads as a ribbon of single words: it goes on lines of its own below the row.
const LEAST_ROOM: usize = 24;

/// Spaces before a line that goes on with the row or the text above it.
const INDENT: usize = 4;

/// Spaces between columns.
const GAP: usize = 2;

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

/// Where a column stands when a row is folded into the terminal's width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// It begins a line.
    is_first: bool,
    /// Where it begins.
    start: usize,
    /// Its widest cell.
    width: usize,
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

    /// The table as lines, each without trailing spaces. Where the layout has a width no line is longer than it, as far as
    /// single cells allow: columns that have no room go on in a line below, and the last one, which has the longest text,
    /// is folded under itself. Else each row is one line.
    pub(crate) fn lines(&self, layout: Layout) -> Vec<String> {
        let places = places(&self.widths(), layout.width);
        let heading = self.heading.map(|text| Cell::toned(text, Tone::Dim));
        std::iter::once(&heading).chain(&self.rows).flat_map(|row| lines(row, &places, layout)).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([self.heading[column].len()]).max().unwrap_or_default()
        };
        (0..N).map(width).collect()
    }
}

fn places(widths: &[usize], room: Option<usize>) -> Vec<Place> {
    let mut end = 0;
    let places = widths.iter().enumerate().map(|(n, &width)| {
        let is_last = n + 1 == widths.len();
        let least = if is_last { width.min(LEAST_ROOM) } else { width };
        let fits = room.is_none_or(|room| end + GAP + least <= room);
        let (is_first, start) = match n {
            0 => (true, 0),
            _ if fits => (false, end + GAP),
            _ => (true, INDENT),
        };
        end = start + width;
        Place { is_first, start, width }
    });
    places.collect()
}

fn lines(row: &[Cell], places: &[Place], layout: Layout) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // Of the line so far: escape sequences take no column.
    let mut end = 0;
    for (n, (cell, place)) in row.iter().zip(places).enumerate() {
        if place.is_first {
            lines.push(String::new());
            end = 0;
        }
        let is_last = n + 1 == row.len();
        let room = layout.width.filter(|_| is_last).map(|width| width.saturating_sub(place.start).max(1));
        let pieces = room.map_or_else(|| vec![cell.text.clone()], |room| fold(&cell.text, room));
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 {
                lines.push(String::new());
                end = 0;
            }
            let Some(line) = lines.last_mut() else { continue };
            line.extend(std::iter::repeat_n(' ', place.start - end));
            line.push_str(&paint(piece, cell.tone, layout.colour));
            end = place.start + piece.chars().count();
        }
    }
    lines
}

/// A line of text with what goes on of it below, behind `indent` spaces. Whole where the layout has no width.
pub(crate) fn folded(text: &str, indent: usize, layout: Layout) -> Vec<String> {
    let Some(width) = layout.width else { return vec![text.to_owned()] };
    let mut pieces = fold(text, width.max(1));
    if pieces.len() > 1 && indent < width {
        let rest = text[pieces[0].len()..].trim_start();
        pieces.truncate(1);
        pieces.extend(fold(rest, width - indent).into_iter().map(|piece| format!("{:indent$}{piece}", "")));
    }
    pieces
}

/// As [`folded`], indented to go on below its beginning.
pub(crate) fn paragraph(text: &str, layout: Layout) -> Vec<String> {
    folded(text, INDENT, layout)
}

/// Pieces of at most `room` characters, between words where there is a space and anywhere where there is none. The first
/// keeps its indentation.
fn fold(text: &str, room: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((over, _)) = rest.char_indices().nth(room) {
        let indentation = rest.len() - rest.trim_start().len();
        // A space just behind the room may be the end of the piece, too.
        let window = if rest[over..].starts_with(' ') { over + 1 } else { over };
        let end = rest[..window].rfind(' ').filter(|&end| end > indentation).unwrap_or(over);
        pieces.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(width: usize) -> Layout {
        Layout { colour: false, width: Some(width) }
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", "X"]);
        table.row(["a".into(), "1".into()]);
        table.row(["longer".into(), "".into()]);
        let expected = ["NAME    X", "a       1", "longer  -"];
        assert_eq!(table.lines(Layout::PIPE), expected);
        assert_eq!(table.lines(narrow(80)), expected);
    }

    #[test]
    fn colours_take_no_column() {
        let mut table = Table::new(["A", "B"]);
        table.row([Cell::toned("x", Tone::Bad), "y".into()]);
        assert_eq!(table.lines(Layout { colour: true, width: None })[1], "\x1b[31mx\x1b[0m  y");
    }

    fn table() -> Table<4> {
        let mut table = Table::new(["NAME", "PHASE", "SHARE", "REASON"]);
        let reason = "the candidate answered 5.00% with errors, stable 0.10%";
        table.row(["greeter".into(), "rolled back".into(), "".into(), Cell::toned(reason, Tone::Bad)]);
        table.row(["a".into(), "done".into(), "10%".into(), "".into()]);
        table
    }

    #[test]
    fn a_pipe_gets_each_row_in_one_line() {
        assert_eq!(
            table().lines(Layout::PIPE),
            [
                "NAME     PHASE        SHARE  REASON",
                "greeter  rolled back  -      the candidate answered 5.00% with errors, stable 0.10%",
                "a        done         10%    -",
            ]
        );
    }

    #[test]
    fn the_last_column_is_folded_under_itself() {
        assert_eq!(
            table().lines(narrow(60)),
            [
                "NAME     PHASE        SHARE  REASON",
                "greeter  rolled back  -      the candidate answered 5.00%",
                "                             with errors, stable 0.10%",
                "a        done         10%    -",
            ]
        );
        let coloured = table().lines(Layout { colour: true, width: Some(60) });
        assert!(coloured[2].ends_with(" \x1b[31mwith errors, stable 0.10%\x1b[0m"), "{coloured:?}");
    }

    #[test]
    fn columns_without_room_go_on_below() {
        assert_eq!(
            table().lines(narrow(40)),
            [
                "NAME     PHASE        SHARE",
                "    REASON",
                "greeter  rolled back  -",
                "    the candidate answered 5.00% with",
                "    errors, stable 0.10%",
                "a        done         10%",
                "    -",
            ]
        );
        for width in 1..60 {
            let longest = table().lines(narrow(width)).iter().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width.max(INDENT + "rolled back".len())), "{width}: {longest:?}");
        }
    }

    #[test]
    fn text_is_folded_between_words() {
        assert_eq!(fold("one two three", 7), ["one two", "three"]);
        assert_eq!(fold("one two three", 6), ["one", "two", "three"]);
        assert_eq!(fold("sha256:abcdef x", 7), ["sha256:", "abcdef", "x"]);
        assert_eq!(fold("ärgerlich", 4), ["ärge", "rlic", "h"]);
        assert_eq!(fold("", 4), [""]);
        assert_eq!(
            folded("  reason  it was slow", 10, narrow(14)),
            ["  reason  it", "          was", "          slow"]
        );
        assert_eq!(folded("  reason  it was slow", 10, Layout::PIPE), ["  reason  it was slow"]);
    }
}
