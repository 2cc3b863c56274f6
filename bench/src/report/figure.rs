//! A number, what it is held to, and whether it holds.

use super::Table;

/// A number, and what it is held to.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What it is of.
    pub(crate) what: String,
    /// The median, and its spread.
    pub(crate) measured: String,
    held: Option<Held>,
}

/// A limit, and where it was found to be.
#[derive(Clone, Copy, Debug)]
struct Held {
    value: f64,
    side: Side,
    limit: f64,
    goal: Option<f64>,
    unit: &'static str,
}

/// On which side of its limit it is good.
#[derive(Clone, Copy, Debug)]
enum Side {
    AtLeast,
    AtMost,
}

/// How a figure stands to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Missed,
    Held,
    GoalReached,
}

impl Figure {
    /// One that stands beside others, and is held to nothing.
    pub(crate) fn new(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), measured: measured.into(), held: None }
    }

    /// It is to be at least so much, and was found to be `value`.
    pub(crate) fn at_least(self, limit: f64, unit: &'static str, value: f64) -> Self {
        self.held_to(Side::AtLeast, limit, unit, value)
    }

    /// It is to be at most so much, and was found to be `value`.
    pub(crate) fn at_most(self, limit: f64, unit: &'static str, value: f64) -> Self {
        self.held_to(Side::AtMost, limit, unit, value)
    }

    /// What it should come to beyond its limit.
    pub(crate) fn goal(mut self, goal: f64) -> Self {
        if let Some(held) = &mut self.held {
            held.goal = Some(goal);
        }
        self
    }

    fn held_to(self, side: Side, limit: f64, unit: &'static str, value: f64) -> Self {
        Self { held: Some(Held { value, side, limit, goal: None, unit }), ..self }
    }

    fn row(&self) -> Vec<String> {
        let held = self.held.as_ref();
        vec![
            self.what.clone(),
            held.map_or_else(String::new, |held| held.text(held.limit)),
            held.and_then(|held| Some(held.text(held.goal?))).unwrap_or_default(),
            self.measured.clone(),
            held.map_or("", |held| held.verdict().text()).to_owned(),
        ]
    }
}

impl Held {
    fn text(&self, limit: f64) -> String {
        match self.side {
            Side::AtLeast => format!("at least {limit} {}", self.unit).trim_end().to_owned(),
            Side::AtMost if limit == 0.0 => "none".to_owned(),
            Side::AtMost => format!("at most {limit} {}", self.unit).trim_end().to_owned(),
        }
    }

    /// What was not found at all is on no side of anything.
    fn verdict(&self) -> Verdict {
        let keeps = |limit: f64| match self.side {
            Side::AtLeast => self.value >= limit,
            Side::AtMost => self.value <= limit,
        };
        match (keeps(self.limit), self.goal) {
            (false, _) => Verdict::Missed,
            (true, Some(goal)) if keeps(goal) => Verdict::GoalReached,
            (true, _) => Verdict::Held,
        }
    }
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Missed => "**missed**",
            Self::Held => "held",
            Self::GoalReached => "goal reached",
        }
    }
}

/// All figures, and in words how many of them hold.
pub(super) fn table<'f>(figures: impl Iterator<Item = &'f Figure> + Clone) -> (Table, String) {
    let of = |verdict| {
        let held = |figure: &&Figure| figure.held.as_ref().is_some_and(|held| held.verdict() == verdict);
        figures.clone().filter(held).map(|figure| figure.what.clone()).collect::<Vec<_>>()
    };
    let (missed, reached, held) = (of(Verdict::Missed), of(Verdict::GoalReached), of(Verdict::Held));
    let all = missed.len() + reached.len() + held.len();
    let holds = all - missed.len();
    let mut words = format!("Of {all} limits {holds} hold in this run");
    if !missed.is_empty() {
        words.push_str(&format!("; missed: {}", missed.join("; ")));
    }
    words.push('.');
    let table = Table {
        title: String::new(),
        head: ["what", "held to", "goal", "measured", ""].map(str::to_owned).into(),
        rows: figures.map(Figure::row).collect(),
    };
    (table, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_missed_held_or_at_its_goal_on_either_side() {
        let figures = [
            Figure::new("throughput", "0.7").at_least(0.8, "", 0.7).goal(0.9),
            Figure::new("throughput", "0.8").at_least(0.8, "", 0.8).goal(0.9),
            Figure::new("added", "13 us").at_most(25.0, "us", 13.0).goal(12.0),
            Figure::new("added", "12 us").at_most(25.0, "us", 12.0).goal(12.0),
            Figure::new("failed", "1 of 9").at_most(0.0, "", 1.0),
            Figure::new("not found", "none").at_least(0.8, "", f64::NAN),
            Figure::new("beside it", "7"),
        ];
        let (table, words) = table(figures.iter());
        let verdicts: Vec<&str> = table.rows.iter().filter_map(|row| Some(&**row.last()?)).collect();
        let missed = "**missed**";
        assert_eq!(verdicts, [missed, "held", "held", "goal reached", missed, missed, ""]);
        assert_eq!(table.rows[0][1..3], ["at least 0.8", "at least 0.9"]);
        assert_eq!((&*table.rows[2][1], &*table.rows[4][1]), ("at most 25 us", "none"));
        assert_eq!(words, "Of 6 limits 3 hold in this run; missed: throughput; failed; not found.");
    }
}
