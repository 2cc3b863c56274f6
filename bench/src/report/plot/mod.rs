//! What was measured, to look at: a plot is a file of SVG.

mod bars;
mod chart;

pub(crate) use bars::Bar;
pub(crate) use chart::{Chart, Joined, Series};

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The file's name, without its end.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: String,
    pub(crate) shape: Shape,
}

/// How it shows that.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A value of each, with its spread; from top to bottom.
    Bars(Vec<Bar>),
    /// Points over an axis.
    Chart(Chart),
}

const WIDTH: f64 = 640.0;
const TOP: f64 = 44.0;

const TEXT: &str = "#222222";
const OURS: &str = "#d2562d";
const OTHERS: &str = "#7f8c9b";
const GRID: &str = "#dddddd";

impl Plot {
    /// As a file of SVG.
    pub(crate) fn svg(&self) -> String {
        let mut drawing = Drawing::default();
        let height = match &self.shape {
            Shape::Bars(bars) => bars::draw(&mut drawing, bars),
            Shape::Chart(chart) => chart.draw(&mut drawing),
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"10\" y=\"24\" font-size=\"15\" fill=\"{TEXT}\">{}</text>\n{}</svg>\n",
            escaped(&self.title),
            drawing.0
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The color of a series or a bar.
const fn color(ours: bool) -> &'static str {
    if ours { OURS } else { OTHERS }
}

/// The elements of a plot.
#[derive(Debug, Default)]
struct Drawing(String);

impl Drawing {
    /// Text whose line is at `y`, to the right of `x` (`start`), around it or to its left (`end`).
    fn text(&mut self, x: f64, y: f64, anchor: &str, color: &str, text: &str) {
        let text = escaped(text);
        self.element(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\">{text}</text>"
        ));
    }

    /// A line along a path.
    fn path(&mut self, path: &str, color: &str) {
        self.element(format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"{color}\"/>"));
    }

    /// A filled rectangle.
    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        self.element(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
        ));
    }

    /// A point.
    fn dot(&mut self, x: f64, y: f64, color: &str) {
        self.element(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"));
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        self.0.push_str(&format!("{element}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    /// The text of each element, in order, where each is closed and each attribute is quoted.
    fn read(svg: &str) -> Vec<String> {
        let (mut open, mut texts): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag has an end");
            assert!(!text.contains('>') && tag.matches('"').count().is_multiple_of(2), "{part}");
            assert!(text.split('&').skip(1).all(|name| name.starts_with("amp;") || name.starts_with("lt;")));
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.extend(tag.split(' ').next()),
            }
            texts.extend(Some(text.trim().to_owned()).filter(|text| !text.is_empty()));
        }
        assert!(open.is_empty(), "left open: {open:?}");
        texts
    }

    #[test]
    fn bars_have_a_label_and_a_value_each() {
        let bar = |label: &str, median, ours| Bar {
            label: label.to_owned(),
            spread: Spread { median, least: median - 1.0, most: median + 1.0 },
            ours,
        };
        let bars = vec![bar("Hot & co", 33.4, true), bar("a < b", 2.0, false)];
        let plot = Plot { name: "bars", title: "of it".to_owned(), shape: Shape::Bars(bars) };
        let svg = plot.svg();
        assert_eq!(read(&svg), ["of it", "Hot &amp; co", "33.4", "a &lt; b", "2.0"]);
        assert_eq!((svg.matches(OURS).count(), svg.matches(OTHERS).count()), (1, 1));
    }

    #[test]
    fn a_chart_has_all_points_of_all_its_series() {
        let series = |label: &str, factor: f64, ours| Series {
            label: label.to_owned(),
            points: (1..=9).map(|at| (f64::from(at), f64::from(at) * factor)).collect(),
            ours,
        };
        for (joined, paths, dots) in [(Joined::Along, 2, 0), (Joined::Across, 9, 18)] {
            let chart = Chart {
                x: "minutes",
                joined,
                series: vec![series("resident", 3.0, true), series("anonymous", 2.0, false)],
            };
            let svg = Plot { name: "chart", title: "of it".to_owned(), shape: Shape::Chart(chart) }.svg();
            let texts = read(&svg);
            for text in ["of it", "minutes", "resident", "anonymous"] {
                assert!(texts.iter().any(|found| found == text), "no {text} in {texts:?}");
            }
            let of_grid = svg.matches(GRID).count();
            assert!(of_grid > 2, "a scale that can be read");
            assert_eq!(svg.matches("<path").count() - of_grid, paths, "{joined:?}");
            assert_eq!(svg.matches("<circle").count(), dots, "{joined:?}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
