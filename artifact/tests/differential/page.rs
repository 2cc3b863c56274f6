//! The table in `docs/trust.md` of where we are stricter than `ssh-keygen -Y verify`.

use crate::No;

const PAGE: &str = include_str!("../../../docs/trust.md");
const HEADING: &str = "## Stricter than ssh-keygen";

#[derive(Debug)]
pub(crate) struct Page {
    rows: Vec<Row>,
}

/// One row: `code` | words of the refusal, in backquotes; none: all with this code | what, and why.
#[derive(Debug)]
struct Row {
    code: String,
    words: String,
}

impl Page {
    pub(crate) fn read() -> Self {
        let section = PAGE.split_once(HEADING).expect("the page has the table").1;
        let section = section.split("\n## ").next().expect("a section");
        let cell = |text: &str| text.trim().trim_matches('`').to_owned();
        let rows: Vec<Row> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
                assert_eq!(cells.len(), 3, "{line}");
                Row { code: cell(cells[0]), words: cell(cells[1]) }
            })
            .collect();
        assert!(!rows.is_empty(), "the table has rows");
        Self { rows }
    }

    /// The first row that a refusal falls under.
    pub(crate) fn row(&self, no: &No) -> Option<usize> {
        self.rows.iter().position(|row| row.code == no.code && no.sentence.contains(&row.words))
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn show(&self, row: usize) -> String {
        format!("{} {:?}", self.rows[row].code, self.rows[row].words)
    }
}
