//! Bars with their spread, as SVG.

use crate::stats::Spread;

/// A plot of ratios.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The file's name, without its end.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// From top to bottom.
    pub(crate) bars: Vec<Bar>,
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Whose it is.
    pub(crate) label: String,
    /// Its median, and from where to where.
    pub(crate) spread: Spread,
    /// It is what this is about.
    pub(crate) ours: bool,
}

const WIDTH: f64 = 640.0;
const LABELS: f64 = 170.0;
const ROW: f64 = 30.0;
const TOP: f64 = 44.0;

impl Plot {
    /// As a file of SVG.
    pub(crate) fn svg(&self) -> String {
        let most = self.bars.iter().map(|bar| bar.spread.most).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - LABELS - 70.0) / most;
        let height = (0..self.bars.len()).fold(TOP + 10.0, |height, _| height + ROW);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"10\" y=\"24\" font-size=\"15\" fill=\"#222222\">{}</text>\n",
            escaped(&self.title)
        );
        let mut top = TOP;
        for bar in &self.bars {
            let [median, least, most] =
                [bar.spread.median, bar.spread.least, bar.spread.most].map(|value| value * scale);
            let (middle, color) = (top + ROW / 2.0 - 3.0, if bar.ours { "#d2562d" } else { "#7f8c9b" });
            svg.push_str(&format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#222222\">{}</text>\n\
                 <rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{median:.1}\" height=\"16\" fill=\"{color}\"/>\n\
                 <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#222222\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#222222\">{:.2}</text>\n",
                LABELS - 8.0,
                middle + 4.0,
                escaped(&bar.label),
                middle - 8.0,
                LABELS + least,
                LABELS + most,
                LABELS + most + 8.0,
                middle + 4.0,
                bar.spread.median,
            ));
            top += ROW;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
