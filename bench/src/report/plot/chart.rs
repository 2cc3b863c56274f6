//! Points over an axis.

use super::{Drawing, GRID, TEXT, TOP, WIDTH, color};

/// Points of some series, over one axis.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What the axis is.
    pub(crate) x: &'static str,
    pub(crate) joined: Joined,
    pub(crate) series: Vec<Series>,
}

/// Which points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Those of a series, one after the other. The values are on a scale from zero.
    Along,
    /// Those at one place of the axis, one of each series. What they make of each other is what counts, so the scale is of
    /// ratios: the same distance is the same ratio everywhere.
    Across,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) label: String,
    /// Each with its place on the axis, which rises.
    pub(crate) points: Vec<(f64, f64)>,
    /// It is what this is about.
    pub(crate) ours: bool,
}

const LEFT: f64 = 60.0;
const RIGHT: f64 = WIDTH - 20.0;
const BOTTOM: f64 = TOP + 220.0;
/// Lines of the grid, about.
const LINES: u32 = 5;

impl Chart {
    /// Draws it, and gives the height of it all.
    pub(super) fn draw(&self, drawing: &mut Drawing) -> f64 {
        let places = || self.series.iter().flat_map(|series| &series.points).map(|(x, _)| *x);
        let values = || self.series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
        let x = Scale::from_zero(places(), LEFT, RIGHT);
        let y = match self.joined {
            Joined::Along => Scale::from_zero(values(), BOTTOM, TOP + 20.0),
            Joined::Across => Scale::of_ratios(values(), BOTTOM, TOP + 20.0),
        };
        for (value, at) in y.lines() {
            drawing.path(&format!("M{LEFT:.1} {at:.1}H{RIGHT:.1}"), GRID);
            drawing.text(LEFT - 8.0, at + 4.0, "end", TEXT, &short(value));
        }
        for (value, at) in x.lines() {
            drawing.text(at, BOTTOM + 18.0, "middle", TEXT, &short(value));
        }
        drawing.text(RIGHT, BOTTOM + 34.0, "end", TEXT, self.x);
        let place = |(px, py): &(f64, f64)| (x.at(*px), y.at(*py));
        let mut label = LEFT;
        for series in &self.series {
            drawing.text(label, TOP + 4.0, "start", color(series.ours), &series.label);
            label += 280.0;
        }
        match self.joined {
            Joined::Along => {
                for series in &self.series {
                    drawing.path(&line(series.points.iter().map(place)), color(series.ours));
                }
            }
            Joined::Across => self.draw_across(drawing, place),
        }
        BOTTOM + 44.0
    }

    fn draw_across(&self, drawing: &mut Drawing, place: impl Fn(&(f64, f64)) -> (f64, f64)) {
        let most = self.series.iter().map(|series| series.points.len()).max().unwrap_or_default();
        for at in 0..most {
            let points = self.series.iter().filter_map(|series| series.points.get(at));
            drawing.path(&line(points.map(&place)), TEXT);
        }
        for series in &self.series {
            for (x, y) in series.points.iter().map(&place) {
                drawing.dot(x, y, color(series.ours));
            }
        }
    }
}

/// A round value, without what a computer adds to it.
fn short(value: f64) -> String {
    ((value * 1e6).round() / 1e6).to_string()
}

/// The path through these points.
fn line(points: impl Iterator<Item = (f64, f64)>) -> String {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    format!("M{}", points.join("L"))
}

/// From values to places in the picture.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// The values at its ends, or their logarithms.
    least: f64,
    most: f64,
    of_ratios: bool,
    /// Where its ends are.
    from: f64,
    to: f64,
}

impl Scale {
    fn from_zero(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        Self { least: 0.0, most, of_ratios: false, from, to }
    }

    /// Of positive values.
    fn of_ratios(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs = values.map(|value| value.max(f64::MIN_POSITIVE).log10());
        let (least, most) =
            logs.fold((f64::MAX, f64::MIN), |(least, most), log| (least.min(log), most.max(log)));
        // Some room, so that equal values have a place too.
        Self { least: least - 0.05, most: most + 0.05, of_ratios: true, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let value = if self.of_ratios { value.max(f64::MIN_POSITIVE).log10() } else { value };
        self.from + (self.to - self.from) * (value - self.least) / (self.most - self.least)
    }

    /// Round values within it, and where they are.
    fn lines(&self) -> Vec<(f64, f64)> {
        let values: Vec<f64> = if self.of_ratios {
            let decades = (-6..9).map(|power| 10_f64.powi(power));
            decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * decade)).collect()
        } else {
            let rough = self.most / f64::from(LINES);
            let decade = 10_f64.powf(rough.log10().floor());
            let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
            let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(self.most);
            (0..=LINES).map(|line| f64::from(line) * step).collect()
        };
        let (low, high) = (self.from.min(self.to) - 0.5, self.from.max(self.to) + 0.5);
        let placed = values.into_iter().map(|value| (value, self.at(value)));
        placed.filter(|(_, at)| (low..=high).contains(at)).collect()
    }
}
